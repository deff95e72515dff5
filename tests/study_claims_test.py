"""The verdicts of the study on made-up results, and its page."""

import json
import math
import pathlib

import numpy as np
import pandas as pd
import pytest

from jaxbudget.lab.configs import study
from jaxbudget.lab.run import files
from jaxbudget.lab.study import (
  claims,
  compare,
  families,
  figures,
  limits,
  report,
  results,
  tables,
  words,
)
from jaxbudget.lab.study.compare import Comparison
from jaxbudget.lab.sweep import inputs, local

ROOT = pathlib.Path(__file__).parents[1]


def made(claim='i', name='p_sgd', budget=0.1, mean=0.0, half=0.5, word='open', n=10, where='cifar'):
  """A comparison with an interval of `mean` plus and minus `half`."""
  p = math.nan if word == '' else 0.5
  return Comparison(claim, where, name, budget, 'unif_sgd', 50 + mean, 50.0, n, mean, mean - half,
                    mean + half, p, p, word, 0.1, 0.05)  # fmt: skip


def family(*rows, **common):
  return [made(**{**common, **row}) for row in rows]


FIVE = [{'name': m, 'budget': b} for m in claims.METHODS for b in claims.BUDGETS]


def changed(rows, **places):
  """Rows of which some, by number, are otherwise."""
  return [{**row, **places.get(f'at{i}', {})} for i, row in enumerate(rows)]


HIGH, LOW = {'word': 'higher', 'mean': 2.0}, {'word': 'lower', 'mean': -2.0}
EQUAL = {'word': 'equal', 'mean': 0.1}
WIDE = {'half': 3.0}
RARE = {'n': 2, 'word': 'too few seeds'}
PAYING = [{'name': m, 'budget': b} for m in study.PAYING for b in claims.EQUAL_COST]
PAYING.remove({'name': 'rho_loss', 'budget': 0.1})  # does not fit
RHO = {'name': 'rho_loss', 'budget': 0.3}


@pytest.mark.parametrize(
  ('claim', 'rows', 'verdict'),
  [
    ('i', FIVE, claims.SUPPORTED),
    ('i', changed(FIVE, at0=HIGH), claims.SUPPORTED),  # once is not consistently
    ('i', changed(FIVE, at0=HIGH, at1=HIGH), claims.REFUTED),
    ('i', changed(FIVE, at0=HIGH, at1=HIGH, at2=LOW), claims.OPEN),
    ('i', changed(FIVE, at0=WIDE, at1=WIDE), claims.OPEN),
    ('i', FIVE[:-1], claims.OPEN),  # something was not trained
    ('ii', 8 * [HIGH] + 2 * [{}], claims.SUPPORTED),
    ('ii', 9 * [HIGH] + [LOW], claims.OPEN),
    ('ii', 7 * [HIGH] + 3 * [{}], claims.OPEN),
    ('ii', 7 * [HIGH] + [LOW, EQUAL, EQUAL], claims.REFUTED),
    ('iii', [{'mean': -0.4}], claims.SUPPORTED),
    ('iii', [{'mean': -2.0}], claims.REFUTED),
    ('iii', [{'mean': -1.0}], claims.OPEN),
    ('iii', [{'mean': 3.0, 'word': 'too few seeds'}], claims.OPEN),
    ('iv', [LOW, LOW], claims.SUPPORTED),
    ('iv', [LOW, EQUAL], claims.REFUTED),
    ('iv', [LOW, HIGH], claims.REFUTED),
    ('iv', [LOW, {}], claims.OPEN),
    ('v', 6 * [{'mean': -9.0}], claims.SUPPORTED),
    ('v', 3 * [{'mean': -9.0}] + 3 * [{'mean': -1.0}], claims.REFUTED),
    ('v', 4 * [{'mean': -9.0}] + 2 * [{'mean': -5.0}], claims.OPEN),
    ('v', 5 * [{'mean': -9.0}], claims.OPEN),
    ('vi', 4 * [HIGH], claims.SUPPORTED),
    ('vi', 3 * [HIGH] + [EQUAL], claims.REFUTED),
    ('vi', 3 * [HIGH] + [{}], claims.OPEN),
    ('B', [{'name': 'selective_backprop + ricap', **LOW}] * 2, claims.SUPPORTED),
    ('B', [{'name': 'selective_backprop + ricap', **EQUAL}] * 2, claims.REFUTED),
    ('B', [{'name': 'selective_backprop + mixup', **LOW}] * 3, claims.OPEN),
    ('D', PAYING, claims.REFUTED),
    ('D', changed(PAYING, at1=LOW), claims.REFUTED),
    ('D', changed(PAYING, at1=HIGH), claims.OPEN),
    ('D', changed(PAYING, at0=HIGH, at1=HIGH), claims.SUPPORTED),
    ('D', changed(PAYING, at1=WIDE), claims.OPEN),
    ('D', changed(PAYING, at1=RARE), claims.OPEN),
    ('D', PAYING[1:], claims.OPEN),  # not trained is not known
    ('D', PAYING[:1], claims.OPEN),
    ('D', [{**PAYING[0], **HIGH}], claims.OPEN),  # it fits at .3 too
    ('D', [{**PAYING[0], **HIGH}, {**PAYING[1], **RARE}], claims.OPEN),
    ('D', [{**PAYING[0], **HIGH}, {**PAYING[1], **HIGH}], claims.SUPPORTED),
    ('D', [{**RHO, **HIGH}], claims.SUPPORTED),  # the one at which it fits
  ],
)
def test_a_verdict_is_what_the_protocol_says(claim, rows, verdict):
  assert claims.CLAIMS[claim].verdict(family(*rows, claim=claim)) == verdict


