"""The deviation register: where paper and released code differ, and what a run here does.

`python -m jaxbudget.lab.paper.deviations` writes docs/deviations.md and .json from it.
"""

import json
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from jaxbudget.lab import fidelity
from jaxbudget.lab.paper import methods

Config = Mapping[str, Any]  # a run's config.json: option dicts hold resolved values


class Deviation(NamedTuple):
  """One entry of the register (fidelity.md section 4).

  Attributes:
    id: as in fidelity.md.
    title: a few words.
    paper: what the paper says.
    code: what the released code does.
    released: what `fidelity=released` does.
    corrected: what `fidelity=corrected` does.
    concerns: whether a run contains it at all.
    effect: what a run does, from its resolved options; None: `corrected`, for both presets.
    test: the test that pins it, `file::name`.
  """

  id: str
  title: str
  paper: str
  code: str
  released: str
  corrected: str
  concerns: Callable[[Config], bool]
  test: str
  effect: Callable[[Config], str] | None = None


def _uses(*selectors: str) -> Callable[[Config], bool]:
  return lambda c: c['selector'] in selectors


def _augmented(name: str) -> Callable[[Config], bool]:
  return lambda c: name in c['augment'].split('+')


def _option(c: Config, name: str) -> Any:
  return (c.get('selector_options') or {}).get(name)


def _of_mixup(c: Config, name: str) -> Any:
  """An option of mixup, alone or in a chain."""
  options = c.get('augment_options') or {}
  return options.get('mixup', options).get(name)


def _setting(c: Config, kind: str, name: str) -> Any:
  """An option of network or optimizer; of older runs, a key of its own."""
  return (c.get(f'{kind}_options') or {}).get(name, c.get(name))


def _sets(kind: str, name: str) -> Callable[[Config], bool]:
  return lambda c: _setting(c, kind, name) is not None


def _weight_decay(c: Config) -> str:
  masked = _setting(c, 'optimizer', 'decay_mask') == 'matrices'
  where = 'matrices only' if masked else 'all parameters'
  return f'{_setting(c, "optimizer", "weight_decay"):g} on {where}'


_IMPORTANCE = ('p_sgd', 'c_sgd')
_SUBSETS = ('unif_sgd', *_IMPORTANCE)
_always = lambda c: True
_mixes = fidelity.mixes

