"""Wherever images lie, a run has the same bits, and what is read is bounded and known."""

import dataclasses
import functools
import itertools
import json
import time
import weakref
from fractions import Fraction

import chex
import faulty
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from faulty import linear_model  # noqa: F401  a fixture
from rich.console import Console
from selectors_common_test import VARIANTS, make

from jaxbudget import data as data_lib
from jaxbudget import engine, epoch, feeding, parallel, placement, scan
from jaxbudget.augment.mix import mixup
from jaxbudget.data import device
from jaxbudget.evaluation import Evaluation, evaluate
from jaxbudget.lab.run import checkpoint
from jaxbudget.lab.run.ongoing import Stopped
from jaxbudget.lab.run.train import train
from jaxbudget.lab.sweep import local
from jaxbudget.optimizers import make_optimizer
from jaxbudget.parts import part_index
from jaxbudget.placement import HostImages, Walk
from jaxbudget.scoring.trained import gradient_norms
from jaxbudget.selectors import make_selector
from jaxbudget.types import Data, plain_batch

IMAGE = int(np.prod(toys.SPEC.image_shape))  # bytes
ROW = toys.SPEC.batch_size * IMAGE


def on_host(split=None, source=HostImages):
  split = split or toys.data()
  return Data(source(np.asarray(split.image)), split.label)


def start(selector, budget, mesh=None):
  parts = toys.SPEC, toys.MODEL, toys.AUGMENT, selector, make_optimizer(), budget
  return engine.start(*parts, mesh=mesh)


def run(selector, budget, data, mesh=None, stops=(None,)):
  """Trains; gives the state and what each epoch measured."""
  data = parallel.place_data(data, mesh)
  began, history = start(selector, budget, mesh), []
  for e in range(selector.facts.epochs):
    scanned = scan.before(
      selector, toys.MODEL, toys.AUGMENT.test, began.state, data, e, began.root, 16
    )
    began = engine.begin_epoch(began._replace(state=scanned), e)
    for stop in stops:
      began, progress = engine.train_rows(began, data, 0.1, stop)
    history.append(progress)
  return jax.device_get((began.state, history))


@pytest.fixture
def two_rows(monkeypatch):
  """Chunks of two rows, of whatever size: seldom all there are."""
  monkeypatch.setattr(feeding, 'CHUNK_BYTES', 1)


# --- the same bits --------------------------------------------------------------------

# Queues, rows of other sizes, scans, networks of a method's own, what other runs leave.
_FAMILIES = ('sb_flush', 'sb_stale', 'ordered_compact', 'kakurenbo', 'proxy_filter', 'rho_loss')


@pytest.mark.parametrize(
  'variant', [v if v in _FAMILIES else pytest.param(v, marks=pytest.mark.long) for v in VARIANTS]
)
def test_every_family_has_the_bits_of_the_device(variant, two_rows):
  selector, budget = make(variant)
  chex.assert_trees_all_equal(run(selector, budget, toys.data()), run(selector, budget, on_host()))


@functools.cache
def plain_rows():
  selector, budget = make('p_sgd', 0.75)  # 4 rows of 6
  return selector, budget, run(selector, budget, toys.data())


@pytest.mark.parametrize('rows', [1, 4, 100])  # of one row there are none: it stands for two
def test_chunks_of_any_size_have_the_same_bits(rows, monkeypatch):
  selector, budget, expected = plain_rows()
  monkeypatch.setattr(feeding, 'CHUNK_BYTES', rows * ROW)
  before = epoch.train_rows._cache_size()
  for stops in ((None,), (1, 3, None)):  # calls that end within a chunk
    chex.assert_trees_all_equal(expected, run(selector, budget, on_host(), stops=stops))
  assert epoch.train_rows._cache_size() <= before + 1


def test_two_devices_have_the_same_bits(two_rows):
  selector, budget, _ = plain_rows()
  mesh = parallel.make_mesh(2, toys.SPEC.batch_size)
  found = [run(selector, budget, data, mesh) for data in (toys.data(), on_host())]
  chex.assert_trees_all_equal(*found)


