"""Every method of ours: where it comes from, what it costs, and where it departs from its source.

`python -m jaxbudget.lab.paper.methods` writes docs/methods.md from it; the options and the line on
each are read off the factories.
"""

import pathlib
from typing import NamedTuple

import jax
import numpy as np

from jaxbudget import factories, ledger, listing, registry, selectors
from jaxbudget.types import Selector, Spec

SPEC = Spec(num_examples=967, batch_size=32, num_classes=10, epochs=8, image_shape=(8, 8, 1))
_PLAIN = '3*n'
_LOOKS = '3*n + L'  # a pass over every row's candidates
_SCANS = '3*n + S*N/T'  # passes over everybody between epochs
_REFRESHED = '3*n + h*(T-1)/T'  # rows that only look, in all epochs but the last


class Change(NamedTuple):
  """Where a method departs from its source."""

  original: str
  here: str
  why: str


class Method(NamedTuple):
  """What is known of a method beside its factory.

  Attributes:
    source: paper and year, with a link where there is one.
    biased: whether the expected gradient is that of all samples.
    test: that pins the rule, `file::name`.
    cost: forward equivalents an epoch by default, in N samples, n trained on, L candidates, S
      looks at everybody in T epochs, h samples looked at in rows of their own.
    changes: where it departs from its source, by default.
    absent: forms of its source that are not offered, each with the reason.
  """

  source: str
  biased: str
  test: str
  cost: str = _PLAIN
  changes: tuple[Change, ...] = ()
  absent: tuple[tuple[str, str], ...] = ()


