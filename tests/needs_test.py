"""Scans, and runs that need other runs: planned, charged, shared, resumed and replayed."""

import json
import math

import faulty
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from faulty import linear_model  # noqa: F401  a fixture
from rich.console import Console
from toy_methods import held_out, loss_scan

from jaxbudget import engine, ledger, scan
from jaxbudget.lab.sweep import grid, local, needs
from jaxbudget.losses import cross_entropy
from jaxbudget.parts import part_index, part_size
from jaxbudget.scoring import trained
from jaxbudget.types import Scan

pytestmark = pytest.mark.usefixtures('linear_model')


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
  return faulty.write_images(tmp_path_factory.mktemp('images') / 'tiny.npz')


def launch(directory, dataset, **values):
  """Trains a cell; gives its runs, and what the last of them left."""
  runs, datasets = faulty.planned(faulty.settings(dataset, **values))
  code = local.run_all(runs, datasets, directory, Console())
  assert code == 0
  return runs, json.loads((directory / runs[-1].run_id / 'result.json').read_text())


def test_parts_are_disjoint_and_cover_all():
  for total, n in ((10, 3), (48, 2), (7, 7)):
    parts = [part_index(total, (i, n)) for i in range(n)]
    assert sorted(np.concatenate(parts)) == list(range(total))
    assert [len(p) for p in parts] == [part_size(total, (i, n)) for i in range(n)]
  assert part_index(5, (0, 1)).tolist() == list(range(5))
  for bad in ((1, 1), (-1, 2), (0.0, 1), (0,), (True, 2)):
    with pytest.raises(ValueError, match='train_part'):
      part_index(5, bad)


def test_scans_are_due_from_the_first_on():
  assert [e for e in range(7) if Scan(every=3, first=1).due(e)] == [1, 4]
  assert not any(Scan().due(e) for e in range(7))


