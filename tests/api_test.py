"""The way in from Python: the launcher's files, one object to look at them, Ctrl-C saves."""

import dataclasses
import os
import signal
import sys
import tempfile
import types

import faulty
import jax.numpy as jnp
import pytest
from faulty import linear_model, write_images  # noqa: F401  a fixture

from jaxbudget.lab import api, launcher
from jaxbudget.lab.run import run_state
from jaxbudget.lab.sweep import inputs, notebook, progress

COMMON = {
  'model': 'linear', 'batch_size': 8, 'epochs': 4, 'evaluate_batch': 16, 'learning_rate': 0.5,
  'record_selection': True,
}  # fmt: skip
SWEPT = {'selector': ['unif_sgd', 'p_sgd'], 'budget': [0.25, 0.5], 'seeds': 3}


@pytest.fixture(scope='module')
def images(tmp_path_factory):
  return write_images(tmp_path_factory.mktemp('images') / 'tiny.npz')


@pytest.fixture(scope='module')
def study(linear_model, images, tmp_path_factory):  # noqa: F811
  return api.run(dataset=images, **COMMON, **SWEPT, workdir=tmp_path_factory.mktemp('study'))


def test_files_are_those_of_the_launcher(study, images, tmp_path):
  grid = tuple({'selector': s, 'budget': b} for s in SWEPT['selector'] for b in SWEPT['budget'])
  values = api.config_lib.defaults(dataset=images, **COMMON, grid=grid, seeds=3)
  assert launcher.launch(values, tmp_path / 'w', 'train') == 0
  ours, theirs = study.path / 'runs', tmp_path / 'w' / 'runs'
  names = {path.name for path in ours.iterdir()}
  assert names == {path.name for path in theirs.iterdir()} and len(names) == 12
  for name in names:
    assert not faulty.differences(faulty.outcome(ours / name), faulty.outcome(theirs / name))
  plan = api.load(study.path).loaded
  assert plan.problems == [] and plan.command.startswith("api.run(dataset='npz:")


def test_a_frame_has_a_row_for_each_run(study):
  frame = study.frame
  assert frame['run_id'].is_unique and len(frame) == 12
  cells = frame.groupby(['selector', 'budget'])['seed'].apply(sorted)
  assert len(cells) == 4 and all(seeds == [0, 1, 2] for seeds in cells)
  assert frame['seed'].dtype == frame['backward'].dtype == 'Int64'
  assert set(frame['score_name']) == {'accuracy'}
  assert set(frame['status']) == {'done'} and not frame['final_accuracy'].isna().any()
  # 3TN forward equivalents are one: 48 samples, whole batches of 8, a quarter of 48 is 12.
  assert frame.loc[frame['budget'] == 0.25, 'cost'].tolist() == [8 / 48] * 6
  frame['cost'] = 0.0
  assert study.frame['cost'].gt(0).all(), 'it is a copy'


def test_methods_are_compared_at_equal_cost_paired_by_seed(study):
  compared = study.compare()
  assert list(compared['method']) == ['p_sgd', 'p_sgd'] and set(compared['seeds']) == {3}
  frame = study.frame.set_index(['selector', 'budget', 'seed']).sort_index()['final_accuracy']
  for _, row in compared.iterrows():  # at the same budget they cost the same
    difference = frame['p_sgd', row['budget']] - frame['unif_sgd', row['budget']]
    assert row['difference'] == pytest.approx(difference.mean())
    assert row['low'] <= row['difference'] <= row['high']


def test_it_is_drawn_on_our_axes_or_on_ones_own(study):
  from matplotlib import pyplot

  ax = study.plot()
  assert ax.get_xlabel().startswith('cost') and len(ax.containers) == 2
  _, own = pyplot.subplots()
  assert study.plot(own) is own
  with pytest.raises(ValueError, match='2 axes for 1 frontiers'):
    study.plot(pyplot.subplots(1, 2)[1])
  pyplot.close('all')


def test_a_report_is_written(study):
  page = study.report(figures='none')
  assert page == study.path / 'report' / 'index.html' and 'api.run(' in page.read_text()
  assert 'Study(' in repr(study) and '12 done' in repr(study)


def test_an_interrupt_saves_and_the_same_call_goes_on(study, images, tmp_path, monkeypatch):
  values = {'dataset': images, **COMMON, **SWEPT, 'workdir': tmp_path / 'w'}

  def interrupt(*arguments, **more):
    os.kill(os.getpid(), signal.SIGINT)

  with monkeypatch.context() as patch:
    patch.setattr(progress.Launch, 'update', interrupt)
    with pytest.raises(KeyboardInterrupt, match='saved in .*; run again with this workdir'):
      api.run(**values)
  states = [run_state.look(path).name for path in (tmp_path / 'w' / 'runs').iterdir()]
  assert states == ['stopped']
  again = api.run(**values)
  for path in (study.path / 'runs').iterdir():
    left = again.path / 'runs' / path.name
    assert not faulty.differences(faulty.outcome(path), faulty.outcome(left))


