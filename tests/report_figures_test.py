"""Figures: drawn only if they changed, alike in every process; no text or point is lost."""

import json
import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from jaxbudget.lab.report import drawings, figures, picture
from jaxbudget.lab.report.style import set_aside


def line(x, y, label='m', **more):
  return {'x': x, 'y': y, 'label': label, 'style': {'color': '#000000', 'marker': 'o'}} | more


def simple(y=1.0, title='t'):
  panel = {'xlabel': 'cost', 'ylabel': 'accuracy', 'lines': [line([1, 2], [y, 2.0])]}
  return {'size': [3, 2], 'grid': [1, 1], 'title': title, 'panels': [panel]}


def drawing(name, y=1.0):
  return drawings.Drawing(name, 'title', 'caption', lambda: simple(y))


def test_a_worker_whose_launch_was_killed_ends_quietly():
  worker = subprocess.Popen(
    [sys.executable, '-P', picture.__file__],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
  )  # fmt: skip
  worker.stdout.close()  # as the end of its reader does
  worker.stdout = None
  _, said = worker.communicate(json.dumps(simple()) + '\n', timeout=120)
  assert (worker.returncode, said) == (1, '')


@pytest.fixture
def drawn(monkeypatch):
  """The pictures that were drawn."""
  seen = []

  def render(content):
    seen.append(content['panels'][0]['lines'][0]['y'][0])
    return {kind: b'x' for kind in drawings.KINDS}

  monkeypatch.setattr(picture, 'render', render)
  return seen


def test_only_what_changed_is_drawn_again(tmp_path, drawn):
  drawings.save([drawing('a', 1.0), drawing('b', 2.0)], tmp_path)
  assert drawn == [1.0, 2.0]
  drawings.save([drawing('a', 1.0), drawing('b', 2.0)], tmp_path)
  assert drawn == [1.0, 2.0]
  drawings.save([drawing('a', 1.0), drawing('b', 3.0)], tmp_path)
  assert drawn == [1.0, 2.0, 3.0]
  (tmp_path / 'a.pdf').unlink()
  drawings.save([drawing('a', 1.0)], tmp_path)
  assert drawn == [1.0, 2.0, 3.0, 1.0]
  (tmp_path / drawings.DIGESTS).write_text('{"a": ')  # damaged: it is only a memory
  drawings.save([drawing('a', 1.0)], tmp_path)
  assert drawn == [1.0, 2.0, 3.0, 1.0, 1.0]


def test_no_digest_leads_out_of_the_report(tmp_path):
  inside = tmp_path / 'report' / 'figures'
  inside.mkdir(parents=True)
  mine = tmp_path / 'mine.svg'
  mine.write_text('')
  names = ['../../mine', str(tmp_path / 'mine'), '..', 'ours']
  (inside / drawings.DIGESTS).write_text(json.dumps(dict.fromkeys(names, 'x')))
  assert drawings.known(inside) == {'ours': 'x'}
  drawings.forget(names, inside)
  assert mine.exists() and drawings.known(inside) == {}


def test_figures_that_are_no_more_are_removed(tmp_path, drawn):
  drawings.save([drawing('a'), drawing('b')], tmp_path)
  (tmp_path / 'mine.svg').write_text('')
  drawings.forget(['a', 'mine'], tmp_path)
  left = {path.name for path in tmp_path.iterdir()}
  assert left == {'b.svg', 'b.pdf', 'b.png', 'mine.svg', drawings.DIGESTS}
  assert set(drawings.known(tmp_path)) == {'b'}


def test_worker_processes_draw_the_same(tmp_path, monkeypatch):
  for name in ('here', 'there'):
    (tmp_path / name).mkdir()
  two = [drawing('a', 1.0), drawing('b', 2.0)]
  drawings.save(two, tmp_path / 'here')
  monkeypatch.setattr(drawings, '_ALONE', 1)
  drawings.save(two, tmp_path / 'there')
  for kind in ('svg', 'png'):
    for name in 'ab':
      one, other = ((tmp_path / place / f'{name}.{kind}').read_bytes() for place in
                    ('here', 'there'))  # fmt: skip
      assert one == other
  broken = drawings.Drawing('broken', '', '', lambda: simple() | {'grid': [0, 0]})
  with pytest.raises(RuntimeError, match='figure broken cannot be drawn'):
    drawings.save([broken, *two], tmp_path / 'here')


def test_a_fault_in_the_data_is_raised_here(tmp_path, monkeypatch):
  monkeypatch.setattr(drawings, '_ALONE', 1)

  def fail():
    raise ValueError('no such run')

  with pytest.raises(ValueError, match='no such run'):
    drawings.save([drawing('a'), drawings.Drawing('b', '', '', fail), drawing('c')], tmp_path)


