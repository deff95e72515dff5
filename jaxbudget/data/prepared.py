"""Prepares and reads tensorflow-datasets' files without TensorFlow."""

import contextlib
import functools
import io
import os
import pathlib
import struct
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import PIL.Image
import tensorflow_datasets as tfds

from jaxbudget.data import pictures
from jaxbudget.data.dataset import DataError, Progress
from jaxbudget.data.download import disk_fault
from jaxbudget.data.pictures import Look
from jaxbudget.registry import by_number

_BATCH = 1024  # records: batched reading is 2-3 times faster


def encode_png(image: np.ndarray) -> bytes:
  """Encodes an image without loss, lightly compressed.

  Args:
    image: u8[H,W,3] or u8[H,W].

  Returns:
    A PNG file.
  """
  buffer = io.BytesIO()
  PIL.Image.fromarray(image).save(buffer, 'PNG', compress_level=1)
  return buffer.getvalue()


def decode(encoded: bytes) -> np.ndarray:
  """Decodes an image file.

  Args:
    encoded: PNG, JPEG, ...

  Returns:
    u8[H,W,1] or u8[H,W,3].

  Raises:
    DataError: if it is not 8-bit grey or RGB.
    OSError: if it cannot be decoded.
  """
  with PIL.Image.open(io.BytesIO(encoded)) as image:
    if image.mode not in ('L', 'RGB'):
      raise DataError(f'an image has mode {image.mode}, allowed are L (8-bit grey) and RGB')
    array = np.asarray(image)
  return array if array.ndim == 3 else array[..., None]


def counted(examples: Iterable, total: int, task: str, progress: Progress) -> Iterator:
  """Passes examples on and tells the progress."""
  for done, example in enumerate(examples, 1):
    yield example
    if done % 100 == 0 or done == total:
      progress(task, done, total)


def make(kind: Callable[..., tfds.core.DatasetBuilder], *name: str, **options):
  """Makes a builder of tensorflow-datasets, which looks for nothing in the bucket of that project.

  For what it might find there, a builder whose data are not prepared leaves a directory behind
  among the temporary ones.

  Args:
    kind: `tfds.builder`, or a class.
    *name: of the data set, for the former.
    **options: of the builder.
  """
  info = tfds.core.DatasetInfo
  look = info.initialize_from_bucket
  info.initialize_from_bucket = lambda self: None
  try:
    return kind(*name, **options)
  finally:
    info.initialize_from_bucket = look


def is_prepared(builder: tfds.core.DatasetBuilder) -> bool:
  """Whether a builder's data are there (its own method warns when they are not)."""
  return (pathlib.Path(builder.data_dir) / 'dataset_info.json').is_file()


def prepare(builder: tfds.core.DatasetBuilder) -> None:
  """Writes a builder's data as array_record files; at the end all are there or none.

  Args:
    builder: one whose generator needs no TensorFlow.

  Raises:
    DataError: from the generator, or if the disk is full.
  """
  config = tfds.download.DownloadConfig(
    try_download_gcs=False,
    compute_stats=tfds.download.ComputeStatsMode.SKIP,
  )
  tfds.disable_progress_bar()  # the generators tell theirs
  try:
    with contextlib.redirect_stdout(io.StringIO()):  # its announcements
      builder.download_and_prepare(file_format='array_record', download_config=config)
  except (OSError, RuntimeError) as error:  # array_record raises RuntimeError
    raise disk_fault(error, pathlib.Path(builder.data_dir)) from error


def read(
  builder: tfds.core.DatasetBuilder,
  progress: Progress,
  splits: tuple[str, str] = ('train', 'test'),
  look: Look | None = None,
  room: Callable[[str, tuple[int, ...]], np.ndarray] | None = None,
) -> tuple[tuple[np.ndarray, ...], tuple[str, ...]]:
  """Decodes two splits of a prepared data set.

  Examples with a feature `id` come in the order of their ids, which is that of the
  official files; others in the order in which they are stored.

  Args:
    builder: of prepared data, array_record or TFRecord.
    progress: told of images.
    splits: names of the training and the test split.
    look: how images are brought to one size, RGB; None leaves them as they are.
    room: `(train_image or test_image, shape) -> u8` array to fill; None takes memory.

  Returns:
    (train_image, train_label, test_image, test_label), and the names of the classes.

  Raises:
    DataError: if this is not a set of labelled images of one size, or cannot be read.
  """
  image_key, label_key = _keys(builder)
  arrays = []
  room = room or (lambda name, shape: np.empty(shape, np.uint8))
  read_as = decode if look is None else functools.partial(_brought_to_size, look=look)
  for split, name in zip(splits, ('train_image', 'test_image'), strict=True):
    place = functools.partial(room, name)
    arrays += _read_split(builder, split, image_key, label_key, progress, read_as, place)
  names = builder.info.features[label_key].names
  return tuple(arrays), tuple(names or ())


