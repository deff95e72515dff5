"""Keeps the figures of compiled programs, and writes the tables of docs/accelerators.md."""

import importlib.metadata
import json
from typing import Any

from benchmarks import record
from benchmarks.aot.targets import TARGETS

STORED = record.RESULTS / 'aot.json'
PAGE = record.ROOT / 'docs' / 'accelerators.md'
BEGIN, END = '<!-- tables: make aot -->', '<!-- end of tables -->'
ROWS = (
  '| method | augmentation | device | numbers | kernels | GB | GFLOP | scratch, MB | exchanges '
  '| bound, ms | share of peak |\n|---|---|---|---|---:|---:|---:|---:|---:|---:|---:|'
)
PIECES = (
  '| piece | kernels | thousand cycles | MB by XLA | scratch, MB | at least, us |\n'
  '|---|---:|---:|---:|---:|---:|'
)


# What compiles for each; some plugins bring more than one.
COMPILERS = 'jax', 'jaxlib', 'libtpu', 'jax-cuda12-plugin', 'nvidia-cuda-nvcc-cu12'


def stored() -> dict[str, Any]:
  """What is kept: `programs` by name, each with the commit and the compilers that it is of."""
  return json.loads(STORED.read_text()) if STORED.exists() else {'programs': {}}


def store(records: dict[str, dict[str, Any]]) -> None:
  """Keeps figures of programs, with what made them, beside those of others."""
  here = {d.name for d in importlib.metadata.distributions()}
  compilers = {name: importlib.metadata.version(name) for name in COMPILERS if name in here}
  made = {'commit': record.circumstances()['versions']['commit'], 'compilers': compilers}
  found = stored()['programs'] | {name: {**r, 'made': made} for name, r in records.items()}
  STORED.write_text(json.dumps({'programs': dict(sorted(found.items()))}, indent=1) + '\n')


def line(found: dict[str, Any]) -> str:
  """The figures of a program in one line of a terminal."""
  parts = [f'{found["kernels"]} kernels', f'{found["bytes"] / 1e9:.3f} GB']
  parts += [f'{found["temp"] / 1e6:.0f} MB scratch', f'bound {found["bound_ms"]:.3f} ms']
  if found['cycles']:
    parts.append(f'{found["cycles"]:,} cycles')
  if found['exchange']:
    parts.append(f'{len(found["exchange"])} exchanges')
  return ', '.join([*parts, f'compiled in {found["compile_seconds"]:.0f} s'])


def tables(programs: dict[str, dict[str, Any]]) -> str:
  """All figures as Markdown."""
  rows = [found for found in programs.values() if 'selector' in found]
  order = list(TARGETS)
  rows.sort(key=lambda r: (order.index(r['target']), r['dtype'], r['devices'], _method(r)))
  lines = [ROWS]
  for found in rows:
    lines.append(_row(found))
    if found['without_step']:
      lines.append(_row({**found, **found['without_step'], 'without': True}))
  lines += ['', PIECES]
  for found in programs.values():
    if 'piece' in found:
      lines.append(
        f'| {found["piece"]} | {found["kernels"]} | {found["cycles"] / 1e3:,.0f} '
        f'| {found["bytes_by_xla"] / 1e6:,.1f} | {found["temp"] / 1e6:.1f} '
        f'| {1e3 * found["bound_ms"]:.0f} |'
      )
  return '\n'.join(lines)


def _method(found):
  return ' '.join([found['selector'], *(value for _, value in found['options'])])


def _row(found):
  count = found['devices']
  device = TARGETS[found['target']].name + (f', {count} of them' if count > 1 else '')
  exchanged = sum(size for _, size in found['exchange']) / 1e6
  exchanges = f'{len(found["exchange"])}, {exchanged:.1f} MB' if found['exchange'] else ''
  method = _method(found) + (', no step' if found.get('without') else '')
  return (
    f'| {method} | {found["augment"]} | {device} | {found["dtype"]} | {found["kernels"]} '
    f'| {found["bytes"] / 1e9:.2f} | {found["flops"] / 1e9:.0f} | {found["temp"] / 1e6:.0f} '
    f'| {exchanges} | {found["bound_ms"]:.2f} | {100 * found["share_of_peak"]:.0f} % |'
  )


def write() -> None:
  """Puts the tables into the page."""
  before, _, rest = PAGE.read_text().partition(BEGIN)
  _, _, after = rest.partition(END)
  PAGE.write_text(f'{before}{BEGIN}\n\n{tables(stored()["programs"])}\n\n{END}{after}')
