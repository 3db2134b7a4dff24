"""The training loop: resumable from its checkpoints, the best one exported."""

import dataclasses
import hashlib
import math
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from wcse_jax import (
  budget,
  checkpoints,
  errors,
  evaluate,
  meter,
  runlog,
  sharding,
  storage,
)
from wcse_jax.sft import data, settings
from wcse_jax.sft import step as steps
from wcse_jax.sft import store as stores


# Steps that may be on the device before the host fetches their metrics.
_AHEAD = 2


def run(config: settings.SftConfig, workdir: str) -> dict[str, Any]:
  """Fine-tunes one model; returns what `workdir/training.json` holds.

  The best of the evenly spaced checkpoints goes to `workdir/model/`: by
  accuracy on validation problems, else by validation loss, else the last; of
  equals the first.  A finished run returns at once; a killed one goes on from
  its newest good checkpoint and ends with the same weights.

  Raises:
    InputError: if the configuration or the data does not fit, or the folder
      holds another run; nothing is compiled or written before that.
  """
  config.validate()
  mesh = sharding.make_mesh(config.mesh)
  _check_batch(config, mesh)
  model, tokenizer = checkpoints.load(config.checkpoint, mesh=mesh)
  examples, counts = data.read(
    config.train,
    config.task,
    config.data,
    config.selection,
    bad_rows=config.bad_rows,
  )
  rows = data.encode(examples, tokenizer, config.max_length)
  judge = _Judge(config, tokenizer)
  identity = _identity(config, rows, judge)
  done = storage.join(workdir, 'training.json')
  if storage.exists(done):
    result = storage.read_json(done)
    stores.check(workdir, identity, result['fingerprint'])
    return result
  store = stores.Store(storage.join(workdir, 'checkpoints'), identity)
  devices = [str(device) for device in mesh.devices.flat]
  with runlog.writing(workdir, dataclasses.asdict(config), devices=devices):
    loop = _Loop(config, model, rows, store, judge, workdir)
    best, chosen = loop.run()
    model = nnx.merge(loop.graph, best)
    checkpoints.export(
      model,
      tokenizer,
      storage.join(workdir, 'model'),
      card=dataclasses.replace(
        checkpoints.origin(config.checkpoint),
        data=(config.train.rstrip('/').rpartition('/')[2],),
      ),
      prompt_format='plain',
    )
    lengths = [len(row.tokens) for row in rows]
    seen = loop.total * config.batch_size
    result = {
      'fingerprint': identity,
      'steps': loop.total,
      'best_step': chosen,
      'chosen_by': judge.metric,
      'scores': {str(k): v for k, v in sorted(loop.scores.items())},
      'examples': len(rows),
      'selection': counts,
      'dropped': len(examples) - len(rows),
      'epochs': seen / len(rows),
      'tokens': round(seen * sum(lengths) / len(lengths)),
      'flops': seen * budget.training_flops(model.config, config.max_length),
      'chips': mesh.size,
      'chip_seconds': loop.seconds * mesh.size,
    }
    runlog.book(workdir, 'train', ledger_row(result, 'model'))
    runlog.merge_ledger(workdir)
    storage.publish_json(done, result)
    store.clear()
  return result


def ledger_row(result: dict[str, Any], name: str) -> dict[str, Any]:
  """Returns the ledger row of a finished run."""
  return {
    'stage': 'train',
    'model': name,
    'chips': result['chips'],
    'chip_seconds': result['chip_seconds'],
    'prefill_tokens': 0,
    'decode_tokens': 0,
    'flops': result['flops'],
    'usd': None,
  }


