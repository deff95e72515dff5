"""The evaluations of a run: after its epochs, and of its final weights on several views."""

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbudget import feeding, parallel
from jaxbudget.averaging import Weights
from jaxbudget.evaluation import Evaluation, evaluate, num_views, test_time
from jaxbudget.lab.run import classes, record
from jaxbudget.lab.run.ongoing import Live, Setting, fed, next_size, pause
from jaxbudget.lab.run.record import Best
from jaxbudget.lab.run.run import Run
from jaxbudget.types import Model


def compile(setting: Setting, live: Live) -> None:
  """Compiles the programs by evaluating no batch, which leaves the run as it is."""
  with _feed(setting, live, stop=0) as feed:
    nothing, _ = _up_to(setting, live, setting.run.parts.model, live.sums, feed, 0, 0)
  keep_best(setting, live, nothing, 0)


def after_epoch(setting: Setting, live: Live, e: int, short: bool) -> Iterator[None]:
  """Evaluates after epoch e, if that is due; yields between calls."""
  last = e + 1 == setting.run.parts.selector.facts.epochs
  if not last and (e + 1) % setting.run.cell.evaluate_every:
    return
  batches, model = num_batches(setting), setting.run.parts.model
  with _feed(setting, live, live.books.batches) as feed:
    while live.books.batches < batches:
      start, size, done = time.monotonic(), live.batches_per_call, live.books.batches
      sums = live.sums if done else parallel.replicate(blank(setting.run), setting.program.mesh)
      stop = min(done + size, batches)
      live.sums, live.books.batches = _up_to(setting, live, model, sums, feed, done, stop)
      if not short:
        live.sums.correct.block_until_ready()
        if live.books.batches == done + size:
          live.batches_per_call = next_size(size, time.monotonic() - start)
      if live.books.batches < batches:
        yield


def _up_to(
  setting: Setting,
  live: Live,
  model: Model,
  sums: Evaluation,
  feed: feeding.Feed,
  start: int,
  stop: int,
) -> tuple[Evaluation, int]:
  """Evaluates up to a batch, or to the last that the feed has at hand; gives that too."""
  parts, (data, stop) = setting.run.parts, fed(setting, live, feed, start, stop)
  sums = evaluate(
    model,
    parts.augment.test,
    setting.evaluation_batch,
    *weights(setting, live),
    data,
    sums,
    *parallel.replicate((np.int32(start), np.int32(stop)), setting.program.mesh),
    mesh=setting.program.mesh,
    task=parts.task,
  )
  return sums, stop


def weights(setting: Setting, live: Live) -> Weights:
  """The weights that are evaluated and kept: averaged ones, if there is an average."""
  state, averaging = live.state, setting.program.averaging
  return averaging.evaluated(state.average, (state.params, state.model_state))


def on_views(setting: Setting, live: Live) -> dict[str, Any]:
  """Evaluates the final weights on several views of each image, if asked for, and says so."""
  run, batches = setting.run, num_batches(setting)
  name = run.cell.tta
  if name == 'none':
    return {}
  start, mirrored = time.monotonic(), run.info.flip > 0
  model = test_time(run.parts.model, name, mirrored)
  sums = parallel.replicate(blank(run), setting.program.mesh)
  with _feed(setting, live) as feed:
    for batch in range(batches):
      sums, _ = _up_to(setting, live, model, sums, feed, batch, batch + 1)
      sums.correct.block_until_ready()
      pause(setting, live)
  forwards = num_views(name, mirrored) * run.info.num_test
  live.books.evaluated += forwards
  live.books.evaluate_seconds += time.monotonic() - start
  score = record.score(run, jax.device_get(sums))
  return {'tta': {'name': name, 'score': score, 'forward_evaluated': forwards}}


def keep_best(setting: Setting, live: Live, sums: Evaluation, epochs: int) -> None:
  """Keeps the weights if they are the best yet; after 0 epochs none are."""
  rank, done = setting.program.task.rank, parallel.replicate(np.int32(epochs), setting.program.mesh)
  live.best = _better(rank, live.best, sums, weights(setting, live), done)


@functools.partial(jax.jit, static_argnums=0)
def _better(
  rank: Callable, best: Best, sums: Evaluation, weights: Weights, epochs: jax.Array
) -> Best:
  latest = Best(sums, epochs, *weights)
  new, old = (rank(sums.correct, sums.loss) for sums in (latest.sums, best.sums))
  better = ((best.epoch == 0) | (new > old)) & (epochs > 0)
  return jax.tree.map(lambda new, old: jnp.where(better, new, old), latest, best)


def blank(run: Run) -> Evaluation:
  """Of no test example."""
  return Evaluation.blank(classes.number(run.info))


def num_batches(setting: Setting) -> int:
  """Forward passes that the test split takes."""
  return -(-setting.test_data.label.shape[0] // setting.evaluation_batch)


def _feed(setting: Setting, live: Live, start: int = 0, stop: int = feeding.ALL) -> feeding.Feed:
  size, mesh = setting.evaluation_batch, setting.program.mesh
  return feeding.batches(setting.test_data, size, mesh, start, stop, live.books)
