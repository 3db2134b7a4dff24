"""How a model would do on a TPU slice, before anyone rents it.

The sampler's and the trainer's own programs are compiled for the slice on a
machine without one; memory is the compiler's own account, traffic and products
are counted in the optimised program (`traffic.py`), times follow from the
chip's documented rates.
Nothing runs: every figure is an estimate.
"""

import dataclasses
import math
import os
from typing import Any

import jax.numpy as jnp

from wcse_jax import checkpoints, errors, prices, sharding
from wcse_jax.aot import figures, ideal, programs, slices, traffic, training
from wcse_jax.models import config as model_config
from wcse_jax.models import published
from wcse_jax.sampler import settings
from wcse_jax.sft import settings as sft_settings


PROGRAMS = ('prefill', 'decode', 'train')
_ESTIMATE = (
  'All figures are estimates, by compiling for the slice; nothing ran on a TPU.'
)
# Programs that the search for the number of slots compiles at most, and slots
# beyond which it does not look.
_TRIES = 4
_MOST_SLOTS = 16_384
# Slots are sought in steps of this: a tile of a TPU has as many rows.
_ROWS = 8


class CountError(RuntimeError):
  """The traffic of a program was counted wrongly."""


@dataclasses.dataclass(kw_only=True)
class CompileConfig:
  """What to compile, for which slice.

  Attributes:
    model: a published model's name, or a checkpoint: its config alone is read.
    program: `decode`, `prefill` or `train`.
    topology: the slice, as `v5e:4x4`; newer ones as `tpu7x:2x2x1`.
    slots: sequences of a decode step.
    prefix_length: tokens of the shared prefix; 0 for none.
    max_length: own positions of a slot behind the prefix; of a prefill, tokens
      of each prompt behind it; of a training step, tokens of a row.
    fill: share of them that is filled, in (0, 1].
    batch_size: prompts of a prefill, rows of a training step.
    dtype: of weights and cache; of a training step, of its compute.
    weights: as `dtype` where empty, or `int8`.
    attention: what reads the cache in a decode step, as `sampler.attention` in
      a sampling run, or what attends in a training step, as `attention` there;
      empty: what a run would take.
    mesh: as `data=1,fsdp=1,tensor=16`; empty: chosen for the slice.
    temperature: of the draw, as the other three in a sampling run.
    top_k: likewise.
    top_p: likewise.
    min_p: likewise.
    new_tokens: of a sample, for its price; 0: `max_length`.
    largest_slots: whether to look for the largest number of slots that fits,
      which compiles the program up to four times more.
    usd_per_chip_hour: price; 0: from the table `prices.json`.
    remat: of a training step, as in a training run; empty: each in turn, from
      the one that keeps most.
    accumulate: likewise, micro-batches.
    weights_dtype: likewise, what trained weights are kept in.
    lora: likewise, adapters.
    optimizer: likewise.
    largest_batch: whether to look for a larger batch of a training step, which
      compiles it several times more.
  """

  model: str = 'gemma2-9b'
  program: str = 'decode'
  topology: str = 'v5e:2x4'
  slots: int = 64
  prefix_length: int = 1000
  max_length: int = 512
  fill: float = 1.0
  batch_size: int = 8
  dtype: str = 'bfloat16'
  weights: str = ''
  attention: str = ''
  mesh: str = ''
  temperature: float = 0.7
  top_k: int = 0
  top_p: float = 1.0
  min_p: float = 0.0
  new_tokens: int = 0
  largest_slots: bool = True
  usd_per_chip_hour: float = 0.0
  remat: str = ''
  accumulate: int = 1
  weights_dtype: str = 'float32'
  lora: sft_settings.LoraConfig = dataclasses.field(
    default_factory=sft_settings.LoraConfig
  )
  optimizer: sft_settings.OptimizerConfig = dataclasses.field(
    default_factory=sft_settings.OptimizerConfig
  )
  largest_batch: bool = True

  def validate(self) -> None:
    """Raises InputError for the first field that is out of range."""
    known = {
      'program': PROGRAMS,
      'dtype': ('bfloat16', 'float32'),
      'weights': ('', 'int8'),
      'attention': ('', 'xla', 'pallas'),
    }
    if self.program == 'train':
      known['attention'] = sft_settings.ATTENTION
      known['weights'] = ('',)
      self.sft().validate()
    for name, values in known.items():
      if getattr(self, name) not in values:
        wanted = ' or '.join(value or 'nothing' for value in values)
        raise errors.InputError(
          f'{name}: wanted {wanted}; got {getattr(self, name)!r}.'
        )
    for name, least in (
      ('slots', 1),
      ('prefix_length', 0),
      ('max_length', 1),
      ('batch_size', 1),
      ('new_tokens', 0),
      ('usd_per_chip_hour', 0),
    ):
      if getattr(self, name) < least:
        raise errors.InputError(
          f'{name}: wanted a number >= {least}; got {getattr(self, name)}.'
        )
    if not 0 < self.fill <= 1:
      raise errors.InputError(
        f'fill: wanted a share in (0, 1]; got {self.fill}.'
      )
    settings.SamplerConfig(
      temperature=self.temperature,
      top_k=self.top_k,
      top_p=self.top_p,
      min_p=self.min_p,
    ).validate(where='')

  def sft(self) -> sft_settings.SftConfig:
    """Returns the training run whose step is compiled."""
    return sft_settings.SftConfig(
      checkpoint=self.model,
      train='rows',
      batch_size=self.batch_size,
      accumulate=self.accumulate,
      max_length=self.max_length,
      packing=True,
      lora=self.lora,
      optimizer=self.optimizer,
      dtype=self.dtype,
      weights_dtype=self.weights_dtype,
      remat=self.remat or 'none',
      attention=self.attention,
    )

  @property
  def drawn(self) -> int:
    """New tokens of a sample."""
    return self.new_tokens or self.max_length

  def shape(self, slots: int) -> programs.Shape:
    """Returns the padded shape with so many slots."""
    return programs.Shape(
      slots=slots,
      prefix=self.prefix_length,
      places=self.max_length,
      limit=self.drawn,
      rows=self.batch_size,
      fill=self.fill,
      draws=(self.temperature, self.top_k, self.top_p, self.min_p),
    )


