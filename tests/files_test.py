"""Images that stay in their files: the pixels of the folder loader, read as a plan shows them."""

import itertools
import json
import os
import pathlib
import signal

import faulty
import numpy as np
import PIL.Image
import psutil
import pytest
from faulty import linear_model  # noqa: F401  a fixture
from resized_crop_test import numpy_boxes
from rich.console import Console
from scipy import stats
from train_test import stop_after

from jaxbudget import data
from jaxbudget.data import crops, decoders, encoded
from jaxbudget.data.encoded import ImageFiles, Unreadable
from jaxbudget.data.pictures import Look
from jaxbudget.lab import config
from jaxbudget.lab.run import conditions
from jaxbudget.lab.run.ongoing import Stopped
from jaxbudget.lab.run.train import train
from jaxbudget.lab.sweep import grid, inputs, local
from jaxbudget.placement import Walk

CLASSES, EACH, TEST = ('a', 'b', 'c', 'd'), 10, 2


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """40 small JPEGs of many sizes, four classes told apart by brightness, 8 to test on."""
  root, rng = tmp_path_factory.mktemp('photographs') / 'set', np.random.default_rng(0)
  for split, count in (('train', EACH), ('test', TEST)):
    for (label, name), i in itertools.product(enumerate(CLASSES), range(count)):
      shape = (*rng.integers(12, 30, 2), 3)
      pixels = (rng.integers(0, 150, shape) + 25 * label).astype(np.uint8)
      path = root / split / name / f'{i}.jpg'
      path.parent.mkdir(parents=True, exist_ok=True)
      PIL.Image.fromarray(pixels).save(path)
  return root


def load(root, placement='files', **options):
  options = {'image_size': 8, **options}
  return data.load(f'folder:{root}', root.parent / 'kept', options=options, placement=placement)


def walk(index, start=0, stop=None, rows=3, epoch=None, columns=None):
  columns = np.arange(index.shape[1]) if columns is None else columns
  return Walk(index, columns, start, len(index) if stop is None else stop, rows, epoch)


def shown(source, *args, **options):
  """The rows of a pass: [rows, k, D]."""
  made = walk(*args, **options)
  return np.concatenate(list(source.walk(made)))[: made.stop - made.start]


@pytest.mark.parametrize('fit', ['squash', 'crop', 'center'])
def test_pixels_are_those_of_the_folder_loader(folder, fit):
  stays, decoded = load(folder, fit=fit), load(folder, 'host', fit=fit)
  assert stays.is_encoded and not decoded.is_encoded
  assert stays.info.image_shape == decoded.info.image_shape == (8, 8, 3)
  np.testing.assert_array_equal(stays.train_label, decoded.train_label)
  for ours, theirs in ((stays.train_image, decoded.train_image), (stays.test_image, decoded[3])):
    np.testing.assert_array_equal(ours.read(np.arange(len(theirs))), theirs)
    index = np.random.default_rng(1).integers(0, len(theirs), (7, 5)).astype(np.int32)
    for rows in (2, 3, 7):
      found = shown(ours, index, start=1, rows=rows, epoch=4)
      np.testing.assert_array_equal(found, np.asarray(theirs)[index[1:]].reshape(6, 5, -1))


def test_only_what_is_shown_is_read(folder):
  source = load(folder).train_image
  sizes = np.array([os.path.getsize(path) for path in source.paths])
  index = np.arange(40, dtype=np.int32).reshape(10, 4)[::-1]
  shown(source, index, stop=3)
  assert source.bytes_read == sizes[28:].sum()
  assert source.read(np.array([], np.int32)).shape == (0, 8, 8, 3)


def test_a_crop_depends_on_its_place_in_the_run_alone(folder):
  source = load(folder, crop='random_resized').train_image.seeded(3)
  index = np.full((6, 4), 7, np.int32)
  whole = shown(source, index, epoch=2)
  np.testing.assert_array_equal(shown(source, index, start=4, rows=1, epoch=2), whole[4:])
  own = shown(source, index[:, 2:], epoch=2, columns=np.array([2, 3]))  # of a second process
  np.testing.assert_array_equal(own, whole[:, 2:])
  assert len(np.unique(whole.reshape(24, -1), axis=0)) > 20  # each place has a crop of its own
  for other in (shown(source, index, epoch=3), shown(source.seeded(4), index, epoch=2)):
    assert (other != whole).any(-1).mean() > 0.9
  plain = load(folder).train_image  # as evaluation sees them
  np.testing.assert_array_equal(shown(source, index), shown(plain, index))