def test_text_that_no_font_has_is_written_out_without_a_warning():
  names = ('犬', '🐶', '\x1b[1m', 'a\udcffb', '_hidden', '$x$', 'é')
  content = simple(title=' '.join(names))
  content['panels'][0]['lines'] = [line([1], [2], name) for name in names]
  content['panels'][0]['yticks'] = list(names)
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    files = picture.render(content)
  shown = files['svg'].decode()
  assert '\\U0001f436' in shown and '\\x1b[1m' in shown and 'a\\udcffb' in shown
  assert ' _hidden' in shown and '$x$' in shown and 'é' in shown
  assert ('犬' in shown) != ('\\u72ac' in shown)  # drawn where a font has it


def test_long_names_leave_room_for_what_they_name():
  content = simple()
  name = 'p_sgd path=/' + 'x' * 200 + '.npz 0.'
  content['panels'][0] |= {'title': name, 'yticks': [f'{name}{i}' for i in range(2)]}
  with picture.settings():
    figure = picture.draw(content)
    (ax,), drawing = figure.axes, FigureCanvasAgg(figure).get_renderer()
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert [(t[:5], '…' in t, t[-3:]) for t in labels] == [('p_sgd', True, f'0.{i}') for i in '01']
    for text in (ax.title, *ax.get_yticklabels()):
      extent = text.get_window_extent(drawing)
      assert extent.x0 >= 0 and extent.x1 <= figure.bbox.x1
    assert ax.get_position().width > 0.25


def test_the_legend_stands_below_the_axes():
  content = simple()
  content['panels'][0]['lines'] = [line([1, 2], [1, 2], f'a long name of a method {i}')
                                   for i in range(12)]  # fmt: skip
  with picture.settings():
    figure = picture.draw(content)
    (legend,) = figure.legends
    drawn = legend.get_window_extent(FigureCanvasAgg(figure).get_renderer())
  axes = figure.axes[0].get_position().transformed(figure.transFigure)
  assert figure.axes[0].get_legend() is None and len(legend.get_texts()) == 12
  assert drawn.y1 < axes.y0 and drawn.y0 >= 0 and 0 <= drawn.x0 and drawn.x1 <= figure.bbox.x1


def test_points_of_one_cost_stand_apart():
  lines = [line(np.array([0.1, 0.3]), np.array([1.0, 2.0])) for _ in range(4)]
  panel = set_aside(lines)
  assert not panel['xlog'] and lines[0]['x'].tolist() == [0.1, 0.3]
  at = np.array([own['x'] for own in lines])
  for column in at.T:
    assert np.diff(np.sort(column)).min() > 0.9 * 0.014 * 0.2
  assert np.abs(at - at[0]).max() < 0.03 * 0.2  # yet where they belong
  low, high = panel['xlim']
  assert low < at.min() and high > at.max()


def test_costs_that_differ_by_ten_have_a_logarithmic_axis_and_true_chords():
  lines = [line(np.array([0.1, 1.0]), np.array([10.0, 19.0]))]
  assert set_aside(lines)['xlog']
  path = np.array([lines[0]['path_x'], lines[0]['path_y']])
  np.testing.assert_allclose(path[1], 9 + 10 * path[0])  # linear in cost, as it is compared
  assert path[0][lines[0]['marked']].tolist() == pytest.approx([0.1, 1.0])
  single = [line(np.array([0.3]), np.array([1.0])), line(np.array([0.3]), np.array([2.0]))]
  assert not set_aside(single)['xlog'] and single[1]['x'][0] != 0.3


def test_numbers_are_kept_to_what_can_be_seen():
  content = {'x': np.array([math.pi, math.nan]), 'y': np.array([[1.0], [2.0]]), 'n': np.arange(2)}
  again = json.loads(json.dumps(content, default=drawings._rounded))
  assert again['x'][0] == 3.14159 and math.isnan(again['x'][1])
  assert again['y'] == [[1.0], [2.0]] and again['n'] == [0, 1]


def test_how_dear_choosing_is_keeps_no_method_from_the_figure_of_the_baseline():
  assert figures._apart('score_every=10 shared_by=4') == ''
  assert figures._apart('learning_rate=0.2 score_size=8') == 'learning_rate=0.2'


def test_a_crowd_at_one_cost_stays_near_it():
  lines = [line([0.1, 0.3], [1.0, 2.0], str(i)) for i in range(40)]
  set_aside(lines)
  costs = np.array([line['x'][0] for line in lines])
  assert len(set(costs)) == 40 and costs[0] == 0.1
  assert np.ptp(costs) < 0.04
