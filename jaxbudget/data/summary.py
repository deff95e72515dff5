"""A data set in words, for `--stage=data`."""

import numpy as np

from jaxbudget.data.dataset import Dataset, Info, pixel_statistics

_SHOWN = 12  # class names in one line
_SAMPLED = 256  # images that are decoded of a data set that stays in its files


def describe(dataset: Dataset) -> str:
  """Says what a data set holds.

  Args:
    dataset: any.

  Returns:
    Lines of a heading and a text.
  """
  info = dataset.info
  labels = _of_numbers(info) if info.label_mean else _of_classes(dataset)
  rows = {
    'data set': info.name,
    **labels,
    **(_of_images(dataset) if info.kind == 'images' else _of_others(info)),
    'size': f'{sum(array.nbytes for array in dataset[1:5]):,} bytes',
    'fingerprint': dataset.fingerprint,
    'kept in': dataset.where or 'memory only',
  }
  rows |= {f'note {i}': note for i, note in enumerate(dataset.notes, 1)}
  width = max(map(len, rows))
  return '\n'.join(f'{heading:{width}}  {text}' for heading, text in rows.items())


def _of_classes(dataset: Dataset) -> dict[str, str]:
  info = dataset.info
  names = ', '.join(info.class_names[:_SHOWN])
  names += ', ...' if len(info.class_names) > _SHOWN else ''
  return {
    f'training {info.kind}': _counts(dataset.train_label, info.num_classes),
    f'test {info.kind}': _counts(dataset.test_label, info.num_classes),
    'classes': f'{info.num_classes}' + (f' ({names})' if names else ''),
  }


def _of_numbers(info: Info) -> dict[str, str]:
  return {
    f'training {info.kind}': f'{info.num_train:,}',
    f'test {info.kind}': f'{info.num_test:,}',
    'labels': f'{info.num_classes} numbers a sample',
    'label mean': _channels(info.label_mean),
    'label std': _channels(info.label_std),
  }


def _of_images(dataset: Dataset) -> dict[str, str]:
  info, image = dataset.info, dataset.train_image
  if dataset.is_encoded:  # a sample, evenly spread
    image = image.read(np.linspace(0, info.num_train - 1, min(_SAMPLED, info.num_train), dtype=int))
  measured = pixel_statistics(image)
  height, width, channels = info.image_shape
  return {
    'image': f'{height} x {width} x {channels}, uint8',
    'mean': f'{_channels(info.mean)} (measured {_channels(measured[0])})',
    'std': f'{_channels(info.std)} (measured {_channels(measured[1])})',
    'augmentation': f'crop with padding {info.pad}, flip with probability {info.flip:g}',
  }


def _of_others(info: Info) -> dict[str, str]:
  vocabulary = f' of a vocabulary of {info.vocabulary:,}' if info.vocabulary else ''
  return {'input': f'{info.image_shape[0]} {info.kind}{vocabulary}, {info.dtype}'}


def _counts(label: np.ndarray, num_classes: int) -> str:
  each = np.bincount(label, minlength=num_classes)
  span = f'{each.min():,}' if each.min() == each.max() else f'{each.min():,} to {each.max():,}'
  return f'{len(label):,} ({span} of each class)'


def _channels(values: tuple[float, ...]) -> str:
  return ' '.join(f'{value:.4f}' for value in values)