def test_a_method_beats_uniform_sampling_only_if_it_does_everywhere():
  sets, budgets = ('cifar', 'fashion'), claims.EQUAL_COST
  every = [{'where': s, 'budget': b, 'word': ''} for s in sets for b in budgets]
  verdict = lambda *rows: claims.something_beats(family(*rows))
  others = [{**row, 'name': f'm{i}', 'mean': 0.2} for row in every for i in range(34)]
  assert verdict(*({**row, 'mean': 0.6} for row in every)) == claims.SUPPORTED
  assert verdict(*others, *({**row, 'mean': 0.2} for row in every)) == claims.REFUTED
  two = [{**row, 'mean': 0.2} for row in every if row['budget'] == 0.3]  # at which it fits
  assert verdict(*others, *two) == claims.REFUTED
  assert verdict(*others, *two[:1]) == claims.OPEN
  # Of one method bounded nothing follows for those that were not trained, or with few seeds.
  assert verdict(*two) == verdict(*others) == claims.OPEN
  assert verdict(*({**row, 'n': 5} for row in others), *two) == claims.OPEN
  assert verdict(*({**row, 'mean': 0.6} for row in every[:2])) == claims.OPEN  # one set only
  mixed = [{**every[0], 'mean': 0.2}, *({**row, 'mean': 0.6} for row in every[1:])]
  assert verdict(*mixed) == claims.OPEN
  assert verdict(*({**row, 'n': 5} for row in every)) == claims.OPEN


def rows_of(accuracy, seeds=range(10), machine='m', cost=0.1):
  """Runs of a cell: accuracy by seed, as `results.load` gives them."""
  return pd.DataFrame({'seed': list(seeds), 'machine': machine, 'final_accuracy': accuracy,
                       'cost': cost})  # fmt: skip


def test_pairs_are_of_one_machine_and_a_seed_counts_once():
  own = pd.concat([rows_of([50.0, 51.0], (0, 1), 'a'), rows_of([60.0, 61.0], (1, 2), 'b')])
  other = pd.concat([rows_of([40.0, 41.0], (0, 1), 'a'), rows_of([42.0, 99.0], (1, 3), 'b')])
  pairs = compare.paired(own, other)
  assert pairs.to_dict('index') == {
    0: {'own': 50.0, 'other': 40.0},
    1: {'own': 51.0, 'other': 41.0},  # not 60 - 41, nor 51 - 42
  }


