"""The vocabulary of jaxbudget: read this first, then `epoch.py`, then one selector.

A *selector* decides which training samples a model sees. It is a value: pure hooks and a
few static facts, in the manner of an `optax.GradientTransformation`. The training epoch
calls the hooks and never asks which method it is running.

Shapes: N training samples, s batch size, K candidates in a plan row, C classes,
M samples shown in one picture (1; 2 under mixup; 4 under RICAP), R rows in a full epoch.
"""

import dataclasses
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any, NamedTuple

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
    image_shape: (height, width, channels) of an augmented image; (D,) or (L,) of features, tokens.
    parts: M, samples that one augmented image shows.
    image_dtype: of what the network is given: float32, or int32 of tokens.
  """

  num_examples: int
  batch_size: int
  num_classes: int
  epochs: int
  image_shape: tuple[int, ...]
  parts: int = 1
  image_dtype: str = 'float32'

  def __post_init__(self):
    """Refuses what is no size; whole numbers of NumPy and JAX become Python's.

    Raises:
      ValueError: naming the size.
    """
    for name in ('num_examples', 'batch_size', 'num_classes', 'epochs', 'parts'):
      object.__setattr__(self, name, _size(name, getattr(self, name)))
    shape = self.image_shape
    if not isinstance(shape, tuple | list):
      raise ValueError(
        f'Spec.image_shape={shape!r} is refused: it must be a tuple, such as (32, 32, 3)'
      )
    object.__setattr__(self, 'image_shape', tuple(_size('image_shape', side) for side in shape))


def _size(name, value) -> int:
  try:
    whole = None if isinstance(value, bool) else value.__index__()
  except (AttributeError, TypeError):
    whole = None
  if whole is None or whole < 1:
    raise ValueError(f'Spec.{name}={value!r} is refused: it must be a whole number from 1 on')
  return whole


class Batch(NamedTuple):
  """Examples on their way through augmentation, selection and the training step.

  `weight` carries meaning: an importance weight, 0 for padding, and a batch whose weights are all
  zero after a `select` is a step that is not taken; `take_all` takes a step on any. The parts say
  who is in each picture and by how much: one part for a plain image, two under mixup, four under
  RICAP.

  Attributes:
    index: i32[n], the sample at this position, in [0, N).
    image: u8 or f32[n,H,W,channels]; f32[n,D] features; i32[n,L] tokens.
    label: i32[n], the class of `index`.
    target: f32[n,C], class distribution to train on; rows sum to 1.
    weight: f32[n].
    part_index: i32[n,M], the samples in each picture.
    part_label: i32[n,M], their classes.
    part_share: f32[n,M], their shares; rows sum to 1.
  """

  index: jax.Array  # i32[n]
  image: jax.Array  # u8 or f32[n,...]
  label: jax.Array  # i32[n]
  target: jax.Array  # f32[n,C]
  weight: jax.Array  # f32[n]
  part_index: jax.Array  # i32[n,M]
  part_label: jax.Array  # i32[n,M]
  part_share: jax.Array  # f32[n,M]


class Plan(NamedTuple):
  """What one epoch will look at: `rows` rows of K candidate samples each.

  Attributes:
    index: i32[R,K], samples in [0, N).
    weight: f32[R,K], `Batch.weight` of each.
    rows: i32[], rows that exist; the rest of the arrays is padding. With `take_all` each of them
      has weight: a step that is not taken needs a `select` of the method's own.
  """

  index: jax.Array  # i32[R,K]
  weight: jax.Array  # f32[R,K]
  rows: jax.Array  # i32[]


class Outputs(NamedTuple):
  """What the model said of a batch, as the task tells it; read by the functions of `scores`.

  Attributes:
    logits: f32[n,C]; None of a task without probabilities.
    loss: f32[n], the task's, against `Batch.target` and before weighting: of classification the
      cross-entropy, in nats.
    part_loss: f32[n,M], as each sample in a picture would have it, of a task without
      probabilities; else it follows from the logits.
    gradient_norm: f32[n], of the loss by the model's outputs, likewise.
  """

  logits: jax.Array | None  # f32[n,C]
  loss: jax.Array  # f32[n]
  part_loss: jax.Array | None = None  # f32[n,M]
  gradient_norm: jax.Array | None = None  # f32[n]


# What a method may ask of a task, in `Facts.asks`: the probability of each class; whether an
# answer is right, and how sure; the norm of the loss's gradient by the outputs.
CAPABILITIES = ('probabilities', 'confidence', 'gradient_norm')


class Cost(NamedTuple):
  """Samples passed through the model, by what for. Ints, or i32[] on the device.

  A forward pass of one sample is 1, a backward pass 2 (fidelity.md section 6).

  Attributes:
    scored: forward passes that only rank candidates.
    trained: forward passes of training steps.
    backward: backward passes.
  """

  scored: Any = 0
  trained: Any = 0
  backward: Any = 0

  @property
  def forward_equivalents(self):
    """Everything in units of one sample's forward pass."""
    return self.scored + self.trained + 2 * self.backward


