"""mini-ImageNet: the real subset, and small copies written here."""

import csv
import io
import os
import pathlib
import tarfile

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from jaxbudget import data
from jaxbudget.data import mini_imagenet, prepared

REAL = os.environ.get('JAXBUDGET_TEST_DATA')
needs_real = pytest.mark.skipif(
  not REAL, reason='set JAXBUDGET_TEST_DATA to a directory with a mini-ImageNet tar'
)


def expected_arrays(files):
  """fidelity.md 1.1, re-derived: (images, labels, number of training images)."""
  rows = []
  for name in ('train.csv', 'val.csv', 'test.csv'):
    rows += list(csv.reader(io.StringIO(files[name].decode())))[1:]
  rank = {wnid: i for i, wnid in enumerate(sorted({wnid for _, wnid in rows}))}
  shuffled = [rows[i] for i in np.random.RandomState(42).permutation(len(rows))]
  image = [
    np.asarray(PIL.Image.open(io.BytesIO(files[f'images/{name}'])).convert('RGB'))
    for name, _ in shuffled
  ]
  return image, [rank[wnid] for _, wnid in shuffled], int(np.floor(5 * len(rows) / 6))


@needs_real
def test_real_subset_from_the_tar(tmp_path):
  loaded = data.load('mini_imagenet', tmp_path, REAL)
  with tarfile.open(next(pathlib.Path(REAL).glob('mini-imagenet*.tar'))) as tar:
    files = {m.name.partition('/')[2]: tar.extractfile(m).read() for m in tar if m.isfile()}
  image, label, num_train = expected_arrays(files)
  assert num_train == len(loaded.train_label) == 1666
  np.testing.assert_array_equal(loaded.train_image, np.stack(image[:num_train]))
  np.testing.assert_array_equal(loaded.test_image, np.stack(image[num_train:]))
  np.testing.assert_array_equal(loaded.train_label, label[:num_train])
  np.testing.assert_array_equal(loaded.test_label, label[num_train:])
  assert loaded.info.num_classes == 100 and loaded.info.mean == data.info('mini_imagenet').mean
  assert any(note.startswith('subset: 1,666 training and 334 test') for note in loaded.notes)
  assert any('84x84 already' in note for note in loaded.notes)


def test_split_of_the_full_set():
  order = np.random.RandomState(42).permutation(60000)
  assert order[:8].tolist() == [12628, 37730, 39991, 8525, 8279, 51012, 14871, 15127]
  assert mini_imagenet.train_size(60000) == 50000


def jpeg(seed, size=(84, 84), mode='RGB', kind='JPEG'):
  random = np.random.RandomState(seed)
  small = PIL.Image.fromarray(random.randint(0, 256, (7, 7, 3), np.uint8))
  buffer = io.BytesIO()
  small.resize(size, PIL.Image.Resampling.BICUBIC).convert(mode).save(buffer, kind)
  return buffer.getvalue()


def small_copy(**change):
  """Six classes of eight images; class names in an order that differs from the lists'."""
  files, rows = {}, {'train.csv': [], 'val.csv': [], 'test.csv': []}
  places = dict(c='train.csv', f='train.csv', b='train.csv', e='val.csv', a='val.csv', d='test.csv')
  for c, (wnid, where) in enumerate(places.items()):
    for i in range(8):
      name = f'n{wnid}{i:03d}.jpg'
      files[f'images/{name}'] = jpeg(8 * c + i)
      rows[where].append(f'{name},n{wnid}')
  for name, lines in rows.items():
    files[name] = '\n'.join(['filename,label', *lines, '']).encode()
  return {k: v for k, v in (files | change).items() if v is not None}


def write_directory(root, files):
  for name, content in files.items():
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
  return root


def write_tar(path, files, prefix=''):
  path.parent.mkdir(parents=True, exist_ok=True)
  with tarfile.open(path, 'w:gz' if path.suffix == '.gz' else 'w') as tar:
    for name, content in files.items():
      header = tarfile.TarInfo(prefix + name)
      header.size = len(content)
      tar.addfile(header, io.BytesIO(content))
  return path


def test_every_form_of_a_copy_gives_the_same_arrays(tmp_path):
  files = small_copy()
  image, label, num_train = expected_arrays(files)
  forms = [
    write_directory(tmp_path / 'a', files),
    write_directory(tmp_path / 'b' / 'mini', files).parent,
    write_tar(tmp_path / 'c' / 'mini-imagenet.tar', files, './').parent,
    write_tar(tmp_path / 'd' / 'miniImageNet.tar.gz', files, 'mini-imagenet/').parent,
    write_tar(tmp_path / 'e' / 'any_name.tar', files),
  ]
  for form in forms:
    loaded = data.load('mini_imagenet', tmp_path / 'root', form)
    np.testing.assert_array_equal(loaded.train_image, np.stack(image[:num_train]))
    np.testing.assert_array_equal(loaded.test_label, label[num_train:])
    assert loaded.info.class_names == ('na', 'nb', 'nc', 'nd', 'ne', 'nf')
  assert len(list((tmp_path / 'root' / 'jaxbudget').glob('*.tfds'))) == len(forms)

  (tmp_path / 'd' / 'mini_imagenet_2.tar').write_bytes(b'')
  with pytest.raises(data.DataError, match='more than once: miniImageNet.tar.gz, mini_imagenet_2'):
    data.load('mini_imagenet', tmp_path / 'root', tmp_path / 'd')


def without_header(content):
  return content.removeprefix(b'filename,label\n')


