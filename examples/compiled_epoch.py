"""A whole epoch as one compiled program, with a model and data of your own on the device."""

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jaxbudget as jb

# Your data: uint8 images of any size, and their labels, on the device.
rng = np.random.default_rng(0)
label = rng.integers(0, 4, 2000).astype(np.int32)
image = rng.integers(0, 120, (2000, 16, 16, 3)) + 40 * label[:, None, None, None]
train = jb.Data(jnp.asarray(image[:1600].astype(np.uint8)), jnp.asarray(label[:1600]))
test = jb.Data(jnp.asarray(image[1600:].astype(np.uint8)), jnp.asarray(label[1600:]))
spec = jb.Spec(1600, batch_size=64, num_classes=4, epochs=6, image_shape=(16, 16, 3))


class Net(nnx.Module):
  """A small convolutional network."""

  def __init__(self, rngs):
    self.conv = nnx.Conv(3, 8, (3, 3), strides=2, rngs=rngs)
    self.out = nnx.Linear(8 * 8 * 8, 4, rngs=rngs)

  def __call__(self, image):
    return self.out(nnx.relu(self.conv(image)).reshape(len(image), -1))


graph, _ = nnx.split(nnx.eval_shape(lambda: Net(nnx.Rngs(0))))


def init(key):
  return nnx.split(Net(nnx.Rngs(key)))[1], ()


def apply(params, model_state, image, train, mask=None):
  return nnx.merge(graph, params)(image), model_state


def to_float(image):
  return image.astype(jnp.float32) / 255 - 0.5


model = jb.Model(init, apply)
augment = jb.Augment(lambda key, batch: batch._replace(image=to_float(batch.image)), to_float)
selector = jb.make_selector('p_sgd', spec, budget=0.3)
optimizer = optax.trace(0.9)
run = jb.engine.start(spec, model, augment, selector, optimizer, budget=0.3)
run = jb.engine.prepare(run, train)  # labels that are no classes of the Spec are refused here
for epoch in range(selector.facts.epochs):
  # All rows of the plan in one dispatch; the state is donated.
  run, progress = jb.engine.run_epoch(run, train, epoch, learning_rate=0.05)
  rows = int(progress.row)
  print(f'epoch {epoch + 1}: {rows} steps, loss {progress.metrics.loss[:rows].mean():.3f}')
logits, _ = apply(run.state.params, (), to_float(test.image), train=False)
print(f'test accuracy {(logits.argmax(-1) == test.label).mean():.1%}')
