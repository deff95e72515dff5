"""The vocabulary of jaxbudget: read this first, then `epoch.py`, then one selector.

A *selector* decides which training samples a model sees. It is a value: five pure hooks
and a few static facts, in the manner of an `optax.GradientTransformation`. The training
epoch calls the hooks and never asks which method it is running.

Shapes: N training samples, s batch size, K candidates in a plan row, C classes,
M samples shown in one picture (1; 2 under mixup; 4 under RICAP), R rows in a full epoch.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

State = Any  # a selector's own pytree of arrays: opaque to everybody else
Key = jax.Array  # a typed PRNG key


@dataclasses.dataclass(frozen=True)
class Spec:
  """Static sizes of a run; selector factories close over it.

  Attributes:
    num_examples: N, training samples.
    batch_size: s, samples in one training step.
    num_classes: C.
    epochs: T, the full epochs that budget 1 stands for.
    image_shape: (height, width, channels) of an augmented image.
    parts: M, samples that one augmented image shows.
  """

  num_examples: int
  batch_size: int
  num_classes: int
  epochs: int
  image_shape: tuple[int, int, int]
  parts: int = 1


class Batch(NamedTuple):
  """Examples on their way through augmentation, selection and the training step.

  `weight` carries meaning: an importance weight, 0 for padding, and a batch whose
  weights are all zero is a step that is not taken. The parts say who is in each picture
  and by how much: one part for a plain image, two under mixup, four under RICAP.
  """

  index: jax.Array  # i32[n]    the sample at this position, in [0, N)
  image: jax.Array  # u8 or f32[n,H,W,channels]
  label: jax.Array  # i32[n]    class of `index`
  target: jax.Array  # f32[n,C]  class distribution to train on, rows sum to 1
  weight: jax.Array  # f32[n]
  part_index: jax.Array  # i32[n,M]
  part_label: jax.Array  # i32[n,M]
  part_share: jax.Array  # f32[n,M]  rows sum to 1


class Plan(NamedTuple):
  """What one epoch will look at: `rows` rows of K candidate samples each."""

  index: jax.Array  # i32[R,K]
  weight: jax.Array  # f32[R,K]
  rows: jax.Array  # i32[]      rows that exist; the rest of the arrays is padding


class Outputs(NamedTuple):
  """What the model said of a batch."""

  logits: jax.Array  # f32[n,C]
  loss: jax.Array  # f32[n]    cross-entropy against `Batch.target`, before weighting


class Cost(NamedTuple):
  """Samples passed through the model, by what for. Ints, or i32[] on the device.

  A forward pass of one sample is 1, a backward pass 2 (fidelity.md section 6).
  """

  scored: Any = 0  # forward passes that only rank candidates
  trained: Any = 0  # forward passes of training steps
  backward: Any = 0  # backward passes

  @property
  def forward_equivalents(self):
    """Everything in units of one sample's forward pass."""
    return self.scored + self.trained + 2 * self.backward


class Facts(NamedTuple):
  """What is known of a selector's run before it starts; plain Python numbers.

  Attributes:
    epochs: epochs to run (T, or fewer for methods that truncate training).
    rows: plan rows in each epoch.
    candidates: K, samples gathered and augmented for a row.
    planned: predicted cost of the whole run (an expectation where chance decides).
    row_cost: the most that one row may spend; no row starts that could pass the cap.
    cap: samples that may be back-propagated in the run, if the method has an allowance of
      its own under `budget_unit=backward`; None is the common one, floor(B*T*N).
  """

  epochs: int
  rows: int
  candidates: int
  planned: Cost
  row_cost: Cost
  cap: int | None = None


Forward = Callable[[Batch], Outputs]  # eval-mode pass of the current model, no gradient
Info = Mapping[str, jax.Array]  # info['scored']: i32[], forward passes really spent