@pytest.mark.parametrize('shape', [(24, 24), (10, 40)])
def test_boxes_have_torchvisions_law(shape):
  places = itertools.product(range(40), range(50))
  ours = [sum(crops.random_box(crops.generator(5, 1, *place), shape), ()) for place in places]
  theirs = list(numpy_boxes(np.random.default_rng(0), 2000, shape, crops.SCALE, crops.RATIO))
  for a, b in zip(np.array(ours).T, np.array(theirs).T, strict=True):
    assert stats.ks_2samp(a, b).pvalue > 1e-3


def test_the_crop_of_a_place_is_what_it_was():
  """Other numbers here are other runs: raise `epoch.ENGINE` then."""
  boxes = [crops.random_box(crops.generator(0, 1, 2, column), (100, 120)) for column in range(3)]
  assert boxes == [((1, 6), (88, 107)), ((1, 2), (96, 91)), ((3, 10), (84, 95))]


def test_known_by_names_and_sizes_and_by_what_is_shown(folder):
  first = load(folder)
  path = pathlib.Path(first.train_image.paths[0])
  os.utime(path, ns=(1, 1))
  assert load(folder).fingerprint == first.fingerprint
  same = load(folder, decode_workers=3)
  assert same.fingerprint == first.fingerprint and same.train_image.workers == 3
  others = [
    load(folder, crop='random_resized'),
    load(folder, image_size=9),
    load(folder, fit='crop'),
  ]
  content = path.read_bytes()
  path.write_bytes(content + b'\0')
  others.append(load(folder))
  path.write_bytes(content)
  assert len({one.fingerprint for one in (first, *others)}) == 5
  assert others[0].info.pad == 0 and first.info.pad == 1  # a crop of its own needs no other


def test_refusals(folder, tmp_path):
  with pytest.raises(data.DataError, match='need a size: give dataset_options.image_size=S'):
    load(folder, image_size=0)
  with pytest.raises(data.DataError, match='crop=random_resized is for images that stay in their'):
    load(folder, 'host', crop='random_resized')
  npz = data.load(faulty.write_images(tmp_path / 'tiny.npz'))
  with pytest.raises(data.DataError, match='placement=files is refused: it is for folders of'):
    data.choose(npz, 'files')
  with pytest.raises(ValueError, match='placement=.files. is refused: files is for folder:'):
    grid.make_runs(config.defaults(dataset='digits', placement='files'))


def test_imagenet_as_it_is_published(folder, tmp_path):
  for name in CLASSES:
    (tmp_path / 'train').mkdir(exist_ok=True)
    (tmp_path / 'train' / name).symlink_to(folder / 'train' / name)
  (tmp_path / 'val').mkdir()
  for i, name in enumerate(CLASSES):
    (tmp_path / f'val/ILSVRC2012_val_{i:08d}.JPEG').symlink_to(folder / 'test' / name / '0.jpg')
  truth = [f'ILSVRC2012_val_{i:08d},{name} 1 2 3 4\n' for i, name in enumerate(CLASSES)]
  (tmp_path / 'LOC_val_solution.csv').write_text(''.join(['ImageId,PredictionString\n', *truth]))
  with pytest.raises(data.DataError, match='imagenet: give data_manual_dir'):
    data.load('imagenet', tmp_path)
  (run,), datasets = planned(
    folder, dataset='imagenet', dataset_options={}, placement='auto', model='resnet50',
    data_manual_dir=str(tmp_path), model_options={'width': 1, 'blocks': (1,)},
  )  # fmt: skip
  (found,) = datasets.values()
  assert found.is_encoded and found.train_image.crop == 'random_resized'
  info = run.info
  assert (info.name, info.num_train, info.num_test, info.num_classes) == ('imagenet', 40, 4, 4)
  assert (info.image_shape, info.flip, info.pad) == ((224, 224, 3), 0.5, 0)
  np.testing.assert_array_equal(found.test_label, range(4))


