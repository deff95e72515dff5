"""Trained networks out of the directories of finished runs."""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from ml_collections import FrozenConfigDict

from jaxbudget import paths, precision, registry
from jaxbudget.augment import make_augment
from jaxbudget.data import Info
from jaxbudget.lab.run import files
from jaxbudget.models import for_data
from jaxbudget.task import as_it_is, make_task
from jaxbudget.types import Model

WHICH = {'last': files.LAST, 'best': files.BEST}


class Trained(NamedTuple):
  """A network with its weights.

  Attributes:
    model: the network, a pair of pure functions.
    params: its weights.
    model_state: its BatchNorm statistics.
    transform: `image u8[n,H,W,c] -> f32[n,H,W,c]`, or of other inputs: what the network wants.
    config: of the run.
    answer: `output -> f32[n,C]`, the task's own: of numbers what is predicted, in their units.
  """

  model: Model
  params: Any
  model_state: Any
  transform: Callable[[jax.Array], jax.Array]
  config: FrozenConfigDict
  answer: Callable[[jax.Array], jax.Array] = as_it_is

  def __call__(self, image: jax.Array) -> jax.Array:
    """Classifies images or other inputs, or predicts numbers of them.

    Args:
      image: u8[n,H,W,channels], f32[n,D] or i32[n,L], as the data set has them.

    Returns:
      Logits f32[n,C]; of labels that are numbers what is predicted, see `Task.answer`.
    """
    image = self.transform(image)
    return self.answer(self.model.apply(self.params, self.model_state, image, train=False)[0])


def load(directory: str | pathlib.Path, which: str = 'last', trust: bool = False) -> Trained:
  """Loads the network that a run has trained.

  Nothing is unpickled, and no code is run that is not of this package, unless it is trusted.

  Args:
    directory: of a finished run, `WORKDIR/runs/RUN_ID`.
    which: `last`, after the last epoch, or `best`, after the epoch with the highest test
      accuracy (which was chosen by looking at the test set).
    trust: import what the run's files name, if network or augmentation are of other packages, or
      the task, where the labels are numbers.

  Returns:
    The network; call it on uint8 images for logits.

  Raises:
    ValueError: not a finished run, a file is missing or damaged, or it names a package that
      is not trusted.
  """
  registry.check('which', which, WHICH)
  directory = paths.expand(directory)
  weights, config_file = directory / WHICH[which], directory / files.CONFIG
  if not (directory / files.RESULT).is_file() or not weights.is_file():
    raise ValueError(f'{directory} is not a finished run: it has no {files.RESULT} or {weights}')
  for file in (config_file, weights):
    files.verify(file)
  config = files.read_json(config_file)
  try:
    config.pop('identity', None)  # names of outside parts are no keys of a config
    config = FrozenConfigDict(config)
    info = Info(**{**config.data, 'image_shape': tuple(config.data.image_shape)})
    model = for_data(config.model, info, trusted=trust, **_model_options(config))
    model = precision.of_model(model, config.get('matmul_precision', ''))
    options = config.augment_options.to_dict()
    augment = make_augment(config.augment, info, trusted=trust, **options)
    answer = as_it_is  # of classes: then the task is not asked for, and need not be here
    if info.label_mean:
      answer = make_task(config.task, info, trusted=trust, **config.task_options.to_dict()).answer
    params, model_state = files.read_weights(weights, model)
  except (AttributeError, KeyError, TypeError, ValueError) as e:
    hint = '' if trust else '; load(..., trust=True) imports it'
    hint = hint if 'only on trust' in str(e) else ''
    raise ValueError(f'{weights} cannot be loaded: {e}{hint}') from e
  return Trained(model, *jax.device_put((params, model_state)), augment.test, config, answer)


def _model_options(config: FrozenConfigDict) -> dict[str, Any]:
  """Options of the network; of older runs they are keys of their own, `width=0` the default."""
  if 'model_options' in config:
    return config.model_options.to_dict()
  keys = ('width', 'bn_gamma_init', 'compute_dtype', 'conv')
  return {key: config[key] for key in keys if config[key] != 0}