def test_looking_without_training_is_the_same(monkeypatch):
  monkeypatch.setattr(feeding, 'CHUNK_BYTES', 3 * 7 * IMAGE)  # three batches of seven
  weights = toys.MODEL.init(jax.random.key(0))
  look = toys.MODEL, toys.AUGMENT.test
  found = []
  for data in (toys.data(), on_host()):
    sums, done = Evaluation.blank(3), 0
    with feeding.batches(data, 7) as feed:
      while done < 7:
        part, stop = feed.at(done, 7)
        place = jnp.int32(done), jnp.int32(stop)
        sums, done = evaluate(*look, 7, *weights, part, sums, *place), stop
    seen = scan.observe(*look, *weights, data, 7, ('logits', 'features'))
    found.append((sums, seen, gradient_norms(*look, *weights, data, 7)))
  chex.assert_trees_all_equal(*found)
  assert found[0][0].correct == found[0][0].by_class.sum() > 0


def test_parts_of_the_data_are_parts(two_rows):
  index = part_index(48, (1, 2))
  whole, part = on_host(), placement.part(on_host(), index)
  np.testing.assert_array_equal(part.image.read(np.arange(24)), whole.image.read(index))
  np.testing.assert_array_equal(part.label, np.asarray(whole.label)[index])
  with feeding.batches(part, 8) as feed:
    rows = [feed.at(i, i + 1)[0].image.of_row(jnp.int32(i)) for i in range(3)]
  expected = placement.part(toys.data(), index).image
  np.testing.assert_array_equal(np.concatenate(rows), expected)


def test_what_a_network_computes_of_the_data_before_it_trains():
  def prepare(params, model_state, images):
    return {**params, 'b': params['b'] + images.mean()[None]}, model_state

  model, found = toys.MODEL._replace(prepare=prepare), []
  for data in (toys.data(), on_host()):
    parts = toys.SPEC, model, toys.AUGMENT, make('p_sgd')[0], make_optimizer(), 0.5
    found.append(engine.prepare(engine.start(*parts), data).state.params)
  chex.assert_trees_all_equal(*found)
  assert np.all(found[0]['b'] != 0)


# --- what is read ---------------------------------------------------------------------


class Tally:
  """How many of some things there are, and how many there were at most."""

  def __init__(self):
    self.now = self.most = 0

  def add(self, thing):
    self.now += 1
    self.most = max(self.most, self.now)
    weakref.finalize(thing, self._gone)
    return thing

  def _gone(self):
    self.now -= 1


def test_never_more_than_two_chunks_on_the_device_and_one_on_the_host(two_rows, monkeypatch):
  host, placed, place = Tally(), Tally(), parallel.place_columns

  class Watched(HostImages):
    def walk(self, walk):
      for chunk in super().walk(walk):
        yield host.add(chunk)
        del chunk

  def copied(chunk, count, mesh):  # for a device has memory of its own
    return placed.add(place(chunk.copy(), count, mesh))

  monkeypatch.setattr(parallel, 'place_columns', copied)
  with feeding.batches(on_host(source=Watched), 8) as feed:  # three chunks
    for number in range(6):
      part, _ = feed.at(number, number + 1)
      deadline = time.monotonic() + 60
      while number < 4 and placed.now < 2 and time.monotonic() < deadline:
        time.sleep(1e-3)  # the next one comes while this one is worked on
      del part
  assert (host.most, placed.most) == (1, 2)
  assert host.now == placed.now == 0


def walked(data, selector, budget, spec):
  """Feeds the first epoch of a method without training on it."""
  began = engine.start(spec, toys.MODEL, toys.AUGMENT, selector, make_optimizer(), budget)
  began, meter, row = engine.begin_epoch(began, 0), feeding.Meter(), 0
  slots = began.state.plan.index.shape[0]
  with feeding.rows(data, began.state, meter=meter) as feed:
    while row < slots:
      row = feed.at(row, slots)[1]
  return meter


def test_each_wait_for_a_chunk_is_counted(two_rows, monkeypatch):
  class Clock:
    monotonic = staticmethod(itertools.count().__next__)  # a second between two looks

  monkeypatch.setattr(feeding, 'time', Clock)
  meter = feeding.Meter()
  with feeding.batches(on_host(), 8, meter=meter) as feed:
    for number in range(6):
      feed.at(number, number + 1)
  assert meter.waited == 3  # chunks of two batches each


def test_a_tenth_of_the_budget_reads_a_tenth_of_the_bytes():
  n = 960
  spec = dataclasses.replace(toys.SPEC, num_examples=n)
  for budget in (0.1, 1.0):
    data = on_host(toys.data(n))
    meter = walked(data, make_selector('unif_sgd', spec, budget), budget, spec)
    assert meter.bytes_read == data.image.bytes_read
    assert meter.bytes_read == pytest.approx(budget * n * IMAGE, rel=0.1)


