"""The study's data and cells: the same images everywhere, and what the protocol counts."""

import gzip
import io
import tarfile

import numpy as np
import pytest

from jaxbudget import data
from jaxbudget.lab.configs import study
from jaxbudget.lab.study import images
from jaxbudget.lab.sweep import inputs

RECORD = 3073


def archive(path, blobs):
  """A tar in the layout of CIFAR-10's binary version."""
  with tarfile.open(path, 'w:gz') as tar:
    for name, blob in blobs.items():
      info = tarfile.TarInfo(f'cifar-10-batches-bin/{name}.bin')
      info.size = len(blob)
      tar.addfile(info, io.BytesIO(blob))
  return path


def records(count, seed):
  random = np.random.default_rng(seed)
  found = random.integers(0, 256, (count, RECORD), np.uint8)
  found[:, 0] = np.arange(count) % 10
  return [row.tobytes() for row in found]


def test_area_average_is_the_rounded_mean_of_four_pixels():
  image = np.random.default_rng(0).integers(0, 256, (3, 6, 4, 3), np.uint8)
  expected = np.floor(image.reshape(3, 3, 2, 2, 2, 3).mean((2, 4)) + 0.5)
  halved = images.halve(image)
  assert halved.dtype == np.uint8
  np.testing.assert_array_equal(halved, expected)
  assert images.halve(np.array([[0, 1], [1, 0]], np.uint8).reshape(1, 2, 2, 1)).item() == 1


def test_a_list_picks_the_same_images_of_any_archive_that_holds_them(tmp_path):
  rows = records(60, 1)
  parts = {f'data_batch_{i}': b''.join(rows[8 * i : 8 * i + 8]) for i in range(1, 6)}
  parts['test_batch'] = b''.join(rows[:8])
  first = images.read_cifar(archive(tmp_path / 'a.tar.gz', parts))
  assert [len(first[split]) for split in ('train', 'test')] == [40, 8]
  chosen = {
    'train': [images.digest(rows[i]) for i in (47, 9, 30)],
    'test': [images.digest(rows[3])],
  }
  images.write_list(tmp_path / 'list', chosen)
  assert images.read_list(tmp_path / 'list') == chosen
  found = images.cifar(first, chosen)
  # The same records in another order, in other batches, one of them in the other split.
  other = {f'data_batch_{i}': b''.join(rows[::-1][10 * i : 10 * i + 10]) for i in range(1, 6)}
  other['test_batch'] = b''.join(rows[30:])
  other = images.read_cifar(archive(tmp_path / 'b.tar.gz', other))
  for name, array in images.cifar(other, chosen).items():
    np.testing.assert_array_equal(array, found[name])
  pixels = np.frombuffer(rows[47][1:], np.uint8).reshape(3, 16, 2, 16, 2)
  np.testing.assert_array_equal(
    found['x_train'][0], np.floor(pixels.mean((2, 4)) + 0.5).transpose(1, 2, 0)
  )
  assert found['y_train'].tolist() == [7, 9, 0]
  with pytest.raises(data.DataError, match='1 images of the list are not in the archive'):
    images.cifar({'train': rows[:40], 'test': []}, chosen)
  with pytest.raises(data.DataError, match='no whole .*test_batch'):
    images.read_cifar(archive(tmp_path / 'c.tar.gz', {**parts, 'test_batch': b'short'}))


def test_the_list_holds_what_the_sets_train_on():
  chosen = images.read_list(images.pathlib.Path(images.LIST))
  wanted = [max(images.PER_CLASS, count) for count in images.tail_counts()]
  assert len(chosen['train']) == sum(wanted) and len(chosen['test']) == 4000
  every = chosen['train'] + chosen['test']
  assert len(set(every)) == len(every)


def test_a_fifth_of_the_labels_is_wrong_and_the_tail_falls_a_hundredfold():
  label = np.repeat(np.arange(10, dtype=np.int32), 50)
  noisy = images.flip_labels(label, 0.2, 7)
  assert (noisy != label).sum() == 100 and set(noisy) <= set(range(10))
  np.testing.assert_array_equal(noisy, images.flip_labels(label, 0.2, 7))
  counts = images.tail_counts()
  assert counts[0] == 100 * counts[-1] and counts == sorted(counts, reverse=True)
  ratios = np.diff(np.log(images.tail_counts(10**6, 100)))
  np.testing.assert_allclose(ratios, -np.log(100) / 9, atol=1e-4)
  index = images.first_of_each(label, [2, 1] + [0] * 8)
  assert index.tolist() == [0, 1, 50]
  with pytest.raises(data.DataError, match='too few images of class 3: 50'):
    images.first_of_each(label, [0, 0, 0, 51] + [0] * 6)