def compile(
  config: CompileConfig, model: model_config.ModelConfig | None = None
) -> dict[str, Any]:
  """Compiles a program for a slice; returns the figures, ready for JSON.

  Figures of a step are of one chip.  A decode step is one round of the
  program's loop over steps; what the program does outside of it, once a visit
  of up to 64 steps, is `bytes_outside`.

  - `bytes_accessed`: to and from HBM; `ideal_bytes`: the whole model's weights
    once, filled cache and shared prefix once, logits once, over the chips (of
    a prefill: weights, prefix, and the keys and values that it makes);
    `bytes_ratio`: one over the other.
  - `seconds`: of memory, products and links apart; `estimated_seconds` is the
    largest of them, `roofline_seconds` what `ideal_bytes` would take.
  - `largest`: what moves most, by instruction.
  - `unfilled_bytes`: of the cache's places that hold nothing yet; the
    compiler's own attention reads them, a kernel does not.
  - `on_chip_bytes`: of what the loop keeps in on-chip memory from step to step
    (weights, say), which no step reads from HBM, and of the logits, which may
    stay there: what of them is missing to the ideal counts as moved.
  - where the program does not fit, what only a compiled program tells is null.

  The figures of a training step are told in `training.compile`.

  Args:
    config: what to compile.
    model: of which architecture; None: that of `config.model`.

  Raises:
    InputError: if a field is out of range or does not fit the model.
    CountError: if fewer bytes were counted than the program has to move.
  """
  config.validate()
  pieces = slices.parse(config.topology)
  model = model or _model(config.model)
  train = config.program == 'train'
  longest = config.max_length + (0 if train else config.prefix_length)
  if longest > model.max_positions:
    raise errors.InputError(
      f'max_length: {config.max_length} positions behind a prefix of '
      f'{longest - config.max_length} are {longest}; the model has '
      f'{model.max_positions}.'
    )
  devices = programs.devices(pieces)
  item = 1 if config.weights else jnp.dtype(config.dtype).itemsize
  chosen = config.mesh
  if train:
    chosen = chosen or training.choose_mesh(len(devices), model)
  chosen = chosen or programs.choose_mesh(
    model, pieces, item * model.parameters()
  )
  mesh = sharding.make_mesh(chosen, devices)
  parts = mesh.shape['data'] * mesh.shape['fsdp']
  parts *= config.accumulate if train else 1
  rows = 'slots' if config.program == 'decode' else 'batch_size'
  if getattr(config, rows) % parts:
    raise errors.InputError(
      f'{rows}: wanted a multiple of data x fsdp = {parts}, as the mesh is '
      f'{sharding.describe(mesh)}; got {getattr(config, rows)}.'
    )
  if train:
    found = training.compile(
      model,
      mesh,
      pieces,
      config.sft(),
      remat=config.remat,
      larger=config.largest_batch,
      usd_per_chip_hour=config.usd_per_chip_hour,
    )
    return {'model': config.model, **found, 'estimate': _ESTIMATE}
  maker = programs.Programs(
    model,
    mesh,
    dtype=config.dtype,
    weights=config.weights,
    attention=config.attention,
  )
  run = maker.decode if config.program == 'decode' else maker.prefill
  done = run(config.shape(config.slots))
  found = {
    'model': config.model,
    'program': config.program,
    'topology': pieces.name,
    'chips': pieces.chips,
    'mesh': sharding.describe(mesh),
    'dtype': config.dtype,
    'weights': config.weights or config.dtype,
    'attention': 'pallas' if maker.kernel else 'xla',
    'slots': config.slots,
    'batch_size': config.batch_size,
    'prefix_length': config.prefix_length,
    'max_length': config.max_length,
    'fill': config.fill,
    'fits': figures.fits(done, pieces),
    'bytes_per_chip': figures.memory(done, pieces),
    **_figures(config, pieces, mesh, maker, done),
    'compile_seconds': round(done.seconds, 2),
    'estimate': _ESTIMATE,
  }
  if config.program == 'decode' and config.largest_slots:
    found['largest_slots'] = _largest(config, pieces, maker, parts, done)
  return found