def test_what_is_held_out_stays_in_its_files(folder):
  found = data.load(
    f'folder:{folder}', options={'image_size': 8}, placement='files', validation=8
  )  # fmt: skip
  whole = load(folder)
  assert (found.info.num_train, found.info.num_test) == (32, 8)
  assert sorted(found.train_image.paths + found.test_image.paths) == sorted(whole.train_image.paths)
  np.testing.assert_array_equal(np.bincount(found.test_label), 4 * [2])
  assert found.fingerprint != whole.fingerprint


# Runs


def planned(folder, **values):
  options = {'image_size': 8, 'crop': 'random_resized', 'flip': 0.5}
  values = {
    'dataset': f'folder:{folder}', 'dataset_options': options, 'data_dir': str(folder.parent),
    'placement': 'files', 'model': 'linear', 'batch_size': 4, 'epochs': 3, 'budget': 0.5,
    'seeds': 1, 'learning_rate': 0.5, 'rows_per_call': 1, **values,
  }  # fmt: skip
  datasets, runs = inputs.plan_runs(config.defaults(**values))
  inputs.load_data(datasets, runs)
  return runs, datasets


def finished(directory):
  (result,) = directory.glob('*/result.json')
  return faulty.outcome(result.parent)


def launch(planned, directory):
  return local.run_all(*planned, directory, Console(quiet=True))


@pytest.mark.usefixtures('linear_model')
@pytest.mark.parametrize('selector', ['unif_sgd', 'selective_backprop'])
def test_stopped_in_the_middle_of_an_epoch_it_goes_on_with_the_same_bits(
  folder, tmp_path, selector, monkeypatch
):
  made = planned(folder, selector=selector, epochs=2)
  assert launch(made, tmp_path / 'whole') == 0
  asks = itertools.cycle((2, 3, 5))

  def in_pieces(run, train_data, test_data, directory, progress, stop, **more):
    del stop
    for pieces in itertools.count(1):
      stop = stop_after(next(asks))
      try:
        result = train(run, train_data, test_data, directory, progress, stop, **more)
        assert pieces > 3
        return result
      except Stopped:
        continue

  monkeypatch.setattr(local, 'train', in_pieces)
  assert launch(made, tmp_path / 'pieces') == 0
  whole, pieces = finished(tmp_path / 'whole'), finished(tmp_path / 'pieces')
  for outcome in (whole, pieces):
    assert outcome['result.json'].pop('bytes_read') > 0  # what was read ahead is read again
    outcome.pop('SHA256SUMS', None)
  assert faulty.differences(whole, pieces) == []
  assert whole['result.json']['conditions']['placement'] == 'files'


@pytest.mark.usefixtures('linear_model')
def test_a_tenth_of_the_budget_reads_a_tenth_of_the_bytes(folder, tmp_path):
  read = {}
  for budget in (0.1, 1.0):
    made = planned(folder, budget=budget, epochs=10, evaluate_every=100)
    assert launch(made, tmp_path / str(budget)) == 0
    tested = sum(next(iter(made[1].values())).test_image.sizes)  # once, at the end
    read[budget] = finished(tmp_path / str(budget))['result.json']['bytes_read'] - tested
  assert read[0.1] / read[1.0] == pytest.approx(0.1, rel=0.1)


@pytest.mark.usefixtures('linear_model')
def test_a_file_that_goes_is_named_and_the_run_goes_on_when_it_is_back(folder, tmp_path, capsys):
  made = planned(folder, budget=1.0, epochs=2)
  assert launch(made, tmp_path / 'whole') == 0
  path = pathlib.Path(next(iter(made[1].values())).train_image.paths[5])
  content = path.read_bytes()
  for broken, words in (
    (None, 'cannot be read'),
    (content[:-9], 'has changed since it was listed'),
  ):
    path.unlink(missing_ok=True)
    if broken:
      path.write_bytes(broken)
    console = Console(width=10_000)
    assert local.run_all(*made, tmp_path / 'broken', console) == 1
    said = capsys.readouterr().out
    assert str(path) in said and words in said and 'can be resumed' in said
    (error,) = (tmp_path / 'broken').glob('*/error.log')
    assert list(error.parent.glob('*.ckpt')), 'its state is saved'
  path.write_bytes(content)
  assert launch(made, tmp_path / 'broken') == 0
  whole, resumed = finished(tmp_path / 'whole'), finished(tmp_path / 'broken')
  assert json.dumps(whole['metrics.jsonl']) == json.dumps(resumed['metrics.jsonl'])
  assert whole['params.msgpack'] == resumed['params.msgpack']


