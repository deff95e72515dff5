"""What each part trains, the most telling first."""

from typing import NamedTuple

from jaxbudget import registry
from on_device.rows import Setting
from on_device.whole import Whole


class Case(NamedTuple):
  """What is measured of rows: the part of the book, the name in it, and what is trained."""

  part: str
  name: str
  setting: Setting


class Sizes(NamedTuple):
  """Cases by part.

  Attributes:
    plain: what overheads are over.
    methods: of overheads, by name.
    plans: samples to plan for.
    fast: in turns with PyTorch.
    later: the same, for when the rest is done, a few at a time.
    trace: what is profiled.
    several: (setting, counts of runs at a time).
    whole: runs from first epoch to last.
  """

  plain: Setting
  methods: dict[str, Setting]
  plans: tuple[int, ...]
  fast: list[Setting]
  later: list[list[Setting]]
  trace: list[Setting]
  several: list[tuple[Setting, tuple[int, ...]]]
  whole: list[Whole]

  def cases(self) -> list[Case]:
    """What is measured of rows at first."""
    return [
      *beside_torch(self.fast),
      *(Case('overheads', *case) for case in self.methods.items()),
      *(Case('trace', setting.title, setting) for setting in self.trace),
    ]


def beside_torch(settings: list[Setting]) -> list[Case]:
  """Cases of part `fast`."""
  return [Case('fast', setting.title, setting) for setting in settings]


def sizes(small: bool) -> Sizes:
  """The cases of all parts; a few tiny ones if `small`."""
  if small:
    plain = Setting(model='mlp', width=1, batch=8, side=8, format='tf32', examples=64)
    made = methods(plain, history=16)
    names = 'p_sgd', 'a row that takes no step', 'ordered_sgd compact, q = s/16'
    tiny = (('model', 'mlp'), ('batch_size', 8), ('epochs', 2))
    return Sizes(
      plain, {name: made[name] for name in names}, (256,), [plain],
      [[plain._replace(batch=16)]], [plain], [(plain, (1, 2))],
      [Whole(others=tiny, side=8, examples=64, tested=64)],
    )  # fmt: skip
  plain = Setting()
  made = methods(plain)
  tiny = Setting(model='resnet8', width=16, side=16, examples=10_000, format='tf32')
  large = plain._replace(side=84, examples=12_800)
  batches = [plain._replace(batch=size) for size in (128, 512)]
  fast = [s._replace(format=f) for s in batches for f in ('bfloat16', 'tf32')]
  wide = plain._replace(batch=1024)
  exact = [s._replace(format='float32') for s in (*batches, wide, large)]
  later = [[large, wide, exact[0]], [s._replace(format='tf32') for s in (large, wide)], exact[1:]]
  traced = 'ordered_sgd compact, q = s/16', 'a row that takes no step', 'randaugment', 'ricap'
  return Sizes(
    plain=plain,
    methods=made,
    plans=(50_000, 1_000_000, 10_000_000),
    fast=fast,
    later=later,
    trace=[made['selective_backprop'], made['p_sgd'], tiny, *(made[name] for name in traced)],
    several=[
      (tiny, (1, 2, 4, 8)),
      (plain, (1, 2)),  # and what memory a run takes, beside the analysis
      (plain._replace(width=16), (1, 2, 4)),
    ],
    whole=[Whole(), Whole('airbench94', budget=1.0), Whole(selector='p_sgd')],
  )


def methods(plain: Setting, history: int | None = None) -> dict[str, Setting]:
  """What is set beside uniform sampling, by name.

  Args:
    plain: uniform sampling.
    history: losses that Selective Backprop remembers, if not as many as it does.
  """
  scoring = {'prime': False} | ({'history': history} if history else {})
  sb = plain._replace(selector='selective_backprop', options=tuple(scoring.items()))
  # As many rows an epoch as the others have, of methods whose epochs no budget shortens.
  ordered = plain._replace(selector='ordered_sgd', examples=int(plain.examples * plain.budget))
  compact = ordered._replace(options=(('backward', 'compact'),))
  dear = 'randaugment', 'mixup', 'ricap', 'cutmix', 'trivialaugment', 'autoaugment', 'augmix'
  others = [n for n in registry.names('augment') if n not in (*dear, 'none', plain.augment)]
  return {
    'p_sgd': plain._replace(selector='p_sgd'),
    'selective_backprop': sb,
    'a row that takes no step': sb._replace(options=tuple((scoring | {'b': 1e9}).items())),
    'ordered_sgd': ordered,
    # Labels are random: no accuracy would ever bring q down.
    **{
      f'ordered_sgd compact, q = s{over}': compact._replace(
        state=(('q', max(1, plain.batch // share)),)
      )
      for over, share in (('/2', 2), ('/4', 4), ('/16', 16), ('', 1))
    },
    # What the steps of compact Ordered SGD would take by themselves.
    **{
      f'unif_sgd, batches of s/{share}': plain._replace(
        batch=max(1, plain.batch // share), examples=plain.examples // share
      )
      for share in (2, 4, 16)
    },
    'gradient_bound that scores': plain._replace(
      selector='gradient_bound', options=(('threshold', 0.0),)
    ),
    **{name: plain._replace(augment=name) for name in (*dear, *others)},
  }
