"""folder:PATH: people's own images."""

import shutil

import numpy as np
import PIL.Image
import pytest
import scipy.io

from jaxbudget import data, registry
from jaxbudget.data import folder as folder_lib
from jaxbudget.data import pictures
from jaxbudget.lab import config

SPLITS = ('train', 'test')
random = np.random.RandomState(0)


def save(path, image, **more):
  path.parent.mkdir(parents=True, exist_ok=True)
  image.save(path, **more)


def write(path, shape=(12, 10, 3)):
  pixels = random.randint(0, 256, shape, np.uint8)
  save(path, PIL.Image.fromarray(pixels))
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


def test_size_is_an_exact_mean_of_areas_when_it_shrinks(tmp_path):
  written = [write(tmp_path / 'a' / f'{s}/{c}/0.png', (32, 32, 3)) for s in SPLITS for c in 'xy']
  loaded = load(tmp_path / 'a', options={'image_size': 16})
  for image, pixels in zip([*loaded.train_image, *loaded.test_image], written, strict=True):
    total = pixels.reshape(16, 2, 16, 2, 3).sum((1, 3), int)
    np.testing.assert_array_equal(image, (total + 2) // 4)
  assert loaded.notes == ('images of 32x32 were squashed to 16x16',)
  assert load(tmp_path / 'a').train_image.shape[1:] == (32, 32, 3)  # a cache of each


@pytest.mark.parametrize(('height', 'width'), [(12, 18), (30, 6), (7, 5), (9, 13)])
def test_squash_takes_all_of_an_image_and_crop_the_middle(tmp_path, height, width):
  ramp = np.linspace(0, 255, width).astype(np.uint8)
  pixels = np.repeat(ramp[None], height, 0)
  for split in SPLITS:
    for name in 'xy':
      save(tmp_path / 'a' / split / name / '0.png', PIL.Image.fromarray(pixels))
  whole = load(tmp_path / 'a', options={'image_size': 6}).train_image[0, :, :, 0]
  bounds = np.linspace(0, width, 7)
  middle = np.interp((bounds[:-1] + bounds[1:] - 1) / 2, range(width), ramp)
  one = 255 / (width - 1)  # pixels at a border count as a whole or not at all
  np.testing.assert_allclose(whole, np.repeat(middle[None], 6, 0), atol=one / 2 + 1)
  side = min(height, width)
  cropped = load(tmp_path / 'a', options={'image_size': side, 'fit': 'crop'}).train_image
  left = (width - side) // 2
  np.testing.assert_array_equal(cropped[0, ..., 0], pixels[:side, left : left + side])


@pytest.mark.parametrize(('height', 'width'), [(70, 40), (32, 90), (50, 50)])
def test_center_is_how_imagenet_is_evaluated(height, width):
  pixels = random.randint(0, 256, (height, width, 3), np.uint8)
  image = PIL.Image.fromarray(pixels)
  short = {(70, 40): (32, 56), (32, 90): (90, 32), (50, 50): (32, 32)}[height, width]
  resized = np.asarray(image.resize(short, PIL.Image.Resampling.BILINEAR))  # 32 = 28 * 256 / 224
  top, left = (short[1] - 28) // 2, (short[0] - 28) // 2
  found = np.asarray(pictures._to_size(image, pictures.Look(28, 'center')))
  np.testing.assert_array_equal(found, resized[top : top + 28, left : left + 28])


def mixed(root):
  """Images of every mode, orientation and suffix, in class x; y has a single image."""
  colour = random.randint(0, 256, (8, 6, 3), np.uint8)
  deep = random.randint(0, 2**16, (8, 6), np.uint16)
  alpha = np.dstack([colour, np.full((8, 6), 128, np.uint8)])
  exif = PIL.Image.Exif()
  exif[0x0112] = 6  # to be turned by 90 degrees clockwise
  of = PIL.Image.fromarray
  palette = PIL.Image.new('P', (5, 5), 1)
  palette.putpalette([0, 0, 0, 200, 100, 50] + [0] * 762)
  images = {
    'alpha.png': (of(alpha), {}),
    'cmyk.jfif': (of(colour).convert('CMYK'), {'format': 'JPEG'}),
    'deep.png': (of(deep), {}),
    'deep.tif': (of(deep.astype(np.int32)), {}),
    'grey.WEBP': (of(colour[..., 0]), {'lossless': True}),
    'one.gif': (of(colour[..., 0] > 127), {}),
    'palette.png': (palette, {'transparency': 1}),
    'turned.png': (of(colour), {'exif': exif}),
    'wide.bmp': (of(np.repeat(colour, 9, 1)), {}),
  }
  for name, (image, more) in images.items():
    save(root / 'train/x' / name, image, **more)
  save(root / 'train/y/only.ppm', of(colour))
  save(root / 'val/x/0.png', of(colour))
  save(root / 'val/y/0.png', of(colour))
  return colour, deep, [*images, 'only.ppm']


def test_folder_of_mixed_images(tmp_path):
  colour, deep, names = mixed(tmp_path / 'a')
  loaded = load(tmp_path / 'a', options={'image_size': 8, 'fit': 'squash', 'background': 0})
  image = dict(zip(names, loaded.train_image, strict=True))
  assert loaded.train_image.shape == (10, 8, 8, 3) and loaded.info.class_names == ('x', 'y')
  np.testing.assert_array_equal(loaded.train_label, [0] * 9 + [1])
  wide = lambda pixels: np.asarray(
    PIL.Image.fromarray(pixels).resize((8, 8), PIL.Image.Resampling.BILINEAR)
  )
  np.testing.assert_array_equal(image['only.ppm'], wide(colour))
  np.testing.assert_array_equal(image['deep.png'][..., 0], wide((deep >> 8).astype(np.uint8)))
  np.testing.assert_array_equal(image['deep.tif'], image['deep.png'])
  np.testing.assert_allclose(image['alpha.png'], wide(colour) * (128 / 255), atol=1.5)
  np.testing.assert_array_equal(image['palette.png'], np.zeros((8, 8, 3)))
  assert loaded.notes == (
    '3 grey images among coloured ones were taken as RGB',
    'turned as their EXIF orientation says: 1 of 12 images',
    'taken at 8 of their 16 bits: 2 of 12 images',
    'taken as RGB from CMYK, without a colour profile: 1 of 12 images',
    'laid on background=0, for they are transparent: 2 of 12 images',
    'images of 4 sizes, 5x5 to 54x8, were squashed to 8x8',
    'there is no test: val takes its place',
  )
  turned = load(tmp_path / 'a', options={'image_size': 6, 'fit': 'crop'}).train_image[7]
  np.testing.assert_array_equal(turned, np.rot90(colour, -1)[:, 1:7])


def test_8_bits_in_16_are_refused_unless_others_use_them_all(tmp_path):
  dim = np.full((4, 4), 255, np.uint16)
  for place, pixels in (('train/x', dim), ('train/y', 0 * dim), ('test/x', dim), ('test/y', dim)):
    save(tmp_path / 'a' / place / '0.png', PIL.Image.fromarray(pixels))
  with pytest.raises(data.DataError, match='would be black: save these 3 with 8 bits'):
    load(tmp_path / 'a')
  save(tmp_path / 'a/train/y/1.png', PIL.Image.fromarray(256 * dim))
  loaded = load(tmp_path / 'a')
  assert loaded.train_image.max() == 255 and not loaded.train_image[0].any()
  assert (
    loaded.notes[1].startswith('black, for they use the lower 8') and '3 of 5' in loaded.notes[1]
  )


def test_one_value_of_16_bits_may_be_transparent(tmp_path):
  deep = np.array([[5, 6, 0x8000]], np.uint16)  # two of one high byte, one of them transparent
  image = PIL.Image.fromarray(deep)
  image.save(tmp_path / 'a.png', transparency=5)
  found = pictures.read(tmp_path / 'a.png', pictures.Look())
  assert found.pixels.tolist() == [[255, 0, 128]] and found.changes == ('deep', 'alpha')


def test_all_faults_of_a_mixed_folder_are_said_at_once(tmp_path):
  mixed(tmp_path / 'a')
  (tmp_path / 'a/train/x/torn.jpg').write_bytes(b'\xff\xd8\xff nonsense')
  save(tmp_path / 'a/train/y/float.tif', PIL.Image.fromarray(np.zeros((4, 4), np.float32)))
  shutil.rmtree(tmp_path / 'a/val')
  with pytest.raises(data.DataError, match='4 faults') as caught:
    load(tmp_path / 'a')
  for words in (
    'torn.jpg cannot be decoded', 'float.tif cannot be decoded: its pixels are floats',
    'images of 4 sizes, bring them to one with dataset_options.image_size=S: 7 of 6x8',
    'no class folders in test, nor in val',
  ):  # fmt: skip
    assert words in str(caught.value)


def test_validation_stands_in_for_a_missing_test_split(folder):
  root, pixels = folder
  shutil.rmtree(root / 'test')
  with pytest.raises(data.DataError, match='nothing to test on; validation=N takes N'):
    load(root)
  loaded = load(root, validation=2)
  assert (loaded.info.num_train, loaded.info.num_test) == (4, 2)
  np.testing.assert_array_equal(loaded.test_label, [0, 1])


def test_test_goes_before_val(folder):
  root, pixels = folder
  write(root / 'val' / 'cat' / '0.png')
  np.testing.assert_array_equal(load(root).test_image[1], pixels['test/dog/0.png'])


@pytest.mark.parametrize(
  ('options', 'words'),
  [
    ({'image_size': -1}, 'image_size=-1 is refused'),
    ({'image_size': 4097}, 'must be in 0..4096'),
    ({'background': 256}, 'background=256 is refused'),
    ({'fit': 'crup'}, "did you mean 'crop'"),
    ({'image_side': 8}, "did you mean 'image_size'"),
  ],
)
def test_options_out_of_range(folder, options, words):
  with pytest.raises(data.DataError, match=words):
    load(folder[0], options=options)


def test_images_that_do_not_fit_are_refused_unread(folder, monkeypatch):
  monkeypatch.setattr(folder_lib, 'host_free_bytes', lambda: 10**6)
  monkeypatch.setattr(pictures, 'read', None)
  with pytest.raises(data.DataError, match='8 images of 4096x4096 take 402,653,184 bytes, but'):
    load(folder[0], options={'image_size': 4096})


def test_a_path_is_a_folder_or_a_file_of_arrays(folder, monkeypatch):
  root, _ = folder
  assert data.load(str(root), root.parent / 'root').info.name == f'folder:{root}'
  monkeypatch.chdir(root.parent)
  for name, full in {
    './pets': 'folder:./pets', '~/pets': 'folder:~/pets', 'a/b.npz': 'npz:a/b.npz',
    'folder:a/b': 'folder:a/b', 'npz:/x.npz': 'npz:/x.npz', 'mypackage.data:make':
    'mypackage.data:make', 'cifar10': 'cifar10', 'tfds:a/b': 'tfds:a/b',
  }.items():  # fmt: skip
    assert registry.data_name(name) == full
    assert config.defaults(dataset=name).dataset == full


def test_empty_or_missing_folder(tmp_path):
  with pytest.raises(data.DataError, match='2 faults: no class folders in .*train.*test'):
    data.load(f'folder:{tmp_path}', tmp_path / 'root')


WNIDS = ('n01440764', 'n01443537', 'n02084071')
FLAT = ('ILSVRC2012_val_00000001', 'ILSVRC2012_val_00000002', 'ILSVRC2012_val_00000003')
TRUTH = tuple(zip(FLAT, (2, 0, 1), strict=True))


def imagenet(root):
  """Class folders to train on, and three images of classes 2, 0, 1 to test on, flat."""
  for name in WNIDS:
    write(root / 'train' / name / f'{name}_1.JPEG')
  for name in FLAT:
    write(root / 'val' / f'{name}.JPEG')
  write(root / 'test' / 'ILSVRC2012_test_00000001.JPEG')  # of a class that nobody tells


def by_kaggle(root):
  rows = [f'{name},{WNIDS[c]} 1 2 3 4 {WNIDS[c]} 5 6 7 8 ' for name, c in TRUTH]
  text = '\n'.join(['ImageId,PredictionString', *reversed(rows)])
  (root.parent.parent / 'LOC_val_solution.csv').write_text(text + '\n')


def by_devkit(root):
  kit = root / 'ILSVRC2012_devkit_t12/data'
  kit.mkdir(parents=True)
  kinds = [('ILSVRC2012_ID', 'i4'), ('WNID', 'O')]
  synsets = np.array(list(zip((9, 3, 5), WNIDS, strict=True)), kinds)  # in an order of their own
  scipy.io.savemat(kit / 'meta.mat', {'synsets': synsets[:, None]})
  (kit / 'ILSVRC2012_validation_ground_truth.txt').write_text('5\n9\n3\n')


def by_caffe(root):
  (root / 'val.txt').write_text(''.join(f'{n}.JPEG {c}\n' for n, c in TRUTH))


def by_annotations(root):
  lines = [f'{n}.JPEG\t{WNIDS[c]}\t0\t32\t44\t62\n' for n, c in TRUTH]
  (root / 'val/val_annotations.txt').write_text(''.join(lines))
  (root / 'val/images').mkdir()
  for name in FLAT:
    (root / f'val/{name}.JPEG').rename(root / f'val/images/{name}.JPEG')


@pytest.mark.parametrize('list_classes', [by_kaggle, by_devkit, by_caffe, by_annotations])
def test_what_is_tested_on_may_lie_flat_beside_a_list(tmp_path, list_classes):
  root = tmp_path / 'ILSVRC' / 'data'
  imagenet(root)
  with pytest.raises(data.DataError, match='val holds 3 images without classes.*LOC_val_solution'):
    load(root)
  list_classes(root)
  loaded = load(root)
  np.testing.assert_array_equal(loaded.test_label, [2, 0, 1])
  assert loaded.info.class_names == WNIDS and loaded.info.num_train == 3
  assert loaded.notes == ('there is no test: val takes its place',)


def test_faults_of_a_list_are_named(tmp_path):
  imagenet(tmp_path / 'a')
  (tmp_path / 'a/val.txt').write_text(f'{FLAT[0]}.JPEG {WNIDS[0]}\n{FLAT[1]}.JPEG cat\n')
  with pytest.raises(data.DataError, match=f'val.txt does not name 1 images, .* {FLAT[2]}.JPEG'):
    load(tmp_path / 'a')
  (tmp_path / f'a/val/{FLAT[2]}.JPEG').unlink()
  with pytest.raises(data.DataError, match='val.txt has classes that train has not: cat'):
    load(tmp_path / 'a')
