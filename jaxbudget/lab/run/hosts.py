"""Several processes that train each run together, every one with devices of its own.

All take the same way through the program and meet at *sync points*, in the same order: `first`,
`agree`, `any_of`, `union`, `differing` and the end of `together`. There each says that it is well,
or how it failed; so what fails in one process fails in all, and none is waited for in vain.
Process 0 owns locks, writes files and prints. Whatever depends on clocks, files or signals is
decided by one and told to all, for a process that dispatches other work than its peers waits for
ever.

With one process all of this is free. With several, they talk by the key-value store of
`jax.distributed` and not by the devices, which are busy, and which a failed process cannot join.
"""

import contextlib
import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
from jax._src import distributed  # the store has no public name; orbax reaches it so too

_PATIENCE = 30.0  # seconds that a process which failed waits for the others to hear of it
_LOOK = 2000  # milliseconds between looks at signals while waiting
_BEAT = 5.0  # seconds between signs of life
_SILENCE = 60.0  # seconds without one; after 100 JAX would abort this process
_TOLD = 'The other processes of the launch have been told.'  # a note on an exception
_met = 0  # sync points passed


class Elsewhere(Exception):  # noqa: N818
  """Another process of the launch failed; the message says which and how."""


class Gone(BaseException):  # noqa: N818  like SystemExit: no run can go on
  """Another process of the launch does not answer any more."""


def initialize() -> None:
  """Joins the processes of a launch; call it before anything touches a device.

  SLURM, Open MPI, Kubernetes and TPU pods are recognised by JAX; elsewhere each process needs
  JAX_COORDINATOR_ADDRESS (host:port of process 0), JAX_NUM_PROCESSES and JAX_PROCESS_ID.

  Raises:
    ValueError: there is neither.
  """
  jax.config.update('jax_enable_preemption_service', False)  # would keep SIGTERM to itself
  named = {'num_processes': 'JAX_NUM_PROCESSES', 'process_id': 'JAX_PROCESS_ID'}
  try:
    given = {key: int(os.environ[name]) for key, name in named.items() if name in os.environ}
    jax.distributed.initialize(**given)
  except ValueError as e:
    raise ValueError(
      'no other processes to join: under SLURM start with srun, elsewhere set '
      f'JAX_COORDINATOR_ADDRESS, {" and ".join(named.values())} in each process ({e})'
    ) from None
  if count() > 1:
    threading.Thread(target=_beat, daemon=True).start()


def count() -> int:
  """Processes of the launch."""
  return distributed.global_state.num_processes


def is_first() -> bool:
  """Whether this process is the one that writes and prints."""
  return distributed.global_state.process_id == 0


def first(action: Callable, *args: Any, **kwargs: Any) -> None:
  """Lets process 0 do something that can fail, while the others wait for it."""
  if is_first():
    action(*args, **kwargs)
  agree(None)


def agree(value: Any) -> Any:
  """Gives every process the value that process 0 has: what JSON can hold."""
  return value if count() == 1 else _meet(value)[0]


def any_of(value: Any) -> Any:
  """Gives every process the first value that is true, by process; process 0's if none is."""
  if count() == 1:
    return value
  values = _meet(value)
  return next(filter(None, values), values[0])


def union(values: Iterable[str]) -> list[str]:
  """Gives every process what any of them has, sorted."""
  own = sorted(set(values))
  return own if count() == 1 else sorted(set().union(*_meet(own)))


def differing(values: Mapping[str, Any]) -> dict[str, list[Any]]:
  """Compares what should be equal in all processes.

  Args:
    values: what JSON can hold.

  Returns:
    By key what each process has, where they have not the same.
  """
  if count() == 1:
    return {}
  found = _meet(dict(values))
  keys = dict.fromkeys(key for one in found for key in one)
  by_key = {key: [one.get(key) for one in found] for key in keys}
  return {key: each for key, each in by_key.items() if any(one != each[0] for one in each)}


@contextlib.contextmanager
def together() -> Iterator[None]:
  """Leaves a block in all processes when one of them leaves it by an exception.

  Raises:
    Elsewhere: in those that have no exception of their own.
    Gone: the others did not come to hear of ours, being stuck in what we were to take part in.
  """
  if count() == 1:
    yield
    return
  try:
    yield
  except Exception as e:
    if not _is_told(e):
      with contextlib.suppress(Elsewhere):
        _meet(None, f'{type(e).__name__}: {e}')
      e.add_note(_TOLD)
    raise
  _meet(None)


def _is_told(e: Exception) -> bool:
  """Whether the others know of an exception: an inner block has told them, or they told us."""
  return isinstance(e, Elsewhere) or _TOLD in getattr(e, '__notes__', ())


def _meet(value: Any, failure: str | None = None) -> list[Any]:
  """A sync point: gives the values of all processes.

  Raises:
    Elsewhere: another process has failed.
    Gone: it cannot be reached.
  """
  global _met
  place, _met = f'jaxbudget/{_met}', _met + 1
  store, me = _store()
  until = time.monotonic() + (_PATIENCE if failure else float('inf'))
  try:
    store.key_value_set(f'{place}/{me}', json.dumps([failure, value]))
    if me == 0:
      told = [json.loads(_get(store, f'{place}/{i}', i, until)) for i in range(count())]
      store.key_value_set(f'{place}/all', json.dumps(told))
      store.key_value_delete(f'jaxbudget/{_met - 2}/')  # all are past it
    else:
      told = json.loads(_get(store, f'{place}/all', 0, until))
  except jax.errors.JaxRuntimeError as e:
    raise Gone(f'another process of this launch is gone ({failure or e})') from e
  for i, (failure, _) in enumerate(told):
    if failure and i != me:
      raise Elsewhere(f'process {i}: {failure}')
  return [value for _, value in told]


def _store() -> tuple[Any, int]:
  """The key-value store, and which process this is."""
  return distributed.global_state.client, distributed.global_state.process_id


def _get(store: Any, key: str, giver: int, until: float) -> str:
  """Waits for a key; in short looks, so that signal handlers get their turn.

  Raises:
    Gone: the process that is to give it showed no sign of life for long.
  """
  heard, since = '', time.monotonic()
  while True:
    try:
      return store.blocking_key_value_get(key, _LOOK)
    except jax.errors.JaxRuntimeError as e:
      if 'DEADLINE_EXCEEDED' not in str(e) or time.monotonic() > until:
        raise
    beat, now = _last_beat(store, giver), time.monotonic()
    if beat != heard:
      heard, since = beat, now
    elif now - since > _SILENCE:
      silent = f'process {giver} gave no sign of life for {now - since:.0f} s'
      raise Gone(f'another process of this launch is gone ({silent})')


def _beat() -> None:
  """Gives signs of life as long as this process has one."""
  store, me = _store()
  for number in itertools.count():
    try:
      store.key_value_set(f'jaxbudget/beat/{me}', str(number), allow_overwrite=True)
    except jax.errors.JaxRuntimeError:  # the launch is over
      return
    time.sleep(_BEAT)


def _last_beat(store: Any, process: int) -> str:
  try:
    return store.key_value_try_get(f'jaxbudget/beat/{process}')
  except jax.errors.JaxRuntimeError:
    return ''  # none yet