def test_a_scan_sees_all_samples_in_eval_mode():
  params, model_state = toys.MODEL.init(jax.random.key(1))
  split = toys.data(45)
  logits, _ = toys.MODEL.apply(params, model_state, toys.AUGMENT.test(split.image), train=False)
  for size in (45, 7, 64):
    seen = scan.observe(
      toys.MODEL, toys.AUGMENT.test, params, model_state, split, size, ('logits',)
    )
    assert seen.head_bias
    np.testing.assert_allclose(seen.logits, logits, rtol=1e-5, atol=1e-6)
    want = cross_entropy(logits, jax.nn.one_hot(split.label, 3))
    np.testing.assert_allclose(seen.loss, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('on_host', [False, True])
def test_a_scan_is_charged_and_left_out_where_the_budget_ends(on_host):
  selector = loss_scan(toys.SPEC, 0.5, on_host=on_host)
  _, state = toys.start(selector, ledger.as_budget(0.5, 'compute'))
  before = np.asarray(state.allowance.left) @ [2**20, 1]
  seen = scan.observe(
    toys.MODEL, toys.AUGMENT.test, state.params, state.model_state, toys.data(), 16, ('logits',)
  )
  after = scan.apply(selector, state, seen, 0, jax.random.key(0))
  np.testing.assert_array_equal(after.selector, seen.loss)
  assert before - np.asarray(after.allowance.left) @ [2**20, 1] == 48
  assert scan.affordable(after)
  assert not scan.affordable(after.replace(allowance=after.allowance._replace(
    left=jnp.array([0, 47], jnp.int32)
  )))  # fmt: skip


def test_an_epoch_of_the_engine_looks_at_all_samples_where_that_is_due():
  selector = loss_scan(toys.SPEC, 0.5)
  program, state = toys.start(selector, ledger.as_budget(0.5, 'compute'))
  run = engine.Engine(program, selector, jax.random.key(0), state)
  seen = scan.observe(
    toys.MODEL, toys.AUGMENT.test, state.params, state.model_state, toys.data(), 48, ('logits',)
  )
  left = np.asarray(state.allowance.left) @ [2**20, 1]
  run, _ = engine.run_epoch(run, toys.data(), 0, 0.1, stop=0)
  np.testing.assert_allclose(run.state.selector, seen.loss, rtol=1e-5)
  assert left - np.asarray(run.state.allowance.left) @ [2**20, 1] == 48


def test_scans_of_a_run_are_in_its_books_and_stop_at_its_cap(dataset, tmp_path):
  runs, result = launch(tmp_path / 'a', dataset, selector='loss_scan', budget=0.5)
  planned = runs[0].parts.selector.facts.planned
  assert result['cost']['forward_scored'] == planned.scored == 2 * faulty.N
  assert (result['scans'], result['scans_skipped']) == (2, 0)
  lines = (tmp_path / 'a' / runs[0].run_id / 'metrics.jsonl').read_text().splitlines()
  scored = [json.loads(line)['cost']['forward_scored'] for line in lines]
  assert scored == [48, 48, 96, 96]
  # Of 384 forward equivalents an epoch takes 48 and 96: in the third two rows are left, in the
  # fourth nothing.
  _, tight = launch(
    tmp_path / 'b', dataset, selector='loss_scan', budget=0.667, budget_unit='compute',
    selector_options={'every': 1, 'greedy': True},
  )  # fmt: skip
  assert (tight['scans'], tight['scans_skipped']) == (3, 1)
  assert tight['cost']['forward_scored'] == 144
  assert tight['cost']['forward_equivalents'] == 384


def test_needed_runs_are_planned_once_charged_and_used(dataset, tmp_path):
  values = faulty.settings(
    dataset, selector='held_out', seeds=2,
    grid=({'budget': 0.5}, {'budget': 0.75, 'shared_by': 4}, {'selector': 'unif_sgd'}),
  )  # fmt: skip
  runs, datasets = faulty.planned(values)
  first, second, *others = runs
  assert len(runs) == 2 + 4 + 2
  assert [r.cell.train_part for r in (first, second)] == [(0, 2), (1, 2)]
  assert first.info.num_train == second.info.num_train == 24
  record = others[0].record()
  own, one = 2 * 48, first.planned.forward_equivalents
  assert record['needs'] == [first.run_id, second.run_id]
  assert record['selection']['forward_equivalents'] == 2 * one + own
  assert record['selection']['forward_equivalents_shared'] == 2 * one / 4 + own
  assert first.record()['needs'] is None
  kept = grid.only(runs, 'selector=held_out,seed=1,budget=0.5')
  assert [run.run_id for run in kept] == [first.run_id, second.run_id, others[1].run_id]
  assert local.run_all(runs, datasets, tmp_path, Console()) == 0
  easy = np.load(tmp_path / others[0].run_id / 'counts.npy') > 0
  assert easy.sum() == 24
  shared = others[2].record()['selection']
  assert shared['forward_equivalents_charged'] == math.ceil(2 * one / 4) + own
  for run in others[:4]:  # one cost per run: plan, result and report
    result = json.loads((tmp_path / run.run_id / 'result.json').read_text())
    charged = (run.selection or {}).get('forward_equivalents_charged')
    assert result.get('selection', {}).get('forward_equivalents_charged') == charged
    spent = result['cost']['forward_equivalents'] + charged
    assert result['realised_budgets']['compute'] == pytest.approx(spent / (3 * 4 * 48))
  for run in runs:
    counts = np.load(tmp_path / run.run_id / 'counts.npy')
    assert len(counts) == run.info.num_train
  again = tmp_path / others[0].run_id / 'result.json'
  again.unlink()  # as for a retry, which begins with runs whose needs are done already
  assert local.run_all([others[0]], datasets, tmp_path, Console()) == 0 and again.exists()
  # Every seed of the cell keeps the same samples: they come of the shared runs.
  np.testing.assert_array_equal(easy, np.load(tmp_path / others[1].run_id / 'counts.npy') > 0)


def test_what_is_needed_is_charged_in_full_or_by_a_stated_share(dataset):
  def plan(**values):
    return faulty.planned(
      faulty.settings(dataset, selector='held_out', budget_unit='compute', **values)
    )[0]

  with pytest.raises(ValueError, match=r'the runs that come first alone\s+cost'):
    plan(budget=0.5)
  first, second, run = plan(budget=0.75, shared_by=4)
  both = first.planned.forward_equivalents + second.planned.forward_equivalents
  assert run.parts.budget.spent == both // 4 + 2 * 48
  assert run.planned.forward_equivalents + run.parts.budget.spent <= 0.75 * 3 * 4 * 48
  assert run.run_id != plan(budget=0.75, shared_by=3)[-1].run_id
  with pytest.raises(ValueError, match='shared_by=0'):
    plan(budget=0.75, shared_by=0)


def test_without_what_it_needs_a_method_is_planned_but_not_started():
  selector = held_out(toys.SPEC, 0.5)
  assert selector.facts.planned.trained == 4 * 24
  with pytest.raises(TypeError):
    selector.init(jax.random.key(0))


@pytest.mark.parametrize('name', ['loss_scan', 'held_out'])
def test_their_choices_are_replayed(name, dataset, tmp_path):
  runs, _ = launch(tmp_path / 'a', dataset, selector=name)
  source = tmp_path / 'a' / runs[-1].run_id
  replayed, _ = launch(tmp_path / 'b', dataset, selector=f'replay:{source}', budget=0.6)
  counts = np.load(source / 'counts.npy')
  np.testing.assert_array_equal(
    counts, np.load(tmp_path / 'b' / replayed[-1].run_id / 'counts.npy')
  )


def test_a_recording_can_be_needed_and_makes_its_run_record(dataset, tmp_path):
  values = faulty.settings(
    dataset, selector='imitate', record_selection=False,
    grid=({'selector': 'unif_sgd', 'schedule': 'step'}, {}), seeds=1,
  )  # fmt: skip
  runs, datasets = faulty.planned(values)
  plain, first, run = runs
  assert first.cell.record_selection and not plain.cell.record_selection
  assert run.needs == (first,) and run.selection['forward_scored'] == 0
  assert local.run_all(runs, datasets, tmp_path, Console()) == 0
  seen = np.load(tmp_path / first.run_id / 'counts.npy')
  kept = np.load(tmp_path / run.run_id / 'counts.npy') > 0
  assert seen[kept].min() >= seen[~kept].max()


def test_a_core_set_of_all_that_scoring_runs_leave(dataset, tmp_path):
  """Two scoring runs of half the epochs, two models on half of the data, and one subset.

  All four are of another network than the subset is for: selection via proxy.
  """
  runs, datasets = faulty.planned(
    faulty.settings(
      dataset, selector='coreset', batch_size=4,
      selector_options={
        'score': 'el2n', 'choice': 'strata', 'cutoff': 0.2, 'bins': 4, 'quota': 'drop',
        'scoring': 0.5, 'runs': 2, 'proxy': 'hidden',
      },
    )
  )  # fmt: skip
  *scoring, chosen = runs
  assert [(r.cell.selector, r.cell.schedule) for r in scoring] == [('dynamics_sgd', 'constant')] * 4
  assert [(r.info.num_train, r.parts.selector.facts.epochs) for r in scoring] == [
    (48, 2), (48, 2), (24, 2), (24, 2),
  ]  # fmt: skip
  assert [r.cell.model for r in runs] == ['hidden'] * 4 + ['linear']
  full = 3 * 48 * 2  # of a scoring run; a look at all samples is taken with each of the four
  rho = needs.price(scoring[0], chosen.cell)
  assert rho > 2  # 16 x 8 + 8 x 4 products in the place of 16 x 4
  expected = math.ceil(rho * 3 * full) + math.ceil(rho * 4 * 48)
  assert chosen.selection['forward_equivalents'] == expected
  assert local.run_all(runs, datasets, tmp_path, Console()) == 0
  kept = np.load(tmp_path / chosen.run_id / 'counts.npy') > 0
  assert kept.sum() == 24
  record = np.load(tmp_path / scoring[0].run_id / 'scores.npy')
  assert record.shape == (4, 2, 48) and record.dtype == np.float16 and np.isfinite(record).all()


def test_a_score_is_told_whether_the_network_has_a_bias(dataset, tmp_path, monkeypatch):
  told, plain = [], trained.grand_last_layer
  monkeypatch.setattr(
    trained, 'grand_last_layer', lambda *args: told.append(args[3]) or plain(*args)
  )
  for proxy, bias in (('hidden', False), ('', True)):
    options = {'score': 'grand_last_layer', 'scoring': 0.5, 'runs': 1, 'proxy': proxy}
    launch(tmp_path / f'{bias}', dataset, selector='coreset', selector_options=options)
    assert set(told) == {bias}
    told.clear()


def test_norms_of_gradients_are_charged_forward_and_backward(dataset):
  runs, _ = faulty.planned(
    faulty.settings(
      dataset, selector='coreset', selector_options={'score': 'grand', 'scoring': 1.0}
    )
  )
  assert runs[-1].selection['forward_equivalents'] == 10 * (3 * 48 * 4 + 3 * 48)


def test_labels_need_no_run(dataset, tmp_path):
  runs, result = launch(tmp_path, dataset, selector='rcap')
  assert len(runs) == 1 and runs[0].selection is None
  label = np.arange(48) % 4
  counts = np.load(tmp_path / runs[0].run_id / 'counts.npy')
  assert counts.sum() == 4 * 24
  assert [counts[label == c].sum() for c in range(4)] == pytest.approx([24] * 4, abs=4)
  assert result['cost']['forward_scored'] == 0


@pytest.mark.parametrize(
  'values',
  [
    {'selector': 'coreset', 'selector_options': {'score': 'el2n', 'scoring': 1.0, 'runs': 1}},
    {'selector': 'curriculum', 'selector_options': {'balanced': False}},
  ],
  ids=lambda values: values['selector'],
)
def test_what_a_part_of_the_data_needs_is_of_that_part(values, dataset, tmp_path):
  runs, _ = launch(tmp_path, dataset, train_part=(1, 2), batch_size=4, **values)
  first, run = runs
  assert first.cell.train_part == run.cell.train_part == (1, 2)
  assert first.info.num_train == run.info.num_train == 24
  # All that was trained on is in the books: nothing was named that the part does not have.
  counts = np.load(tmp_path / run.run_id / 'counts.npy')
  assert counts.sum() == run.planned.trained > 0


def test_parts_of_a_part_are_refused(dataset):
  with pytest.raises(ValueError, match=r"train_part=\(0, 2\) is refused: selector 'held_out'"):
    faulty.planned(faulty.settings(dataset, selector='held_out', train_part=(0, 2)))


def test_what_is_of_other_samples_is_not_taken(dataset, tmp_path):
  (run,), _ = faulty.planned(faulty.settings(dataset, selector='rcap'))
  with pytest.raises(ValueError, match=r'needs label of each of its 48 samples.* shape \(45,\)'):
    needs.prepare(run, tmp_path, toys.data(45))
