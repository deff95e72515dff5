"""The same rows in PyTorch, each setting and form in a process of its own: see `torch_rows.py`."""

import atexit
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import jax

from on_device.rows import Setting

FORMS = ('eager', 'compiled', 'graphs')  # plain; torch.compile; the same with CUDA graphs


class Peer:
  """A PyTorch process that trains epochs of a setting when told to."""

  def __init__(self, setting: Setting, form: str, device: str):
    names = 'model', 'width', 'batch', 'side', 'format', 'budget', 'examples'
    case = {name: getattr(setting, name) for name in names}
    script = pathlib.Path(__file__).parent / 'torch_rows.py'
    self.process = subprocess.Popen(
      [sys.executable, str(script), json.dumps(case | {'form': form, 'device': device})],
      stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
      env={**os.environ, 'TORCHINDUCTOR_COMPILE_THREADS': '2'},
    )  # fmt: skip
    self.said: dict | None = None
    atexit.register(self.close)  # one that is left out because time was up

  def _answer(self) -> dict:
    line = self.process.stdout.readline()
    return json.loads(line) if line else {'failed': f'ended with {self.process.wait()}'}

  def fault(self) -> str:
    """Waits until it can be timed; says why it cannot."""
    self.said = self.said or self._answer()
    return self.said.get('failed', '')

  def seconds(self) -> float:
    """Wall-clock seconds of one row, over an epoch as long as ours."""
    self.process.stdin.write('epoch\n')
    self.process.stdin.flush()
    return self._answer()['seconds']

  def close(self) -> None:
    """Ends the process."""
    self.process.kill()
    self.process.wait()


def start(setting: Setting) -> dict[str, Peer]:
  """A process for each form, none of them waited for; none where PyTorch has no GPU here."""
  there = importlib.util.find_spec('torch') and jax.default_backend() == 'gpu'
  return {form: Peer(setting, form, 'cuda') for form in FORMS if there}
