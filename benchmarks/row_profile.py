r"""Where the time of an epoch goes: the cases of `side_by_side.py` under JAX's profiler.

  python benchmarks/row_profile.py                            # all cases; about 2 minutes
  python benchmarks/row_profile.py 'digits quickstart, sgd'
  python benchmarks/row_profile.py --smoke                    # seconds: does it run?

Each case is traced in a process of its own. A core belongs to the operation that it was
called for; the other cores, of which the trace says nothing, in equal shares to those begun
and not ended. FLOPs are counted from the shapes in the compiled program, padding included.
What is called the bound leaves convolutions and products as fast as they are, all else free.
"""

import argparse
import collections
import glob
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

import record
from cases import CASES, smoke
from record import Figure

KINDS = {
  'conv': 'convolutions (forward, to the input)',
  'product': 'products (weight gradients, head)',
  'copy': 'columns, padding, transposes, copies',
  'rest': 'BatchNorm, ReLU, update, selection',
}
PHASES = 'scoring and all else', 'training: forward', 'training: backward'
COPIES = 'concatenate', 'pad', 'transpose', 'copy', 'slice', 'dynamic-slice'
INSTRUCTION = re.compile(r'\s*(?:ROOT )?%([\w.\-]+) = ([^=]+?) ([\w\-]+)\(([^)]*)\)(.*)')


class Operation(NamedTuple):
  """An instruction of the compiled program."""

  kind: str  # of KINDS
  phase: str  # of PHASES
  flops: float  # of one execution


def dimensions(shape):
  """'f32[3,4]{1,0}' -> [3, 4]."""
  return [int(x) for x in re.search(r'\[([\d,]*)\]', shape)[1].split(',') if x]


def count_flops(opcode, shape, operands, rest):
  """Of a convolution (dim_labels b01f_01io) or of a product of two matrices."""
  out = math.prod(dimensions(shape))
  if opcode == 'convolution':
    *window, channels, _ = dimensions(operands[1])
    return 2 * out * math.prod(window) * channels
  summed = re.search(r'lhs_contracting_dims=\{([\d,]+)\}', rest)[1].split(',')
  return 2 * out * math.prod(dimensions(operands[0])[int(axis)] for axis in summed)


def operations(text):
  """Reads the instructions of a compiled program. Returns {name: Operation}."""
  bodies, current = {}, []
  for line in text.splitlines():
    if header := re.match(r'(?:ENTRY )?%([\w.\-]+) .*\{$', line):
      current = bodies.setdefault(header[1], [])
    elif found := INSTRUCTION.match(line):
      current.append(found.groups())
  shapes = {name: shape for body in bodies.values() for name, shape, *_ in body}
  found = {}
  for name, shape, opcode, arguments, rest in (i for body in bodies.values() for i in body):
    inner = [(opcode, shape, arguments, rest)]
    if opcode == 'fusion':
      inner = [i[1:] for i in bodies[re.search(r'calls=%([\w.\-]+)', rest)[1]]]
      inner = [(code, shape, arguments, more) for shape, code, arguments, more in inner]
    elif opcode in ('while', 'call', 'conditional'):
      continue
    heavy = [i for i in inner if i[0] in ('convolution', 'dot')]
    kind = 'rest'
    if heavy:
      kind = 'conv' if heavy[0][0] == 'convolution' else 'product'
    elif any(i[0] in COPIES for i in inner):
      kind = 'copy'
    flops = sum(
      count_flops(code, shape, [shapes[o] for o in re.findall(r'%([\w.\-]+)', arguments)], more)
      for code, shape, arguments, more in heavy
    )
    phase = PHASES[('jvp(' in rest) + ('transpose(jvp(' in rest)]
    found[name] = Operation(kind, phase, flops)
  return found


def spans(known, folder):
  """When each operation ran: (start, return, end, name) in nanoseconds, from a trace.

  An operation may return before it is done; XLA then marks its end by an event of its own.
  """
  import jax

  file = glob.glob(f'{folder}/**/*.xplane.pb', recursive=True)[-1]
  planes = jax.profiler.ProfileData.from_file(file).planes
  events = [e for plane in planes for line in plane.lines for e in line.events]
  starts, ends = collections.defaultdict(list), collections.defaultdict(list)
  for event in events:
    if event.name in known:
      starts[event.name].append((event.start_ns, event.start_ns + event.duration_ns))
    elif event.name.startswith('end: '):
      ends[event.name.removeprefix('end: ')].append(event.start_ns)
  for name, ran in starts.items():
    marks = sorted(ends[name]) if len(ends[name]) == len(ran) else [0] * len(ran)
    for (start, returned), mark in zip(sorted(ran), marks, strict=True):
      yield start, returned, max(returned, mark), name