def test_an_epoch_that_the_budget_cuts_short_is_not_read_to_its_end(two_rows):
  data, selector = on_host(), make_selector('p_sgd', toys.SPEC, 1.0)  # plans 6 rows an epoch
  began = engine.begin_epoch(start(selector, Fraction(8, 4 * 48)), 0)  # a row
  _, progress = engine.train_rows(began, data, 0.1)
  # Of the 6: its chunk, and the next one unless the end came before that was begun.
  assert progress.row == 1 and data.image.bytes_read in (2 * ROW, 4 * ROW)


def test_columns_are_shared_if_the_devices_divide_them():
  mesh = parallel.make_mesh(2, 8)
  chunk = np.arange(2 * 8 * 3, dtype=np.uint8).reshape(2, 8, 3)
  for count, share in ((8, 4), (7, 7)):
    placed = parallel.place_columns(chunk[:, :count], count, mesh)
    np.testing.assert_array_equal(placed, chunk[:, :count])
    assert {shard.data.shape for shard in placed.addressable_shards} == {(2, share, 3)}
    assert parallel.own_columns(count, mesh).tolist() == list(range(count))


def test_a_source_refuses_samples_that_it_does_not_have():
  walk = Walk(np.array([[3, 48]]), np.arange(2), 0, 1, 2)
  with pytest.raises(IndexError, match='sample 48'):
    list(HostImages(np.asarray(toys.data().image)).walk(walk))


# --- images that are missing ----------------------------------------------------------


def with_gaps(name, gone, fill, options=None):
  """Trains with mixed images and a network that has statistics of batches."""

  def init(key):
    params, model_state = toys.MODEL.init(key)
    return params, {**model_state, 'mean': jnp.float32(0)}

  def apply(params, model_state, image, train, mask=None):
    logits, after = toys.MODEL.apply(params, model_state, image, train)
    mean = jnp.mean(image, where=None if mask is None else mask[:, None, None, None])
    return logits - mean, {**after, 'mean': mean if train else model_state['mean']}

  mix = mixup(1.0)
  augment = toys.AUGMENT._replace(
    train=lambda key, batch: mix(key, toys.AUGMENT.train(key, batch)), parts=2
  )
  spec = dataclasses.replace(toys.SPEC, parts=2)
  selector = make_selector(name, spec, 1.0, options)
  model = toys.MODEL._replace(init=init, apply=apply)
  image = np.array(toys.data().image)
  image[list(gone)] = fill
  data = Data(toys.Gappy(image), toys.data().label)
  data.image.gone = gone
  began = engine.start(spec, model, augment, selector, make_optimizer(), 1.0)
  trained, progress = engine.train_rows(engine.begin_epoch(began, 0), data, 0.1)
  return jax.device_get((trained.state, progress.metrics))


@pytest.mark.parametrize('name', ['sgd', 'mentornet'])
def test_a_missing_image_is_nowhere(name):
  gone = (5, 11)
  found = [with_gaps(name, gone, fill) for fill in (0, 255)]
  chex.assert_trees_all_equal(*found)  # whatever stands in its place
  state, metrics = found[0]
  assert not state.times_trained[list(gone)].any()
  whole = with_gaps(name, (), 0)[1]
  assert metrics.trained.sum() == whole.trained.sum() - len(gone)


@pytest.mark.parametrize('rate', ['sampled', 'exact'])
def test_who_stands_in_for_a_missing_image_keeps_its_own_loss(rate):
  gone = tuple(range(0, 48, 4))
  state, _ = with_gaps('selective_backprop', gone, 0, {'staleness': 2, 'rate': rate})
  unknown = np.flatnonzero(np.isinf(state.selector.memory.loss))
  assert unknown.tolist() == list(gone)


def test_a_row_of_missing_images_is_no_step():
  state, metrics = with_gaps('sgd', tuple(range(48)), 0)
  assert state.model_state['steps'] == 0 and metrics.trained.sum() == 0


# --- which placement ------------------------------------------------------------------


def test_auto_takes_the_first_that_fits_and_says_which(monkeypatch):
  digits = data_lib.load('digits')
  needed = sum(array.nbytes for array in digits[1:5])
  for free, taken in ((needed, 'device'), (None, 'device'), (needed - 1, 'host')):
    monkeypatch.setattr(device, 'free_bytes', lambda home, free=free: free)
    choice = data_lib.choose(digits)
    assert choice.placement == taken and f'digits needs {needed:,} bytes' in choice.why
    train, test = data_lib.place(digits, placement='auto')
    assert [placement.of(split) for split in (train, test)] == [taken] * 2
    assert data_lib.choose(digits, 'host').placement == 'host'
  with pytest.raises(data_lib.DataError, match='placement=host leaves them on the host'):
    data_lib.choose(digits, 'device')
  with pytest.raises(ValueError, match="unknown placement 'hosts'; did you mean 'host'"):
    data_lib.choose(digits, 'hosts')