def _model(name: str) -> model_config.ModelConfig:
  known = published.configs()
  if name in known:
    return known[name]
  if name in checkpoints.EMBEDDED or os.path.exists(name):
    return checkpoints.read_config(name)
  raise errors.InputError(
    f'model: wanted a checkpoint or one of {", ".join(known)}; got {name!r}.'
  )


def _figures(config, pieces, mesh, maker, done) -> dict[str, Any]:
  """Returns what a step of the program costs a chip."""
  chip, chips = pieces.chip, pieces.chips
  least, logits, unfilled = _ideal(config, maker)
  roofline = least / chips / chip.bandwidth
  names = (
    'flops',
    'bytes_accessed',
    'ideal_bytes',
    'bytes_ratio',
    'estimated_seconds',
    'roofline_seconds',
    'seconds',
    'tokens_per_second_per_chip',
    'bytes_outside',
    'unfilled_bytes',
    'on_chip_bytes',
    'interconnect',
    'largest',
    'price',
    'usd_per_million_samples',
  )
  found: dict[str, Any] = dict.fromkeys(names)
  found |= {
    'ideal_bytes': round(least / chips),
    'roofline_seconds': roofline,
    'price': figures.price(config.usd_per_chip_hour, pieces),
  }
  text = done.text
  if text is None:
    return found
  step, resident, outside = _step(config, traffic.count(text, mesh.size))
  counted = chip.devices * step.bytes
  # Logits may stay on the chip, and so may what a loop keeps there.
  spared = logits / chips + chip.devices * resident
  if counted + spared < least / chips:
    raise CountError(
      f'{config.model} {config.program} on {pieces.name}: counted '
      f'{counted:.4g} bytes a chip, fewer than the {least / chips:.4g} that '
      'the program has to move; the count is wrong.'
    )
  # What of the ideal stays on the chip counts as moved, so that no estimate is
  # better than the ideal.
  counted = max(counted, least / chips)
  seconds, links = figures.times(step, counted, pieces, mesh)
  estimated = max(seconds.values())
  tokens = config.slots
  steps = config.drawn
  if config.program == 'prefill':
    tokens, steps = config.batch_size * config.max_length, 1
  found |= {
    'flops': round(chip.devices * (step.flops + step.int8_flops)),
    'bytes_accessed': round(counted),
    'bytes_ratio': round(counted / (least / chips), 4),
    'estimated_seconds': estimated,
    'seconds': seconds,
    'tokens_per_second_per_chip': tokens / estimated / chips,
    'bytes_outside': round(chip.devices * outside),
    'unfilled_bytes': 0 if maker.kernel else round(unfilled / chips),
    'on_chip_bytes': round(spared),
    'interconnect': links,
    'largest': figures.largest(step, pieces),
  }
  if found['price']:
    # A prefill makes a prompt ready, a decode step draws a token a slot.
    rows = config.batch_size if config.program == 'prefill' else config.slots
    found['usd_per_million_samples'] = prices.usd_per_million(
      steps * estimated * chips / rows, found['price']['usd_per_chip_hour']
    )
  return found