REGISTER = (
  Deviation(
    'Q1',
    'Who is credited under RICAP',
    'silent',
    'the sample whose place in the batch it was, with its own label, although the picture '
    'shows crops of four others',
    "as the code (credit='first')",
    "every sample in the picture, by its share, with its own label (credit='aligned')",
    lambda c: c['selector'] in _IMPORTANCE and _augmented('ricap')(c),
    'deviations_test.py::test_q1_and_d7_credit_under_mixing',
    lambda c: f"credit='{_option(c, 'credit')}'",
  ),
  Deviation(
    'Q2',
    'Selective Backprop with mixup',
    'mixup as in its original paper',
    'mixes the labels but not the images, and folds lambda to max(lambda, 1 - lambda)',
    'as the code (mix_image=False, fold=True)',
    'images and labels mixed, lambda not folded (mix_image=True, fold=False)',
    lambda c: c['selector'] == 'selective_backprop' and _augmented('mixup')(c),
    'deviations_test.py::test_q2_mixup_of_selective_backprop',
    lambda c: ', '.join(f'{key}={_of_mixup(c, key)}' for key in ('mix_image', 'fold')),
  ),
  Deviation(
    'Q3',
    'Label weights in the queue of Selective Backprop',
    'silent',
    'a training batch gathered from several forward batches takes the label weights of the '
    "queue's head, which may be a rejected sample of an earlier batch",
    "as the code (label_weights='head')",
    "every example keeps its own (label_weights='own')",
    lambda c: c['selector'] == 'selective_backprop' and _mixes(c),
    'deviations_test.py::test_q3_label_weights',
    lambda c: f"label_weights='{_option(c, 'label_weights')}'",
  ),
  Deviation(
    'D1',
    'Mean importance',
    'mean over all epochs so far (eq. 2)',
    'mean over the times the sample was seen',
    'as the code',
    'as the code',
    _uses(*_IMPORTANCE),
    'importance_test.py::test_golden_trace_of_state_and_weights',
  ),
  Deviation(
    'D2',
    'Where epsilon enters',
    'inside the importance p_i',
    'the mean weight, added only when sampling',
    'as the code',
    'as the code',
    _uses('p_sgd'),
    'importance_test.py::test_golden_trace_of_state_and_weights',
  ),
  Deviation(
    'D3',
    'Uncertainty of c-SGD',
    'p(1-p) with epsilon inside p, which can exceed 1',
    'a(1-a) of the plain importance a, then its mean added',
    'as the code',
    'as the code',
    _uses('c_sgd'),
    'importance_test.py::test_golden_trace_of_state_and_weights',
  ),
  Deviation(
    'D4',
    'Unseen samples in c-SGD',
    'silent',
    'take the largest a before a(1-a), so that they come last',
    "as the code (unseen='code')",
    "take the largest a(1-a) seen (unseen='max_c')",
    _uses('c_sgd'),
    'deviations_test.py::test_d4_unseen_samples_of_c_sgd',
    lambda c: f"unseen='{_option(c, 'unseen')}'",
  ),
  Deviation(
    'D5',
    'Drawing an epoch',
    "'drawing from P^t'",
    'without replacement within an epoch',
    'as the code; option replacement=True',
    'as the code; option replacement=True',
    _uses(*_SUBSETS),
    'sampling_test.py::test_law_without_replacement_is_successive_sampling',
    lambda c: 'with replacement' if _option(c, 'replacement') else 'without replacement',
  ),
  Deviation(
    'D6',
    'Length of the warm-up',
    '70 epochs (Table 1)',
    'one epoch fewer (a < for a <=), on floor(N*B) samples each',
    'n-1 uniform epochs of floor(N*B) samples',
    'n uniform epochs of floor(N*B) samples',
    lambda c: c['selector'] in _IMPORTANCE and bool(_option(c, 'warmup')),
    'deviations_test.py::test_d6_warm_up_epochs',
    lambda c: f'{_option(c, "warmup")} uniform epochs',
  ),
  Deviation(
    'D7',
    'Who is credited under mixup',
    'silent',
    'the first of the two samples, whatever lambda is',
    "as the code (credit='first')",
    "both samples, by lambda and 1 - lambda (credit='aligned')",
    lambda c: c['selector'] in _IMPORTANCE and _augmented('mixup')(c),
    'deviations_test.py::test_q1_and_d7_credit_under_mixing',
    lambda c: f"credit='{_option(c, 'credit')}'",
  ),
  Deviation(
    'D8',
    'Weight decay',
    'silent',
    '1e-4 on all parameters, coupled, no Nesterov',
    'as the code',
    'as the code',
    _sets('optimizer', 'weight_decay'),
    'epoch_test.py::test_two_steps_equal_sgd_by_hand_with_importance_weights',
    _weight_decay,
  ),
  Deviation(
    'D9',
    'Samples in an epoch',
    'N*B',
    'floor(N*B), the incomplete last batch dropped (14,976 of 15,000 at B=.3)',
    'as the code',
    'as the code',
    _always,
    'ledger_test.py::test_rows_per_epoch_are_those_of_the_study',
  ),
  Deviation(
    'D10',
    'The accuracy reported',
    'silent',
    'prints the best epoch on the test set, saves best and last',
    'last epoch is the headline, best beside it',
    'last epoch is the headline, best beside it',
    _always,
    'launcher_test.py::test_files_and_keys_of_a_finished_launch',
  ),
  Deviation(
    'D11',
    'Schedule and first epoch of Selective Backprop',
    'silent',
    'the learning rate follows forwarded samples and is that of the next row, ten times '
    'smaller where the step schedule drops; epoch 1 trains on everything',
    'as the code (lr_ahead=True)',
    "as the code, but with the row's own learning rate (lr_ahead=False)",
    _uses('selective_backprop'),
    'deviations_test.py::test_d11_and_d22_rate_and_tail_of_selective_backprop',
    lambda c: f'lr_ahead={_option(c, "lr_ahead")}',
  ),
  Deviation(
    'D12',
    'Selectivity of Selective Backprop',
    'the budget is set by b, values not given',
    'b = 3 by default',
    'b = 1/B - 1',
    'b = 1/B - 1',
    _uses('selective_backprop'),
    'selective_backprop_test.py::test_acceptance_rate_and_spending_under_stationary_losses',
  ),
  Deviation(
    'D13',
    'Forward passes of Selective Backprop',
    'not in the budget',
    'not in the budget',
    'counted and shown; charged under budget_unit=compute',
    'counted and shown; charged under budget_unit=compute',
    _uses('selective_backprop'),
    'epoch_test.py::test_books_equal_the_calls_of_the_model',
    lambda c: 'charged' if c['budget_unit'] == 'compute' else 'counted, not charged',
  ),
  Deviation(
    'D14',
    'Operations of RandAugment',
    "'as in the original paper'",
    '16 operations, Invert, SolarizeAdd and Cutout among them',
    'as the code',
    'as the code',
    _augmented('randaugment'),
    'randaugment_test.py::test_operation_equals_pillow',
  ),
  Deviation(
    'D15',
    'Schedule of Table 1',
    "'step-wise linear' (section 4.2)",
    'not decided by the code; the numbers equal those of the step schedule in Table 2',
    'step',
    'step',
    lambda c: c['schedule'] == 'step',
    'study_test.py::test_every_row_of_the_tables_is_one_cell_and_every_cell_is_in_the_paper',
  ),
  Deviation(
    'D16',
    'Initial BatchNorm scale',
    'silent',
    'U(0,1), the default of torch 1.0.0',
    'as the code; option bn_gamma_init=ones',
    'as the code; option bn_gamma_init=ones',
    _sets('model', 'bn_gamma_init'),
    'resnet_test.py::test_initial_values_are_torchs',
    lambda c: f'bn_gamma_init={_setting(c, "model", "bn_gamma_init")}',
  ),
  Deviation(
    'D17',
    'Methods without released code',
    'scan-SGD, Ordered SGD, Random and Core-set are described',
    'absent',
    'from the text and the upstream repositories',
    'from the text and the upstream repositories',
    _uses('scan_sgd', 'ordered_sgd', 'random_subset', 'coreset'),
    'ordered_test.py::test_q_walks_through_the_thresholds_and_never_rises',
  ),
  Deviation(
    'D18',
    'Learning rate of Ordered SGD at 99.5 percent',
    "'default q'",
    'upstream also drops the learning rate',
    'no drop; option lr_drop=True',
    'no drop; option lr_drop=True',
    _uses('ordered_sgd'),
    'ordered_test.py::test_lr_drop_halves_the_gradient_for_good',
    lambda c: f'lr_drop={_option(c, "lr_drop")}',
  ),
  Deviation(
    'D20',
    'Independence of runs on mini-ImageNet',
    '3 runs',
    "loading resets NumPy's global generator, so that choices repeat between runs",
    'independent seeds',
    'independent seeds',
    lambda c: c['dataset'] == 'mini_imagenet',
    'selectors_common_test.py::test_every_method_keeps_its_contract',
  ),
  Deviation(
    'D21',
    'Entropy H(c)',
    'base not given',
    'absent',
    'natural logarithm, as the axis of Figure 1 shows',
    'natural logarithm, as the axis of Figure 1 shows',
    _always,
    'importance_test.py::test_entropy_of_uniform_sampling_is_that_of_the_paper',
  ),
  Deviation(
    'D22',
    'The last samples of an epoch in Selective Backprop',
    'silent',
    'fewer accepted samples than a batch are trained on as they are, just before the test',
    "as the code (tail='flush')",
    "they wait for the next epoch (tail='carry')",
    _uses('selective_backprop'),
    'deviations_test.py::test_d11_and_d22_rate_and_tail_of_selective_backprop',
    lambda c: f"tail='{_option(c, 'tail')}'",
  ),
  Deviation(
    'D23',
    "BatchNorm's running variance",
    'silent',
    'averages the unbiased variances of the batches, as PyTorch does',
    "as the code (bn_running_var='unbiased')",
    "averages the biased ones, as Flax does; the paper's configs set 'unbiased' (bn_running_var)",
    _sets('model', 'bn_running_var'),
    'deviations_test.py::test_d23_running_variance',
    lambda c: f"bn_running_var='{_setting(c, 'model', 'bn_running_var')}'",
  ),
)
# D19 of fidelity.md is a slip of the paper's text and concerns no run.