@pytest.mark.usefixtures('linear_model')
@pytest.mark.parametrize('selector', ['unif_sgd', 'selective_backprop'])
def test_a_file_may_be_left_out_and_sets_the_run_apart(folder, tmp_path, selector):
  options = {'image_size': 8, 'on_missing': 'skip'}
  values = {'budget': 1.0, 'epochs': 2, 'dataset_options': options, 'selector': selector}
  made = planned(folder, **values)
  assert launch(made, tmp_path / 'whole') == 0
  path = pathlib.Path(next(iter(made[1].values())).train_image.paths[5])
  content = path.read_bytes()
  path.unlink()
  try:
    assert launch(made, tmp_path / 'without') == 0
  finally:
    path.write_bytes(content)
  whole, without = (finished(tmp_path / name)['result.json'] for name in ('whole', 'without'))
  assert without['missing_files'] == [str(path)] and 'missing_files' not in whole
  found = conditions.differing(whole['conditions'], without['conditions'], conditions.POOL)
  assert found == [{'field': 'missing_files', 'was': None, 'is': [str(path)]}]
  (counts,) = (tmp_path / 'without').glob('*/counts.npy')
  trained = np.load(counts)
  assert trained[5] == 0 and np.count_nonzero(trained) == 39


def test_what_is_held_out_must_be_there(folder):
  options = {'image_size': 8, 'on_missing': 'skip'}
  made = data.load(f'folder:{folder}', validation=4, options=options, placement='files')
  for source in (made.train_image, made.test_image):
    source.paths[0] = 'gone.jpg'
  assert not made.train_image.read(np.arange(1)).any() and made.train_image.missing
  with pytest.raises(Unreadable, match='gone.jpg cannot be read'):
    made.test_image.read(np.arange(1))


def test_workers_decode_the_same_and_one_that_is_killed_is_told(folder):
  """The one test that starts processes: they stay from pass to pass."""
  look, options = Look(8, 'center'), {'crop': 'random_resized', 'seed': 1}
  threads, index = load(folder).train_image, np.arange(120, dtype=np.int32).reshape(10, 12) % 40
  given = threads.paths, threads.sizes, look
  expected = shown(ImageFiles(*given, **options), index, epoch=0)
  source = ImageFiles(*given, **options, workers=2)
  np.testing.assert_array_equal(shown(source, index, epoch=0), expected)
  left = source.walk(walk(index, epoch=1))
  next(left)
  left.close()  # a pass that ends early
  np.testing.assert_array_equal(shown(source, index, start=5, epoch=0), expected[5:])
  bad = ImageFiles([*threads.paths[:39], 'gone.jpg'], threads.sizes, look, workers=2)
  with pytest.raises(Unreadable, match='gone.jpg cannot be read: No such file'):
    shown(bad, index)
  children = [child for child in psutil.Process().children() if 'spawn' in ''.join(child.cmdline())]
  os.kill(children[-1].pid, signal.SIGKILL)
  with pytest.raises(decoders.WorkerLost, match='exit code -9'):
    for _ in range(4):  # what it had decoded is still taken
      shown(source, index, epoch=0)
  assert not decoders._pools, 'the next pass starts others'


def test_threads_do_not_run_far_ahead():
  begun = []
  results = encoded.by_threads(lambda i: begun.append(i) or i, range(100), threads=2)
  assert [next(results) for _ in range(3)] == [0, 1, 2]
  assert len(begun) <= 3 + 4
  results.close()
  assert len(begun) <= 3 + 4
