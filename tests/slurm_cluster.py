"""A real SLURM of one node, for the time of a `with` block: no systemd, own ports, own keys."""

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator

PROGRAMS = ('munged', 'slurmctld', 'slurmd', 'sbatch', 'srun', 'squeue', 'scancel', 'scontrol')
_CONF = """
ClusterName=jaxbudget
SlurmctldHost=localhost
SlurmctldPort={ctld}
SlurmdPort={slurmd}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={directory}/munge/socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
MpiDefault=none
SchedulerParameters=sched_interval=2,sched_min_interval=0
KillWait=15
MaxArraySize=2000
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd.pid
SlurmctldLogFile={directory}/slurmctld.log
SlurmdLogFile={directory}/slurmd.log
NodeName=localhost CPUs=2 State=UNKNOWN
PartitionName=main Nodes=localhost Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
  """Why there can be no cluster here; '' if there can."""
  search = f'{os.environ.get("PATH", "")}:/usr/sbin:/sbin'
  absent = [name for name in PROGRAMS if shutil.which(name, path=search) is None]
  if absent:
    return f'no {", ".join(absent)}: needs the packages slurm-wlm and munge'
  return '' if os.geteuid() == 0 else 'SLURM daemons are started as root'


@contextlib.contextmanager
def cluster() -> Iterator[dict[str, str]]:
  """Starts munged, slurmctld and slurmd, and stops them.

  Yields:
    The environment in which SLURM's commands speak to it.
  """
  directory = pathlib.Path(tempfile.mkdtemp(prefix='slurm_'))
  directory.chmod(0o755)  # munged runs as another user
  environment = {**os.environ, 'SLURM_CONF': str(directory / 'slurm.conf')}
  environment['PATH'] = f'{os.environ.get("PATH", "")}:/usr/sbin:/sbin'
  ports = {name: _free_port() for name in ('ctld', 'slurmd')}
  (directory / 'slurm.conf').write_text(_CONF.format(directory=directory, **ports))
  for name in ('state', 'spool'):
    (directory / name).mkdir()
  with contextlib.ExitStack() as daemons:
    try:
      daemons.enter_context(_daemon(_munged(directory), environment))
      _wait(lambda: (directory / 'munge/socket').exists(), 'munged', directory)
      for command in (['slurmctld', '-D'], ['slurmd', '-D', '-N', 'localhost']):
        daemons.enter_context(_daemon(command, environment))
      _wait(lambda: _idle(environment), 'the node', directory)
      yield environment
    finally:
      subprocess.run(['scancel', '--me'], env=environment, capture_output=True)
      time.sleep(1)
  shutil.rmtree(directory, ignore_errors=True)


def _munged(directory: pathlib.Path) -> list[str]:
  place = directory / 'munge'
  place.mkdir()
  (place / 'key').write_bytes(os.urandom(128))
  (place / 'key').chmod(0o400)
  subprocess.run(['chown', '-R', 'munge:', place], check=True)
  flags = [('socket', 'socket'), ('key-file', 'key'), ('pid-file', 'pid')]
  flags += [('log-file', 'log'), ('seed-file', 'seed')]
  options = [f'--{flag}={place / name}' for flag, name in flags]
  return ['runuser', '-u', 'munge', '--', 'munged', '--foreground', *options]


@contextlib.contextmanager
def _daemon(command: list[str], environment) -> Iterator[None]:
  process = subprocess.Popen(
    command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
  )
  try:
    yield
  finally:
    process.terminate()
    try:
      process.wait(20)
    except subprocess.TimeoutExpired:
      process.kill()
      process.wait()


def _idle(environment) -> bool:
  asked = subprocess.run(
    ['sinfo', '--noheader', '--format=%T'], env=environment, capture_output=True, text=True
  )
  return asked.stdout.strip() == 'idle'


def _wait(condition, what: str, directory: pathlib.Path) -> None:
  for _ in range(300):
    if condition():
      return
    time.sleep(0.1)
  logs = '\n'.join(path.read_text(errors='replace')[-2000:] for path in directory.rglob('*log'))
  raise TimeoutError(f'{what} did not come up:\n{logs}')


def _free_port() -> int:
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    return s.getsockname()[1]
