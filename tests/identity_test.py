"""Ids: what enters them, what renames no run, and what becomes of runs of before.

`python tests/identity_test.py` adds new defaults to tests/golden/defaults.json.
"""

import dataclasses
import functools
import json
import pathlib
import shutil

import pytest
from faulty import OURS, linear_model, planned, settings, write_images  # noqa: F401  a fixture
from rich.console import Console

from jaxbudget import source
from jaxbudget.data import tables
from jaxbudget.data.dataset import Info
from jaxbudget.lab import config as config_lib
from jaxbudget.lab import launcher, report
from jaxbudget.lab.report import comparability, frontier
from jaxbudget.lab.run import files, identity
from jaxbudget.lab.sweep import grid, inputs, jobs, local, plan_file
from jaxbudget.options import REQUIRED
from jaxbudget.registry import NAMES
from jaxbudget.selectors.sgd import unif_sgd

GOLDEN = pathlib.Path(__file__).parent / 'golden'
PACKAGE = pathlib.Path(source.__file__).parent
P_SGD = {'dataset': 'digits', 'model': 'resnet8', 'selector': 'p_sgd', 'budget': 0.3, 'seeds': 1}


def run_of(**values):
  return grid.make_runs(config_lib.defaults(**{**P_SGD, **values}))[-1]


def defaults_now() -> dict:
  """The value of every config key and option that ids leave out, as JSON gives it back."""
  found = dict(identity.config_defaults())
  for kind in identity.KINDS:
    for name in OURS[kind]:
      for short, own in identity.part_defaults(kind, name).items():
        found |= {f'{kind}.{short}.{option}': value for option, value in own.items()}
  found |= {key: value for key, value in identity.CHANGED.items() if key in found}
  plain = {key: '(required)' if value is REQUIRED else value for key, value in found.items()}
  return json.loads(json.dumps(plain, default=list))


def test_no_default_changes_unnoticed():
  """Ids leave defaults out: another default under the same id would be another run."""
  pinned, now = json.loads((GOLDEN / 'defaults.json').read_text()), defaults_now()
  changed = {key: (was, now[key]) for key, was in pinned.items() if now.get(key, was) != was}
  assert not changed, 'changed defaults: enter what they were in identity.CHANGED and CHANGELOG.md'
  assert set(now) == set(pinned), 'new or lost defaults: run python tests/identity_test.py'


def test_an_id_is_16_hex_digits_of_what_can_change_numbers():
  run = run_of(seeds=(7,), selector_options={'warmup': 2}, batch_size=32, threads=0)
  assert run.identity == {
    'engine': identity.ENGINE,
    'data': identity.data_content('digits', None),
    'config': {'batch_size': 32, 'budget': 0.3},
    'selector': {'name': 'p_sgd', 'options': {'p_sgd': {'warmup': 2}}},
    'augment': {'name': 'standard', 'options': {}},
    'model': {'name': 'resnet8', 'options': {}},
    'schedule': {'name': 'linear', 'options': {}},
    'optimizer': {'name': 'sgd', 'options': {}},
  }
  assert run.config_hash == identity.digest(run.identity)
  assert len(run.config_hash) == 16 and set(run.config_hash) <= set('0123456789abcdef')
  assert run.run_id == f'digits-p_sgd-standard-linear-b0.3-{run.config_hash}-s7'


# Written down once: what renames these renames everybody's runs.
PINNED = {
  'plain': ({}, 'e20ee18c4b7b9508'),
  'options': ({'selector_options': {'smoothing': False, 'warmup': 2}}, '3a0204c2eeeea847'),
  'config': ({'budget_unit': 'compute', 'epochs': 10, 'learning_rate': 0.05}, 'af8578dff9773749'),
  'chain': (
    {'augment': 'randaugment+ricap', 'augment_options': {'ricap.alpha': 0.5}},
    '63fbf30715255ca1',
  ),
  'needs': ({'selector': 'coreset', 'dataset': 'cifar10', 'model': 'resnet18'}, '764524426e4a9a5b'),
}


@pytest.mark.parametrize('name', PINNED)
def test_ids_stay(name, monkeypatch):
  monkeypatch.setattr(identity, 'ENGINE', 1)
  values, expected = PINNED[name]
  assert run_of(**values).config_hash == expected


def test_a_default_that_is_written_is_the_default_of_data_too():
  content = functools.partial(identity.data_content, 'imagenet', None)
  assert content({'crop': 'random_resized', 'decode_workers': 4}) == content({}) == content()
  assert content({'crop': 'none'}) == [*content(), {'crop': 'none'}]


