"""Rows made before anything is timed: nothing is compiled after that.

XLA chooses kernels by timing them, and keeps its choices beside its compiled programs. So the first
setting of each network and format is compiled with the device to itself; what multiplies the same
shapes is compiled side by side after it, while PyTorch compiles too.
"""

import concurrent.futures
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import NamedTuple

from on_device import peer
from on_device.rows import Rows, Setting

TOGETHER = 6  # programs that are compiled side by side


class Made(NamedTuple):
  """What is timed.

  Attributes:
    rows: by setting; `.result()` gives them, or raises what came of making them.
    peers: PyTorch's side of settings, by form.
  """

  rows: dict[Setting, Future[Rows]]
  peers: dict[Setting, dict[str, peer.Peer]]


def make(
  settings: Iterable[Setting],
  beside: Iterable[Setting],
  until: float,
  say: Callable[[str], None],
) -> Made:
  """Makes rows of each setting: compiled, and two epochs trained.

  Args:
    settings: what will be timed.
    beside: those that PyTorch is set beside.
    until: none is begun after it, by `time.time`.
    say: told of each as it is there.
  """
  alone: dict[tuple, Setting] = {}
  for setting in settings:
    alone.setdefault(kernels(setting), setting)

  def one(setting: Setting) -> Rows:
    if time.time() > until:
      raise TimeoutError('time was up before it was compiled')
    start = time.time()
    rows = Rows(setting, setting in alone.values())
    say(f'made in {time.time() - start:.0f} s: {setting.title}')
    return rows

  def all_of(some: Iterable[Setting], count: int) -> dict[Setting, Future[Rows]]:
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
      return {setting: pool.submit(one, setting) for setting in some}

  rows = all_of(alone.values(), 1)
  peers = {setting: peer.start(setting) for setting in beside if time.time() <= until}
  rows |= all_of([setting for setting in settings if setting not in rows], TOGETHER)
  for setting, forms in peers.items():
    for form, other in forms.items():
      say(f'PyTorch {form} {other.fault() or "ready"}: {setting.title}')
  return Made(rows, peers)


def kernels(setting: Setting) -> tuple:
  """What settings have in common that multiply the same shapes in the same format."""
  return setting.model, setting.width, setting.batch, setting.side, setting.format
