"""Two methods that nobody needs, but that use every seam: a scan, and other runs' models."""

import jax.numpy as jnp
import numpy as np

from jaxbudget import ledger
from jaxbudget.parts import part_index
from jaxbudget.sampling import draw, shuffle
from jaxbudget.selectors.sgd import as_plan, plain_facts, unif_sgd
from jaxbudget.types import Need, Needed, Scan, Selector


def loss_scan(spec, budget, *, every: int = 2, on_host: bool = False, greedy: bool = False):
  """Draws by the losses of all samples, measured every few epochs; a greedy one up to the cap."""
  scans = -(-spec.epochs // every)
  charged = 0 if greedy else scans * spec.num_examples
  samples = ledger.trainable(spec, budget, charged, 'loss_scan')
  facts = plain_facts(spec, spec.epochs, samples)
  facts = facts._replace(
    scan=Scan(every, wants=('logits',), on_host=on_host),
    planned=facts.planned._replace(scored=scans * spec.num_examples),
    cost='expected' if greedy else 'exact',
  )

  def init(key):
    del key
    return jnp.ones(spec.num_examples, jnp.float32)

  def plan(loss, key, epoch):
    del epoch
    index = draw(key, loss, samples)
    return loss, as_plan(index, facts.rows, facts.candidates, spec.num_examples // facts.candidates)

  def scan(loss, key, seen):
    del loss, key
    assert isinstance(seen.logits, np.ndarray) == on_host and seen.features is None
    return np.asarray(seen.loss) if on_host else seen.loss

  return Selector(facts, init, plan, scan=scan, scores=lambda loss: loss)


def held_out(spec, budget, first: Needed = None, second: Needed = None):
  """Keeps the samples that a model trained on the other half of the data finds easiest."""
  budget = ledger.left_of(spec, budget)
  samples = ledger.share(spec.num_examples, budget)
  facts = plain_facts(spec, spec.epochs, samples)

  def init(key):
    del key
    loss = np.array(second)
    other = part_index(spec.num_examples, (1, 2))
    loss[other] = first[other]
    return jnp.asarray(np.argsort(loss, kind='stable'), jnp.int32)

  def plan(order, key, epoch):
    del epoch
    index = shuffle(key, order[:samples])
    return order, as_plan(
      index, facts.rows, facts.candidates, spec.num_examples // facts.candidates
    )

  return Selector(facts, init, plan)


def _needs(options):
  del options
  return Need('first', 'loss', part=(0, 2)), Need('second', 'loss', part=(1, 2))


held_out.needs = _needs


def imitate(spec, budget, counts: Needed = None):
  """Keeps the samples that a run of unif_sgd saw most often."""
  samples = ledger.trainable(spec, budget, 0, 'imitate')
  facts = plain_facts(spec, spec.epochs, samples)._replace(uniform_on_ties=False)

  def init(key):
    del key
    return jnp.asarray(np.argsort(-counts.sum(0).astype(int), kind='stable'), jnp.int32)

  return held_out(spec, budget)._replace(facts=facts, init=init)


imitate.needs = lambda options: (Need('counts', 'recording', 'unif_sgd', 0.5),)


def spendthrift(spec, budget, first: Needed = None):
  """Trains on as many as if the run that it needs had cost nothing: unsound."""
  del first
  return unif_sgd(spec, budget)


spendthrift.needs = lambda options: (Need('first', 'loss'),)

METHODS = {'loss_scan': loss_scan, 'held_out': held_out, 'imitate': imitate}