class Scan(NamedTuple):
  """Looks at all N samples in eval mode between two epochs, for a selector's `scan` hook.

  The N forward passes are charged as scored. A scan that no longer fits under the budget is
  left out and counted; one that was cut off begins again and is charged once.

  Attributes:
    every: epochs between two scans; 0 is never.
    first: the epoch before which the first one runs.
    wants: what the hook is given beside the losses, of `logits` and `features`.
    on_host: the hook is plain Python on NumPy arrays, not to be compiled.
  """

  every: int = 0
  first: int = 0
  wants: tuple[str, ...] = ()
  on_host: bool = False

  def due(self, epoch: int) -> bool:
    """Whether a scan comes before an epoch, 0-based."""
    return self.every > 0 and epoch >= self.first and (epoch - self.first) % self.every == 0


class Seen(NamedTuple):
  """What a scan saw of the N training samples; plain images, running BatchNorm statistics.

  Attributes:
    loss: f32[N].
    logits: f32[N,C], if wanted.
    features: f32[N,D], if wanted; on the host.
    label: i32[N].
    head_bias: `Model.head_bias`, a bool.
  """

  loss: jax.Array  # f32[N]
  logits: jax.Array | None = None  # f32[N,C]
  features: Any = None  # f32[N,D]
  label: jax.Array | None = None  # i32[N]
  head_bias: Any = True


class Need(NamedTuple):
  """What must exist before a run can start: something that another run leaves behind.

  A factory says what it needs in `factory.needs = function`, `options -> tuple[Need, ...]`.
  The other run is an ordinary run of the plan: trained once, shared, its cost told.

  Attributes:
    parameter: of the factory, annotated `Needed`, that takes what the other run leaves.
    takes: `scores` (what its selector learned of each sample, f32[N] or more), `recording` (how
      often each sample was trained on in each epoch, u16[E,N] or the like), or by its trained
      weights, of all N samples, `loss` (f32[N]), `logits` (f32[N,C]), `features` (f32[N,D]),
      which cost N forward passes together, and `gradient_norm` (f32[N], of each sample's loss
      by all parameters), which costs N forward and N backward passes. `head_bias` is that of its
      `Model`, a bool. `label` (i32[N]) is of the data: a need of nothing else needs no run.
      Several: the parameter takes a dict.
    selector: of the other run.
    budget: B of the other run.
    schedule: of the other run.
    part: (i, n): trained on the i-th of n equal parts of the data only, see `parts.py`.
    count: as many runs, with seeds of their own; the parameter takes a tuple if more than 1.
    settings: further config keys that differ from this run's, e.g. `(('model', 'resnet8'),)`.
  """

  parameter: str
  takes: str | tuple[str, ...] = 'scores'
  selector: str = 'sgd'
  budget: float = 1.0
  schedule: str = 'step'
  part: tuple[int, int] = (0, 1)
  count: int = 1
  settings: tuple[tuple[str, Any], ...] = ()

  @property
  def taken(self) -> tuple[str, ...]:
    """What is taken, as a tuple."""
    return (self.takes,) if isinstance(self.takes, str) else tuple(self.takes)

  @property
  def runs(self) -> int:
    """How many runs are needed."""
    return 0 if set(self.taken) <= {'label'} else self.count


# The classes of the training samples, for the parameter `labels`.
LABELS = Need('labels', 'label', count=0)