def test_a_run_of_two_machines_counts_once():
  runs = pd.concat([rows_of(50.0, (0, 1), 'b'), rows_of(60.0, (1, 2, 3), 'a')]).assign(cell='c')
  found = results.once(runs.reset_index(drop=True))
  assert found.set_index('seed')['final_accuracy'].to_dict() == {0: 50.0, 1: 60.0, 2: 60.0, 3: 60.0}


def test_costs_are_read_off_the_line_seed_by_seed_and_nothing_is_extrapolated():
  random = np.random.default_rng(0)
  costs = np.array([0.05, 0.1, 0.3, 1.0])
  scores = random.normal(50, 5, (3, 4))
  line = pd.concat([rows_of(scores[:, i], range(3), cost=c) for i, c in enumerate(costs)])
  own = rows_of([55.0, 56.0, 57.0], range(3), cost=[0.16, 0.3, 0.04])
  pairs = compare.at_equal_cost(own, line)
  assert pairs.index.tolist() == [0, 1]
  expected = scores[0, 1] + 0.3 * (scores[0, 2] - scores[0, 1]), scores[1, 2]
  np.testing.assert_allclose(pairs['other'], expected)
  assert compare.at_equal_cost(own.assign(machine='other'), line).empty


def test_a_seed_without_a_knot_that_its_cost_needs_is_left_out():
  line = pd.concat([rows_of(50 + 10 * c, range(3), cost=c) for c in (0.05, 0.1, 0.3, 1.0)])
  lacks = line[(line['seed'] != 1) | (line['cost'] != 0.1)]
  at = lambda cost: compare.at_equal_cost(rows_of(55.0, range(3), cost=cost), lacks).index.tolist()
  assert at(0.16) == at(0.07) == at(0.1) == [0, 2]  # not read off the chord from .05 to .3
  assert at(0.3) == at(0.6) == [0, 1, 2]
  unscored = line.assign(final_accuracy=line['final_accuracy'].where(line.index != 1))
  assert compare.at_equal_cost(rows_of(55.0, range(3), cost=0.6), unscored).index.tolist() == [0, 2]


def test_a_pair_without_a_figure_is_none():
  spent = pd.DataFrame({'cost': [0.1], 'realised_budget': [0.1]})
  pairs = pd.DataFrame({'own': [51.0, 53.0, math.nan, 9.0], 'other': [50.0, 51.0, 1.0, math.nan]})
  found = compare.measure('i', 'cifar', 'm', 0.1, 'x', spent, pairs)
  assert (found.n, found.value, found.against, found.mean, found.p) == (2, 52, 50.5, 1.5, 0.5)
  assert compare.judge([found])[0].word == 'too few seeds'
  many = pd.DataFrame({'own': 50.0 + np.arange(10) % 2, 'other': 50.5})
  many.loc[3, 'own'] = math.nan
  (word,) = [c.word for c in compare.judge([compare.measure('i', '', '', 0.1, '', spent, many)])]
  assert word in ('equal', 'open')
  own = pd.concat([rows_of([math.nan], [0], 'a'), rows_of([51.0], [0], 'b')])
  other = pd.concat([rows_of([50.0], [0], 'a'), rows_of([50.0], [0], 'b')])
  assert compare.paired(own, other).to_dict('index') == {0: {'own': 51.0, 'other': 50.0}}


def test_words_follow_from_holm_and_the_margin():
  random = np.random.default_rng(1)
  noise = random.normal(0, 0.3, 10)
  frames = {m: pd.DataFrame({'own': m + noise, 'other': 0.0}) for m in (3.0, -3.0, 0.0)}
  frames['wide'] = pd.DataFrame({'own': 20 * noise, 'other': 0.0})
  frames['few'] = frames[3.0][:5]
  spent = pd.DataFrame({'cost': [0.1, 0.3], 'realised_budget': [0.0, 0.1]})
  measured = [compare.measure('i', 'cifar', str(k), 0.1, 'x', spent, v) for k, v in frames.items()]
  assert {(c.cost, c.trained) for c in measured} == {(0.2, 0.05)}
  judged = compare.judge(measured)
  assert [c.word for c in judged] == ['higher', 'lower', 'equal', 'open', 'too few seeds']
  assert judged[0].p == 2**-9 and judged[0].p_holm == pytest.approx(4 * 2**-9)
  assert math.isnan(judged[4].p_holm)
  assert all(math.isnan(c.p_holm) for c in compare.judge(measured, correct=False))


