"""folder:PATH: people's own images."""

import numpy as np
import PIL.Image
import pytest

from jaxbudget import data

random = np.random.RandomState(0)


def write(path, shape=(12, 10, 3)):
  path.parent.mkdir(parents=True, exist_ok=True)
  pixels = random.randint(0, 256, shape, np.uint8)
  PIL.Image.fromarray(pixels).save(path)
  return pixels


@pytest.fixture
def folder(tmp_path):
  """Classes cat, dog; three training images and one test image of each."""
  root = tmp_path / 'pets'
  written = {}
  for name in ('dog', 'cat'):
    for i in range(3):
      written[f'train/{name}/{i}.png'] = None
    written[f'test/{name}/0.png'] = None
  return root, {name: write(root / name) for name in written}


def load(root, **more):
  return data.load(f'folder:{root}', root.parent / 'root', **more)


def test_classes_are_sorted_folder_names(folder):
  root, pixels = folder
  loaded = load(root)
  assert loaded.info.class_names == ('cat', 'dog')
  np.testing.assert_array_equal(loaded.train_label, [0, 0, 0, 1, 1, 1])
  for i, name in enumerate([f'train/{c}/{j}.png' for c in ('cat', 'dog') for j in range(3)]):
    np.testing.assert_array_equal(loaded.train_image[i], pixels[name])
  np.testing.assert_array_equal(loaded.test_image[1], pixels['test/dog/0.png'])
  info = loaded.info
  assert (info.image_shape, info.num_train, info.num_test) == ((12, 10, 3), 6, 2)
  np.testing.assert_allclose(info.std, (loaded.train_image / 255).std((0, 1, 2)))
  assert data.info(info.name, data_dir=root.parent / 'root') == info


def test_changed_folder_is_read_again(folder):
  root, _ = folder
  first = load(root)
  assert isinstance(load(root).train_image, np.memmap)
  new = write(root / 'train' / 'cat' / '9.png')
  again = load(root)
  assert again.info.num_train == 7 and again.fingerprint != first.fingerprint
  np.testing.assert_array_equal(again.train_image[3], new)


def test_grey_folder_stays_grey_and_a_mixed_one_becomes_rgb(tmp_path):
  for name in ('train/a/0.png', 'train/b/0.jpg', 'test/a/0.png', 'test/b/deep/0.bmp'):
    write(tmp_path / 'grey' / name, (9, 9))
  assert load(tmp_path / 'grey').train_image.shape == (2, 9, 9, 1)
  pixels = write(tmp_path / 'grey' / 'train/a/1.png', (9, 9, 3))
  mixed = load(tmp_path / 'grey')
  np.testing.assert_array_equal(mixed.train_image[1], pixels)
  assert mixed.train_image.shape == (3, 9, 9, 3)
  assert mixed.notes == ('4 grey images among coloured ones were taken as RGB',)


def test_faults_of_the_layout_are_listed_together(folder):
  root, _ = folder
  (root / 'train' / 'empty').mkdir()
  (root / 'train' / 'empty' / 'readme.txt').write_text('')
  write(root / 'test' / 'bird' / '0.png')
  with pytest.raises(data.DataError) as caught:
    load(root)
  message = str(caught.value)
  assert '2 faults' in message
  assert 'class folder train/empty holds no image' in message
  assert 'test has classes that train has not: bird' in message


def test_unreadable_images_are_named(folder):
  root, _ = folder
  (root / 'train' / 'cat' / '1.png').write_bytes(b'nonsense')
  half = (root / 'train' / 'dog' / '2.png').read_bytes()
  (root / 'train' / 'dog' / '2.png').write_bytes(half[: len(half) // 2])
  with pytest.raises(data.DataError, match='2 faults: .*cat/1.png cannot be dec.*dog/2.png cannot'):
    load(root)


def test_images_of_several_sizes_are_refused(folder):
  root, _ = folder
  write(root / 'train' / 'cat' / '7.png', (12, 11, 3))
  with pytest.raises(data.DataError, match='images of 2 sizes.* 8 of 10x12 .* 1 of 11x12 .*7.png'):
    load(root)


def test_sixteen_bit_image_is_refused(folder):
  root, _ = folder
  PIL.Image.fromarray(np.zeros((12, 10), np.uint16)).save(root / 'train' / 'cat' / '8.png')
  with pytest.raises(data.DataError, match='8.png has mode I;16; convert it to 8 bits'):
    load(root)


def test_empty_or_missing_folder(tmp_path):
  with pytest.raises(data.DataError, match='2 faults: no class folders in .*train.*test'):
    data.load(f'folder:{tmp_path}', tmp_path / 'root')