def _of_methods() -> Iterator[Deviation]:
  """Where the methods beyond the study depart from their own sources, by default."""
  for name, method in methods.METHODS.items():
    for number, change in enumerate(method.changes, 1):
      here = f'{change.here} ({change.why})'
      yield Deviation(
        f'{name}.{number}', f'{name} beside its source', change.original, change.original,
        here, here, _uses(name), method.test,
      )  # fmt: skip


METHODS = tuple(_of_methods())


def in_force(config: Config) -> list[dict[str, str]]:
  """The deviations that a run contains.

  Args:
    config: of the run, as in its config.json: option dicts hold resolved values.

  Returns:
    Dicts with `id`, `title`, `paper`, `code` and `effect`, what the run does.
  """
  found = []
  for entry in (*REGISTER, *METHODS):
    if entry.concerns(config):
      effect = entry.effect(config) if entry.effect else entry.corrected
      kept = {key: getattr(entry, key) for key in ('id', 'title', 'paper', 'code')}
      found.append({**kept, 'effect': effect})
  return found


def to_json() -> str:
  """The register as a machine-readable table."""
  keys = ('id', 'title', 'paper', 'code', 'released', 'corrected', 'test')
  rows = [{key: getattr(entry, key) for key in keys} for entry in (*REGISTER, *METHODS)]
  return json.dumps(rows, indent=1) + '\n'