def test_what_choosing_left_to_train_on_stands_in_tables_at_equal_cost():
  for claim, more in (('i', 1), ('B', 0), ('C', 4), ('D', 4), ('cheaper', 4)):
    head, rule, row = tables.evidence(family({}, claim=claim)).split('\n')
    assert head.count('|') == rule.count('|') == row.count('|') == 11 + more
    assert ('| trained, % |' in head) == ('| 5 |' in row) == (more == 4)
    assert ('| spent, % |' in head) == (more > 0)
  told = [made('C')._replace(every=7), made('C')._replace(as_many=41.26)]
  rows = [row.split('|') for row in tables.evidence(told).split('\n')[2:]]
  assert [row[3].strip() for row in rows] == ['7 epochs', '']
  assert [row[6].strip() for row in rows] == ['', '41.3']


def test_what_is_judged_by_intervals_is_told_by_them():
  measured = [made('C'), made('C', mean=2.0), made('C', mean=-2.0), made('C', mean=2.0, n=3)]
  judged = compare.judge(measured, correct=False, by_interval=True)
  assert [c.word for c in judged] == ['', 'above', 'below', 'too few seeds']


def test_the_sentence_of_equal_budgets_names_all_that_is_higher_and_what_it_costs():
  rows = [
    {'name': 'selective_backprop', 'mean': 2.0, 'word': 'higher', 'budget': 0.3},
    {'name': 'p_sgd', 'mean': 1.5, 'word': 'higher', 'budget': 0.3},
    {'name': 'scan_sgd', 'mean': -2.0, 'word': 'lower', 'budget': 0.1},
    {'name': 'scan_sgd', 'mean': -1.5, 'word': 'lower', 'budget': 0.3},
  ]
  first, *others = family(*rows, claim='i')
  found = [first._replace(cost=0.63), *(c._replace(cost=c.budget) for c in others)]
  sentence, lost = words.sentences(found)
  assert (
    'at 63 % of a full training where that costs 30 %; higher too: p_sgd at B = 0.3' in sentence
  )
  assert sentence.endswith('which costs no more.')
  assert 'scan_sgd at B = 0.1 and 0.3 lost' in lost


def test_scores_that_nobody_took_do_not_count_as_cheaper():
  never, taken = family({'mean': 0.1}, {'mean': -3.0}, claim='cheaper')
  found = [never._replace(cost=0.1, trained=0.1), taken._replace(cost=0.1, trained=0.05)]
  (sentence,) = words.sentences(found)
  assert '0 of 1 intervals lie above zero and 1 below (1 more never scored)' in sentence
  assert words.sentences(found[:1]) == []


def test_runs_that_give_way_to_those_of_other_code_are_told(capsys):
  before = rows_of(50.0, range(3)).assign(cell='a', commit='old')
  report._say_replaced(before, before.assign(commit='new')[:2])
  told = ''.join(capsys.readouterr())
  assert 'a: 2 runs of commit old give way to those of new' in told
  report._say_replaced(before, before)
  assert not any(capsys.readouterr())


def test_limits_are_read_off_the_runs():
  keys = {'set': 'fashion', 'budget_unit': 'backward', 'forward_scored': 0, 'realised_budget': 0.1}
  alike = [
    rows_of(50.0, range(3)).assign(selector=name, budget=0.1, **keys)
    for name in ('ordered_sgd', 'scan_sgd')
  ]
  apart = [rows.assign(budget=0.3) for rows in alike]
  apart[1] = apart[1].assign(final_accuracy=[50.0, 51.0, 50.0])
  told = limits.ordered(pd.concat([*alike, *apart]))
  assert (
    told.startswith('it came to choose only at B = 0.3 on Fashion-MNIST') and 'of 2 cells' in told
  )
  assert limits.ordered(pd.concat(alike)).startswith('it came to choose never')
  assert limits.ordered(alike[0]) == ''
  bound = alike[0].assign(selector='gradient_bound', budget=[0.1, 0.2, 0.2])
  assert limits.unscored(bound) == '50 to 100 %'
  assert limits.unscored(bound.assign(forward_scored=[0, 1, 0])) == ''
  own = alike[0].assign(part='C', budget_unit='compute', cell='a', commit='new')
  line = alike[0].assign(part='A', selector='unif_sgd', cell='b', commit='old')
  assert limits.other_commits(pd.concat([own, line])) == (1, 1)
  assert limits.other_commits(pd.concat([own, line.assign(commit='new')])) == (0, 1)


