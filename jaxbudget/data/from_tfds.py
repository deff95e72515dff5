"""Data sets that go through tensorflow-datasets: found prepared, or prepared on first use.

The official data live in ROOT/NAME/VERSION, where everybody's tensorflow-datasets looks.
Anything else (a subset, a mirror's archive) is prepared under ROOT/jaxbudget/KEY, so that
it can never be taken for the official data. The decoded cache is ROOT/jaxbudget/KEY too.
"""

import contextlib
import dataclasses
import difflib
import functools
import hashlib
import os
import pathlib
from collections.abc import Callable

from absl import logging

from jaxbudget.data import cache, download, mini_imagenet_source
from jaxbudget.data.arrays import array_faults, from_arrays, named, refuse
from jaxbudget.data.dataset import DataError, Dataset, Progress, fingerprint
from jaxbudget.data.pictures import Look
from jaxbudget.data.tables import ARCHIVES, INFO
from jaxbudget.paths import expand, file_name


def root_directory(data_dir: str | None) -> pathlib.Path | None:
  """Where prepared data live; by default where tensorflow-datasets keeps them.

  None if that is in a home directory, and there is none.
  """
  default = os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets'
  try:
    return expand(data_dir or default)
  except ValueError:
    return None


def known_root(root: pathlib.Path | None) -> pathlib.Path:
  """Refuses what must be kept somewhere when nobody knows where."""
  if root is None:
    raise DataError('data_dir must be given: there is no home directory to keep the data in')
  return root


def cached(
  root: pathlib.Path | None, key: str, source: str, build: Callable[[], Dataset], progress: Progress
) -> Dataset:
  """Reads the decoded cache; builds it first if it is missing, stale or damaged.

  Args:
    root: as from `root_directory`.
    key: name of the data set and, if it is not the official one, of the variant.
    source: see `cache.read`.
    build: makes the data set; called by one process at a time.
    progress: told of waiting.

  Returns:
    The data set, memory-mapped.
  """
  if root is None:
    return _uncached(build, 'there is no home directory to keep them in')
  directory = root / 'jaxbudget' / key
  dataset, _ = cache.read(directory, source)
  if dataset is not None:
    return dataset
  with contextlib.ExitStack() as stack:
    try:
      stack.enter_context(cache.lock(directory, progress))
    except OSError as error:  # read-only, somebody else's, or no such place
      return _uncached(build, f'{directory} cannot be written ({error.strerror or error})')
    dataset, damage = cache.read(directory, source)  # another process may have built it
    if dataset is None:
      if damage:
        logging.warning('the cache %s is damaged and is rebuilt: %s', directory, damage)
      built = build()
      try:
        cache.write(directory, built, source)
      except PermissionError as error:  # somebody else's, in a directory that all may write to
        return _uncached(lambda: built, f'{directory} cannot be written ({error.strerror})')
      dataset, damage = cache.read(directory, source)
      if dataset is None:
        raise DataError(f'{directory} was written but cannot be read back: {damage}')
  return dataset


def _uncached(build: Callable[[], Dataset], why: str) -> Dataset:
  """Builds a data set in memory, with a note that this will happen again."""
  dataset = build()
  note = f'the images are decoded again at every start: {why}'
  return dataset._replace(notes=(*dataset.notes, note))


def load_archived(
  name: str,
  root: pathlib.Path | None,
  manual_dir: pathlib.Path | None,
  checksums: str | None,
  progress: Progress,
) -> Dataset:
  """Loads cifar10, cifar100 or svhn.

  Args:
    name: one of these.
    root: as from `root_directory`.
    manual_dir: may hold the archives.
    checksums: path of a checksum file, for archives other than the official ones.
    progress: told of slow work.

  Returns:
    The data set.

  Raises:
    DataError: if the archives are not to be had, or are not what they should be.
  """
  root = known_root(root)
  archives = download.replace_listed(ARCHIVES[name], checksums)
  contents = [archive.sha256 for archive in archives]
  official = contents == [archive.sha256 for archive in ARCHIVES[name]]
  key = name if official else f'{name}-{_short_hash(*contents)}'
  home = root if official else root / 'jaxbudget' / f'{key}.tfds'
  manual_dirs = [d for d in (manual_dir, root / 'downloads' / 'manual') if d]

  def build():
    import tensorflow_datasets as tfds  # late: a warm start needs none of it

    from jaxbudget.data import prepared

    stock = {'svhn': 'svhn_cropped'}.get(name, name)
    builder = prepared.make(tfds.builder, stock, data_dir=home)
    if not prepared.is_prepared(builder):
      downloads = root / 'downloads' / 'jaxbudget'
      paths = [download.get(a, manual_dirs, downloads, progress) for a in archives]
      prepared.prepare(_builder(name, home, paths, progress))
      builder = prepared.make(tfds.builder, stock, data_dir=home)
    arrays, class_names = prepared.read(builder, progress)
    return _complete(name, arrays, class_names, official, builder.data_dir)

  return cached(root, key, '', build, progress)


def _builder(name: str, home: pathlib.Path, paths: list[pathlib.Path], progress: Progress):
  """Our variant of a stock builder, which prepares without TensorFlow."""
  from jaxbudget.data import prepared

  if name == 'svhn':
    from jaxbudget.data import svhn

    builder = prepared.make(svhn.SvhnCropped, data_dir=home, file_format='array_record')
    builder.archives = tuple(paths)
  else:
    from jaxbudget.data import cifar

    kind = {'cifar10': cifar.Cifar10, 'cifar100': cifar.Cifar100}[name]
    builder = prepared.make(kind, data_dir=home, file_format='array_record')
    (builder.archive,) = paths
  builder.progress = progress
  return builder