Needed = Annotated[Any, 'needed']
"""Annotates the parameters of a factory that take what it needs (`Need`). They are never options,
and are None while a run is planned, when only its facts are asked for."""


class Facts(NamedTuple):
  """What is known of a selector's run before it starts; plain Python numbers.

  The last four say what `jaxbudget.testing.check_selector` may hold the method to.

  Attributes:
    epochs: epochs to run (T, or fewer for methods that truncate training).
    rows: plan rows in each epoch; where their number depends on the data, the most.
    candidates: K, samples gathered and augmented for a row.
    planned: predicted cost of the whole run (an expectation where chance decides).
    row_cost: the most that one row may spend; no row starts that could pass the cap. A row that
      trains on fewer may score for it what costs no more, which is no scoring that is planned.
    cap: samples that may be back-propagated in the run, if the method has an allowance of
      its own under the unit `backward`; None is the common one, floor(B*T*N).
    scan: when all samples are looked at, for the `scan` hook.
    scoring: epochs whose rows may score, 0-based, say `range(0, T, 2)`; each scores as many. None
      is all of them. In the others a row costs what it trains.
    looking: of the rows, those at the end of an epoch that only look. A schedule does not count
      them, so that the last step has the last rate.
    lr_ahead: rows by which the learning rate runs ahead of the schedule.
    asks: what the task must be able to tell, of `CAPABILITIES`; losses every task has.
    cost: `planned` is `exact`, what is spent is `expected` to be near it, or it is a `bound`.
    distinct: no sample comes twice in an epoch's plan.
    uniform_on_ties: where all samples look alike, all are as likely to be trained on.
    own_network: what is charged as scored are not calls of `forward`, but the work of a network
      of the method's own, at its price.
  """

  epochs: int
  rows: int
  candidates: int
  planned: Cost
  row_cost: Cost
  cap: int | None = None
  scan: Scan = Scan()
  scoring: Collection[int] | None = None
  looking: int = 0
  lr_ahead: int = 0
  asks: tuple[str, ...] = ()
  cost: str = 'exact'
  distinct: bool = True
  uniform_on_ties: bool = True
  own_network: bool = False

  @property
  def steps(self) -> int:
    """Rows of an epoch that may train."""
    return self.rows - self.looking

  def row_in(self, epoch: int) -> Cost:
    """The most that one row of an epoch may spend."""
    if self.scoring is None or epoch in self.scoring:
      return self.row_cost
    return self.row_cost._replace(scored=0)


Forward = Callable[[Batch], Outputs]  # eval-mode pass of the current model, no gradient
Info = Mapping[str, jax.Array]  # info['scored']: i32[], forward passes really spent


def take_all(state: State, key: Key, batch: Batch, forward: Forward) -> tuple[State, Batch, Info]:
  """The `select` of a method that trains on its plan as it stands, a step on every row."""
  del key, forward
  return state, batch, {'scored': jnp.int32(0)}


def keep_weights(state: State, loss: jax.Array, weight: jax.Array) -> jax.Array:
  """The `weigh` of a method whose weights stand before the step."""
  del state, loss
  return weight


def no_feedback(state: State, batch: Batch, outputs: Outputs) -> State:
  """The `update` of a method that learns nothing from its steps."""
  del batch, outputs
  return state


def no_scan(state: State, key: Key, seen: Seen) -> State:
  """The `scan` of a method that never looks at all samples at once."""
  del key, seen
  return state


def no_figures(state: State) -> Mapping[str, jax.Array]:
  """The `report` of a method that has nothing to tell."""
  del state
  return {}


def no_scores(state: State) -> None:
  """The `scores` of a method that has nothing to hand on."""
  del state