def test_idx_files_are_read(tmp_path):
  array = np.random.default_rng(0).integers(0, 256, (5, 4, 6), np.uint8)
  head = b'\0\0\x08\x03' + np.array(array.shape, '>i4').tobytes()
  (tmp_path / 'x.gz').write_bytes(gzip.compress(head + array.tobytes()))
  np.testing.assert_array_equal(images.read_idx(tmp_path / 'x.gz'), array)
  (tmp_path / 'y.gz').write_bytes(gzip.compress(b'\0\0\x0d\x03' + array.tobytes()))
  with pytest.raises(data.DataError, match='no idx file of bytes'):
    images.read_idx(tmp_path / 'y.gz')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Sets of the study's sizes, without their pictures."""
  directory = tmp_path_factory.mktemp('sets')
  for name, shape in (('cifar', (4, 4, 3)), ('fashion', (4, 4, 1))):
    label = np.arange(10_000) % 10
    arrays = {'x_train': np.zeros((10_000, *shape), np.uint8), 'y_train': label}
    test = {'x_test': arrays['x_train'][:10], 'y_test': label[:10]}
    np.savez(directory / f'{name}.npz', **arrays, **test)
  return directory


def plan(folder, part, extra=''):
  return inputs.plan_runs(study.get_config(f'part={part},data={folder},seeds=2{extra}'))[1]


def test_part_a_holds_the_cells_of_the_claims_at_exact_budgets(folder):
  runs = plan(folder, 'A')
  assert len(runs) == 2 * 104
  assert len(plan(folder, 'A', ',sets=fashion')) == 2 * 41
  for run in runs:
    cell, full = run.cell, 20 * 10_000
    if cell.selector == 'selective_backprop':  # in expectation; nothing beyond the budget
      assert run.planned.backward == pytest.approx(cell.budget * full, rel=0.02)
    else:
      assert run.planned.backward == pytest.approx(cell.budget * full)
  mixed = {(run.cell.augment, run.cell.selector) for run in runs if 'cifar' in run.cell.dataset}
  methods = ('sgd', 'unif_sgd', 'p_sgd', 'selective_backprop')
  assert {(a, m) for a in study.MIXED for m in methods} <= mixed
  first = [run.cell.augment for run in runs[: 2 * 19]]
  assert set(first) == {'standard'}  # what decides most is trained first


def test_part_b_sets_the_released_code_beside_the_corrected(folder):
  a, b = ({run.cell_id for run in plan(folder, part)} for part in 'AB')
  runs = plan(folder, 'B')
  assert len(b - a) == 18  # the corrected ones are runs of part A
  for run in runs:
    if run.cell.fidelity == 'released':
      twin = [
        other for other in runs
        if other.cell.fidelity == 'corrected' and other.seed == run.seed
        if all(
          other.cell[key] == run.cell[key]
          for key in ('selector', 'augment', 'budget', 'selector_options')
        )
      ]  # fmt: skip
      assert len(twin) == 1 and twin[0].run_id != run.run_id
    assert run.parts.options['model']['bn_running_var'] == 'biased'  # no slip: equal in all


def test_what_is_asked_of_the_config_is_checked():
  with pytest.raises(ValueError, match="unknown part 'E'"):
    study.get_config('part=E')
  with pytest.raises(ValueError, match="unknown set 'svhn'"):
    study.get_config('sets=cifar+svhn')


@pytest.mark.parametrize('source', ['cifar10', 'fashion'])
def test_what_is_not_there_is_said_in_one_sentence_and_nothing_is_written(source, tmp_path, capsys):
  with pytest.raises(SystemExit) as ended:
    images.main([source, str(tmp_path / 'nosuch'), str(tmp_path / 'out')])
  assert ended.value.code == 2 and 'nosuch' in capsys.readouterr().err
  assert not list(tmp_path.iterdir())
