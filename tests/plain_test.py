"""Nothing that comes from outside is ever markup: not in terminal, page, tables or figures."""

import ast
import html
import io
import json
import pathlib
import xml.etree.ElementTree as ElementTree

import pytest
import report_workdirs as workdirs
import rich.console
from hypothesis import given
from hypothesis import strategies as st

from jaxbudget.data.progress import progress_bars
from jaxbudget.lab import columns, plain, report
from jaxbudget.lab.report import render
from jaxbudget.lab.sweep import progress, status

LAB = pathlib.Path(plain.__file__).parent
HOSTILE = r'w[lr=0.1] [dog] x[/y] :dog: $x$ \frac$ [bold]_b*'


def printed(*things, plainly=True, width=300) -> str:
  """What a terminal gets; `rich.print` with all its markup on, unless `plainly`."""
  file = io.StringIO()
  console = plain.make_console if plainly else rich.console.Console
  console = console(file=file, width=width)
  for thing in things:
    console.print(thing)
  return file.getvalue()


@given(st.text())
def test_text_survives_the_terminal(text):
  shown = plain.text(text)
  assert all(c.isprintable() or c == '\n' for c in shown)
  shown.encode()  # half a surrogate pair would not
  assert (
    printed(plain.rich_text(text), plainly=False).replace('\n', '').split()
    == (shown.replace('\n', '').split())
    or len(shown) > 290
  )


def test_escape_sequences_are_written_out():
  assert plain.text('a\x1b[31mred\x9b1m\x07\u202eb\udcff') == (
    'a\\x1b[31mred\\x9b1m\\x07\\u202eb\\udcff'
  )


def test_say_says_what_it_is_told():
  file = io.StringIO()
  plain.say(plain.make_console(file=file, width=40), HOSTILE + '\x1b[2J')
  assert file.getvalue() == HOSTILE + '\\x1b[2J\n'  # neither wrapped nor cut


def test_whatever_is_printed_is_made_plain_first():
  """A `print` has fixed words, JSON or what `plain` returned; a console gets no bare text."""
  for file in LAB.rglob('*.py'):
    for call in ast.walk(ast.parse(file.read_text())):
      if not isinstance(call, ast.Call) or not call.args:
        continue
      name, value = ast.unparse(call.func), call.args[0]
      fits = True
      if name == 'print':
        said = ast.unparse(value).startswith(('plain.text(', 'json.dumps('))
        fits = said or isinstance(value, ast.Constant)
      elif name.endswith('.print'):
        fits = not isinstance(value, ast.Constant | ast.JoinedStr | ast.BinOp)
      assert fits, f'{file.name}:{call.lineno}: {ast.unparse(call)}'


def test_tables_of_the_report_in_the_terminal():
  cell = render.Cell(HOSTILE, HOSTILE, HOSTILE, bold=True)
  table = render.Table('t', HOSTILE, (HOSTILE,), [(cell,)], None, (HOSTILE,))
  assert printed(render.to_rich(table), plainly=False).count(HOSTILE) == 5


def test_status_and_progress(tmp_path):
  (tmp_path / 'plan.json').write_text(json.dumps({'runs': []}))
  standing = status.Standing(f'{HOSTILE}-s0', HOSTILE, 'failed', '', 1, 2, 0.0, HOSTILE)
  shown = printed(status.table([standing]), plainly=False)
  assert shown.count(HOSTILE) == 2
  file = io.StringIO()
  console = rich.console.Console(file=file, width=200, force_terminal=True)
  with progress_bars(console) as told:
    told(HOSTILE, 1, 2)
  assert HOSTILE in file.getvalue()
  file = io.StringIO()
  with progress.show(rich.console.Console(file=file, width=200, force_terminal=True)) as bars:
    bars.say(HOSTILE)
  assert file.getvalue().count(HOSTILE) >= 1


def test_page_tables_and_figures_show_text_as_it_is(tmp_path):
  """Dollars, brackets, underscores: none is mathematics, a tag or hidden from a legend."""
  plan = [
    workdirs.plan_run(selector, budget, seed, dataset=HOSTILE, augment=f'_{HOSTILE}', epochs=2)
    | {'options': {'x': f'${budget}$'}}
    for selector, budget in (('_mine:f', 0.1), ('_mine:f', 0.3), ('unif_sgd', 0.3))
    for seed in (0, 1)
  ]  # fmt: skip
  for run in plan:
    run['run_id'] = run['cell_id'] = f'{run["selector"][:4]}{run["budget"]}'.replace(':', '')
    run['run_id'] += f'-s{run["seed"]}'
  page = report.write_report(workdirs.write_workdir(tmp_path / HOSTILE.replace('/', '_'), plan))
  text = page.read_text(encoding='utf-8')
  assert text.count(html.escape(HOSTILE)) > 5 and '[dog]' in text
  words = [
    ' '.join(' '.join(ElementTree.parse(file).getroot().itertext()).split())
    for file in (page.parent / 'figures').glob('*.svg')
  ]
  assert words and all('mathdefault' not in drawn for drawn in words)
  assert any('_mine:f x=$0.3$' in drawn for drawn in words)
  assert all(HOSTILE in drawn for drawn in words if 'Realised' not in drawn)


@pytest.mark.parametrize('width', [80, 100, 120, 200])
def test_tables_fit_the_terminal_and_cut_nothing(width):
  methods = ['selective_backprop', 'repeat_before_forgetting', 'p_sgd smoothing=False average=True']
  table = columns.Columns(
    names=('budget', 'method', 'accuracy', 'trained', 'cost', 'selection %', 'train s', 'seeds'),
    rows=[('0.1', m, '90.65 ± 1.89', '0.1760', '0.503', '65', '1234.5', '3/3') for m in methods],
    labels=2,
    spare=('train s', 'trained'),
    footer=('total', '', '', '', '9.5', '', '', '9'),
    notes=('A note that is longer than a narrow terminal is wide, and therefore is wrapped.',),
  )
  shown = printed(table, width=width)
  lines = shown.splitlines()
  assert all(len(line) <= width for line in lines)
  for word in ('selective_backprop', 'repeat_before_forgetting', 'smoothing=False', '90.65 ± 1.89'):
    assert word in shown
  assert '…' not in shown and ('1234.5' in shown) == (width >= 100)
  assert ('Left out in 80 columns: trained, train s.' in shown) == (width == 80)