_STUDY = '[Arazo et al. 2021](https://arxiv.org/abs/2110.14283)'
_EVAL = Change('scores in train mode', 'scores in eval mode', '`forward` leaves BatchNorm as it is')
_ONCE_AN_EPOCH = 'plans are made once an epoch, so that tables act with some delay'
_EXACT = 'exact sizes, so that budgets compare; `exact=False` is the published form'
_NO_RATE = Change(
  'scales the learning rate with it', 'leaves the rate alone', 'the schedule is common to all'
)
_ROWS = 'ledger_test.py::test_rows_per_epoch_are_those_of_the_study'
METHODS: dict[str, Method] = {
  'sgd': Method(_STUDY, 'no', _ROWS),
  'scan_sgd': Method(
    _STUDY, 'no', 'ledger_test.py::test_truncated_training_keeps_rows_and_drops_epochs'
  ),
  'unif_sgd': Method(_STUDY, 'no', _ROWS),
  'p_sgd': Method(
    '[Chang et al. 2017](https://arxiv.org/abs/1704.07433), as in ' + _STUDY,
    'yes; no with `weights=inverse`',
    'importance_test.py::test_golden_trace_of_state_and_weights',
  ),
  'c_sgd': Method(
    '[Chang et al. 2017](https://arxiv.org/abs/1704.07433), as in ' + _STUDY,
    'yes; no with `weights=inverse`',
    'importance_test.py::test_golden_trace_of_state_and_weights',
  ),
  'selective_backprop': Method(
    '[Jiang et al. 2019](https://arxiv.org/abs/1910.00762)',
    'yes',
    'selective_backprop_test.py::test_equals_the_reference',
    _LOOKS,
  ),
  'ordered_sgd': Method(
    '[Kawaguchi and Lu 2020](https://arxiv.org/abs/1907.04371)',
    'yes',
    'ordered_test.py::test_gradient_is_that_of_the_mean_over_the_q_largest_losses',
  ),
  'random_subset': Method(
    _STUDY, 'yes, a fixed subset', 'coreset_test.py::test_random_subset_is_uniform'
  ),
  'coreset': Method(
    '[Toneva et al. 2019](https://arxiv.org/abs/1812.05159), '
    '[Coleman et al. 2020](https://arxiv.org/abs/1906.11829)',
    'yes, a fixed subset',
    'coreset_test.py::test_coreset_keeps_the_highest_scores',
    absent=(
      ('the score TDDS', 'its public copies disagree, and one always reads the first window'),
      ('k-centre that leaves outliers out', 'it asks for a solver of mixed-integer programs'),
      (
        "DRoP's recall by five networks on validation data",
        "two on halves tell each other's half, so that none are spent",
      ),
    ),
  ),
  'dynamics_sgd': Method(
    '[Toneva et al. 2019](https://arxiv.org/abs/1812.05159), '
    '[Pleiss et al. 2020](https://arxiv.org/abs/2001.10528)',
    'no',
    'coreset_test.py::test_the_scoring_run_is_sgd_that_takes_notes',
  ),
  'craig': Method(
    '[Mirzasoleiman et al. 2020](https://arxiv.org/abs/1906.01827)',
    'yes, until all are kept',
    'reselection_test.py::test_craig_by_hand',
    _SCANS,
    (
      Change('ceil(f N/K) of each class', 'classes in proportion, f N in all', 'budgets are exact'),
      Change('looks at augmented images', 'looks at plain ones', 'one look serves all methods'),
    ),
  ),
  'gradmatch': Method(
    '[Killamsetty et al. 2021](https://arxiv.org/abs/2103.00123)',
    'yes, as little as its weights allow',
    'reselection_test.py::test_matching_pursuit_by_hand',
    _SCANS,
    (
      Change('gradients in train mode', 'in eval mode', 'a look leaves BatchNorm as it is'),
      Change(
        'starts with epochs of everything', 'starts with fresh subsets of the same cost',
        'rows of an epoch are as many throughout',
      ),
    ),
  ),
  'glister': Method(
    '[Killamsetty et al. 2021](https://arxiv.org/abs/2012.10630)',
    'yes',
    'reselection_test.py::test_glister_steps_as_the_last_layer_would',
    _SCANS,
    (Change('gradients in train mode', 'in eval mode', 'a look leaves BatchNorm as it is'),),
  ),
  'rcap': Method(
    '[Hassan et al. 2025](https://proceedings.mlr.press/v286/hassan25a.html)',
    'yes',
    'rcap_test.py::test_classes_get_by_size_and_by_the_q_mass_drawn_last',
    changes=(
      Change('a full class leaves its rest unspent', 'gives it to the others', 'budgets are exact'),
    ),
  ),
  'replay': Method(
    'the project',
    'as what is replayed',
    'replay_test.py::test_each_epoch_holds_the_multiset_recorded',
  ),
  'rs2': Method(
    '[Okanovic et al. 2024](https://arxiv.org/abs/2305.18424)',
    'no',
    'online_methods_test.py::test_rs2_sees_everybody_once_before_anybody_twice',
    changes=(
      Change(
        'windows of round(N B), the one that wraps one short',
        'windows of full batches, the next one goes on in the new permutation',
        'nobody is passed over',
      ),
    ),
  ),
  'infobatch': Method(
    '[Qin et al. 2024](https://arxiv.org/abs/2303.04947)',
    'no',
    'online_methods_test.py::test_infobatch_by_hand',
    changes=(
      Change('size follows from the losses, annealed at the end', 'floor(N B) an epoch', _EXACT),
      Change(
        'mean weight N/n', 'mean weight 1', 'else the rate is ten times as high at B = 0.1'
      ),
    ),
  ),
  'online_batch_selection': Method(
    '[Loshchilov and Hutter 2015](https://arxiv.org/abs/1511.06343)',
    'yes; no with `weights=inverse`',
    'online_methods_test.py::test_ranks_by_hand',
    _SCANS,
    (
      Change('sorts after every 100 samples', 'sorts once an epoch', _ONCE_AN_EPOCH),
      Change('first epoch in stored order', 'shuffled', 'the order of files is no rule'),
      _EVAL,
    ),
    (
      ('measuring only the highest ranks anew', 'its scripts measure all'),
      ('batches that grow', 'a run has one batch size, by which costs are told'),
    ),
  ),
  'gradient_bound': Method(
    '[Katharopoulos and Fleuret 2018](https://arxiv.org/abs/1803.00942)',
    'no; yes with `power` below 1',
    'online_methods_test.py::test_bounds_by_hand',
    _LOOKS,
    (Change('all bounds 0 gives NaN', 'all weights 1', 'a slip of the code'),),
  ),
  'active_bias': Method(
    '[Chang et al. 2017](https://arxiv.org/abs/1704.07433)',
    'yes; no with `isd` or `weights=inverse`',
    'online_methods_test.py::test_history_merges_batches_in_any_order',
    changes=(
      Change('burn-in of 10 or more epochs (ports)', 'none by default', 'as p_sgd and c_sgd'),
    ),
  ),
  'rho_loss': Method(
    '[Mindermann et al. 2022](https://arxiv.org/abs/2206.07137)',
    'yes',
    'online_methods_test.py::test_rho_takes_the_excess_over_the_irreducible_loss',
    _LOOKS,
    (
      Change(
        'irreducible losses of a net trained on held-out data, picked by test loss',
        'two nets, each on half of the data, score each other, after their last epoch',
        'N stays, and test data are not looked at',
      ),
      _EVAL,
    ),
  ),
  'bsbs': Method(
    'Ioannou, Tagaris and Stafylopatis 2019; Algorithms 16(2):65, 2023',
    'yes',
    'online_methods_test.py::test_bsbs_doubles_the_hardest_and_drops_the_easiest',
    changes=(
      Change('first epoch in stored order', 'shuffled', 'the order of files is no rule'),
      Change('a multiset of N', 'its first floor(N B), shuffled', 'budgets compare'),
    ),
    absent=(
      ('noise on the images of those that come twice', 'methods choose images, and change none'),
    ),
  ),
  'average_top_k': Method(
    '[Fan et al. 2017](https://arxiv.org/abs/1705.08826)',
    'yes',
    'online_methods_test.py::test_average_top_k_settles_where_its_share_is_above',
    changes=(
      Change('begins at the k+1st largest loss', 'begins at 0', 'that would cost a pass over all'),
    ),
  ),
  'focal': Method(
    '[Lin et al. 2017](https://arxiv.org/abs/1708.02002)',
    'yes',
    'online_methods_test.py::test_focal_weights_have_the_gradient_of_the_focal_loss',
  ),
  'curriculum': Method(
    '[Hacohen and Weinshall 2019](https://arxiv.org/abs/1904.03626), '
    '[Wu et al. 2021](https://arxiv.org/abs/2012.03107), Bengio et al. 2009',
    'yes, until all data are seen',
    'more_methods_test.py::test_paces_by_hand',
    changes=(
      Change(
        "scores by an SVM on another network's features",
        'losses of a net trained on the same data',
        "self-taught, the paper's other form; no foreign network is needed",
      ),
      Change(
        'classes of equal size',
        'classes of any size, in proportion',
        'the code fails on unequal ones',
      ),
      Change('its own learning rates for each condition', 'one schedule', 'else rates compare'),
    ),
  ),
  'kakurenbo': Method(
    '[Nguyen et al. 2023](https://arxiv.org/abs/2310.10102)',
    'yes',
    'more_methods_test.py::test_only_those_known_well_are_hidden',
    _REFRESHED,
    (
      Change('hides at most 30%, of these the sure ones', 'hides all but floor(N B)', _EXACT),
      Change(
        'confidence over the batch axis', 'over the classes', 'a slip of the released scripts'
      ),
      Change('hidden samples pass in train mode', 'in eval mode', _EVAL.why),
      Change('looks at the hidden after the last epoch too', 'does not', 'nobody asks'),
      _NO_RATE._replace(here='leaves the rate alone; `scale` scales the weights'),
    ),
  ),
  'seta': Method(
    '[Zhou et al. 2025](https://arxiv.org/abs/2503.13385)',
    'yes',
    'more_methods_test.py::test_a_window_slides_over_groups_of_loss',
    changes=(
      Change('the window decides the size', 'floor(N B), thinned or filled up', _EXACT),
      Change('k-means of a library', '20 steps from quantiles', 'the shape of a program is fixed'),
    ),
  ),
  'self_paced': Method(
    '[Kumar et al. 2010](https://papers.nips.cc/paper/3923)',
    'yes, until all samples count',
    'more_methods_test.py::test_quantiles_keep_exactly_their_share',
    changes=(
      Change(
        'a level of loss that is raised by a factor',
        "a quantile of each batch's losses that rises",
        'needs no scale of losses',
      ),
    ),
  ),
  'mentornet': Method(
    '[Jiang et al. 2018](https://arxiv.org/abs/1712.05055)',
    'yes',
    'more_methods_test.py::test_mentornet_by_hand',
    changes=(
      Change('a small net imitates the rule', 'the rule itself', 'it is what the net learns'),
      Change('scales weight decay by the mean of v', 'does not', 'a method cannot'),
      Change('leaves out all samples in the last 5%', '5% of them', 'no training at all there'),
    ),
  ),
  'auto_assist': Method(
    '[Zhang et al. 2019](https://arxiv.org/abs/1905.03381)',
    'yes',
    'more_methods_test.py::test_the_assistant_by_hand',
    changes=(
      Change('accepts by chance, in a queue', 'takes s of each K by chance', _EXACT),
      Change('learns on another processor, late', 'learns at once', 'runs can be repeated'),
      Change('candidates in stored order', 'shuffled', 'the order of files is no rule'),
    ),
    absent=(
      (
        'hard by the mean loss less a standard deviation',
        'said in a docstring of its code, which takes the mean',
      ),
      (
        'counts of words as what the assistant sees, and the mean loss of the epoch before '
        '(translation)',
        'images have no words; one rule of the mean serves both forms',
      ),
    ),
  ),
  'gradient_norm': Method(
    '[Alain et al. 2016](https://arxiv.org/abs/1511.06481), '
    '[Zhao and Zhang 2015](https://arxiv.org/abs/1401.2753)',
    'no',
    'more_methods_test.py::test_a_table_of_norms_waits_for_the_first_look',
    _SCANS,
    (
      Change(
        'whole gradients, by helpers beside the training',
        'the bound by the logits, measured in between',
        'every pass is charged, and runs can be repeated',
      ),
      Change('norms too old are left out', 'a table of latest bounds', 'it is whole by then'),
    ),
  ),
  'class_sampling': Method(
    '[Gopal 2016](https://proceedings.mlr.press/v48/gopal16.html)',
    'no',
    'more_methods_test.py::test_class_shares_by_hand',
    changes=(
      Change(
        'estimator of the squared norms is not known to us',
        'running mean of the squared bound, 0.9',
        'derived from the objective',
      ),
    ),
  ),
  'repeat_before_forgetting': Method(
    '[Amiri et al. 2017](https://aclanthology.org/D17-1255/)',
    'yes',
    'more_methods_test.py::test_delays_by_hand',
    _REFRESHED,
    (
      Change(
        'trains on all that are due',
        'on the floor(N B) that are due first, as far as the pool goes',
        _EXACT,
      ),
      Change(
        'validates on held-out data (in its example the test data)',
        'holds a part of the training data out',
        'test data are not looked at',
      ),
      Change('recall of a batch', 'probability of the true class, of each sample', 'finer'),
    ),
    (('the secant kernel', 'its fit lacks a square'),),
  ),
  'local_to_global': Method(
    'Cheng et al., CVPR 2019',
    'yes, until all classes are there',
    'more_methods_test.py::test_classes_join_in_stages',
    changes=(
      Change('every sample of the classes once an epoch', 'floor(N B), drawn', _EXACT),
      Change('the head grows', 'the whole head from the start', 'one network'),
      Change(
        'each stage restarts the schedule from the weights of best test accuracy',
        'one schedule, weights go on',
        'test data are not looked at',
      ),
    ),
    absent=(
      (
        'classes alike to the net of each stage (a port)',
        'no plan sees the net; `join=alike` asks one that was trained on everything before',
      ),
    ),
  ),
  'rais': Method(
    '[Johnson and Guestrin 2018](https://papers.nips.cc/paper/7957)',
    'no',
    'more_methods_test.py::test_robust_choice_by_hand',
    changes=(
      Change('several features', 'one: the last bound', 'there is no public code'),
      _NO_RATE,
      Change('chances by the prediction alone', 'half of them uniform', 'weights stay below 2'),
    ),
  ),
  'poisson_disk': Method(
    '[Zhang et al. 2019](https://arxiv.org/abs/1804.02772)',
    'yes',
    'more_methods_test.py::test_points_that_coincide_are_kept_apart',
    changes=(
      Change('draws until a batch is full', 'a pool of 4 s, filled up', 'it may take for ever'),
    ),
  ),
  'dpp': Method(
    '[Zhang et al. 2017](https://arxiv.org/abs/1705.00607)',
    'yes, towards rare samples',
    'more_methods_test.py::test_determinants_decide_who_comes_together',
    changes=(
      Change('a k-DPP over all samples', 'over a pool of 4 s for each row', 'an eigensystem of N'),
      Change('rank of the features', 'a ridge on the diagonal', 'batches larger than the rank'),
    ),
  ),
  'proxy_filter': Method(
    '[Jordan 2024](https://github.com/KellerJordan/cifar10-airbench), airbench96_faster',
    'yes',
    'proxy_filter_test.py::test_the_kept_are_the_hardest_by_a_proxy_trained_as_the_rule_says',
    '3*n + 1.5*L',
    (
      Change(
        'keeps half of each batch', 'keeps what the budget leaves of all samples',
        'budgets are shares of all samples; `keep=0.5` is the published form',
      ),
      Change(
        'whitens the proxy by 5000 images', 'by the candidates of the first row',
        'a method sees no data beside its rows',
      ),
      Change(
        'trains the proxy in the first of every four rows', 'in the last of every four',
        'each row pays an equal part of it from the first on',
      ),
    ),
  ),
}  # fmt: skip


