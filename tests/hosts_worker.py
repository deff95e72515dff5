"""One of several processes; `hosts_test.py` starts them.

python tests/hosts_worker.py talk OUT.json
python tests/hosts_worker.py wait OUT.json
python tests/hosts_worker.py launch --distributed --config=... --workdir=...
"""

import json
import os
import pathlib
import runpy
import signal
import sys
import time

import jax

from jaxbudget import registry
from jaxbudget.lab.run import hosts

ROOT = pathlib.Path(__file__).parents[1]


def talk():
  """Meets at every kind of sync point, in fair and in foul weather; says what was heard."""
  hosts.initialize()
  me, heard = jax.process_index(), []

  def attempt(name, block):
    try:
      with hosts.together():
        heard.append([name, block()])
    except (hosts.Elsewhere, ValueError, OSError) as e:
      heard.append([name, type(e).__name__, str(e)])

  def fail(on, error):
    if me == on:
      raise error

  attempt('agree', lambda: hosts.agree({'number': me, 'path': None}))
  attempt('any_of', lambda: [hosts.any_of(me == 1), hosts.any_of(0), hosts.any_of(15 * me)])
  attempt('union', lambda: hosts.union(['b', 'a'][me:] + ['c']))
  attempt('differing', lambda: hosts.differing({'me': me, 'jax': '1'}))
  attempt('first', lambda: hosts.first(heard.append, ['did it']))
  attempt('ours', lambda: (fail(1, ValueError('of 1')), hosts.agree(1), hosts.agree(2)))
  attempt('at the end', lambda: fail(1, OSError('late')))
  attempt('on first', lambda: hosts.first(fail, 0, OSError('disk')))
  attempt('both', lambda: fail(me, ValueError(f'own {me}')))

  def nested():
    with hosts.together():
      fail(0, ValueError('inside'))
      hosts.agree(0)

  attempt('nested', nested)
  attempt('in step again', lambda: hosts.agree(me))
  return heard


def wait(seconds, out):
  """Waits for a process that is slow, and for one that is killed on its way."""
  hosts._BEAT, hosts._SILENCE = seconds / 8, seconds
  hosts.initialize()
  if jax.process_index() == 1:
    time.sleep(2 * seconds)
  heard = [hosts.agree('slow')]
  if jax.process_index() == 1:
    os.kill(os.getpid(), signal.SIGKILL)
  try:
    hosts.agree('never')
  except hosts.Gone as e:
    heard.append(str(e))
  pathlib.Path(out).write_text(json.dumps(heard))
  os._exit(0)  # JAX would wait for the others to leave


if __name__ == '__main__':
  if sys.argv[1] == 'talk':
    pathlib.Path(sys.argv[2]).write_text(json.dumps(talk()))
  elif sys.argv[1] == 'wait':
    wait(4.0, sys.argv[2])
  else:
    hosts._PATIENCE = 5.0
    registry.NAMES['model']['linear'] = 'linear:linear'
    sys.argv[:2] = [str(ROOT / 'launch.py')]
    runpy.run_path(sys.argv[0], run_name='__main__')