def to_markdown() -> str:
  """The register as prose."""
  lines = [_HEAD]
  for e in REGISTER:
    differs = '' if e.released == e.corrected else ' (presets differ)'
    lines += [f'## {e.id}: {e.title}{differs}\n']
    lines += [f'- **Paper**: {e.paper}.', f'- **Released code**: {e.code}.']
    if e.released == e.corrected:
      lines += [f'- **Here, both presets**: {e.released}.']
    else:
      lines += [
        f'- **fidelity=released**: {e.released}.',
        f'- **fidelity=corrected**: {e.corrected}.',
      ]
    lines += [f'- **Pinned by**: `tests/{e.test}`.\n']
  lines += [_BEYOND]
  lines += [f'- `{e.id}`: {e.paper} there; here {e.corrected}.' for e in METHODS]
  lines += [_ABSENT]
  absent = {name: method.absent for name, method in methods.METHODS.items()} | _OF_AUGMENTATIONS
  lines += [f'- `{name}`: {form} ({why}).' for name, forms in absent.items() for form, why in forms]
  return '\n'.join([*lines, ''])


_BEYOND = """## Methods beyond the study

Where they depart from their own sources, by default and under both presets;
[methods.md](methods.md) has the sources and the tests.
"""


_OF_AUGMENTATIONS = {
  'autoaugment': (
    ('the 95 sub-policies of its code', "the paper has 25, and torchvision's levels are in use"),
  ),
  'augmix': (('the Jensen-Shannon loss', 'a step passes each picture once; it asks for three'),),
}
_ABSENT = """
## Forms that are not offered

Of the sources of these methods, with the reason.
"""


_HEAD = """# Deviation register

Where the paper and its released code differ, and what is done here. `fidelity=released` is
what most likely produced the published numbers; `fidelity=corrected`, the default, repairs
what reads like a slip: Q1, Q2, Q3, D4, D6, D7 and the late row of D11, carries the tail of an
epoch on (D22) and leaves all else equal. BatchNorm's running variance (D23) is no slip: in the
study's configs both presets have PyTorch's. Evidence for each entry is in
[fidelity.md](fidelity.md); the same table for programs is
[deviations.json](deviations.json). Which of them a run contains is on its report page, and

    python launch.py --config=FILE[:arg] --stage=deviations

prints it for every cell of a config. Written by `python -m jaxbudget.lab.paper.deviations`.

**Credit** is where the presets differ most. Under mixup a picture shows two samples, under
RICAP four. With `credit='aligned'` each of them is credited with 1 - p(its own label), by the
share it has in the picture; over a batch the shares of a sample sum to 1, so it counts as seen
once. With `credit='first'` only the sample whose place in the batch the picture has is
credited, with its own label, in full. Under RICAP that sample is in general not in the picture,
importance turns into noise, and sampling into nearly uniform sampling. `jaxbudget.scores.credited`
is the one definition that every method uses.
"""


if __name__ == '__main__':
  docs = pathlib.Path(__file__).parents[3] / 'docs'
  (docs / 'deviations.md').write_text(to_markdown(), encoding='utf-8')
  (docs / 'deviations.json').write_text(to_json(), encoding='utf-8')