def make(name: str, budget: float = 0.5, unit: str = 'backward', spec: Spec = SPEC) -> Selector:
  """A method with its default options, and something for what it needs.

  Args:
    name: of the registry, not `replay`.
    budget: B; 1 where the method takes nothing else.
    unit: of the budget.
    spec: sizes of the run.

  Returns:
    A selector that can be started.
  """
  part = factories.find('selector', name)
  options = part.fill({})
  budget = 1.0 if name in ('sgd', 'dynamics_sgd') else budget
  arrays = {
    'label': np.arange(spec.num_examples, dtype=np.int32) % spec.num_classes,
    'features': np.zeros((spec.num_examples, 1), np.float32),
  }
  some = np.zeros(spec.num_examples, np.float32)
  needed = {n.parameter: arrays.get(n.takes, some) for n in selectors.needs(name, options)}
  return selectors.make_selector(name, spec, ledger.as_budget(budget, unit), options, needed)


def cost(formula: str, selector: Selector, spec: Spec = SPEC) -> float:
  """What a cost formula gives for a method as it is planned.

  Args:
    formula: of `Method.cost`.
    selector: the method.
    spec: sizes of the run.

  Returns:
    Forward equivalents an epoch.
  """
  facts = selector.facts
  trained = facts.planned.backward / facts.epochs
  values = {
    'N': spec.num_examples,
    'n': trained,
    'L': facts.rows * facts.candidates,
    'S': sum(facts.scan.due(e) for e in range(facts.epochs)),
    'T': facts.epochs,
    'h': facts.rows * facts.candidates - trained,
  }
  return eval(formula, {'__builtins__': {}}, values)  # noqa: S307  ours, from the table above