def test_a_claim_names_its_sets_and_what_does_not_fit():
  rows = [{'name': f'm{i}', 'budget': b} for i in range(20) for b in claims.EQUAL_COST]
  whole = family(*rows, {'name': 'rho_loss', 'budget': 0.3}, claim='C')
  (verdict,) = claims.verdicts(whole)
  assert tables.sets_of(verdict) == 'CIFAR-10, 16 px'
  assert tables.unfit(whole) == 'rho_loss at B = 0.1'
  assert tables.unfit(whole[:11]) == '', 'half of a plan is no plan that does not fit'
  other = [c._replace(set='fashion') for c in whole if (c.name, c.budget) != ('m3', 0.3)]
  assert tables.unfit(whole + other) == 'rho_loss at B = 0.1', 'what fits on one set fits'
  assert tables.untrained(whole + other) == 'm3 at B = 0.3 on Fashion-MNIST, 14 px'
  assert tables.untrained(whole) == ''


def test_a_cell_is_the_same_whatever_the_number_of_the_engine():
  first = {'engine': 1, 'config': {'budget': 0.3}}
  result = {'cell_id': 'npz_x-sgd-0123'}
  cell = results._cell({'identity': first}, result)
  assert cell == results._cell({'identity': first | {'engine': 7}}, result)
  assert cell.startswith('npz_x-sgd-') and cell != results._cell(
    {'identity': {'engine': 1}}, result
  )


def test_of_several_cells_of_a_method_the_one_with_most_seeds_counts():
  line = pd.concat([rows_of(50.0, cost=0.05), rows_of(60.0, cost=1.0)])
  few = {'cell': 'few', 'score_every': 4, 'options': '{}'}
  many = {'cell': 'many', 'score_every': 7, 'options': '{"every": 2}'}
  own = pd.concat([rows_of(10.0, range(6)).assign(**few), rows_of(20.0).assign(**many)])
  own = own.assign(
    selector='rho_loss', budget=0.3, set='cifar_noise', score_size=0, realised_budget=0.1
  )
  (found,) = families._charged(own, line, 'D', 'cifar_noise')
  assert (found.value, found.n, found.every) == (20.0, 10, 7)


@pytest.mark.parametrize(
  'told, said',
  [
    (['higher', 'higher'], 'choosing pays at equal compute'),
    (['equal', 'equal'], 'choosing does not pay at equal compute'),
    (['open', 'open'], 'choosing is not shown to pay at equal compute'),
  ],
)
def test_the_sentence_of_part_d_follows_its_verdict(told, said):
  half = 3.0 if 'open' in told else 0.5
  rows = [{'budget': b, 'word': w, 'half': half} for b, w in zip((0.1, 0.3), told, strict=True)]
  rows += [{**row, 'mean': -0.2} for row in PAYING[2:]]
  rows += [{'budget': 0.3, 'name': 'few', 'mean': 9.0, 'n': 2, 'word': 'too few seeds'}]
  found = family(*rows, claim='D', where='cifar_noise')
  (sentence,) = words.sentences(found)
  assert said in sentence and 'the best, p_sgd at B = 0.1' in sentence and 'p 0.500.' in sentence


def test_the_sentence_of_schedules_and_of_the_released_code_names_the_largest_difference():
  rows = [{'mean': 2.0, 'word': 'higher'}, {'mean': -3.0, 'name': 'sgd', 'budget': 1.0}]
  (sentence,) = words.sentences(family(*rows, {'mean': 9.0, 'n': 2}, claim='ii'))
  assert 'higher than the step schedule in 1 of 2 comparisons and lower in 0' in sentence
  assert 'sgd at B = 1, is 3.0 points below' in sentence
  (sentence,) = words.sentences(family(*rows, claim='B'))
  assert sentence.startswith('Of 2 comparisons of the released code') and ' 0 came out' in sentence
  assert 'lower and 1 higher; the largest difference, sgd at B = 1, is 3.0' in sentence


