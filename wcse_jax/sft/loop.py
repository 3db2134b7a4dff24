"""The steps of one run, from its newest checkpoint to the last."""

import contextlib
import json
import math
import os
import time
from typing import Any

import jax
import numpy as np
from absl import logging

from wcse_jax import meter, processes, sharding, storage
from wcse_jax.sft import batches, boards, settings, watch
from wcse_jax.sft import step as steps
from wcse_jax.sft import store as stores


# Steps that may be on an accelerator before the host fetches their metrics.  A
# CPU works while it is asked to: it would only look as if the last steps before
# a halt had taken no time.
_AHEAD = 2
# Steps in a row that may be skipped.
_SKIPS = 10
# Steps of a process before those that the profiler traces.
_WARM = 3


class Loop:
  """Trains a model; see `run`.

  Attributes:
    graph: the model's structure.
    frozen: its weights that are not trained.
    total: steps of the whole run.
    scores: step -> score of each checkpoint so far.
    seconds: time of the steps, compiling and scoring left out.
  """

  def __init__(
    self,
    config: settings.SftConfig,
    model,
    stream: batches.Stream,
    store: stores.Store,
    judge,
    workdir: str,
    recipe: steps.Recipe,
  ):
    self._config = config
    self._mesh = model.mesh
    self._stream = stream
    self._store = store
    self._judge = judge
    self._workdir = workdir
    self._recipe = recipe
    self.total = recipe.steps
    adapters = 0
    self.graph, self._params, self.frozen = steps.split(model, config.dtype)
    if config.lora.rank:
      adapters = sum(x.size for x in jax.tree.leaves(self._params))
    self.speed = watch.Speed(
      model.config,
      dtype=config.dtype,
      devices=self._mesh.size,
      adapters=adapters,
    )
    self._losses = watch.Losses()
    self._on_cpu = sharding.platform(model.mesh) == 'cpu'
    self._schedule = recipe.schedule()
    self._optimizer = steps.start(self._params, recipe=recipe, mesh=self._mesh)
    self._at, self.scores, self.seconds = self._newest()
    if self._at:
      self._params, self._optimizer = self._loaded(self._at)
    self._flying: list[tuple[int, Any]] = []
    self._stopping = False
    self._skipped = 0
    # Whether this process's first steps were.
    self._booked = False

  def run(self) -> tuple[Any, int]:
    """Returns (the best of what is trained, its step).

    Raises:
      InputError: if a step is not finite, and the run is to stop there.
      Stopped: if a stop was asked for; what was done is saved.
    """
    count = self._config.checkpoints
    saves = {max(1, round(self.total * (i + 1) / count)) for i in range(count)}
    begun = self._at
    quiet = None
    began: float | None = None
    with contextlib.ExitStack() as stack:
      if not processes.first():
        quiet = stack.enter_context(open(os.devnull, 'w'))
      stop = stack.enter_context(watch.Stops())
      stack.enter_context(self._store)
      self._metrics = stack.enter_context(
        boards.Metrics(self._config, self._workdir, 'sft', self._at)
      )
      self._progress = stack.enter_context(
        meter.Progress('train', self.total, 'steps', quiet, start=self._at)
      )
      trace = stack.enter_context(
        _Trace(self._config.profile, self._workdir, begun)
      )
      for batch in self._stream.steps(
        self._at, self.total, self._config.batch_size
      ):
        trace.before(self._at)
        self._step(batch, stop.asked)
        if began is None:
          # The first step may compile: the clock starts behind it.
          self._land(0, timed=False)
          began = time.perf_counter()
          self.speed.restart()
        self._land(0 if self._on_cpu else _AHEAD)
        trace.after(self._at, self._params)
        if self._at in saves:
          self._land(0)
          self._book(begun, began)
          self._score()
          self._save()
          began = time.perf_counter()
          self.speed.restart()
        if self._stopping or (stop.asked and processes.count() == 1):
          self._land(0)
          self._book(begun, began)
          if self._at not in saves:
            self._save()
          self._store.wait()
          # Who leaves first would end the others' saving.
          processes.meet('sft-stopped')
          stop.obey(self._at)
      self._store.wait()
    chosen = best(self.scores)
    if chosen == self._at:
      return self._params, chosen
    return self._loaded(chosen)[0], chosen

  def _loaded(self, step: int) -> tuple[Any, Any]:
    """Returns (what is trained, the optimiser's state) of a checkpoint.

    Those of this moment are given up: there may be no room for both.
    """
    tree = (self._params, self._optimizer)
    shapes = stores.shapes(tree)
    for leaf in jax.tree.leaves(tree):
      leaf.delete()
    return self._store.load(step, shapes)

  def _book(self, begun: int, began: float) -> None:
    """Adds the time since `began`, and that of the first step if it is out.

    It compiled, and is taken to have worked as long as the others; a run of
    one step has no others.
    """
    took = time.perf_counter() - began
    if not self._booked:
      others = self._at - begun - 1
      took *= (others + 1) / others if others else 0
    self._booked = True
    self.seconds += took

  def release(self) -> None:
    """Gives up all weights and state, which others may still hold."""
    self._params = self._optimizer = self.frozen = None

  def _newest(self) -> tuple[int, dict[int, float], float]:
    """Returns where to go on, the same in all processes."""
    found: Any = None
    if processes.first():
      at, scores, seconds = self._store.newest()
      found = [at, stores.plain(scores), seconds]
    at, scores, seconds = json.loads(
      processes.tell('sft-newest', json.dumps(found))
    )
    scores = {int(k): -math.inf if v is None else v for k, v in scores.items()}
    return at, scores, seconds

  def _step(self, batch: dict[str, np.ndarray], asked: bool) -> None:
    """Dispatches one step."""
    placed = {
      key: sharding.place_batch(value, 'BT', self._mesh)
      for key, value in batch.items()
    }
    if processes.count() > 1:
      processes.look()
      placed['stop'] = _flag(asked, self._mesh)
    self._params, self._optimizer, values = steps.train(
      self._params,
      self._optimizer,
      self.frozen,
      placed,
      self._config.optimizer.learning_rate,
      graph=self.graph,
      recipe=self._recipe,
      mesh=self._mesh,
    )
    self._at += 1
    self._flying.append((self._at, values))

  def _land(self, keep: int, *, timed: bool = True) -> None:
    """Fetches the metrics of all but the last `keep` steps.

    Args:
      keep: how many to leave.
      timed: whether they took no longer than the others.
    """
    while len(self._flying) > keep:
      number, values = self._flying.pop(0)
      values = {k: float(v) for k, v in jax.device_get(values).items()}
      # All processes see the same, at the same step.
      self._stopping |= bool(values.pop('stop', 0.0))
      # Optax does not count the steps that were skipped.
      share = float(self._schedule(int(values.pop('count'))))
      values['learning_rate'] = share * self._config.optimizer.learning_rate
      self._look(number, values)
      seen = self._stream.between(number - 1, number, self._config.batch_size)
      values |= self.speed.step(seen, timed=timed)
      self._metrics.write(number, **values)
      self._progress.update(
        number,
        loss=values['loss'],
        tokens_per_s=values.get('tokens_per_second', 0.0),
        mfu=values.get('mfu', 0.0),
      )

  def _look(self, number: int, values: dict[str, float]) -> None:
    """Says what is out of order about a step, and ends the run if it must."""
    config = self._config
    numbers = self._stream.numbers(number - 1, config.batch_size)
    rate = config.optimizer.learning_rate
    bad = watch.nonfinite(values, number, numbers, rate)
    if bad is None:
      self._skipped = 0
      if self._losses.spike(values['loss']):
        watch.spiked(values['loss'], number, numbers)
      return
    self._skipped += 1
    if config.nonfinite == 'stop' or self._skipped >= _SKIPS:
      raise watch.Diverged(bad)
    logging.warning('%s  The step was skipped.', bad)

  def _score(self) -> None:
    score = self._judge.score(
      self.graph, self._params, self.frozen, self._at, self._recipe
    )
    # Of several processes the first one's counts: answers are graded against
    # the clock, too.
    score = float(processes.tell('sft-score', repr(score)))
    self.scores[self._at] = score if math.isfinite(score) else -math.inf

  def _save(self) -> None:
    # First the numbers: the steps before a checkpoint are not done again.
    self._metrics.flush()
    tree = (self._params, self._optimizer)
    self._store.save(self._at, tree, self.scores, self.seconds)
    if self._on_cpu:
      # What is being written shares its memory with the arrays, which then
      # cannot be given up: the next step would need room for both.
      self._store.wait()