class Selector(NamedTuple):
  """A method of choosing samples: pure hooks and a few static facts.

  Every hook can be called: what a method does not need is an identity function of this
  module, which the engine knows by its name and leaves out of the program.

  The first three fields, `scores` and `scan` may depend on the budget. The hooks of the
  *row program* (`select`, `weigh`, `update`, `report`) must not: whatever depends on budget,
  schedule or seed is an array in the plan or the state, and the hooks come from a
  `functools.cache`d factory, so that all budgets share one compiled program (jit compares
  functions by identity).

  Attributes:
    facts: static facts of the run.
    init: `key -> state`.
    plan: `(state, key, epoch) -> (state, Plan)`, once before each epoch.
    select: `(state, key, batch[K], forward) -> (state, batch[s], info)`, after
      augmentation. May return all-zero weights: no step is taken.
    weigh: `(state, loss[s], weight[s]) -> weight[s]`, inside the loss, on a loss whose
      gradient is stopped. The step is taken even if it leaves no weight.
    update: `(state, batch, outputs) -> state`, after a step that was taken; `outputs` are
      those of the very forward pass that was trained on.
    report: `state -> {name: scalar}`, figures for the epoch's metrics line.
    sizes: train sizes, rising to the whole batch; the step runs on the smallest listed prefix that
      holds all examples of weight > 0. Empty: always the whole batch.
    partial: a batch may hold padding (weight 0), which BatchNorm must leave out.
    scores: `state -> f32[N]` or more, what the method learned of each sample; written as
      scores.npy when the run ends.
    scan: `(state, key, seen) -> state`, before the epochs that `facts.scan` names.
  """

  facts: Facts
  init: Callable[[Key], State]
  plan: Callable[[State, Key, jax.Array], tuple[State, Plan]]
  select: Callable[[State, Key, Batch, Forward], tuple[State, Batch, Info]] = take_all
  weigh: Callable[[State, jax.Array, jax.Array], jax.Array] = keep_weights
  update: Callable[[State, Batch, Outputs], State] = no_feedback
  report: Callable[[State], Mapping[str, jax.Array]] = no_figures
  sizes: tuple[int, ...] = ()
  partial: bool = False
  scores: Callable[[State], jax.Array | None] = no_scores
  scan: Callable[[State, Key, Seen], State] = no_scan


def as_initialised(params: Any, model_state: Any, images: jax.Array) -> tuple[Any, Any]:
  """The `prepare` of a network that computes nothing of the data before it is trained."""
  del images
  return params, model_state


class Model(NamedTuple):
  """A network as pure functions.

  Attributes:
    init: `key -> (params, model_state)`.
    apply: `(params, model_state, image[n,...], train, mask=None) -> (output[n,C] f32,
      model_state)`. `mask` bool[n] leaves examples out of BatchNorm statistics; with
      `train=False` the model state comes back unchanged.
    features: `(params, model_state, image) -> f32[n,D]`, penultimate activations in eval
      mode, scaled such that outputs are their product with the last weights, and a bias.
    prepare: `(params, model_state, images) -> (params, model_state)`, what is computed of the
      first training images, as evaluation sees them, before a run: see `engine.prepare`.
    head_bias: whether outputs have that bias; without it the last layer's gradients have none.
  """

  init: Callable[[Key], tuple[Any, Any]]
  apply: Callable[..., tuple[jax.Array, Any]]
  features: Callable[..., jax.Array] | None = None
  prepare: Callable[[Any, Any, jax.Array], tuple[Any, Any]] = as_initialised
  head_bias: bool = True


def with_epoch(
  stage: Callable[..., Batch], key: Key, epoch: jax.Array, batch: Batch, drawn: Any = None
) -> Batch:
  """Applies what happens to a batch, which is told the epoch if it wants three arguments.

  Args:
    stage: `(key, batch) -> batch`, or `(key, epoch, batch) -> batch`.
    key: of this batch.
    epoch: i32[], 0-based.
    batch: before.
    drawn: what `draw_ahead` gave for the same key; None lets the stage draw everything itself.

  Returns:
    The batch after, the same with and without `drawn`.
  """
  given = {} if drawn is None else {'drawn': drawn}
  return stage(key, epoch, batch, **given) if takes_epoch(stage) else stage(key, batch, **given)


def draw_ahead(stage: Callable[..., Batch], key: Key, size: int) -> Any:
  """Draws what a stage would draw in loops of unknown length (Beta, Gamma), ahead of its batch.

  On a GPU each round of such a loop waits for the host; the epoch makes the draws of all its rows
  at once, before it walks them.

  Args:
    stage: of an augmentation. `stage.draw`, if it has that, is `(key, size) -> arrays`, and the
      stage takes these as a keyword argument `drawn`.
    key: of the batch.
    size: n, its examples.

  Returns:
    What the stage takes as `drawn`; None of a stage without `draw`.
  """
  draw = getattr(stage, 'draw', None)
  return None if draw is None else draw(key, size)