@pytest.mark.usefixtures('linear_model')
def test_without_a_workdir_there_is_a_temporary_one_that_is_told(
  images, capsys, tmp_path, monkeypatch
):
  monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
  study = api.run(dataset=images, **COMMON, selector='unif_sgd', budget=0.5, seeds=[7])
  assert f'workdir: {study.path}\n' in capsys.readouterr().out
  assert study.path.parent == tmp_path
  assert study.frame['seed'].tolist() == [7] and study.compare().empty


def test_refusals_name_every_fault_and_write_nothing(images, tmp_path):
  with pytest.raises(ValueError) as refused:
    api.run(
      dataset=images, selector=['psgd', 'unif_sgd'], budgets=0.1, epochs=[], augment='a+b',
      workdir=tmp_path / 'w',
    )  # fmt: skip
  told = str(refused.value)
  assert "did you mean 'p_sgd'" in told and "did you mean 'budget'" in told
  assert 'epochs=[] has no alternative' in told and not (tmp_path / 'w').exists()
  with pytest.raises(ValueError, match='budget=2.0'):
    api.run(dataset=images, **COMMON, budget=[0.5, 2.0], workdir=tmp_path / 'w')
  with pytest.raises(ValueError, match='workers=100000: at most'):
    api.run(dataset=images, **COMMON, workers=100_000, workdir=tmp_path / 'w')
  for values, said in (
    ({'workers': -1}, 'workers=-1'), ({'workers': 1.5}, 'workers=1.5'),
    ({'resume': 'forced'}, "did you mean 'force'"),
    ({'allow': 'devise'}, "'devise'; did you mean 'device'"),
  ):  # fmt: skip
    with pytest.raises(ValueError, match=said):
      api.run(dataset=images, **COMMON, **values, workdir=tmp_path / 'w')
  assert not (tmp_path / 'w').exists()


def test_a_text_to_allow_is_one_field(study):
  assert api.load(study.path, allow='device').allow == ('device',)


def test_nested_options_and_lists_are_alternatives():
  config = api.config_of(selector='p_sgd', selector_options={'warmup': [1, 2]}, seeds=[1, 2])
  assert config.grid == ({'selector_options.warmup': 1}, {'selector_options.warmup': 2})
  assert config.seeds == (1, 2)


def test_nothing_finished_is_nothing_to_plot(tmp_path):
  with pytest.raises(ValueError, match='nothing to plot'):
    api.load(tmp_path).plot()


def test_a_notebook_shows_one_line_in_place(monkeypatch, capsys):
  # Before there is a fake IPython, which packages would take for the real one.
  digits = api.config_of(dataset='digits', model='resnet8', epochs=4, batch_size=32, seeds=2)
  run, other = inputs.plan_runs(digits)[1]
  shown = []

  class Handle:
    def update(self, picture):
      shown.append(picture)

  display = types.ModuleType('IPython.display')
  display.HTML, display.display = str, lambda picture, display_id: Handle()
  ipython = types.ModuleType('IPython')
  ipython.display = display
  monkeypatch.setitem(sys.modules, 'IPython', ipython)
  console = types.SimpleNamespace(is_jupyter=True, quiet=False)
  monkeypatch.setattr(notebook, '_EVERY', 0.0)
  with progress.show(console, [run, other]) as bars:
    bars.begin(dataclasses.replace(run, run_id='<b>'))
    bars.update(1.0)
    bars.told({'train_loss': 0.5})
    bars.end()
    bars.finished('<b>: 90.00 %')
    bars.settled('<b>')
    bars.say('failed: \x1b[31m')
  assert 'value="0.250"' in shown[2] and '&lt;b&gt;, epoch 1.0 of 4' in shown[2]
  assert shown[-1].startswith('<progress max="2" value="1.000">') and '1 of 2 runs' in shown[-1]
  assert capsys.readouterr().out == 'failed: \\x1b[31m\n'


def diverging(epochs, rows, learning_rate, final):
  return lambda row: jnp.where(row < 3, learning_rate, jnp.nan)


@pytest.mark.usefixtures('linear_model')
def test_the_first_error_is_told_with_its_file(images, tmp_path):
  values = COMMON | {'schedule': 'api_test:diverging', 'seeds': 1, 'budget': 0.5}
  with pytest.warns(UserWarning, match=r'; run .*is nan at row 3.* \(see .*error.log\)'):
    study = api.run(dataset=images, **values, workdir=tmp_path / 'w')
  assert 'is nan at row 3' in study.frame['error'][0]
