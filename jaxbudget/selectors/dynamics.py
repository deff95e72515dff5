"""The scoring run: SGD that keeps a record of what training says of every sample."""

from jaxbudget import ledger
from jaxbudget.ledger import Budget
from jaxbudget.scoring import dynamics
from jaxbudget.selectors.sgd import plain_facts, shuffled_rows
from jaxbudget.types import Selector, Spec


def _record(state: dynamics.Dynamics):
  return state.record


def dynamics_sgd(spec: Spec, budget: Budget | float = 1.0) -> Selector:
  """SGD that records training dynamics, of which core-sets are scored (fidelity.md 2.9).

  It is `scan_sgd`, and writes down each presentation of each sample, see `scoring.dynamics`.

  Args:
    spec: sizes of the run.
    budget: B: it runs for floor(T*B) epochs.

  Returns:
    A selector; its `scores` are the record, f16[4,T,N].

  Raises:
    ValueError: the budget leaves no epoch.
  """
  facts = plain_facts(spec, ledger.share(spec.epochs, budget), spec.num_examples)
  facts = facts._replace(asks=('probabilities',))
  plain = shuffled_rows(spec, facts)

  def init(key):
    del key
    return dynamics.blank(facts.epochs, spec.num_examples)

  def plan(state, key, epoch):
    return state, plain.plan((), key, epoch)[1]

  return Selector(facts, init, plan, update=dynamics.observe, scores=_record)