class _Loop:
  """The steps of one run, from its newest checkpoint to the last.

  Attributes:
    graph: the model's structure.
    total: steps of the whole run.
    scores: step -> score of each checkpoint so far.
    seconds: time of the steps, compiling and scoring left out.
  """

  def __init__(self, config, model, rows, store, judge, workdir: str):
    self._config = config
    self._mesh = model.mesh
    self._store = store
    self._judge = judge
    self._workdir = workdir
    self._batches = _batches(config, rows)
    self.total = config.steps or math.ceil(
      config.epochs * len(rows) / config.batch_size
    )
    self._recipe = steps.Recipe.of(config, self.total)
    self.graph, self._params = nnx.split(model)
    self._optimizer = steps.start(
      self._params, recipe=self._recipe, mesh=self._mesh
    )
    self._at, self.scores, self.seconds = store.newest(_best)
    if self._at:
      self._params, self._optimizer = store.load(
        self._at, (self._params, self._optimizer)
      )
    self._flying: list[tuple[int, Any]] = []

  def run(self) -> tuple[Any, int]:
    """Returns (the best weights, their step)."""
    count = self._config.checkpoints
    saves = {max(1, round(self.total * (i + 1) / count)) for i in range(count)}
    best = None
    began: float | None = None
    with (
      runlog.Metrics(self._workdir, 'sft') as self._metrics,
      meter.Progress(
        'train', self.total, 'steps', start=self._at
      ) as self._progress,
    ):
      while self._at < self.total:
        self._step()
        if began is None:
          # The first step may compile: the clock starts behind it.
          jax.block_until_ready(self._params)
          began = time.perf_counter()
        if self._at in saves:
          self._land(0)
          self.seconds += time.perf_counter() - began
          if self._save():
            best = jax.tree.map(jnp.copy, self._params)
          began = time.perf_counter()
    chosen = _best(self.scores)
    if best is None:
      # It was saved by an earlier process.
      like = (self._params, self._optimizer)
      best = self._store.load(chosen, like)[0]
    return best, chosen

  def _step(self) -> None:
    """Dispatches one step; fetches the metrics of one that is over."""
    batch = {
      key: sharding.place_batch(value, 'BT', self._mesh)
      for key, value in self._batches[self._at].items()
    }
    self._params, self._optimizer, values = steps.train(
      self._params,
      self._optimizer,
      batch,
      graph=self.graph,
      recipe=self._recipe,
    )
    self._at += 1
    self._flying.append((self._at, values))
    self._land(_AHEAD)

  def _land(self, keep: int) -> None:
    """Fetches the metrics of all but the last `keep` steps."""
    while len(self._flying) > keep:
      number, values = self._flying.pop(0)
      values = {k: float(v) for k, v in jax.device_get(values).items()}
      # A finite loss with such a gradient leaves weights that are not finite.
      for name in ('loss', 'gradient_norm'):
        if not math.isfinite(values[name]):
          rate = self._config.optimizer.learning_rate
          raise errors.InputError(
            f'training diverged: {name} {values[name]} at step {number}; '
            f'lower optimizer.learning_rate={rate}.'
          )
      self._metrics.write(number, **values)
      self._progress.update(number, loss=values['loss'])

  def _save(self) -> bool:
    """Scores and saves the weights; returns whether they are the best."""
    at = self._at
    self.scores[at] = self._judge.score(self.graph, self._params, at)
    tree = (self._params, self._optimizer)
    # First the numbers: the steps before a checkpoint are not done again.
    self._metrics.flush()
    self._store.save(at, tree, self.scores, self.seconds)
    return _best(self.scores) == at


class _Judge:
  """What the checkpoints are compared by.

  Attributes:
    metric: its name.
    rows: what it scores on: problems or sequences.
  """

  def __init__(self, config: settings.SftConfig, tokenizer):
    self._config = config
    self._tokenizer = tokenizer
    self._evaluator = None
    self.rows: Sequence[Any] = ()
    if config.validation_problems:
      self.metric = 'accuracy'
      self._evaluator = evaluate.Evaluator(
        evaluate.EvaluateConfig(
          task=config.task,
          data=config.data,
          bad_rows=config.bad_rows,
          split='validation',
          limit=config.validation_problems,
          # In the format of the training.
          chat='off',
          majority=(),
          validation_size=config.validation_size,
          sampler=config.sampler,
        )
      )
      self.rows = self._evaluator.problems
    elif config.validation:
      self.metric = 'validation loss'
      examples, _ = data.read(config.validation, config.task, config.data)
      self.rows = data.encode(examples, tokenizer, config.max_length)
    else:
      self.metric = 'last step'

  def score(self, graph, params, at: int) -> float:
    """Returns what the best checkpoint has most of."""
    if self._evaluator is not None:
      model = nnx.merge(graph, params)
      return self._evaluator.accuracy(model, self._tokenizer)
    if not self.rows:
      return float(at)
    # Filled up with rows without a target: batches of one shape, in which
    # every row is scored once.
    empty = [data.Encoded((0,), 1)] * (
      -len(self.rows) % self._config.batch_size
    )
    rows = [*self.rows, *empty]
    batches = _batches(self._config, rows)
    sums = [
      steps.evaluate(params, batches[i], graph=graph, dtype=self._config.dtype)
      for i in range(len(rows) // self._config.batch_size)
    ]
    total, count = np.sum(jax.device_get(sums), axis=0, dtype=np.float64)
    return -float(total / count)


def _batches(config: settings.SftConfig, rows: Sequence[data.Encoded]):
  return data.batches(
    rows,
    batch_size=config.batch_size,
    max_length=config.max_length,
    seed=config.seed,
  )


def _check_batch(config: settings.SftConfig, mesh) -> None:
  parts = mesh.shape['data'] * mesh.shape['fsdp']
  if config.batch_size % (parts * config.accumulate):
    raise errors.InputError(
      f'batch_size: wanted a multiple of data x fsdp x accumulate = '
      f'{parts * config.accumulate}; got {config.batch_size}.'
    )


def _identity(
  config: settings.SftConfig, rows: Sequence[data.Encoded], judge: _Judge
) -> dict[str, Any]:
  """Returns all that the weights of a step and its score depend on."""
  fields = dataclasses.asdict(config)
  # Of these the content counts, not the place.
  for name in ('train', 'checkpoint', 'data', 'validation'):
    del fields[name]
  return {
    'config': fields,
    'rows': _sha256(rows),
    'validation': _sha256(judge.rows),
    **checkpoints.fingerprint(config.checkpoint),
  }


def _sha256(rows: Sequence[Any]) -> str:
  return hashlib.sha256(repr(list(rows)).encode()).hexdigest()


def _best(scores: dict[int, float]) -> int:
  """Returns the step of the highest score; of equals the first."""
  return max(sorted(scores), key=lambda step: scores[step])