def write_runs(runs, workdir, accuracy):
  """Finished runs, with made-up accuracies."""
  for run in runs:
    directory = workdir / 'runs' / run.run_id
    directory.mkdir(parents=True)
    files.write_json(directory / files.CONFIG, local.config_record(run))
    score, planned = accuracy(run), run.planned
    full = 3 * run.cell.epochs * run.info.num_train
    result = {
      'status': 'done', 'cell_id': run.cell_id, 'seed': run.seed, 'final_accuracy': score,
      'best_accuracy': score, 'best_epoch': 1, 'entropy_nats': score / 10,
      'realised_budgets': {
        'backward': planned.backward * 3 / full, 'compute': planned.forward_equivalents / full,
      },
      'cost': dict.fromkeys(results._COSTS, 1), 'seconds': dict.fromkeys(results._SECONDS, 1.0),
      'versions': {'commit': ''},
      'conditions': dict.fromkeys(results._TOLD, 'x'),
    }  # fmt: skip
    line = {'epoch': 1, 'rows': 1, 'train_loss': 1.0, 'train_accuracy': 1.0, 'test_accuracy': score}
    (directory / files.METRICS).write_text(json.dumps(line) + '\n')
    seal(directory, result)


def seal(directory, result):
  files.write_sums(directory, files.json_bytes(result))
  files.write_json(directory / files.RESULT, result)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Sets of the study's sizes, without their pictures."""
  directory = tmp_path_factory.mktemp('sets')
  for name in ('cifar', 'fashion', 'cifar_noise', 'cifar_tail'):
    label = np.arange(10_000) % 10
    pictures = np.zeros((10_000, 10, 10, 1), np.uint8)
    np.savez(
      directory / f'{name}.npz', x_train=pictures, y_train=label, x_test=pictures[:10],
      y_test=label[:10],
    )  # fmt: skip
  return directory


def found_in(tmp_path, folder, *parts):
  """Comparisons of parts, two seeds, where every run of seed s has 50 + s, of a method 1 more."""
  accuracy = lambda run: 50.0 + run.seed % 100 + (run.cell.selector not in ('unif_sgd', 'sgd'))
  for part in parts:
    few = ',seeds=2' if part in 'AB' else ''  # others share what comes first by their seeds
    runs = inputs.plan_runs(study.get_config(f'part={part},data={folder}{few}'))[1]
    write_runs([run for run in runs if run.seed < 2], tmp_path / part, accuracy)
  report.gather([tmp_path / part for part in parts], tmp_path / 'out', 'c0ffee')
  runs = results.load(tmp_path / 'out')
  return runs, families.compared(runs)


