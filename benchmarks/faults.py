"""The fault campaign at length: what `make faults` runs, and docs/results/faults.json records.

  python benchmarks/faults.py [--kills=50] [--stops=20] [--full=8] [--crowd=8] [--configs=500]
    [--weather=300] [--only=weather]

Launches of a grid of every method and augmentation are killed, stopped, started eight at
once, run out of disk, and given damaged files; every byte of what they leave is compared with
an undisturbed launch. Then launches of small random configs, valid and not, and the same in all
kinds of weather: environment, closed and full streams, signals. About an hour on 2 cores. A
campaign that was interrupted goes on with the part it was in, of the weather with the piece of
thirty launches; `--restart` begins anew. `--only` takes the parts whose names begin so;
the record is written when all parts have run.
"""

import argparse
import collections
import functools
import json
import pathlib
import shutil
import sys
import time

ROOT = pathlib.Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests')]

import campaign  # noqa: E402
import faulty  # noqa: E402
import fuzzing  # noqa: E402
import hypothesis  # noqa: E402
import pytest  # noqa: E402
import weather  # noqa: E402
from record import circumstances, code_hash  # noqa: E402

from jaxbudget import registry  # noqa: E402
from jaxbudget.lab.run import files  # noqa: E402
from jaxbudget.lab.run.conditions import present  # noqa: E402


def fuzz(directory: pathlib.Path, count: int) -> dict[str, int]:
  """Launches random configs; counts how they ended."""
  outcomes = dict.fromkeys(('trained', 'refused', 'diverged'), 0)
  common = {
    'dataset': faulty.write_images(directory / 'tiny.npz'), 'model': 'linear',
    'selector': 'unif_sgd', 'batch_size': 8, 'epochs': 3, 'budget': 0.5, 'evaluate_batch': 16,
    'seeds': 1,
  }  # fmt: skip

  @hypothesis.settings(
    deadline=None, max_examples=count, derandomize=True, database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
  )  # fmt: skip
  @hypothesis.given(fuzzing.SETTINGS)
  def run(drawn):
    outcomes[fuzzing.attempt(common, drawn, directory / 'fuzz')] += 1

  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(registry.NAMES['model'], 'linear', 'linear:linear')
    run()
  return outcomes


def reference(directory: pathlib.Path, cells: str) -> dict:
  """Outcomes of an undisturbed launch, trained now or by an earlier call."""
  workdir = directory / f'reference_{cells}'
  if not workdir.exists():
    campaign.reference(workdir, cells)
  return campaign.outcomes(workdir)


PIECE = 30  # launches in all kinds of weather that are drawn, and counted, together


def weathers(count: int) -> dict[str, functools.partial]:
  """The weather in pieces, each drawn by a seed of its own, by name."""
  sizes = [min(PIECE, count - start) for start in range(0, count, PIECE)]
  return {
    f'weather {seed}': functools.partial(
      weather.campaign, count=size, run=weather.launched, seed=seed
    )
    for seed, size in enumerate(sizes)
  }


def whole(parts: dict[str, dict]) -> dict[str, dict]:
  """The parts of a record, those of the weather as one."""
  found = {name: part for name, part in parts.items() if not name.startswith('weather ')}
  pieces = [part for name, part in parts.items() if name not in found]
  if pieces:
    counts = sum((collections.Counter(part['counts']) for part in pieces), collections.Counter())
    seconds = sum(part['seconds'] for part in pieces)
    found['weather'] = {'counts': dict(sorted(counts.items())), 'seconds': seconds}
  return found


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--kills', type=int, default=50)
  parser.add_argument('--stops', type=int, default=20)
  parser.add_argument('--full', type=int, default=8)
  parser.add_argument('--crowd', type=int, default=8)
  parser.add_argument('--configs', type=int, default=500)
  parser.add_argument('--weather', type=int, default=300)
  parser.add_argument('--only', default='', metavar='PART', help='parts whose names begin so')
  parser.add_argument('--workdir', type=pathlib.Path, default=ROOT / 'runs' / 'faults')
  parser.add_argument('--output', type=pathlib.Path, default=ROOT / 'docs/results/faults.json')
  parser.add_argument('--restart', action='store_true')
  given = parser.parse_args()
  directory, record = given.workdir, given.workdir / 'record.json'
  parts = {
    'SIGKILL': lambda place: campaign.kills(place, 'all', every, given.kills),
    'signals': lambda place: campaign.terminations(place, 'all', every, given.stops),
    'launches at once': lambda place: campaign.crowd(place, 'all', every, given.crowd),
    'damaged files': lambda place: campaign.damages(place, 'few', few),
    'full disk': lambda place: campaign.full_disks(place, 'few', few, given.full),
    'random configs': lambda place: fuzz(place, given.configs),
  } | weathers(given.weather)
  if not any(name.startswith(given.only) for name in parts):
    parser.error(f'--only={given.only} is no part: {", ".join(parts)}')
  conditions = {**present(), 'code': code_hash(), 'sizes': [given.kills, given.stops, given.full]}
  found = files.read_json(record) or {}
  if given.restart or found.get('conditions') != json.loads(json.dumps(conditions)):
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    found = {'conditions': conditions, 'parts': {}}
  few, every = reference(directory, 'few'), reference(directory, 'all')
  for name, part in parts.items():
    if name in found['parts'] or not name.startswith(given.only):
      continue
    place, start = directory / name.replace(' ', '_'), time.monotonic()
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    counts = dict(sorted(part(place).items()))
    shutil.rmtree(place)
    seconds = round(time.monotonic() - start)
    found['parts'][name] = {'counts': counts, 'seconds': seconds}
    files.write_json(record, found)
    print(f'{name}: {counts} in {seconds} s, no difference', flush=True)
  left = [name for name in parts if name not in found['parts']]
  if left:
    print(f'not recorded yet, for these have not run: {", ".join(left)}')
    return
  report = {
    'meaning': 'a part is listed only if every byte but the seconds was as undisturbed',
    **circumstances(),
    'runs compared': {'few': len(few), 'all': len(every)},
    'parts': whole(found['parts']),
  }
  given.output.parent.mkdir(parents=True, exist_ok=True)
  files.write_json(given.output, report)
  print(f'written: {given.output}')


if __name__ == '__main__':
  main()
