"""Whether labels are what a task wants: looked at once, before anything is compiled."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxbudget.task import CLASSIFICATION, Task


def check_labels(label: jax.Array, num_classes: int, task: Task = CLASSIFICATION) -> None:
  """Refuses labels that a task would misread: within a compiled step nobody could say so.

  `engine.prepare` does this. A loop of one's own does it once, before it trains: one-hot floats
  would all pass for class 0, and a class that there is not for none at all.

  Args:
    label: of a split, [N,...], on the host or on a device; its values are looked at.
    num_classes: C.
    task: what is learned.

  Returns:
    None.

  Raises:
    ValueError: other labels than the task wants, or a class out of range.
  """
  check_label_kind(label, task)
  if jnp.issubdtype(label.dtype, jnp.floating):
    return
  label = np.asarray(label)  # on the host, so that no program is made for it
  if label.size and not 0 <= label.min() <= label.max() < num_classes:
    raise ValueError(
      f'labels run from {label.min()} to {label.max()}, but the run was set up for a Spec of '
      f'num_classes={num_classes}: they must be in [0, {num_classes})'
    )


def check_label_kind(label: jax.Array, task: Task) -> None:
  """The part of `check_labels` that looks at type and shape only, so that it costs nothing."""
  if not hasattr(label, 'dtype'):
    raise ValueError(f'labels are a {type(label).__name__}: give a NumPy or JAX array')
  told, wanted = f'labels are {label.dtype}{list(label.shape)}', f'task {task.name!r} wants'
  rows = 'label.argmax(-1) if they are one-hot'
  if jnp.issubdtype(label.dtype, jnp.floating):
    if task.labels == 'classes':
      raise ValueError(
        f'{told}, numbers to predict, but {wanted} classes, whole numbers [N] in [0, C): give '
        f'{rows}, or task=regression'
      )
    if label.ndim != 2:
      raise ValueError(f'{told}: numbers to predict must be [N,C], as label[:, None] is')
    return
  if not jnp.issubdtype(label.dtype, jnp.integer) and label.dtype != bool:
    raise ValueError(f'{told}: they must be whole numbers [N] in [0, C), or floats [N,C]')
  if task.labels == 'numbers':
    raise ValueError(
      f'{told}, classes, but {wanted} numbers to predict, floats [N,C]: give them as float32, or '
      'task=classification'
    )
  if label.ndim != 1:
    raise ValueError(f'{told}: classes must be whole numbers [N], {rows}')