def test_the_engine_and_the_table_of_an_official_set_enter(monkeypatch):
  before = run_of().config_hash
  with monkeypatch.context() as patch:
    patch.setattr(identity, 'ENGINE', identity.ENGINE + 1)
    assert run_of().config_hash != before
  moved = dataclasses.replace(tables.INFO['digits'], std=(0.5,))
  with monkeypatch.context() as patch:
    patch.setitem(tables.INFO, 'digits', moved)
    assert run_of().config_hash != before

  @dataclasses.dataclass(frozen=True)
  class Longer(Info):
    novelty: int = 0

  facts = {f.name: getattr(tables.INFO['digits'], f.name) for f in dataclasses.fields(Info)}
  monkeypatch.setattr(identity, 'Info', Longer)
  monkeypatch.setitem(tables.INFO, 'digits', Longer(**facts))
  assert run_of().config_hash == before, 'a new fact that says nothing'


@pytest.fixture
def new_defaults(monkeypatch):
  """Changes the defaults of config keys, or adds keys, for the time of a test."""
  original = config_lib.defaults
  caches = identity.config_defaults, comparability._defaults

  def change(**changed):
    def defaults(**given):
      config = original()
      with config.unlocked():
        config.update(changed)
      config_lib.apply(config, given)
      return config.lock()

    monkeypatch.setattr(config_lib, 'defaults', defaults)
    for cache in caches:
      cache.cache_clear()

  yield change
  monkeypatch.undo()
  for cache in caches:
    cache.cache_clear()


def test_a_new_key_with_a_neutral_default_renames_no_run(new_defaults):
  before = run_of().run_id
  new_defaults(novelty=0.0)
  assert run_of().run_id == before
  assert run_of(novelty=1.0).run_id != before


def test_a_changed_default_is_named_by_those_who_take_it(new_defaults, monkeypatch):
  old, explicit = run_of().config_hash, run_of(learning_rate=0.2).config_hash
  new_defaults(learning_rate=0.2)
  assert run_of().config_hash == old, 'what the pinned table is there for'
  monkeypatch.setitem(identity.CHANGED, 'learning_rate', 0.1)
  assert run_of().config_hash == explicit and run_of(learning_rate=0.1).config_hash == old
  monkeypatch.setitem(identity.CHANGED, 'selector.p_sgd.warmup', 3)
  assert run_of(selector_options={'warmup': 3}).identity['selector']['options'] == {}
  assert run_of().identity['selector']['options'] == {'p_sgd': {'warmup': 0}}


def test_finished_runs_are_not_refused_nor_set_apart_by_a_new_key_or_an_edit(
  new_defaults,
  linear_model,  # noqa: F811
  tmp_path,
  monkeypatch,
):
  grid_of = ({'selector': 'unif_sgd'}, {'selector': 'p_sgd'})
  values = {'epochs': 1, 'seeds': 2, 'grid': grid_of}
  name = write_images(tmp_path / 'tiny.npz')
  runs, datasets = planned(settings(name, **values))
  first = [run for run in runs if run.seed == 0]
  assert local.run_all(first, datasets, tmp_path / 'runs', Console()) == 0
  stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / 'runs').rglob('*')}

  new_defaults(novelty=0)
  monkeypatch.setattr(identity, 'source_of', lambda cell, outside: 'edited, to the same numbers')
  runs, datasets = planned(settings(name, **values))
  assert local.run_all(runs, datasets, tmp_path / 'runs', Console()) == 0
  assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items() if path.is_file())
  plan_file.write(runs, tmp_path, 'a test')
  loaded = report.load_workdir(tmp_path)
  assert {'novelty' in config for config in loaded.configs.values()} == {False, True}
  sources = {
    json.loads(path.read_text())['conditions']['source']
    for path in (tmp_path / 'runs').glob('*/result.json')
  }
  assert len(sources) == 3, 'seed 0 of each method came before the edit, seed 1 after'
  assert list(loaded.cells['done']) == [2, 2] and loaded.pooling == []
  assert list(frontier.equal_compute(loaded)['state']) == ['']


def bounded(spec, budget, *, bound: float | None = 1.0):
  """Uniform samples; lent to a test as a method whose option may be None."""
  del bound
  return unif_sgd(spec, budget)