def test_every_claim_finds_its_cells_and_the_page_tells_them(tmp_path, folder, monkeypatch):
  runs, found = found_in(tmp_path, folder, 'A', 'B')
  counts = pd.Series([(c.claim, c.set) for c in found]).value_counts().to_dict()
  both = {('i', s): 15 for s in study.SETS} | {('ii', s): 10 for s in study.SETS}
  both |= {('v', s): 6 for s in study.SETS}
  one = {('iii', 'cifar'): 1, ('iv', 'cifar'): 2, ('vi', 'cifar'): 4}
  assert counts == both | one | {('B', 'cifar'): 15, ('primed', 'cifar'): 12}
  assert all(c.n == 2 and c.word == 'too few seeds' for c in found)
  assert {c.mean for c in found if c.claim == 'i'} == {1.0}
  assert {c.mean for c in found if c.claim in ('ii', 'B')} == {0.0}
  assert set(runs['commit']) == {'c0ffee'} and set(runs['part']) == {'A', 'B'}
  # Twice the same runs are the same tables.
  before = (tmp_path / 'out' / results.RESULTS).read_bytes()
  report.gather([tmp_path / 'A'], tmp_path / 'out', 'c0ffee')
  assert (tmp_path / 'out' / results.RESULTS).read_bytes() == before

  assert figures.draw(runs, found) == {} and '.svg)' not in report.page(runs, found)
  found = [c._replace(n=compare.FEWEST) for c in found]
  with monkeypatch.context() as patch:  # a full disk takes nothing away
    patch.setattr(files.os, 'fsync', lambda _: (_ for _ in ()).throw(OSError(28, 'full')))
    with pytest.raises(OSError, match=results.RESULTS):
      results.write(tmp_path / 'out', runs[:1], pd.DataFrame())
  assert (tmp_path / 'out' / results.RESULTS).read_bytes() == before
  assert not list((tmp_path / 'out').glob('.*'))

  drawn = figures.draw(runs, found)
  assert set(drawn) == {'methods.svg', 'schedules.svg', 'augment.svg', 'released.svg'}
  assert drawn == figures.draw(runs, found)  # to the byte
  text = report.page(runs, found)
  for name in drawn:
    assert f'({name})' in text
  assert 'alone the difference is +1.00 points at B = 0.05, +1.00 at B = 0.1 (' in text
  assert text.count('**cannot tell**') >= 10 and 'not trained' in text
  readme = f'# top\n\n{report._MARKS[0]}\nold\n{report._MARKS[1]}\n\nrest\n'
  again = report.with_summary(readme, runs, found)
  assert 'old' not in again and again.startswith('# top') and again.endswith('rest\n')
  assert report.with_summary(again, runs, found) == again


@pytest.fixture
def written(tmp_path, folder):
  """A workdir of uniform sampling at B = .1 with seeds 0 to 4: its directories, by seed."""
  runs = inputs.plan_runs(study.get_config(f'part=A,data={folder},sets=cifar,seeds=5'))[1]
  own = [r for r in runs if (r.cell.selector, r.cell.budget) == ('unif_sgd', 0.1)]
  own = [r for r in own if (r.cell.augment, r.cell.schedule) == ('standard', 'linear')]
  write_runs(own, tmp_path / 'w', lambda run: 50.0 + run.seed)
  return {run.seed: tmp_path / 'w' / 'runs' / run.run_id for run in own}


def test_what_is_damaged_is_left_out_and_said(written, tmp_path):
  result = files.read_json(written[0] / files.RESULT)
  (written[0] / files.RESULT).write_text(json.dumps(result | {'final_accuracy': 99.0}))
  (written[1] / files.CONFIG).unlink()
  (written[2] / files.METRICS).unlink()
  (written[3] / files.CONFIG).write_text('{}')
  said = []
  runs, curves = results.read([tmp_path / 'w'], say=said.append)
  assert set(runs['seed']) <= {2, 4} and set(curves['seed']) == {4}
  assert len(said) == 4 and all(any(str(d) in line for line in said) for s, d in written.items()
                                if s != 4)  # fmt: skip


def test_a_figure_that_is_not_known_is_no_text(written, tmp_path):
  result = files.read_json(written[0] / files.RESULT)
  seal(written[0], result | {'entropy_nats': None})
  report.gather([tmp_path / 'w'], tmp_path / 'out')
  runs = results.load(tmp_path / 'out')
  assert runs['entropy_nats'].isna().sum() == 1 and runs['entropy_nats'].dtype == float
  assert set(runs['commit']) == {''}
  before = (tmp_path / 'out' / results.RESULTS).read_bytes()
  report.gather([], tmp_path / 'out')
  assert (tmp_path / 'out' / results.RESULTS).read_bytes() == before


@pytest.mark.parametrize('key', ['epochs', 'model', 'data_fingerprint', 'cell_id'])
def test_runs_of_two_studies_are_not_mixed(written, tmp_path, key, capsys):
  directory = written[4]
  config, result = (files.read_json(directory / name) for name in (files.CONFIG, files.RESULT))
  if key == 'data_fingerprint':
    result['conditions'][key] = 'another'
  elif key == 'cell_id':  # which hangs on all that a run is
    result[key] = 'another'
  else:
    config[key] = {'epochs': 40, 'model': 'resnet9'}[key]
  files.write_json(directory / files.CONFIG, config)
  seal(directory, result)
  readme = tmp_path / 'README.md'
  readme.write_text('x')
  with pytest.raises(SystemExit):
    report.main([str(tmp_path / 'w'), f'--out={tmp_path / "out"}', f'--readme={readme}'])
  assert 'differ in' in (said := capsys.readouterr().err) or '20 and 40' in said
  assert not (tmp_path / 'out').exists()


