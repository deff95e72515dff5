"""p_sgd for a PyTorch loop: a sampler whose indices come of `plan`, and losses back by `update`.

The selection runs in JAX on the CPU; the network, the optimizer and the loop are PyTorch's.
"""

import jax
import jax.numpy as jnp
import numpy as np
import torch

from jaxbudget import Outputs, Spec, check_labels, data, make_selector, plain_batch
from jaxbudget.types import Data


class PlannedBatches(torch.utils.data.Sampler):
  """Batches of sample indices for a `DataLoader(batch_sampler=...)`, an epoch's plan at a time."""

  def __init__(self, selector, seed=0):
    self.selector, self.key, self.epoch = selector, jax.random.key(seed), 0
    self.state = selector.init(self.key)
    self.plan = jax.jit(selector.plan)
    self.learn = jax.jit(selector.update)

  def __iter__(self):
    key = jax.random.fold_in(self.key, self.epoch)
    self.state, plan = self.plan(self.state, key, self.epoch)
    self.epoch += 1
    yield from np.asarray(plan.index)[: int(plan.rows)].tolist()

  def __len__(self):
    return self.selector.facts.rows

  def feedback(self, index, label, logits, loss, num_classes):
    """Tells the method how the samples of a step fared; `logits` and `loss` before the step."""
    index, label = jnp.asarray(index, jnp.int32), jnp.asarray(label, jnp.int32)
    nothing = Data(jnp.zeros((len(index), 0)), label)  # the method never sees the images
    place = jnp.arange(len(index), dtype=jnp.int32)
    batch = plain_batch(nothing, place, jnp.ones(len(index)), num_classes)
    batch = batch._replace(index=index, part_index=index[:, None])
    outputs = Outputs(jnp.asarray(logits), jnp.asarray(loss))
    self.state = self.learn(self.state, batch, outputs)


def main(name='p_sgd', epochs=10):
  torch.manual_seed(0)
  digits = data.load('digits')
  image = torch.tensor(digits.train_image).reshape(len(digits.train_image), -1).float() / 255
  label = torch.tensor(digits.train_label).long()
  spec = Spec(len(label), batch_size=32, num_classes=10, epochs=epochs, image_shape=(8, 8, 1))
  check_labels(digits.train_label, spec.num_classes)
  batches = PlannedBatches(make_selector(name, spec, budget=0.3))
  numbered = torch.utils.data.TensorDataset(torch.arange(len(label)), image, label)
  loader = torch.utils.data.DataLoader(numbered, batch_sampler=batches)
  net = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
  optimizer, trained = torch.optim.Adam(net.parameters(), 3e-3), 0
  for _ in range(epochs):
    for index, x, y in loader:
      logits = net(x)
      loss = torch.nn.functional.cross_entropy(logits, y, reduction='none')
      optimizer.zero_grad()
      loss.mean().backward()
      optimizer.step()
      batches.feedback(index.numpy(), y.numpy(), logits.detach().numpy(), loss.detach().numpy(), 10)
      trained += len(index)
  test = torch.tensor(digits.test_image).reshape(len(digits.test_image), -1).float() / 255
  correct = net(test).argmax(1).numpy() == digits.test_label
  print(f'test accuracy {correct.mean():.1%} on {trained} samples')
  return batches


if __name__ == '__main__':
  main()
