"""Rows made before anything is timed: nothing is compiled after that.

XLA chooses kernels by timing them, and keeps its choices beside its compiled programs. So what is
set beside PyTorch, and what others are set beside, is compiled with the device to itself; what
multiplies the same shapes is compiled side by side after it, while PyTorch compiles too.
"""

import concurrent.futures
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import NamedTuple

from on_device import peer
from on_device.rows import Rows, Setting

TOGETHER = max(2, 3 * (os.cpu_count() or 1) // 4)  # programs that are compiled side by side


class Made(NamedTuple):
  """What is timed.

  Attributes:
    rows: by setting; `.result()` gives them, or raises what came of making them.
    peers: PyTorch's side of settings, by form.
  """

  rows: dict[Setting, Future[Rows]]
  peers: dict[Setting, dict[str, peer.Peer]]


def make(
  alone: Iterable[Setting],
  others: Iterable[Setting],
  beside: Iterable[Setting],
  until: float,
  say: Callable[[str], None],
) -> Made:
  """Makes rows of each setting: compiled, and two epochs trained.

  Args:
    alone: what is compiled one after the other.
    others: what is compiled side by side, unless it is there already.
    beside: what PyTorch is set beside.
    until: none is begun after it, by `time.time`.
    say: told of each as it is there.
  """

  def one(setting: Setting, by_itself: bool) -> Rows:
    if time.time() > until:
      raise TimeoutError('time was up before it was compiled')
    start = time.time()
    rows = Rows(setting, by_itself)
    say(f'made in {time.time() - start:.0f} s: {setting.title}')
    return rows

  def all_of(some: Iterable[Setting], count: int) -> dict[Setting, Future[Rows]]:
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
      return {setting: pool.submit(one, setting, count == 1) for setting in dict.fromkeys(some)}

  rows = all_of(alone, 1)
  peers = {setting: peer.start(setting) for setting in beside if time.time() <= until}
  rows |= all_of((setting for setting in others if setting not in rows), TOGETHER)
  for setting, forms in peers.items():
    for form, other in forms.items():
      say(f'PyTorch {form} {other.fault() or "ready"}: {setting.title}')
  return Made(rows, peers)