@pytest.mark.parametrize(
  'rewrite',
  [
    without_header,
    lambda content: b'\xef\xbb\xbf' + content,
    lambda content: b'\xef\xbb\xbf' + without_header(content),
    lambda content: b'\r\n \r\n' + content.replace(b'\n', b'\r\n\r\n') + b',\r\n',
    lambda content: content.replace(b'filename,', b'"FileName" , ').replace(b'.jpg,', b'.jpg, '),
    lambda content: content.replace(b'\n', b'\r'),
  ],
  ids=['no header', 'mark', 'mark, no header', 'blank rows', 'spelling', 'old Mac'],
)  # fmt: skip
def test_a_list_loses_no_row_whatever_its_form(tmp_path, rewrite):
  files = small_copy()
  image, label, num_train = expected_arrays(files)
  rewritten = files | {name: rewrite(files[name]) for name in ('train.csv', 'val.csv', 'test.csv')}
  loaded = data.load('mini_imagenet', tmp_path, write_directory(tmp_path / 'a', rewritten))
  np.testing.assert_array_equal(loaded.train_image, np.stack(image[:num_train]))
  np.testing.assert_array_equal(loaded.train_label, label[:num_train])
  np.testing.assert_array_equal(loaded.test_label, label[num_train:])


def test_it_is_a_registered_builder(tmp_path):
  write_tar(tmp_path / 'manual' / 'mini-imagenet.tar', small_copy())
  made = {'data_dir': tmp_path, 'file_format': 'array_record'}
  builder = prepared.make(tfds.builder, 'mini_imagenet', **made)
  config = tfds.download.DownloadConfig(manual_dir=tmp_path / 'manual', try_download_gcs=False)
  builder.download_and_prepare(file_format='array_record', download_config=config)
  assert builder.info.splits['train'].num_examples == 40
  assert len(builder.as_data_source('test')) == 8
  # A subset where the full set belongs is not taken for it.
  with pytest.raises(data.DataError, match='holds 40 training and 8 test images instead of 50,000'):
    data.load('mini_imagenet', tmp_path)


def test_larger_images_are_squashed_with_an_area_filter(tmp_path):
  name = 'images/nc000.jpg'
  files = small_copy(
    **{name: jpeg(1, (252, 168), 'L', 'PNG'), 'images/nf001.jpg': jpeg(2, (84, 60))}
  )
  loaded = data.load('mini_imagenet', tmp_path / 'root', write_directory(tmp_path / 'a', files))
  source = np.asarray(PIL.Image.open(io.BytesIO(files[name])), np.float64)
  area = source.reshape(84, 2, 84, 3).mean((1, 3))[..., None]  # whole pixels: a plain mean
  images = np.concatenate([loaded.train_image, loaded.test_image]).astype(np.float64)
  assert np.abs(images - area).max((1, 2, 3)).min() <= 1
  note = '2 images were squashed to 84x84 with an area filter (Pillow BOX); 1 of them'
  assert any(found.startswith(note) for found in loaded.notes)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'images/nb003.jpg': None}, "name 1 images that are not in images/, the first is 'nb003.jpg'"),
    ({'images/nb003.jpg': b'not an image'}, 'images/nb003.jpg cannot be decoded'),
    ({'images/nb003.jpg': jpeg(1)[:200]}, 'images/nb003.jpg cannot be decoded'),
    ({'val.csv': None}, 'lacks val.csv'),
    ({'val.csv': b'filename,label\nno comma\n'}, r'val.csv, line 2: expected filename,label'),
    ({'val.csv': b'\n\nno comma\n'}, r'val.csv, line 3: expected filename,label'),
    ({'val.csv': b'image,class\nne000.jpg,ne\n'}, r'val.csv, line 1: expected the header filename'),
    (
      dict.fromkeys(('train.csv', 'val.csv', 'test.csv'), b'filename,label\n'),
      'the lists name no image',
    ),
    ({'test.csv': b'filename,label\n../../../etc/passwd,nx\n'}, "first is '../../../etc/passwd'"),
  ],
)
@pytest.mark.parametrize('form', ['directory', 'tar'])
def test_bad_copy_is_refused(tmp_path, change, message, form):
  files = small_copy(**change)
  if form == 'tar':
    copy = write_tar(tmp_path / 'mini-imagenet.tar', files)
  else:
    copy = write_directory(tmp_path / 'a', files)
  with pytest.raises(data.DataError, match=message):
    data.load('mini_imagenet', tmp_path / 'root', copy)
  assert not list((tmp_path / 'root').rglob('*record*'))


def test_tar_that_climbs_out_or_is_cut_short_is_refused(tmp_path):
  tar = write_tar(tmp_path / 'mini-imagenet.tar', {'../evil.txt': b'x'} | small_copy())
  with pytest.raises(data.DataError, match="'../evil.txt', a path that climbs out"):
    data.load('mini_imagenet', tmp_path / 'root', tar)
  assert not list(tmp_path.parent.rglob('evil.txt'))
  tar = write_tar(tmp_path / 'mini-imagenet.tar', small_copy())
  whole = tar.read_bytes()
  tar.write_bytes(whole[: len(whole) // 2])
  with pytest.raises(data.DataError, match='cut short or damaged|not in images/|lacks'):
    data.load('mini_imagenet', tmp_path / 'root', tar)


def test_missing_copy_says_what_is_needed(tmp_path):
  with pytest.raises(data.DataError, match='give data_manual_dir. Needed: a directory, or a tar'):
    data.load('mini_imagenet', tmp_path, tmp_path)
