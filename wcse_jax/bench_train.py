"""Throughput of the trainer on a given piece of work, beside the machine's.

The work is a fine-tuning run's first steps: its data, batches and settings.
"""

import dataclasses
import statistics
import time
from typing import Any

import jax

from wcse_jax import budget, checkpoints, errors, machine, sharding
from wcse_jax.sampler import inputs
from wcse_jax.sft import batches, settings, step, train, watch


@dataclasses.dataclass(kw_only=True)
class TrainBenchConfig(settings.SftConfig):
  """A piece of work to time: the fields of a fine-tuning run, and these.

  Of the run's `steps` all are done, as many as are asked for; nothing is saved.

  Attributes:
    warm: first steps that are not timed; the very first one compiles.
    threads: of a peer; 0 for one a core.
  """

  steps: int = 6
  warm: int = 2
  threads: int = 0

  def validate(self) -> None:
    super().validate()
    for field, least in (('warm', 1), ('threads', 0)):
      if getattr(self, field) < least:
        raise errors.InputError(
          f'{field}: wanted a count >= {least}; got {getattr(self, field)}.'
        )
    if self.steps <= self.warm:
      raise errors.InputError(
        f'steps: wanted more than warm={self.warm}; got {self.steps}.'
      )


def stream(config: TrainBenchConfig) -> batches.Stream:
  """Returns the rows of the work."""
  tokenizer = checkpoints.read_tokenizer(config.checkpoint)
  return train.read(config, tokenizer).stream


def bench(config: TrainBenchConfig) -> dict[str, Any]:
  """Does some steps of training; returns the figures, ready for JSON.

  - `losses`, `gradient_norms`: of every step (nats a target token).
  - `step_seconds`: the median of those behind `warm`; `all_seconds`.
  - `tokens_per_second`: of the rows, padding left out; `model_flops` a second
    as `budget.training_flops` counts what these tokens need, and `mfu`, its
    share of the devices' matrix rate `machine`.
  - `compile_seconds`: what the first step took more than the median.
  - `peak_bytes`: most memory, of a device or of this process.

  Raises:
    InputError: as training would.
  """
  config.validate()
  mesh = sharding.make_mesh(config.mesh)
  train.check_batch(config, mesh)
  rows = stream(config)
  model = train.load(config, mesh)
  recipe = train.recipe(config, model.config, mesh, config.steps)
  graph, params, frozen = step.split(model, config.dtype)
  adapters = 0
  if config.lora.rank:
    adapters = sum(x.size for x in jax.tree.leaves(params))
  optimizer = step.start(params, recipe=recipe, mesh=mesh)
  seconds, values = [], []
  for batch in rows.steps(0, config.steps, config.batch_size):
    began = time.perf_counter()
    placed = {
      key: sharding.place_batch(value, 'BT', mesh)
      for key, value in batch.items()
    }
    params, optimizer, found = step.train(
      params,
      optimizer,
      frozen,
      placed,
      config.optimizer.learning_rate,
      graph=graph,
      recipe=recipe,
      mesh=mesh,
    )
    values.append(jax.device_get(jax.block_until_ready((params, found))[1]))
    seconds.append(time.perf_counter() - began)
  took = statistics.median(seconds[config.warm :])
  tokens, flops = work(config, rows, model.config, adapters)
  rate = mesh.size * machine.peak_rate(config.dtype)
  return {
    'engine': 'wcse_jax',
    'model': inputs.model_name(config.checkpoint),
    'dtype': config.dtype,
    'weights_dtype': config.weights_dtype,
    'batch_size': config.batch_size,
    'max_length': config.max_length,
    'packing': config.packing,
    'lora_rank': config.lora.rank,
    'remat': config.remat,
    'accumulate': config.accumulate,
    'attention': recipe.attention or 'plain',
    'machine': {
      'device': str(jax.devices()[0].device_kind),
      'devices': mesh.size,
      'matrix': rate,
    },
    'losses': [float(v['loss']) for v in values],
    'gradient_norms': [float(v['gradient_norm']) for v in values],
    'all_seconds': seconds,
    'step_seconds': took,
    'tokens_per_step': tokens,
    'tokens_per_second': tokens / took,
    'model_flops': flops,
    'mfu': flops / took / rate,
    'compile_seconds': max(0.0, seconds[0] - took),
    'peak_bytes': watch.memory(),
  }


def work(
  config: TrainBenchConfig, rows: batches.Stream, architecture, adapters: int
) -> tuple[float, float]:
  """Returns (tokens, FLOPs that they need) of a timed step, on average."""
  steps = config.steps - config.warm
  seen = rows.between(config.warm, config.steps, config.batch_size)
  tokens = sum(len(row.tokens) for row in seen)
  flops = sum(
    budget.training_flops(
      architecture, len(row.tokens), logits=row.targets, adapters=adapters
    )
    for row in seen
  )
  return tokens / steps, flops / steps
