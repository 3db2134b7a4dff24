"""The trainer's step, compiled for a slice that is not there."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from wcse_jax import budget, sharding
from wcse_jax.aot import figures, programs, slices, traffic
from wcse_jax.checkpoints import weights
from wcse_jax.kernels import train as kernels
from wcse_jax.models import config as model_config
from wcse_jax.models import transformer
from wcse_jax.sft import lora, settings, step


# From the one that keeps most to the one that keeps least.
_POLICIES = ('none', 'dots', 'attention', 'full')
# A larger batch is worth its memory if it gains this much of the MFU.
_GAIN = 1.01


class Trainer:
  """The training step of one model on one slice.

  Attributes:
    attention: what `kernels.train.chosen` gives.
    adapters: parameters that are trained beside a base that is not; 0 where
      the whole model is.
    trained_bytes: of a device's part of what is trained.
  """

  def __init__(
    self,
    config: model_config.ModelConfig,
    mesh: Mesh,
    asked: settings.SftConfig,
  ):
    """Makes shapes only.

    Args:
      config: the model.
      mesh: of the slice's devices.
      asked: how it is trained; the batch and `remat` may vary.

    Raises:
      InputError: if the mesh does not divide the model.
    """
    weights.check_mesh(config, mesh)
    self._mesh = mesh
    self._asked = asked
    c = asked.lora
    model = nnx.eval_shape(lambda: _model(config, mesh, asked))
    self._graph, params, frozen = step.split(model, asked.dtype)
    self.adapters = 0
    if c.rank:
      self.adapters = sum(leaf.size for leaf in jax.tree.leaves(params))
    self._params = programs.weights_of(mesh, params)
    self.trained_bytes = programs.size(self._params)
    self._frozen = programs.weights_of(mesh, frozen)
    self.attention = kernels.chosen(
      asked.attention,
      mesh,
      asked.max_length,
      {layer.head_dim for layer in config.layers},
    )

  def compile(self, batch_size: int, remat: str) -> programs.Compiled:
    """Returns the step; its `cache` is the optimiser's state.

    Args:
      batch_size: rows of a step.
      remat: what the backward pass works out again.

    Raises:
      InputError: if the mesh does not divide the batch.
    """
    asked = self._asked
    recipe = step.Recipe(
      optimizer=step.Recipe.of(asked, 1).optimizer,
      steps=1000,
      accumulate=asked.accumulate,
      remat=remat,
      attention=self.attention,
      z_loss=asked.z_loss,
      every=True,
    )
    state = self._state(recipe)
    names = ('tokens', 'target', 'positions', 'segments')
    shape = jax.ShapeDtypeStruct((batch_size, asked.max_length), jnp.int32)
    batch = {
      f'{name}_BT': programs.struct(
        self._mesh, shape, 'BT', sharding.ACTIVATIONS, 'the batch'
      )
      for name in (names if asked.packing else names[:2])
    }
    held = programs.size(self._params) + programs.size(self._frozen)
    return programs.compiled(
      step.train,
      (self._params, state, self._frozen, batch, 0.0),
      held,
      programs.size(state),
      graph=self._graph,
      recipe=recipe,
      mesh=self._mesh,
    )

  def _state(self, recipe: step.Recipe) -> Any:
    """Returns the optimiser's state as shapes, placed as `step.start` does."""
    made = jax.eval_shape(recipe.transform(0.0).init, self._params)

    def place(leaf):
      (inside,) = jax.tree.leaves(leaf)
      letters = step.letters(leaf, inside.shape)
      found = programs.struct(
        self._mesh, inside, letters, sharding.WEIGHTS, 'the optimiser'
      )
      return leaf.replace(found) if isinstance(leaf, nnx.Variable) else found

    return jax.tree.map(
      place, made, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable)
    )


def _model(config, mesh: Mesh, asked: settings.SftConfig):
  c = asked.lora
  model = transformer.Transformer(
    config,
    dtype=asked.dtype if c.rank else asked.weights_dtype,
    rngs=nnx.Rngs(0),
    mesh=mesh,
    weights=c.base,
  )
  if c.rank:
    lora.add(
      model,
      rank=c.rank,
      alpha=c.alpha,
      targets=tuple(c.targets.split(',')),
      seed=0,
      place=False,
    )
  return model


def choose_mesh(chips: int, config: model_config.ModelConfig) -> str:
  """Returns the mesh of a model that is trained on so many devices.

  All of them on `fsdp`, as far as the model's width divides; the rest on
  `data`.
  """
  fsdp = max(n for n in sharding.divisors(chips) if config.d_model % n == 0)
  return f'data={chips // fsdp},fsdp={fsdp}'


@dataclasses.dataclass(frozen=True)
class _Tried:
  """One way to train that was compiled.

  Attributes:
    remat: what is worked out again.
    batch_size: rows of a step.
    done: the program.
    found: its figures; none but memory where it does not fit.
  """

  remat: str
  batch_size: int
  done: programs.Compiled
  found: dict[str, Any]

  @property
  def mfu(self) -> float:
    return self.found['mfu'] or 0.0


