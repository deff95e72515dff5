"""A problem small enough for anything: 48 images of 2x2 pixels, a linear model."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxbudget.types import Augment, Batch, Data, Model, Seen, Spec

SPEC = Spec(num_examples=48, batch_size=8, num_classes=3, epochs=4, image_shape=(2, 2, 1))


@functools.cache
def data(n: int = SPEC.num_examples) -> Data:
  """Random images whose brightness tells their class."""
  rng = np.random.RandomState(0)
  label = rng.randint(0, 3, n).astype(np.int32)
  image = rng.randint(0, 120, (n, 2, 2, 1)) + 60 * label[:, None, None, None]
  with jax.ensure_compile_time_eval():  # who asks first may do so inside a trace
    return Data(jnp.asarray(image.astype(np.uint8)), jnp.asarray(label))


def seen(wants: tuple[str, ...], n: int = SPEC.num_examples) -> Seen:
  """What a scan might have seen: random numbers, with what it wants of `logits` and `features`."""
  rng = np.random.RandomState(0)
  numbers = {'loss': np.abs(rng.randn(n)), 'logits': rng.randn(n, 3), 'features': rng.randn(n, 4)}
  found = {k: v.astype(np.float32) for k, v in numbers.items() if k == 'loss' or k in wants}
  return Seen(**found, label=np.arange(n, dtype=np.int32) % 3)


def _init(key):
  weights = 0.1 * jax.random.normal(key, (4, 3), jnp.float32)
  return {'w': weights, 'b': jnp.zeros(3, jnp.float32)}, {'steps': jnp.int32(0)}


def _apply(params, model_state, image, train, mask=None):
  del mask
  logits = image.reshape(image.shape[0], -1) @ params['w'] + params['b'][None]
  return logits, {'steps': model_state['steps'] + 1} if train else model_state


def _features(params, model_state, image):
  del params, model_state
  return image.reshape(image.shape[0], -1)


MODEL = Model(_init, _apply, _features)


def counting(model: Model, count: Callable[[str, int], None]) -> Model:
  """A model that tells the host of every sample that passes through it.

  Args:
    model: to watch.
    count: told ('trained' or 'scored', samples), while the program runs.

  Returns:
    The model.
  """

  def apply(params, model_state, image, train, mask=None):
    samples = jnp.int32(image.shape[0]) if mask is None else jnp.count_nonzero(mask)
    kind = 'trained' if train else 'scored'
    jax.debug.callback(lambda n: count(kind, int(n)), samples)
    return model.apply(params, model_state, image, train, mask)

  return model._replace(apply=apply)


def _normalize(image):
  return image.astype(jnp.float32) / 255 - 0.5


def _train(key: jax.Array, batch: Batch) -> Batch:
  noise = 0.05 * jax.random.normal(key, batch.image.shape, jnp.float32)
  return batch._replace(image=_normalize(batch.image) + noise)


AUGMENT = Augment(_train, _normalize)