def shares(known, folder):
  """Reads a trace. Returns ({(kind, phase): seconds}, {kind: floating point operations})."""
  cores = len(os.sched_getaffinity(0))
  edges, flops = [], collections.Counter()
  for start, returned, end, name in spans(known, folder):
    flops[known[name].kind] += known[name].flops
    edges += [(start, 1, 1, name), (returned, -1, 0, name), (end, 0, -1, name)]
  seconds = collections.Counter()
  calling, open_ = collections.Counter(), collections.Counter()  # not returned, not ended
  last = None
  for now, call, run, name in sorted(edges):
    idle = max(0, cores - calling.total())
    for runs in open_:
      share = (calling[runs] + idle * open_[runs] / open_.total()) / cores
      seconds[known[runs].kind, known[runs].phase] += 1e-9 * (now - last) * share
    for counter, change in ((calling, call), (open_, run)):
      counter[name] += change
      if not counter[name]:
        del counter[name]
    last = now
  return seconds, flops


def peak():
  """FLOP/s of a large product of matrices, the best of a few."""
  import jax
  import jax.numpy as jnp

  size = 2048
  product = jax.jit(jnp.matmul)
  x = jnp.ones((size, size))
  times = []
  for _ in range(8):
    start = time.perf_counter()
    jax.block_until_ready(product(x, x))
    times.append(time.perf_counter() - start)
  return 2 * size**3 / min(times)


def measure(name, case):
  """Traces epochs of a case. Returns its figures and details, plain values."""
  with tempfile.TemporaryDirectory() as folder:
    # The compiled program's text; a program from the compilation cache would not be written.
    os.environ['XLA_FLAGS'] = (
      f'--xla_dump_to={folder} --xla_dump_hlo_as_text --xla_dump_hlo_module_re=.*train_rows.*'
    )
    os.environ.pop('JAX_COMPILATION_CACHE_DIR', None)
    import jax
    from side_by_side import make_epoch

    run = make_epoch(case)
    run(), run()
    times = []
    for _ in range(3):
      start = time.perf_counter()
      scored, trained = run()
      times.append(1e3 * (time.perf_counter() - start) * case.batch_size / trained)
    with jax.profiler.trace(folder):
      scored, trained = run()
    [file] = glob.glob(f'{folder}/*train_rows*after_optimizations.txt')
    with open(file) as program:
      seconds, flops = shares(operations(program.read()), folder)
  rows = trained / case.batch_size
  milliseconds = {key: 1e3 * value / rows for key, value in seconds.items()}
  total = sum(milliseconds.values())
  by_kind = {k: sum(v for key, v in milliseconds.items() if key[0] == k) for k in KINDS}
  table = [Figure(f'{name}: a trained row, not traced', times, 'ms')]
  for kind, label in KINDS.items():
    table.append(Figure(f'{name}: {label}', [by_kind[kind]], 'ms'))
    if flops[kind]:
      rate = flops[kind] / rows / by_kind[kind] / 1e6
      table.append(Figure(f'{name}: rate of {label}', [rate], 'GFLOP/s'))
  bound = total / (by_kind['conv'] + by_kind['product'])
  table.append(Figure(f'{name}: a row over its bound', [bound], 'x'))
  table.append(Figure(f'{name}: a product of 2048-cubes', [peak() / 1e9], 'GFLOP/s'))
  phases = {p: sum(v for key, v in milliseconds.items() if key[1] == p) for p in PHASES}
  details = {'scored': scored, 'trained': trained, 'milliseconds a row, by phase': phases}
  return [figure._asdict() for figure in table], details


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('cases', nargs='*', default=list(CASES), metavar='CASE')
  parser.add_argument('--smoke', action='store_true', help='tiny sizes; nothing is stored')
  parser.add_argument('--child', action='store_true', help=argparse.SUPPRESS)
  flags = parser.parse_args()
  if flags.child:
    case = CASES[flags.cases[0]]
    print(json.dumps(measure(flags.cases[0], smoke(case) if flags.smoke else case)))
    return 0
  table, details = [], {}
  for name in flags.cases:
    command = [sys.executable, __file__, '--child', name, *(['--smoke'] if flags.smoke else [])]
    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    figures, details[name] = json.loads(answer.splitlines()[-1])
    table += [Figure(**figure) for figure in figures]
    record.show(table[-len(figures) :])
  return 0 if flags.smoke else record.store('row_profile', table, details)


if __name__ == '__main__':
  sys.exit(main())
