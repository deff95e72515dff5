"""The contact sheet on digits."""

import numpy as np
import pytest
from PIL import Image

from jaxbudget import registry
from jaxbudget.augment import operations
from jaxbudget.data import digits
from jaxbudget.lab.report import contact_sheet as sheet


@pytest.fixture(scope='module')
def dataset():
  return digits.load()


NAMES = ('standard', 'randaugment', 'mixup', 'ricap', 'translate')  # some of all, for time


@pytest.fixture(scope='module')
def strips(dataset):
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(registry, 'names', lambda kind: NAMES)
    return sheet.make_strips(dataset, seed=3)


def test_every_augmentation_and_operation_has_its_strip(strips):
  titles = [strip.title.split('\n')[0] for strip in strips]
  assert titles == ['original', *NAMES, *operations.OPERATIONS]
  assert all(strip.image.shape == (8, 8, 8, 1) for strip in strips)
  assert all(strip.image.dtype == np.uint8 for strip in strips)


def test_captions_name_true_labels_with_weights_that_sum_to_1(strips):
  original, standard, randaugment, mixup, ricap = strips[:5]
  for strip in (standard, randaugment):
    assert strip.captions == [f'{label} 1.00' for label in original.captions]
  for strip, parts in ((mixup, 2), (ricap, 4)):
    for home, caption in zip(original.captions, strip.captions, strict=True):
      lines = [line.split() for line in caption.split('\n')]
      assert len(lines) <= parts
      assert abs(sum(float(weight) for _, weight in lines) - 1) < 0.03  # of rounded figures
      assert {label for label, _ in lines} <= set(original.captions)
      assert strip is ricap or lines[0][0] == home  # unless lambda rounds to exactly 0


def test_strips_show_what_they_say(strips):
  shown = {strip.title.split('\n')[0]: strip.image for strip in strips}
  np.testing.assert_array_equal(shown['invert'], 255 - shown['original'])
  np.testing.assert_array_equal(shown['color'], shown['original'])  # grey already
  np.testing.assert_array_equal(shown['translate_x'][0, :, :-3], shown['original'][0, :, 3:])
  np.testing.assert_array_equal(shown['translate_x'][1, :, 3:], shown['original'][1, :, :-3])
  one_sample = np.isin(shown['standard'], shown['original']).all()
  assert one_sample and not np.array_equal(shown['standard'], shown['original'])


def test_it_is_written_as_png(dataset, strips, tmp_path, monkeypatch):
  monkeypatch.setattr(sheet, 'make_strips', lambda *_: strips)  # five compilations saved
  path = tmp_path / 'sheet.png'
  sheet.contact_sheet(dataset, path)
  with Image.open(path) as image:
    assert image.format == 'PNG' and image.width > 1500 and image.height > 1000
    background = image.convert('RGB').getpixel((0, 0))
    drawn = np.any(np.asarray(image.convert('RGB')) != background, axis=-1)
  # Both columns are filled to the bottom third and nothing touches the edge.
  half = image.width // 2
  assert drawn[-image.height // 3 :, :half].any() and drawn[-image.height // 3 :, half:].any()
  assert not (drawn[[0, -1]].any() or drawn[:, [0, -1]].any())


def test_two_channels_are_refused(dataset, tmp_path):
  info = dataset.info
  image = np.zeros((9, 8, 8, 2), np.uint8)
  two = info.__class__(**{**vars(info), 'image_shape': (8, 8, 2), 'mean': (0, 0), 'std': (1, 1)})
  with pytest.raises(ValueError, match='channels'):
    sheet.contact_sheet(
      dataset._replace(info=two, train_image=image, train_label=dataset.train_label[:9]),
      tmp_path / 'sheet.png',
    )
  assert not list(tmp_path.iterdir())


def test_class_names_are_no_mathematics(dataset, strips, tmp_path, monkeypatch):
  """An unfinished formula would end in an error, a finished one would lose its dollars."""
  hostile = strips[0]._replace(captions=[r'$\frac$ 1.00', '$x$ 1.00'] * 4)
  monkeypatch.setattr(sheet, 'make_strips', lambda *_: [hostile, hostile])
  sheet.contact_sheet(dataset, tmp_path / 'sheet.png')
  drawn = sheet._draw('$x$', [hostile])
  assert any(r'$\frac$ 1.00' in text.get_text() for text in drawn.axes[0].texts)