def compile(
  config: model_config.ModelConfig,
  mesh: Mesh,
  pieces: slices.Slice,
  asked: settings.SftConfig,
  *,
  remat: str,
  larger: bool,
  usd_per_chip_hour: float,
) -> dict[str, Any]:
  """Compiles a training step for a slice; returns the figures, for JSON.

  Figures are of one chip and one step.

  - `remat`, `batch_size`: the best that was found; `tried`: all that was.
  - `bytes_per_chip`: `weights` with what is not trained, the `optimizer`'s
    state, `temporary` (slopes, activations, logits); `cache` is 0.
  - `model_flops`: what the rows need (`budget.training_flops`: attention
    counted causally and by window, nothing twice); `flops`: what the program
    does, with what is worked out again, and with the attention kernel's whole
    blocks, counted by hand: two products forwards, five backwards.
  - `ideal_bytes`: weights and optimiser state read and written once.
  - `estimated_seconds`: the largest of memory, products and links, each at the
    chip's documented rate: as if they overlapped wholly.  `mfu`: what
    `model_flops` would take at the rate of products, over it.
  - `roofline_seconds`: what `model_flops` or `ideal_bytes` would take.

  Args:
    config: the model.
    mesh: of the slice's devices.
    pieces: the slice.
    asked: how it is trained.
    remat: what is worked out again; empty: the one that keeps most and fits.
    larger: whether to look for a larger batch that is better.
    usd_per_chip_hour: price; 0: from the table.

  Raises:
    InputError: if the mesh does not divide the model or the batch.
  """
  trainer = Trainer(config, mesh, asked)
  tried: list[_Tried] = []

  def attempt(policy: str, rows: int) -> _Tried:
    done = trainer.compile(rows, policy)
    found = _figures(config, mesh, pieces, asked, trainer, done, policy, rows)
    tried.append(_Tried(policy, rows, done, found))
    return tried[-1]

  best = None
  for policy in (remat,) if remat else _POLICIES:
    one = attempt(policy, asked.batch_size)
    if not figures.fits(one.done, pieces):
      continue
    while larger:
      more = attempt(policy, 2 * one.batch_size)
      if not figures.fits(more.done, pieces) or more.mfu < _GAIN * one.mfu:
        break
      one = more
    if best is None or one.mfu > best.mfu:
      best = one
    if not larger:
      break
  best = best or tried[-1]
  price = figures.price(usd_per_chip_hour, pieces)
  rate = best.found['tokens_per_second_per_chip']
  cost = None
  if price and rate:
    cost = price['usd_per_chip_hour'] / 3600 / rate * 1e6
  return {
    'program': 'train',
    'topology': pieces.name,
    'chips': pieces.chips,
    'mesh': sharding.describe(mesh),
    'dtype': asked.dtype,
    'weights_dtype': asked.lora.base or asked.weights_dtype,
    'lora_rank': asked.lora.rank,
    'optimizer': asked.optimizer.name,
    'attention': trainer.attention or 'plain',
    'max_length': asked.max_length,
    'accumulate': asked.accumulate,
    'slots': None,
    'remat': best.remat,
    'batch_size': best.batch_size,
    'fits': figures.fits(best.done, pieces),
    'bytes_per_chip': _memory(best.done, pieces),
    **best.found,
    'price': price,
    'usd_per_million_tokens': cost,
    'tried': [
      {
        'remat': one.remat,
        'batch_size': one.batch_size,
        'fits': figures.fits(one.done, pieces),
        'total': _memory(one.done, pieces)['total'],
        'mfu': one.found['mfu'],
      }
      for one in tried
    ],
    'compile_seconds': round(best.done.seconds, 2),
  }


def _memory(done: programs.Compiled, pieces: slices.Slice) -> dict[str, Any]:
  found = figures.memory(done, pieces)
  return {**found, 'optimizer': found['cache'], 'cache': 0}


def _figures(
  config, mesh, pieces, asked, trainer, done, remat: str, rows: int
) -> dict[str, Any]:
  """Returns what a step costs a chip."""
  chip, chips = pieces.chip, pieces.chips
  needed = rows * budget.training_flops(
    config, asked.max_length, adapters=trainer.adapters
  )
  needed /= chips
  least = chip.devices * 2 * (trainer.trained_bytes + done.cache)
  found: dict[str, Any] = dict.fromkeys(
    (
      'flops',
      'bytes_accessed',
      'bytes_ratio',
      'estimated_seconds',
      'seconds',
      'mfu',
      'tokens_per_second_per_chip',
      'interconnect',
      'largest',
    )
  )
  found |= {
    'model_flops': round(needed),
    'ideal_bytes': round(least),
    'roofline_seconds': max(needed / chip.bf16, least / chip.bandwidth),
  }
  text = done.text
  if text is None:
    return found
  step = traffic.count(text, mesh.size).outside
  step.flops += _attention_flops(config, mesh, asked, trainer, remat, rows)
  counted = chip.devices * step.bytes
  seconds, links = figures.times(step, counted, pieces, mesh)
  estimated = max(seconds.values())
  rate = rows * asked.max_length / estimated / chips
  return found | {
    'flops': round(chip.devices * (step.flops + step.int8_flops)),
    'bytes_accessed': round(counted),
    'bytes_ratio': round(counted / least, 4),
    'estimated_seconds': estimated,
    'seconds': seconds,
    'mfu': needed / chip.bf16 / estimated,
    'tokens_per_second_per_chip': rate,
    'interconnect': links,
    'largest': figures.largest(step, pieces),
  }


def _attention_flops(config, mesh, asked, trainer, remat, rows) -> float:
  """Returns the FLOPs of the attention kernel on one device.

  Of every pair of query and key that it works on: two products forwards, once
  more where the layer is worked out again, and five backwards.
  """
  if trainer.attention != 'splash':
    return 0.0
  products = 2 + 5 + (0 if remat == 'none' else 2)
  total = 0
  for layer in config.layers:
    window = config.window if layer.kind == 'local' else None
    pairs = kernels.pairs(asked.max_length, window)
    total += 2 * products * config.num_heads * layer.head_dim * pairs
  return rows * total / mesh.size
