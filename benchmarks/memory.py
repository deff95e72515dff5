"""Peak memory of a run, by the memory analysis of its compiled row program.

  python benchmarks/memory.py
  python benchmarks/memory.py --smoke     # a tiny network; nothing is stored

Arguments (data set, state, plan), results and scratch of `train_rows`; what is donated counts
once. Compiled for the CPU with the convolution and the gradients that accelerators get: an
accelerator's compiler fuses more and may want workspace, so its peak will differ somewhat.
"""

import argparse
import sys

import record
from record import Figure

from jaxbudget import engine, epoch
from jaxbudget.augment import make_augment
from jaxbudget.data import Info
from jaxbudget.models import make_model
from jaxbudget.optimizers import make_optimizer
from jaxbudget.selectors import make_selector
from jaxbudget.types import Spec

CARD = 11.0  # GiB of the paper's GPU
CASES = {
  'CIFAR-10, 32x32': (32, 50_000, 10),
  'mini-ImageNet, 84x84': (84, 38_400, 100),
}


def memory(side, num_examples, num_classes, width=64):
  """The memory analysis of `train_rows`: p-SGD, ResNet-18, batches of 128."""
  shape = (side, side, 3)
  spec = Spec(num_examples, 128, num_classes, 200, shape)
  info = Info('x', num_examples, 0, num_classes, shape, (0.5,) * 3, (0.2,) * 3, 0.5, side // 8)
  selector, optimizer = make_selector('p_sgd', spec, 0.3), make_optimizer()
  model = make_model('resnet18', num_classes, shape, width=width, conv='lax')
  augment = make_augment('standard', info)
  shapes = engine.row_shapes(spec, model, augment, selector, optimizer, 0.3)
  return epoch.train_rows.lower(*shapes).compile().memory_analysis()


def peak_bytes(analysis) -> int:
  """Arguments, results that are not donated arguments, and scratch."""
  results = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
  return analysis.argument_size_in_bytes + results + analysis.temp_size_in_bytes


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--smoke', action='store_true')
  flags = parser.parse_args()
  table = []
  for what, case in CASES.items():
    analysis = memory(*case, width=2) if flags.smoke else memory(*case)
    gib = peak_bytes(analysis) / 2**30
    table.append(Figure(f'peak, {what}, batch 128', [gib], 'GiB', at_most=CARD))
    table.append(
      Figure(f'scratch, part of that, {what}', [analysis.temp_size_in_bytes / 2**30], 'GiB')
    )
  if flags.smoke:
    return record.show(table)
  return record.store('memory', table)


if __name__ == '__main__':
  sys.exit(main())