def state_text(name: str) -> str:
  """What a method remembers of each sample: bytes, and how many numbers beside."""
  leaves = jax.tree.leaves(jax.eval_shape(make(name).init, jax.random.key(0)))
  per_sample = sum(
    x.size // SPEC.num_examples * x.dtype.itemsize
    for x in leaves
    if x.shape[:1] == (SPEC.num_examples,)
  )
  course = [x for x in leaves if x.ndim == 3 and x.shape[1:] == (SPEC.epochs, SPEC.num_examples)]
  if course:  # of all epochs
    return f'{sum(x.shape[0] * x.dtype.itemsize for x in course)} T + {per_sample} B'
  features = [x for x in leaves if x.ndim == 2 and x.shape[0] == SPEC.num_examples]
  if features:  # as many as the network has
    per_sample -= sum(x.shape[1] * x.dtype.itemsize for x in features)
    return f'{per_sample} B and the features' if per_sample else 'the features'
  return f'{per_sample} B' if per_sample else 'none'


def to_markdown() -> str:
  """The page of all methods."""
  lines, entries = [_HEAD], listing.entries('selector')
  lines += ['| method | in a line | cost an epoch | state per sample | biased |', '|' + '---|' * 5]
  for name in registry.names('selector'):
    method = METHODS[name]
    state = 'the recording' if name == 'replay' else state_text(name)
    shown = method.cost.replace('*', '')
    lines += [
      f'| [{name}](#{name}) | {entries[name].summary} | {shown} | {state} | {method.biased} |'
    ]
  for name in registry.names('selector'):
    lines += _section(name, METHODS[name], entries[name])
  return '\n'.join(lines) + '\n'