class _Trace:
  """A profiler's trace of some steps, in `WORKDIR/profile/`; a context."""

  def __init__(self, count: int, workdir: str, begun: int):
    self._range = range(begun + _WARM, begun + _WARM + count)
    self._folder = storage.join(workdir, 'profile')
    self._open = False

  def __enter__(self) -> '_Trace':
    return self

  def __exit__(self, *exception: object) -> None:
    self._close()

  def before(self, step: int) -> None:
    """Says that a step begins."""
    if self._range and step == self._range[0]:
      jax.profiler.start_trace(self._folder)
      self._open = True

  def after(self, step: int, result: Any) -> None:
    """Says how many steps were begun, and what to wait for."""
    if self._open and step == self._range[-1] + 1:
      jax.block_until_ready(result)
      self._close()

  def _close(self) -> None:
    if self._open:
      self._open = False
      jax.profiler.stop_trace()


def _flag(asked: bool, mesh) -> jax.Array:
  """Returns a number of each device: whether its process is to stop."""
  spec = jax.sharding.PartitionSpec(mesh.axis_names)
  return jax.make_array_from_callback(
    (mesh.size,),
    jax.sharding.NamedSharding(mesh, spec),
    lambda at: np.full(len(range(*at[0].indices(mesh.size))), asked, np.int32),
  )


def best(scores: dict[int, float]) -> int:
  """Returns the step of the highest score; of equals the first."""
  return max(sorted(scores), key=lambda step: scores[step])