def _complete(name, arrays, class_names, official, where, notes=()) -> Dataset:
  """Makes a data set of arrays, with the constants of the study."""
  table = INFO[name]
  refuse(name, array_faults(named(arrays), len(class_names)))
  info = dataclasses.replace(
    table,
    num_train=len(arrays[0]),
    num_test=len(arrays[2]),
    num_classes=len(class_names),
    class_names=class_names,
  )
  counts = (info.num_train, info.num_test)
  if counts != (table.num_train, table.num_test):
    found = f'{counts[0]:,} training and {counts[1]:,} test images'
    expected = f'{table.num_train:,} and {table.num_test:,}'
    if official:
      raise DataError(f'{where} holds {found} instead of {expected}; delete it to prepare it anew')
    notes = (f'subset: {found} instead of {expected}', *notes)
  return Dataset(info, *arrays, fingerprint(*arrays), notes, str(where))


def load_mini_imagenet(
  root: pathlib.Path | None, manual_dir: pathlib.Path | None, progress: Progress
) -> Dataset:
  """Loads mini-ImageNet from what is prepared, or from people's own copy.

  Args:
    root: as from `root_directory`.
    manual_dir: a directory that is or holds the copy, or a tar file.
    progress: told of slow work.

  Returns:
    The data set; with the constants of the full one even if it is a subset.

  Raises:
    DataError: if there is no copy, or it is not what it should be.
  """
  root = known_root(root)
  source, identity = _mini_imagenet_copy(root, manual_dir)
  key = f'mini_imagenet-{_short_hash(identity)}' if source else 'mini_imagenet'

  def build():
    from jaxbudget.data import mini_imagenet, prepared

    listed = mini_imagenet_source.read_lists(source) if source else ()
    full = not source or len(listed) == mini_imagenet_source.FULL
    home = root if full else root / 'jaxbudget' / f'{key}.tfds'
    make = functools.partial(
      prepared.make, mini_imagenet.MiniImagenet, data_dir=home, file_format='array_record'
    )
    builder = make()
    if not prepared.is_prepared(builder):
      if source is None:
        raise DataError(
          f'mini_imagenet is not prepared in {root}, and there is no copy in '
          f'{manual_dir or root / "downloads" / "manual"}: give data_manual_dir. Needed: '
          f'{mini_imagenet_source.NEEDED}'
        )
      builder.source, builder.progress = source, progress
      prepared.prepare(builder)
      builder = make()
    arrays, class_names = prepared.read(builder, progress)
    notes = mini_imagenet.notes(builder.info.metadata)
    return _complete('mini_imagenet', arrays, class_names, full, builder.data_dir, notes)

  return cached(root, key, '', build, progress)


def _mini_imagenet_copy(root, manual_dir) -> tuple[pathlib.Path | None, str]:
  """The user's copy, if there is one, and its identity; needs no tensorflow-datasets."""
  source = mini_imagenet_source.locate(manual_dir or root / 'downloads' / 'manual')
  return source, mini_imagenet_source.identity(source) if source else ''


def load_any(
  name: str, root: pathlib.Path | None, progress: Progress, look: Look | None = None
) -> Dataset:
  """Loads tfds:NAME, any image classification set that is prepared already.

  Args:
    name: as tensorflow-datasets spells it, with configuration and version if wanted.
    root: as from `root_directory`.
    progress: told of images.
    look: how images are brought to one size; None leaves them as they are.

  Returns:
    The data set.

  Raises:
    DataError: if it is not prepared, or is no plain image classification set.
  """
  import tensorflow_datasets as tfds

  from jaxbudget.data import prepared

  root = known_root(root)
  try:
    builder = prepared.make(tfds.builder, name, data_dir=root)
  except tfds.core.DatasetNotFoundError as error:
    known = tfds.list_builders(with_community_datasets=False)
    close = difflib.get_close_matches(name.partition('/')[0].partition(':')[0], known, n=1)
    hint = f'; did you mean tfds:{close[0]}?' if close else ''
    said = f'tensorflow-datasets knows no such set, and none is prepared in {root}{hint}'
    raise DataError(f'tfds:{name}: {said}') from error
  except (ValueError, ImportError) as error:
    raise DataError(f'tfds:{name}: {" ".join(str(error).split())}') from error
  if not prepared.is_prepared(builder):
    raise DataError(
      f'tfds:{name} is not prepared in {root}; prepare it where TensorFlow is installed with '
      f'`tfds build {name} --file_format=array_record`, and set data_dir if it lies elsewhere'
    )
  splits = list(builder.info.splits)
  test = next((split for split in ('test', 'validation') if split in splits), None)
  if 'train' not in splits or test is None:
    raise DataError(
      f'tfds:{name} has the splits {", ".join(splits)}; needed are train and test (or validation)'
    )
  notes = () if test == 'test' else (f'the split {test!r} serves as the test set',)
  where = str(builder.data_dir)
  key = file_name(f'tfds-{name}') + (f'-{_short_hash(repr(look))}' if look else '')

  def room(image, shape):
    return cache.room(root / 'jaxbudget' / key, image, shape, 'u1')

  def build():
    # Images of a size of their own are many, and large: memory need not hold them.
    arrays, class_names = prepared.read(
      builder, progress, ('train', test), look, room if look else None
    )
    return from_arrays(f'tfds:{name}', *arrays, class_names=class_names, notes=notes, where=where)

  source = _short_hash((pathlib.Path(where) / 'dataset_info.json').read_text('utf-8'))
  return cached(root, key, source, build, progress)


def _short_hash(*parts: str) -> str:
  return hashlib.sha256('\0'.join(parts).encode()).hexdigest()[:12]