def _ideal(config: CompileConfig, maker) -> tuple[float, float, float]:
  """Returns (least bytes, those of logits, those of unfilled places)."""
  model = maker.model
  item = jnp.dtype(config.dtype).itemsize
  prefix = ideal.prefix(model.config, config.prefix_length, item)
  if config.program == 'prefill':
    tokens = config.batch_size * config.max_length
    # Every layer's keys and values of every token, windows or not.
    made = sum(
      2 * tokens * layer.num_kv_heads * layer.head_dim * item
      for layer in model.config.layers
      if not layer.shares_kv
    )
    weights = ideal.prefill_weights(model, tokens)
    return weights + prefix + made, 0.0, 0.0
  held, used = ideal.cache(
    model.config,
    slots=config.slots,
    places=config.max_length,
    filled=math.ceil(config.fill * config.max_length),
    item=item,
  )
  logits = ideal.logits(model.config, config.slots)
  weights = ideal.step_weights(model, config.slots)
  return weights + used + prefix + logits, logits, held - used


def _step(
  config: CompileConfig, program: traffic.Program
) -> tuple[traffic.Traffic, float, float]:
  """Returns (a step, on-chip bytes that it keeps, bytes outside of it)."""
  if config.program == 'prefill':
    return program.outside, 0.0, 0.0
  if len(program.loops) != 1:
    raise CountError(
      f'wanted one loop over decode steps; found {len(program.loops)}.'
    )
  (loop,) = program.loops
  return loop.round, loop.resident, program.outside.bytes


def _largest(
  config: CompileConfig,
  pieces: slices.Slice,
  maker: programs.Programs,
  parts: int,
  first: programs.Compiled,
) -> int:
  """Returns the largest number of slots that was found to fit; 0 for none.

  Memory grows evenly with the slots but for what the compiler needs beside:
  the number is foretold from what was compiled, then compiled.
  """
  room = pieces.chip.usable // pieces.chip.devices
  unit = math.lcm(parts, _ROWS)
  item = jnp.dtype(config.dtype).itemsize
  prefix = ideal.prefix(maker.model.config, config.prefix_length, item)
  # All that depends on the slots, of one of them, on this device.
  whole, _ = ideal.cache(
    maker.model.config,
    slots=config.slots,
    places=config.max_length,
    filled=config.max_length,
    item=item,
  )
  slope = first.cache / config.slots * whole / (whole + prefix)
  fixed = first.weights + first.cache - slope * config.slots
  best, over = 0, _MOST_SLOTS + unit
  total = fixed
  if figures.fits(first, pieces):
    best, total = config.slots, first.total
  else:
    over = config.slots
  for turn in range(_TRIES):
    guess = best + (room - total) / slope
    if turn and guess >= over:
      # What the compiler needs beside grows faster than what it is told.
      guess = (best + over) / 2
    size = int(min(guess, over - 1)) // unit * unit
    if size <= best:
      break
    done = maker.decode(config.shape(size))
    if figures.fits(done, pieces):
      slope = max(slope, (done.total - total) / (size - best))
      best, total = size, done.total
    else:
      over = size
  return best