def takes_epoch(stage: Callable[..., Batch]) -> bool:
  """Whether a stage is to be told the epoch."""
  parameters = inspect.signature(stage).parameters.values()
  return sum(p.default is p.empty and p.kind is not p.VAR_KEYWORD for p in parameters) == 3


class Augment(NamedTuple):
  """What happens to inputs between the data set and the model.

  Attributes:
    train: `(key, batch) -> batch`, or `(key, epoch, batch) -> batch`, see `with_epoch`; from uint8
      images to normalised float32 ones; features and tokens keep their type. What of its draws is
      to be made before the rows of an epoch, see `draw_ahead`.
    test: `image u8[n,H,W,c] -> f32[n,H,W,c]`, or of other inputs: the deterministic transform for
      evaluation.
    parts: M, samples that one augmented image shows.
  """

  train: Callable[..., Batch]
  test: Callable[[jax.Array], jax.Array]
  parts: int = 1


class Data(NamedTuple):
  """A split as it lives on the device.

  Attributes:
    image: u8[N,H,W,channels], on a TPU as `data.flat.FlatImages`; f32[N,D] features; i32[N,L]
      tokens. Where they do not fit, the source that they come from, see `placement.py`.
    label: i32[N] (or other whole numbers) classes in [0, C), or f32[N,C] numbers to predict.
  """

  image: jax.Array  # u8, f32 or i32[N,...]
  label: jax.Array  # i32[N] or f32[N,C]

  @property
  def is_fed(self) -> bool:
    """Whether the device is fed its images chunk by chunk."""
    return hasattr(self.image, 'walk')


def as_target(label: jax.Array, num_classes: int) -> jax.Array:
  """What samples alone are to be trained on.

  Args:
    label: i32[n] classes, or f32[n,C] numbers.
    num_classes: C.

  Returns:
    f32[n,C]: a distribution over classes, or the numbers.
  """
  if jnp.issubdtype(label.dtype, jnp.floating):
    return label
  return jax.nn.one_hot(label, num_classes, dtype=jnp.float32)


def as_label(label: jax.Array) -> jax.Array:
  """Labels as methods are given them: classes of any whole type as i32, numbers as they are."""
  return label if jnp.issubdtype(label.dtype, jnp.floating) else label.astype(jnp.int32)


def plain_batch(
  data: Data,
  index: jax.Array,
  weight: jax.Array,
  num_classes: int,
  image: jax.Array | None = None,
) -> Batch:
  """Gathers samples from a split, each alone in its own picture.

  Args:
    data: the split, N samples.
    index: i32[n], positions in the split.
    weight: f32[n].
    num_classes: C.
    image: [n,...], the images of the samples, if they are at hand; else `data` has them.

  Returns:
    A batch of n uint8 images with one-hot targets; where labels are numbers, these are the
    targets, and all samples are of class 0. What a task would misread is refused by
    `checks.check_labels`, ahead of the loop: no value can be looked at here.

  Raises:
    ValueError: the images are not on the device, and none are at hand.
  """
  if image is None and data.is_fed:
    raise ValueError(
      f'images of placement {data.image.placement!r} cannot be gathered on the device: place them '
      "there, data.place(dataset, placement='device'), or train by engine, which is fed"
    )
  label = as_label(data.label[index])
  target = as_target(label, num_classes)
  if jnp.issubdtype(label.dtype, jnp.floating):
    label = jnp.zeros_like(index)
  return Batch(
    index=index,
    image=data.image[index] if image is None else image,
    label=label,
    target=target,
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
    A batch of weight 0.
  """
  parts = (size, spec.parts)
  return Batch(
    index=jnp.zeros(size, jnp.int32),
    image=jnp.zeros((size, *spec.image_shape), spec.image_dtype),
    label=jnp.zeros(size, jnp.int32),
    target=jnp.zeros((size, spec.num_classes), jnp.float32),
    weight=jnp.zeros(size, jnp.float32),
    part_index=jnp.zeros(parts, jnp.int32),
    part_label=jnp.zeros(parts, jnp.int32),
    part_share=jnp.zeros(parts, jnp.float32),
  )