def test_two_cells_are_not_taken_for_one():
  columns = {'selector': 'unif_sgd', 'budget': 0.1, 'needed': False, 'options': '{}',
             'fidelity': 'corrected', **families._PLAIN}  # fmt: skip
  runs = rows_of(50.0, range(2)).assign(**columns, cell=['one', 'another'])
  with pytest.raises(ValueError, match='one, another'):
    families._cell(runs, 'unif_sgd', 0.1)


def test_a_workdir_of_failed_runs_alone_is_refused(tmp_path, capsys):
  failed = tmp_path / 'w' / 'runs' / 'a'
  failed.mkdir(parents=True)
  files.write_json(failed / files.RESULT, {'status': 'failed', 'error': 'not finite'})
  readme = tmp_path / 'README.md'
  readme.write_text('x')
  with pytest.raises(SystemExit):
    report.main([str(tmp_path / 'w'), f'--out={tmp_path / "out"}', f'--readme={readme}'])
  assert 'no workdir with a finished run' in capsys.readouterr().err
  assert not (tmp_path / 'out').exists()


def test_the_page_and_the_readme_are_those_of_the_files(monkeypatch):
  out, readme = ROOT / 'docs/study', (ROOT / 'README.md').read_text()
  runs, told = results.load(out), report.read_comparisons(out)
  assert (out / report.PAGE).read_text() == report.page(runs, told)
  assert report.with_summary(readme, runs, told) == readme and report._MARKS[0] in readme
  for name in figures.names(told):
    assert (out / name).read_bytes().startswith(b'<?xml')
  # Intervals take minutes; everything else is made again of the runs.
  nothing = compare.statistics.paired([])
  cheap = lambda d: nothing._replace(n=len(d), mean=float(d.mean()))
  monkeypatch.setattr(compare.statistics, 'paired', cheap)
  again = compare.table(families.compared(runs))
  exact, near = ['claim', 'set', 'name', 'baseline', 'n'], ['value', 'against', 'mean', 'cost']
  told = compare.table(told)
  pd.testing.assert_frame_equal(again[exact], told[exact], check_dtype=False)
  np.testing.assert_allclose(again[near].astype(float), told[near].astype(float), atol=1e-3)


@pytest.mark.long
def test_the_claims_of_parts_c_and_d_find_their_cells(tmp_path, folder):
  _, found = found_in(tmp_path, folder, 'C', 'D')
  names = {(c.claim, c.set): {d.name for d in found if (d.claim, d.set) == (c.claim, c.set)}
           for c in found}  # fmt: skip
  assert set(names) == {
    ('C', 'cifar'), ('C', 'fashion'), ('D', 'cifar_noise'), ('D', 'cifar_tail'),
    ('cheaper', 'cifar'),
  }  # fmt: skip
  assert names['D', 'cifar_noise'] == set(study.PAYING)
  proxy = 'proxy_filter, a small network'
  saving = names['cheaper', 'cifar'] - {proxy}
  assert proxy in names['cheaper', 'cifar'] and proxy not in names['C', 'cifar']
  assert all(any(name.startswith(s) for s in study.SAVING) for name in saving)
  assert len(names['cheaper', 'cifar']) >= 6
  assert names['C', 'cifar'] == names['C', 'fashion'] and len(names['C', 'cifar']) > 30
  assert not any('every' in name for name in names['C', 'cifar'])


@pytest.mark.parametrize('workdirs', [['nosuch'], []])
def test_a_page_of_nothing_is_refused_and_nothing_is_written(workdirs, tmp_path, capsys):
  out = tmp_path / 'out'
  with pytest.raises(SystemExit) as ended:
    report.main([*workdirs, f'--out={out}', f'--readme={tmp_path / "README.md"}'])
  assert ended.value.code == 2 and not out.exists()
  assert ('nosuch' if workdirs else 'results.csv') in capsys.readouterr().err
