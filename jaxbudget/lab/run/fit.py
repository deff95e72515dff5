"""Whether others' networks and augmentations fit a data set: by their shapes, without computing."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxbudget.data import Info
from jaxbudget.state import weight_shapes
from jaxbudget.types import Augment, Batch, Model, with_epoch

_SIZE = 8  # examples in a trial batch


def check_model(name: str, model: Model, info: Info, partial: bool = False) -> None:
  """Refuses a network that does not fit.

  Args:
    name: for the message.
    model: the network.
    info: of the data set.
    partial: try it on a batch that is not full.

  Raises:
    ValueError: it raises, or its logits or its state have another shape or type than they should.
  """
  options = {'mask': _array(_SIZE, dtype=jnp.bool_)} if partial else {}
  try:
    weights = weight_shapes(model)
    for train in (False, True):
      apply = functools.partial(model.apply, train=train)
      logits, state = jax.eval_shape(apply, *weights, _augmented(info), **options)
      _expect('logits', logits, _array(_SIZE, info.num_classes))
      _expect('state', state, weights[1])
  except Exception as e:  # of others' code
    raise ValueError(f'model {name!r} does not fit {info.name}: {e}') from e


def check_augment(name: str, augment: Augment, info: Info) -> None:
  """Refuses an augmentation that does not fit.

  Args:
    name: for the message.
    augment: the augmentation.
    info: of the data set.

  Raises:
    ValueError: it raises, or what it gives has another shape or type than it should.
  """
  number = functools.partial(_array, dtype=jnp.int32)
  image = _augmented(info)
  given = Batch(
    index=number(_SIZE),
    image=_array(*image.shape, dtype=info.dtype),
    label=number(_SIZE),
    target=_array(_SIZE, info.num_classes),
    weight=_array(_SIZE),
    part_index=number(_SIZE, 1),
    part_label=number(_SIZE, 1),
    part_share=_array(_SIZE, 1),
  )
  wanted = given._replace(
    image=image,
    part_index=number(_SIZE, augment.parts),
    part_label=number(_SIZE, augment.parts),
    part_share=_array(_SIZE, augment.parts),
  )
  try:
    made = jax.eval_shape(
      lambda batch: with_epoch(augment.train, jax.random.key(0), jnp.int32(0), batch), given
    )
    for field in Batch._fields:
      _expect(field, getattr(made, field), getattr(wanted, field))
    _expect('image for evaluation', jax.eval_shape(augment.test, given.image), image)
  except Exception as e:  # of others' code
    raise ValueError(f'augment {name!r} does not fit {info.name}: {e}') from e


def _augmented(info: Info) -> jax.ShapeDtypeStruct:
  """Inputs as a network is given them."""
  dtype = jnp.float32 if info.kind == 'images' else info.dtype
  return _array(_SIZE, *info.image_shape, dtype=dtype)


def _array(*shape: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(shape, dtype)


def _expect(what: str, made: Any, wanted: Any) -> None:
  """Compares structure, shapes and types.

  Raises:
    TypeError: they differ.
  """
  made, wanted = (jax.tree.map(lambda x: f'{x.dtype}{list(x.shape)}', x) for x in (made, wanted))
  if made != wanted:
    raise TypeError(f'{what} is {made}, {wanted} is needed')


def check_features(selector: str, name: str, model: Model) -> None:
  """Refuses a network without `features` for a method that looks at them.

  Args:
    selector: name of the method.
    name: of the network.
    model: the network.

  Raises:
    ValueError: it has none.
  """
  if model.features is None:
    raise ValueError(
      f'selector {selector!r} with these options looks at penultimate activations, and model '
      f'{name!r} has no `features`'
    )