def test_what_is_set_to_none_is_none_in_a_worker(linear_model, tmp_path, monkeypatch):  # noqa: F811
  monkeypatch.setitem(NAMES['selector'], 'bounded', 'identity_test:bounded')
  monkeypatch.setattr(inputs, 'use_compilation_cache', lambda: None)
  name = write_images(tmp_path / 'tiny.npz')
  cells = ({'selector_options': {'bound': None}}, {})
  config = settings(name, selector='bounded', epochs=1, grid=cells)
  runs, _ = planned(config)
  job = jobs.write(tmp_path, config, [[runs[0].run_id]], 'local', 'auto')
  assert jobs.work(job, 0) == 0, 'the worker plans the very run'
  (directory,) = (tmp_path / 'runs').iterdir()
  assert directory.name == runs[0].run_id != runs[1].run_id
  kept = files.read_json(directory / files.CONFIG)
  assert kept['selector_options'] == {'bound': None}
  again = config_lib.from_record({k: kept[k] for k in config_lib.defaults() if k in kept})
  ((same, *_), _) = planned(again)
  assert same.parts.options['selector'] == {'bound': None}
  assert same.config_hash == runs[0].config_hash


def test_equal_ids_of_unequal_runs_are_refused(monkeypatch):
  monkeypatch.setattr(identity, 'digest', lambda found: '0123456789abcdef')
  config = config_lib.defaults(**P_SGD, grid=({'batch_size': 32}, {'batch_size': 64}))
  with pytest.raises(ValueError, match="config: {'batch_size': 32.* and {'batch_size': 64"):
    grid.make_runs(config)


CELLS = {'p_sgd': {}, 'sgd': {'selector': 'sgd', 'budget': 1.0}}


def source_hashes(folder: pathlib.Path) -> dict[str, str]:
  """What the half-done runs of two methods hang on, for a copy of the package."""
  return {
    name: source.source_hash(
      identity.source_modules(run_of(**values).cell), [folder], identity.NO_NUMBERS, lambda n: ''
    )
    for name, values in CELLS.items()
  }


EDITS = {
  'a docstring': ('types.py', '"""The vocabulary', '"""All the vocabulary', set()),
  'a remark': ('epoch.py', 'ENGINE = 4', 'ENGINE = 4  # the fourth', set()),
  'the deviations': ('lab/paper/deviations.py', 'import', 'import types\nimport', set()),
  'a new name': (
    'registry.py',
    "'sgd':",
    "'new': 'jaxbudget.selectors.new:new',\n    'sgd':",
    set(),
  ),
  'the arithmetic of p_sgd': ('selectors/importance.py', ' + ', ' - ', {'p_sgd'}),
  'the step': ('step.py', ')) / count', ')) / (count * 1)', {'p_sgd', 'sgd'}),
}


@pytest.mark.parametrize('edit', EDITS)
def test_half_done_runs_hang_on_the_source_of_the_engine_and_their_own_parts(edit, tmp_path):
  folder = tmp_path / 'jaxbudget'
  shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns('__pycache__'))
  before = source_hashes(folder)
  assert before['p_sgd'] != before['sgd']
  (folder / 'selectors' / 'new.py').write_text('def new(spec, budget): pass\n')
  file, old, new, changed = EDITS[edit]
  text = (folder / file).read_text()
  assert old in text
  (folder / file).write_text(text.replace(old, new, 1))
  after = source_hashes(folder)
  assert {name for name in CELLS if after[name] != before[name]} == changed


@pytest.fixture
def of_before(tmp_path):
  """A workdir of two runs whose ids are of before."""
  shutil.copytree(GOLDEN / 'before_ids', tmp_path / 'w')
  return tmp_path / 'w'


def test_a_workdir_of_before_is_still_reported(of_before):
  loaded = report.load_workdir(of_before)
  assert loaded.problems == [] and list(loaded.runs['status']) == ['done', 'done']
  compared = frontier.equal_compute(loaded)
  assert list(compared['state']) == [''] and compared['mean'].notna().all()
  known = loaded.conditions[loaded.runs['run_id'][0]]
  assert {name: value for name, value in known.items() if value} == {
    'engine': 'before 1, code d840939fe7d769bc', 'data_fingerprint': '04593b0508148011',
    'jax': '0.10.2', 'jaxlib': '0.10.2', 'flax': '0.12.8', 'optax': '0.2.8', 'numpy': '2.4.6',
    'device': 'cpu',
  }  # fmt: skip
  assert report.write_report(of_before).is_file()


def test_launching_in_a_workdir_of_before_says_what_happened(of_before, capsys):
  entries = plan_file.entries(of_before)
  config = config_lib.defaults(**P_SGD)
  assert launcher.launch(config, of_before, 'plan') == 0
  said = capsys.readouterr().out
  assert 'holds 2 runs of before ids were changed' in said and 'none counts for this plan' in said
  new, *old = plan_file.entries(of_before)
  assert new['run_id'] == run_of().run_id and old == entries


if __name__ == '__main__':
  file = GOLDEN / 'defaults.json'
  before = json.loads(file.read_text()) if file.exists() else {}
  now = defaults_now()
  content = {key: before.get(key, value) for key, value in now.items()}
  file.write_text(json.dumps(content, indent=1, sort_keys=True) + '\n')
