"""Gradients of samples with respect to the last layer, as the products that they are.

Of sample i, with e = softmax(z) - onehot(y) and features h, the gradient of cross-entropy with
respect to weights and bias is the outer product of e and [1, h]: K (D+1) numbers that follow
from K + D + 1; of a layer without a bias, of e and h. Inner products, norms and sums need the
factors only.
"""

from typing import NamedTuple

import numpy as np


class Factored(NamedTuple):
  """n matrices left_i right_i^T. NumPy or JAX arrays."""

  left: np.ndarray  # f32[n,p]
  right: np.ndarray  # f32[n,q]


def last_layer(
  error: np.ndarray, features: np.ndarray | None = None, bias: bool = True
) -> Factored:
  """Gradients with respect to the last layer.

  Args:
    error: f32[n,K], p - onehot(y).
    features: f32[n,D]; None leaves out the weights: the gradients of the bias only, e, which are
      those by the outputs.
    bias: whether the layer has one, beside its weights.

  Returns:
    n gradients, K by D+1, of which column 0 is the bias, or K by D where there is none.
  """
  if features is not None and not bias:
    return Factored(error, features)
  ones = np.ones((len(error), 1), np.float32)
  return Factored(error, ones if features is None else np.concatenate([ones, features], axis=1))


def take(a: Factored, index: np.ndarray) -> Factored:
  """Some of the matrices."""
  return Factored(a.left[index], a.right[index])


def inner(a: Factored, b: Factored) -> np.ndarray:
  """All inner products of two sets.

  Args:
    a: n matrices.
    b: m matrices.

  Returns:
    f32[n,m]: <left_i, left_j> <right_i, right_j>.
  """
  return (a.left @ b.left.T) * (a.right @ b.right.T)


def square_norm(a: Factored) -> np.ndarray:
  """Squared Frobenius norms: f32[n]."""
  return (a.left**2).sum(-1) * (a.right**2).sum(-1)


def along(a: Factored, direction: np.ndarray) -> np.ndarray:
  """Inner products with one matrix.

  Args:
    a: n matrices.
    direction: f32[p,q].

  Returns:
    f32[n].
  """
  return ((a.right @ direction.T) * a.left).sum(-1)


def total(a: Factored, weight: np.ndarray) -> np.ndarray:
  """Weighted sum of the matrices.

  Args:
    a: n matrices.
    weight: f32[n].

  Returns:
    f32[p,q].
  """
  return (a.left * weight[:, None]).T @ a.right


def distances(a: Factored) -> np.ndarray:
  """Euclidean distances of all pairs: f32[n,n], symmetric, with a zero diagonal."""
  square = square_norm(a)
  squared = a.left @ a.left.T
  squared *= a.right @ a.right.T
  squared *= -2
  squared += square[:, None]
  squared += square[None, :]
  np.maximum(squared, 0, out=squared)
  np.fill_diagonal(squared, 0)
  return np.sqrt(squared, out=squared)
