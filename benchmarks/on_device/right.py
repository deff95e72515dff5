"""Right: the device chooses, counts and loses as the host's CPU does, row by row.

Every selector on a small network of products, every augmentation on a small ResNet, two epochs
of eight rows, at full precision. Each row is trained from the host's state and keys on both: of
rows that follow each other the last would tell no more, since a weight that is rounded otherwise
opens and closes ReLUs (a change of 1e-7 moves losses by 1e-2 within these rows). Methods that
choose in a row only after a while have a case in which they do.
"""

import concurrent.futures
import json
import sys
import time
from typing import Any

import jax
import numpy as np

from jaxbudget import engine, ledger, registry, scan, selectors
from jaxbudget.augment import make_augment
from jaxbudget.data import Info
from jaxbudget.models import make_model
from jaxbudget.optimizers import make_optimizer
from jaxbudget.types import Spec
from on_device.rows import placed, random_data, stand_ins

N, BATCH, SIDE, EPOCHS, ROWS = 128, 8, 16, 2, 8
CLOSE = 1e-3  # of a loss
WITHOUT = ('replay',)  # it has no plan of its own
# Their greedy choice among near ties, or eigenvectors, turn on the last bit of a product: whom they
# plan to train on.
DECIDED_BY_ROUNDING = ('craig', 'dpp')
# Accuracies that random labels reach, so that q is a quarter of a batch in the second epoch.
FALLING = {'thresholds': (1.0, 1.5)}
VARIANTS = {
  'gradient_bound that scores': ('gradient_bound', {'threshold': 0.0}),
  'ordered_sgd compact, q falls': ('ordered_sgd', {'backward': 'compact', **FALLING}),
  'ordered_sgd, q falls': ('ordered_sgd', FALLING),
  'ordered_sgd compact': ('ordered_sgd', {'backward': 'compact'}),
  'selective_backprop exact': ('selective_backprop', {'rate': 'exact'}),
  'p_sgd replacement': ('p_sgd', {'replacement': True}),
}


EXACT = 'rows', 'plan', 'trained', 'scored', 'counts'


def cases() -> dict[str, tuple[str, dict, str]]:
  """(selector, its options, augmentation) by name."""
  names = [name for name in registry.names('selector') if name not in WITHOUT]
  chosen = {name: (*both, 'none') for name, both in VARIANTS.items()}
  chosen |= {name: (name, {}, 'none') for name in names}
  mixed = registry.names('augment')
  return chosen | {f'unif_sgd, {name}': ('unif_sgd', {}, name) for name in mixed if name != 'none'}


def run(
  selector: str,
  options: dict,
  augment: str,
  device: jax.Device,
  states: list | None = None,
) -> dict[str, Any]:
  """Two epochs on a device: plans, counts, losses of rows.

  Args:
    selector: the method.
    options: of it.
    augment: the augmentation.
    device: where it is trained.
    states: to begin each row from; None begins from its own.

  Returns:
    Plain values by name, and `states`, what each row was begun from.
  """
  program, transform, method = _start(selector, options, augment)
  data = random_data(N, SIDE)
  seen: dict[str, list] = {name: [] for name in (*EXACT, 'loss', 'states')}
  with jax.default_device(device), jax.default_matmul_precision('highest'):
    trained = program._replace(
      root=jax.device_put(program.root, device), state=jax.device_put(program.state, device)
    )
    data = placed(data, device)
    for e in range(method.facts.epochs):
      trained = _scanned(trained, data, transform, e)
      trained = engine.begin_epoch(trained, e)
      seen['plan'].append(np.asarray(trained.state.plan.index)[: method.facts.rows].tolist())
      for row in range(min(ROWS, method.facts.rows)):
        state = states[len(seen['states'])] if states else trained.state
        # A copy of it, for what is trained on is donated.
        seen['states'].append(jax.tree.map(lambda x: x.copy(), state))
        trained = trained._replace(state=jax.device_put(state, device))
        trained, progress = engine.train_rows(trained, data, 0.05, row + 1)
        metrics = jax.device_get(progress.metrics)
        for name in ('loss', 'trained', 'scored'):
          seen[name].append(getattr(metrics, name)[row].item())
        seen['rows'].append(int(progress.row))
        seen['counts'].append(np.asarray(trained.state.times_trained).tolist())
  return seen


def _start(selector, options, augment):
  """A run at its beginning, on the host; its augmentation and its method."""
  shape = (SIDE, SIDE, 3)
  spec = Spec(N, BATCH, 10, EPOCHS, shape)
  info = Info('random', N, 0, 10, shape, (0.5,) * 3, (0.25,) * 3, flip=0.5, pad=2)
  if selector == 'selective_backprop':
    options = {'history': 32, **options}
  # Of what has fewer epochs under a budget, all that there are.
  budget = 1.0 if selector in ('sgd', 'dynamics_sgd', 'ordered_sgd') else 0.5
  method = selectors.make_selector(
    selector, spec, budget, options, stand_ins(selector, options, spec)
  )
  convolves = augment != 'none'
  network = {'conv': 'lax', 'width': 8} if convolves else {}
  model = make_model('resnet8' if convolves else 'mlp', 10, shape, **network)
  transform = make_augment(augment, info)
  with jax.default_device(jax.local_devices(backend='cpu')[0]):  # where the weights are drawn
    parts = spec, model, transform, method, make_optimizer(), ledger.as_budget(1, 'compute')
    return engine.start(*parts, seed=3), transform, method


def _scanned(trained, data, transform, number):
  facts = trained.selector.facts
  if not facts.scan.due(number):
    return trained
  state = trained.state
  model = trained.program.model
  seen = scan.observe(
    model, transform.test, state.params, state.model_state, data, 64, facts.scan.wants
  )
  state = scan.apply(trained.selector, state, seen, number, trained.root)
  return trained._replace(state=state)


def compare(case: tuple[str, dict, str], device: jax.Device) -> dict[str, Any]:
  """A case on the device beside the host."""
  here = run(*case, jax.local_devices(backend='cpu')[0])
  there = run(*case, device, here['states'])
  loss = np.array(here['loss']), np.array(there['loss'])
  exact = [name for name in EXACT if here[name] != there[name]]
  free = {'plan'} if case[0] in DECIDED_BY_ROUNDING else set()
  worst = 0.0
  if loss[0].shape == loss[1].shape and loss[0].size:
    worst = float(np.max(np.abs(loss[0] - loss[1]) / np.maximum(1, np.abs(loss[0]))))
  return {
    'rows': len(here['rows']),
    'scored': sum(here['scored']),
    'differs in': exact,
    'loss off by': worst,
    'right': worst <= CLOSE and not {*exact} - free,
  }


def main(until: float, only: list[str]) -> None:
  """Prints a line of JSON for each case, as they end; begins none after a time of `time.time`."""
  device = jax.devices()[0]
  wanted = {name: case for name, case in cases().items() if not only or name in only}

  def attempt(name):
    if time.time() > until:
      return name, None
    try:
      return name, compare(wanted[name], device)
    except Exception as e:
      return name, {'right': False, 'failed': f'{type(e).__name__}: {str(e)[:300]}'}

  with concurrent.futures.ThreadPoolExecutor(2) as pool:  # one traces while the other compiles
    for done in concurrent.futures.as_completed([pool.submit(attempt, n) for n in wanted]):
      name, found = done.result()
      if found:
        print(json.dumps({'case': name, **found}), flush=True)


if __name__ == '__main__':
  main(float(sys.argv[1]), sys.argv[2:])