class Selector(NamedTuple):
  """A method of choosing samples: five pure hooks, each optional but `plan`.

  The first three fields may depend on the budget. The hooks of the *row program*
  (`select`, `weigh`, `update`) must not: whatever depends on budget, schedule or seed is
  an array in the plan or the state, and the hooks come from a `functools.cache`d factory,
  so that all budgets share one compiled program (jit compares functions by identity).

  Attributes:
    facts: static facts of the run.
    init: `key -> state`.
    plan: `(state, key, epoch) -> (state, Plan)`, once before each epoch.
    select: `(state, key, batch[K], forward) -> (state, batch[s], info)`, after
      augmentation. May return all-zero weights: no step is taken. None: the batch as is.
    weigh: `(state, loss[s], weight[s]) -> weight[s]`, inside the loss, on a loss whose
      gradient is stopped. None: the weights as they are.
    update: `(state, batch, outputs) -> state`, after a step that was taken; `outputs` are
      those of the very forward pass that was trained on. None: no feedback.
    report: `state -> {name: scalar}`, figures for the epoch's metrics line.
    sizes: train sizes, rising; the step runs on the smallest listed prefix that holds
      all examples of weight > 0. Empty: always the whole batch.
    partial: a batch may hold padding (weight 0), which BatchNorm must leave out.
    scores: `state -> f32[N]`, what the method learned of each sample; written as scores.npy
      when the run ends. None: nothing to hand on.
  """

  facts: Facts
  init: Callable[[Key], State]
  plan: Callable[[State, Key, jax.Array], tuple[State, Plan]]
  select: Callable[[State, Key, Batch, Forward], tuple[State, Batch, Info]] | None = None
  weigh: Callable[[State, jax.Array, jax.Array], jax.Array] | None = None
  update: Callable[[State, Batch, Outputs], State] | None = None
  report: Callable[[State], Mapping[str, jax.Array]] | None = None
  sizes: tuple[int, ...] = ()
  partial: bool = False
  scores: Callable[[State], jax.Array] | None = None


class Model(NamedTuple):
  """A network as two pure functions.

  Attributes:
    init: `key -> (params, model_state)`.
    apply: `(params, model_state, image[n,H,W,c], train, mask=None) -> (logits[n,C] f32,
      model_state)`. `mask` bool[n] leaves examples out of BatchNorm statistics; with
      `train=False` the model state comes back unchanged.
    features: `(params, model_state, image) -> f32[n,D]`, penultimate activations in eval
      mode.
  """

  init: Callable[[Key], tuple[Any, Any]]
  apply: Callable[..., tuple[jax.Array, Any]]
  features: Callable[..., jax.Array] | None = None


class Augment(NamedTuple):
  """What happens to images between the data set and the model.

  Attributes:
    train: `(key, batch) -> batch`; from uint8 images to normalised float32 ones.
    test: `image u8[n,H,W,c] -> f32[n,H,W,c]`, the deterministic transform for evaluation.
    parts: M, samples that one augmented image shows.
  """

  train: Callable[[Key, Batch], Batch]
  test: Callable[[jax.Array], jax.Array]
  parts: int = 1


class Data(NamedTuple):
  """A split as it lives on the device."""

  image: jax.Array  # u8[N,H,W,channels]
  label: jax.Array  # i32[N]


def plain_batch(data: Data, index: jax.Array, weight: jax.Array, num_classes: int) -> Batch:
  """Gathers samples from a split, each alone in its own picture.

  Args:
    data: the split, N samples.
    index: i32[n], positions in the split.
    weight: f32[n].
    num_classes: C.

  Returns:
    A batch of n uint8 images with one-hot targets.
  """
  label = data.label[index]
  return Batch(
    index=index,
    image=data.image[index],
    label=label,
    target=jax.nn.one_hot(label, num_classes, dtype=jnp.float32),
    weight=weight,
    part_index=index[:, None],
    part_label=label[:, None],
    part_share=jnp.ones((index.shape[0], 1), jnp.float32),
  )


def blank_batch(spec: Spec, size: int) -> Batch:
  """An all-zero batch of augmented examples, for state that holds batches (queues).

  Args:
    spec: sizes of the run.
    size: number of examples.

  Returns:
    A batch with float32 images and weight 0.
  """
  parts = (size, spec.parts)
  return Batch(
    index=jnp.zeros(size, jnp.int32),
    image=jnp.zeros((size, *spec.image_shape), jnp.float32),
    label=jnp.zeros(size, jnp.int32),
    target=jnp.zeros((size, spec.num_classes), jnp.float32),
    weight=jnp.zeros(size, jnp.float32),
    part_index=jnp.zeros(parts, jnp.int32),
    part_label=jnp.zeros(parts, jnp.int32),
    part_share=jnp.zeros(parts, jnp.float32),
  )