def _keys(builder) -> tuple[str, str]:
  """Names of the image and the label feature."""
  features = builder.info.features
  if builder.info.supervised_keys and len(builder.info.supervised_keys) == 2:
    keys = builder.info.supervised_keys
  else:
    image = [k for k, v in features.items() if isinstance(v, tfds.features.Image)]
    label = [k for k, v in features.items() if isinstance(v, tfds.features.ClassLabel)]
    keys = (*image, *label)
  kinds = [type(features[key]) if key in features else None for key in keys]
  found = [f'{key} ({type(feature).__name__})' for key, feature in features.items()]
  if kinds != [tfds.features.Image, tfds.features.ClassLabel]:
    raise DataError(
      f'{builder.name} is not a plain image classification set: it needs one Image and one '
      f'ClassLabel feature, but has {", ".join(found)}'
    )
  return keys


def _brought_to_size(encoded: bytes, look: Look) -> np.ndarray:
  """An image of any mode and size as u8[S,S,3]."""
  found = pictures.read(pathlib.Path('an image'), look, io.BytesIO(encoded))
  if isinstance(found, str):
    raise DataError(found)
  pixels = found.pixels
  return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)


def _read_split(
  builder, split, image_key, label_key, progress, read_as, room
) -> tuple[np.ndarray, np.ndarray]:
  total = builder.info.splits[split].num_examples
  label = np.empty(total, np.int32)
  ids = []
  image = None
  task = f'decoding {builder.name} {split}'
  try:
    examples = counted(_examples(builder, split, image_key), total, task, progress)
    for i, example in enumerate(examples):
      pixels = read_as(example[image_key])
      if image is None:
        image = room((total, *pixels.shape))
      if pixels.shape != image.shape[1:]:
        raise DataError(
          f'{builder.name}: images differ in shape, {image.shape[1:]} and {pixels.shape}; only '
          'sets with images of one size can be used, or give dataset_options.image_size=S'
        )
      image[i], label[i] = pixels, example[label_key]
      ids += [example['id']] if 'id' in example else []
  except DataError:
    raise
  except Exception as error:  # of damaged files array_record, protobuf and Pillow raise anything
    raise DataError(
      f'{builder.data_dir}, split {split}: cannot be read: {error}. If the files are damaged, '
      'delete that directory and start again'
    ) from error
  if image is None or i + 1 != total:
    raise DataError(f'{builder.data_dir}, split {split}: fewer than {total} images')
  order = _order(ids)
  return image[order], label[order]


def _order(ids: list) -> list[int] | slice:
  """Positions by rising id; numbers in a text are numbers, or image 100,000 would come early."""
  if not ids or np.ndim(ids) != 1:
    return slice(None)
  texts = isinstance(ids[0], str | bytes)
  keys = [by_number(os.fsdecode(i)) for i in ids] if texts else ids
  return sorted(range(len(ids)), key=keys.__getitem__)


def _examples(builder, split: str, image_key: str) -> Iterator[dict]:
  """The examples of a split, images still encoded."""
  decoders = {image_key: tfds.decode.SkipDecoding()}
  if builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD:
    source = builder.as_data_source(split, decoders=decoders)
    for start in range(0, len(source), _BATCH):
      yield from source.__getitems__(list(range(start, min(start + _BATCH, len(source)))))
  elif builder.info.file_format == tfds.core.FileFormat.TFRECORD:
    # `as_data_source` refuses these: they offer no random access, which we do not need.
    for path in builder.info.splits[split].filepaths:
      for record in tfrecords(path):
        yield builder.info.features.deserialize_example_np(record, decoders=decoders)
  else:
    raise DataError(
      f'{builder.data_dir}: file format {builder.info.file_format.value!r} cannot be read; '
      'prepare it again with --file_format=array_record'
    )


def tfrecords(path) -> Iterator[bytes]:
  """Reads a TFRecord file: length (8 bytes), its CRC (4), content, its CRC (4), and so on.

  Args:
    path: of the file.

  Yields:
    The content of each record.

  Raises:
    DataError: the file is cut short, or not what was written.
  """
  with open(path, 'rb') as file:
    while header := file.read(12):
      if len(header) < 12:
        raise DataError(f'{path} is cut short')
      _check_crc(path, header[:8], header[8:])
      (length,) = struct.unpack('<Q', header[:8])
      record, check = file.read(length), file.read(4)
      if len(record) < length or len(check) < 4:
        raise DataError(f'{path} is cut short')
      _check_crc(path, record, check)
      yield record


def _check_crc(path, content: bytes, check: bytes) -> None:
  """Compares a CRC32C, masked as TFRecord masks it."""
  import google_crc32c

  crc = google_crc32c.value(content)
  masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
  if masked != struct.unpack('<I', check)[0]:
    raise DataError(f'{path} is damaged: a record does not match its checksum')
