"""The order of rows that tables share: by setting and budget, blocks set apart."""

import pandas as pd


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
  """A setting as text: numbers without trailing zeros."""
  return f'{value:g}' if isinstance(value, float) else str(value)
