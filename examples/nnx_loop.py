"""Selective Backprop in a plain Flax NNX loop: your model class, your loss, your own jit.

The hooks are called where their moments come: `plan` before an epoch, `select` on each row of
candidates, `weigh` inside the loss, `update` after the step. A method that needs more, a `scan`,
`sizes`, `partial` or a cap that stops it, belongs into own_loop.py, in which any method runs.
"""

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxbudget import Outputs, Spec, check_labels, data, make_selector, plain_batch


class Net(nnx.Module):
  """Two layers, as anybody's."""

  def __init__(self, rngs):
    self.hidden = nnx.Linear(64, 64, rngs=rngs)
    self.out = nnx.Linear(64, 10, rngs=rngs)

  def __call__(self, image):
    return self.out(nnx.relu(self.hidden(image.reshape(len(image), -1))))


train, test = data.place(data.load('digits'))
spec = Spec(train.label.size, batch_size=32, num_classes=10, epochs=10, image_shape=(8, 8, 1))
check_labels(train.label, spec.num_classes)
selector = make_selector('selective_backprop', spec, budget=0.3)
graph, params = nnx.split(Net(nnx.Rngs(0)))
optimizer = optax.adam(3e-3)


def outputs(params, batch):
  logits = nnx.merge(graph, params)(batch.image)
  return Outputs(logits, optax.softmax_cross_entropy(logits, batch.target))


@jax.jit
def step(params, opt_state, chosen, index, weight, key):
  batch = plain_batch(train, index, weight, spec.num_classes)
  batch = batch._replace(image=batch.image.astype(jnp.float32) / 255)
  forward = lambda batch: outputs(params, batch)
  chosen, batch, _ = selector.select(chosen, key, batch, forward)

  def objective(params):
    out = outputs(params, batch)
    weight = selector.weigh(chosen, jax.lax.stop_gradient(out.loss), batch.weight)
    return jnp.sum(weight * out.loss) / jnp.maximum(jnp.sum(weight > 0), 1), out

  def take():
    gradient, out = jax.grad(objective, has_aux=True)(params)
    updates, new_state = optimizer.update(gradient, opt_state, params)
    return optax.apply_updates(params, updates), new_state, selector.update(chosen, batch, out)

  # A row whose weights are all zero is a step not taken.
  kept = lambda: (params, opt_state, chosen)
  return (*jax.lax.cond(jnp.any(batch.weight > 0), take, kept), jnp.sum(batch.weight > 0))


key, opt_state, trained = jax.random.key(0), optimizer.init(params), 0
chosen = selector.init(key)
plan = jax.jit(selector.plan)
for epoch in range(selector.facts.epochs):
  chosen, rows = plan(chosen, jax.random.fold_in(key, epoch), epoch)
  for row in range(int(rows.rows)):
    place = jax.random.fold_in(key, 1000 * epoch + row)
    params, opt_state, chosen, count = step(
      params, opt_state, chosen, rows.index[row], rows.weight[row], place
    )
    trained += int(count)
logits = nnx.merge(graph, params)(test.image.astype(jnp.float32) / 255)
print(f'test accuracy {(logits.argmax(-1) == test.label).mean():.1%} on {trained} samples')