def _section(name: str, method: Method, entry: listing.Entry) -> list[str]:
  """What the page says of one method."""
  lines = ['', f'## {name}', '', entry.summary, '', f'- **Source**: {method.source}.']
  needs = (
    () if name == 'replay' else selectors.needs(name, factories.find('selector', name).fill({}))
  )
  if needs:
    runs = [f'{n.takes} of a run of `{n.selector}`' for n in needs if n.count]
    told = [*runs, *(['the labels'] if any(not n.count for n in needs) else [])]
    lines += [f'- **Needs**: {", ".join(dict.fromkeys(told))}.']
  options = [
    f'`{option}: {annotation}`' + (f' = `{default}`' if default else '')
    for option, (annotation, default) in entry.options.items()
  ]
  lines += [f'- **Options**: {"; ".join(options) or "none"}.']
  lines += [
    f'- **Departs from its source**: {c.original} there, here {c.here} ({c.why}).'
    for c in method.changes
  ]
  lines += [f'- **Not offered**: {form} ({why}).' for form, why in method.absent]
  return [*lines, f'- **Pinned by**: `tests/{method.test}`.']


_HEAD = """# Methods

Every way of choosing samples that this package knows, under one account of cost. Written by
`python -m jaxbudget.lab.paper.methods`; options and the line on each are those of the factories,
what they mean is in their docstrings (`--list=selector`).

**Cost** is in forward equivalents an epoch (forward 1, backward 2) with default options: N samples
there are, n trained on (floor(N B) in full batches), L candidates of all rows, S looks at all
samples in T epochs, h samples in rows that only look. `budget_unit=compute` charges all of it, and
methods plan with what is left; runs that come first are charged by `shared_by`. **Biased** says
whether the expected gradient is another than that of all samples. Departures from the study's own
code are in [deviations.md](deviations.md).

`score_every=k` lets any method that plans to score candidates do so in every k-th epoch only, and
reuse what the model said there; `score_size=h` lets it score images of that height, charged by
their floating-point operations in 1/1024 of a forward pass. `ordered_sgd` with `backward=compact`
plans none: it scores once q has fallen, nobody knows when, and pays by what it does not train on.

`proxy_filter` scores by a network of its own, whose passes are charged by their floating-point
operations; the column takes them as dear as those of the network that is trained.

`craig` and `gradmatch` search each class on the host, between two epochs: half a second to two
for a class of 5,000 ([performance.md](performance.md)), which no column counts.

Under `mixup`, `ricap` and `cutmix` a picture weighs what its samples do, by their shares: weights
that make a draw unbiased do so only nearly then, since others are shown beside.

The engine divides by the samples of positive weight; methods whose originals divide by all s scale
their weights. Tables are read once an epoch, when the plan is made; but the forms of `active_bias`
that weigh (`wd`, `we`, `wpv`, `wtc`) read theirs in every row.
"""


if __name__ == '__main__':
  page = pathlib.Path(__file__).parents[3] / 'docs' / 'methods.md'
  page.write_text(to_markdown(), encoding='utf-8')
