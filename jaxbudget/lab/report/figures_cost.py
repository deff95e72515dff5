"""Figures of what runs cost: their time, and what they spent against the plan."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from jaxbudget.lab.report import layout
from jaxbudget.lab.report.load import Workdir
from jaxbudget.lab.report.style import Drawing, words
from jaxbudget.paths import file_name

PHASES = (('train', '#0072B2', ''), ('evaluate', '#56B4E9', '///'), ('compile', '#E69F00', '...'),
          ('data', '#8C8C8C', 'xxx'))  # fmt: skip


def draw_time(frame: pd.DataFrame, name: str) -> Drawing:
  """Seconds of a run, by what they were spent on."""
  frame = frame[frame['seconds_train'].notna()].sort_values(['budget', 'method'], ascending=False)
  labels = [words(f'{c["method"]} {layout.plain(c["budget"])}') for _, c in frame.iterrows()]
  figure = Figure(figsize=(5.6, 1.1 + 0.24 * len(frame)), layout='constrained')
  ax = figure.subplots()
  left = np.zeros(len(frame))
  for phase, colour, hatch in PHASES:
    seconds = frame[f'seconds_{phase}'].fillna(0).to_numpy()
    ax.barh(labels, seconds, left=left, label=phase, color=colour, hatch=hatch, edgecolor='white',
            linewidth=0.4)  # fmt: skip
    left = left + seconds
  ax.set(xlabel='seconds a run (mean over seeds)', title=words(name))
  ax.grid(axis='y', visible=False)
  figure.legend(loc='outside lower center', ncols=4)
  caption = 'Wall-clock time of a run, training apart from everything else.'
  return Drawing(file_name(f'time_{name}'), f'Where the time went: {name}', caption, figure)


def draw_realised(workdir: Workdir, styles) -> Drawing:
  """Cost as spent against cost as planned."""
  frame = workdir.cells[workdir.cells['done'] > 0]
  figure = Figure(figsize=(5.6, 3.9), layout='constrained')
  ax = figure.subplots()
  for method, part in frame.groupby('method', sort=False):
    style = {k: v for k, v in styles[method].items() if k != 'linestyle'}
    excess = 100 * (part['cost'] / part['planned_cost'] - 1)
    ax.plot(part['planned_cost'], excess, linestyle='', label=words(method), alpha=0.8, **style)
  ax.axhline(0, color='#8C8C8C', lw=0.8)
  ax.margins(y=0.15)
  if np.abs(ax.get_ylim()).max() < 1:
    ax.set_ylim(-1, 1)
  ax.set(xlabel='planned cost (full runs of SGD = 1)', ylabel='spent − planned (% of planned)')
  ax.set_title('Realised against planned budget')
  figure.legend(loc='outside lower center', ncols=4)
  caption = 'Forward equivalents of a cell, mean over seeds; 0 is exactly what the plan said.'
  return Drawing('realised', 'Realised against planned budget', caption, figure)
