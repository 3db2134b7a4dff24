"""Low-rank adapters: added to a model's matrices, trained, merged for export.

The base may be held in int8 (QLoRA): it is then whole numbers with a scale an
output channel, and what is merged is its value in floats.

Source: LoRA, arXiv:2106.09685; QLoRA, arXiv:2305.14314.
"""

import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import nnx

from wcse_jax import errors, sharding
from wcse_jax.models import modules, transformer


# The matrices of a layer that may have an adapter.
TARGETS = ('q', 'k', 'v', 'o', 'gate', 'up', 'down')


def add(
  model: transformer.Transformer,
  *,
  rank: int,
  alpha: float,
  targets: tuple[str, ...],
  seed: int,
  place: bool = True,
) -> None:
  """Adds adapters to a model, which gives the same logits as before.

  The first matrix starts uniformly within 1 / sqrt(inputs), the second one at
  0; both are in float32, and split over the mesh as the matrix they are added
  to.  What they give is multiplied by alpha / rank.

  Args:
    model: the model.
    rank: inner width.
    alpha: of the factor.
    targets: some of `TARGETS`.
    seed: of the start.
    place: whether to put them on the model's mesh; not for shapes alone.

  Raises:
    InputError: if no layer has one of the targets.

  Source: arXiv:2106.09685, section 4.1; the start is that of the `peft`
    library, LoRA's reference.
  """
  key = jax.random.key(seed)
  missing = set(targets)
  for block in _blocks(model):
    for name in targets:
      if not hasattr(block, name):
        continue
      missing.discard(name)
      base = getattr(block, name)
      letters = base.get_metadata('letters')
      *stack, inputs, outputs = base.shape
      before = letters[:-2]
      key, own = jax.random.split(key)
      reach = 1 / math.sqrt(inputs)
      a = jax.random.uniform(
        own, (*stack, inputs, rank), jnp.float32, -reach, reach
      )
      b = jnp.zeros((*stack, rank, outputs), jnp.float32)
      for letter, value, axes in (
        ('a', a, f'{before}{letters[-2]}J'),
        ('b', b, f'{before}J{letters[-1]}'),
      ):
        if place and model.mesh is not None:
          value = sharding.place(value, axes, model.mesh)
        param = nnx.LoRAParam(value, letters=axes, factor=alpha / rank)
        setattr(block, f'{name}_lora_{letter}', param)
  if missing:
    raise errors.InputError(
      f'lora.targets: wanted matrices of the model; it has no '
      f'{", ".join(sorted(missing))}.'
    )


def merge(model: transformer.Transformer) -> None:
  """Adds every adapter to its matrix, and removes it.

  Matrices in int8 become floats of the model's dtype, in the host's memory
  where one process has all of them: the device may have no room.
  """
  for block in _blocks(model):
    for name in TARGETS:
      if not hasattr(block, f'{name}_lora_a'):
        continue
      a = getattr(block, f'{name}_lora_a')
      held, scale = modules.held(block, name)
      whole = _merged(
        held,
        scale,
        a[...],
        getattr(block, f'{name}_lora_b')[...],
        a.get_metadata('factor'),
      )
      _replace(model, block, name, whole)
      delattr(block, f'{name}_lora_a')
      delattr(block, f'{name}_lora_b')
  for module in (model, *_blocks(model)):
    for name in [n for n in vars(module) if f'{n}_scale' in vars(module)]:
      held, scale = modules.held(module, name)
      letters = getattr(module, name).get_metadata('letters')
      # Of a table a row is a channel, of a product's factor a column.
      axis = -1 if letters == 'VD' else -2
      whole = held.astype(jnp.float32) * jnp.expand_dims(scale, axis)
      _replace(model, module, name, whole)
  model.weights = ''


@jax.jit
def _merged(held, scale, a, b, factor):
  whole = held.astype(jnp.float32)
  if scale is not None:
    whole = whole * jnp.expand_dims(scale, -2)
  return whole + factor * jnp.matmul(a, b, precision='highest')


def _replace(model, module, name: str, whole: jax.Array) -> None:
  """Sets a matrix to floats of the model's dtype, without a scale."""
  old = getattr(module, name)
  dtype = model.dtype if old.dtype == jnp.int8 else old.dtype
  whole = whole.astype(dtype)
  if old.dtype == jnp.int8 and whole.is_fully_addressable:
    whole = jax.device_put(whole, jax.local_devices(backend='cpu')[0])
  param = nnx.Param(
    whole,
    letters=old.get_metadata('letters'),
    start=old.get_metadata('start'),
  )
  setattr(module, name, param)
  if hasattr(module, f'{name}_scale'):
    delattr(module, f'{name}_scale')


def _blocks(model: transformer.Transformer) -> Iterator[modules.Block]:
  for stack in model.stacks:
    yield from stack.blocks