# --- a run of the laboratory ----------------------------------------------------------


def outcome(directory):
  """What a run leaves, apart from where its images lay."""
  found = faulty.outcome(directory)
  del found['config.json'], found['result.json']['conditions']['placement']
  found['result.json'].pop('bytes_read', None)
  return found


def test_a_placement_is_no_device_and_a_loop_of_ones_own_wants_the_device():
  dataset = data_lib.load('digits')
  with pytest.raises(ValueError, match="device='host' is refused: .* placement='host'"):
    device.place(dataset, 'host')
  split, _ = device.place(dataset, placement='host')
  with pytest.raises(ValueError, match="images of placement 'host' cannot be gathered"):
    plain_batch(split, jnp.arange(4), jnp.ones(4), 10)


@pytest.mark.usefixtures('linear_model')
def test_a_run_may_go_on_under_another_placement(tmp_path, two_rows, monkeypatch):
  values = faulty.settings(
    faulty.write_images(tmp_path / 'tiny.npz'),
    selector='held_out',  # brings two runs on half of the data along, and looks at all with them
    augment='ricap',
    seeds=1,
  )
  for where in ('device', 'host'):
    values.placement = where
    runs, datasets = faulty.planned(values)
    assert local.run_all(runs, datasets, tmp_path / where, Console()) == 0
  splits = itertools.cycle([local._place(*datasets.values(), w)[:2] for w in ('host', 'device')])
  asks = itertools.cycle((4, 3, 5))

  def train_in_pieces(run, train_data, test_data, directory, progress, stop, **more):
    for piece in itertools.count():
      train_data, test_data = next(splits)
      ends, chances = itertools.count(1), next(asks)
      stop = lambda: next(ends) >= chances  # noqa: B023
      train_data = local._part(train_data, run.cell.train_part)
      try:
        result = train(run, train_data, test_data, directory, progress, stop, **more)
        assert piece > 3
        return result
      except Stopped:
        pass

  monkeypatch.setattr(local, 'train', train_in_pieces)
  assert local.run_all(runs, datasets, tmp_path / 'pieces', Console()) == 0
  for one in runs:
    left = {where: outcome(tmp_path / where / one.run_id) for where in ('device', 'host', 'pieces')}
    assert faulty.differences(left['device'], left['host']) == []
    assert faulty.differences(left['device'], left['pieces']) == []
    told = json.loads((tmp_path / 'host' / one.run_id / 'result.json').read_text())
    assert told['conditions']['placement'] == 'host' and told['seconds']['data_wait'] >= 0
    tested = one.parts.selector.facts.epochs * 32 * 64  # images of two batches, bytes
    trained = told['cost']['forward_trained'] * 64
    assert tested + trained <= told['bytes_read'] <= 2 * (tested + trained)


@pytest.mark.usefixtures('linear_model')
def test_what_cannot_be_read_stops_a_run_with_its_state_saved(tmp_path, two_rows):
  dataset = faulty.write_images(tmp_path / 'tiny.npz')
  (one,), datasets = faulty.planned(faulty.settings(dataset, selector='p_sgd', augment='ricap'))
  train_data, test_data = local._place(*datasets.values(), 'host')[:2]

  class Broken(HostImages):
    def walk(self, walk):
      for i, chunk in enumerate(super().walk(walk)):
        if walk.epoch == 1 and i:
          raise OSError('the disk is gone')
        yield chunk

  left = {}
  for name in ('whole', 'pieces'):
    left[name] = tmp_path / name
    left[name].mkdir()
  whole = train(one, train_data, test_data, left['whole'])
  image = train_data.image.read(np.arange(48))
  with pytest.raises(OSError, match='the disk is gone'):
    train(one, train_data._replace(image=Broken(image)), test_data, left['pieces'])
  saved = checkpoint.load(left['pieces'])
  assert saved.record['epochs'] == 1 and saved.record['begun'] == 2
  pieces = train(one, train_data, test_data, left['pieces'])
  for file in ('params.msgpack', 'counts.npy', 'best.msgpack'):
    assert (left['pieces'] / file).read_bytes() == (left['whole'] / file).read_bytes()
  assert pieces['score'] == whole['score']
