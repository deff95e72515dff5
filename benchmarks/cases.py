"""The work that both sides of `side_by_side.py` do, as plain values."""

from typing import NamedTuple


class Case(NamedTuple):
  """One epoch of one method, on random images."""

  method: str  # sgd, p_sgd or selective_backprop
  model: str  # resnet18, resnet8, resnet9 or airbench94
  width: int
  side: int  # pixels
  channels: int
  batch_size: int
  num_examples: int
  budget: float
  target: float  # least throughput of jaxbudget over PyTorch's


CASES = {
  'resnet18, width 64, p_sgd': Case('p_sgd', 'resnet18', 64, 32, 3, 128, 1_707, 0.3, 0.9),
  'resnet18, width 16, p_sgd': Case('p_sgd', 'resnet18', 16, 32, 3, 128, 6_400, 0.3, 1.0),
  'resnet18, width 16, selective_backprop': Case(
    'selective_backprop', 'resnet18', 16, 32, 3, 128, 5_120, 0.3, 1.2
  ),
  'resnet9, width 16, p_sgd': Case('p_sgd', 'resnet9', 16, 32, 3, 128, 6_400, 0.3, 1.0),
  'airbench94, width 16, p_sgd': Case('p_sgd', 'airbench94', 16, 32, 3, 128, 6_400, 0.3, 1.0),
  'digits quickstart, sgd': Case('sgd', 'resnet8', 16, 8, 1, 32, 1_437, 1.0, 5.0),
}


def smoke(case: Case) -> Case:
  """The same in small: does it run at all?"""
  return case._replace(width=2, side=min(case.side, 16), batch_size=8, num_examples=64)
