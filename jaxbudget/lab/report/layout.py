"""The order of rows that tables share: by setting and budget, blocks set apart."""

import pandas as pd

SAME_COST = 0.01  # relative; what is so close costs the same


def in_plan_order(frame: pd.DataFrame, settings: list[str], best: str) -> pd.DataFrame:
  """Sorts by setting as they first appear, then by budget, then the best first."""
  orders = {name: pd.factorize(frame[name])[0] for name in settings}
  keys = frame[['budget']].assign(**orders, best=-frame[best].astype(float))
  order = keys.sort_values([*settings, 'budget', 'best'], kind='stable').index
  return frame.loc[order].reset_index(drop=True)


def rules(blocks: pd.DataFrame) -> frozenset[int]:
  """The rows at which another block begins."""
  keys = [repr(row) for row in blocks.itertuples(index=False)]
  return frozenset(i for i in range(1, len(keys)) if keys[i] != keys[i - 1])


def plain(value) -> str:
  """A setting as text: numbers without trailing zeros, and never two alike for different ones."""
  return f'{value:.12g}' if isinstance(value, float) else str(value)


def of_equal_cost(costs: pd.Series) -> list[pd.Index]:
  """Groups what costs the same, to 1 %: only there is one better than another.

  Args:
    costs: NaN where unknown; such stand in no group.

  Returns:
    The index of each group, by rising cost.
  """
  ordered = costs.dropna().sort_values()
  groups: list[list] = []
  for at, cost in ordered.items():
    if groups and cost <= (1 + SAME_COST) * ordered[groups[-1][0]]:
      groups[-1].append(at)
    else:
      groups.append([at])
  return [pd.Index(group) for group in groups]
