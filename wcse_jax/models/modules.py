"""The modules that hold a decoder's weights, and how layers are stacked.

Each Param carries the letters of its axes, from which its sharding follows.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from wcse_jax.models import config as model_config


class Block(nnx.Module):
  """The weights of one layer, or of G stacked layers of one kind.

  A matrix `w` that is held in int8 has its scales, one an output channel, in
  `w_scale`.
  """

  def __init__(
    self,
    config: model_config.ModelConfig,
    layer: model_config.Layer,
    *,
    repeats: int,
    make: 'Maker',
  ):
    c = config
    D, F, C = c.d_model, layer.d_ff, c.per_layer_dim
    N, K = c.num_heads * layer.head_dim, layer.num_kv_heads * layer.head_dim
    weight = functools.partial(make.weight, self, repeats=repeats)
    vector = functools.partial(make.vector, self, repeats=repeats)
    # Of a norm that stores its gain less one.
    gain = functools.partial(vector, value=0.0 if c.norm_plus_one else 1.0)

    self.layer = layer
    weight('q', 'DN', (D, N))
    if not layer.shares_kv:
      weight('k', 'DK', (D, K))
      if not layer.keys_as_values:
        weight('v', 'DK', (D, K))
    weight('o', 'ND', (N, D))
    if c.qkv_bias:
      vector('q_bias', 'N', N, value=0.0)
      vector('k_bias', 'K', K, value=0.0)
      vector('v_bias', 'K', K, value=0.0)
    weight('gate', 'DF', (D, F))
    weight('up', 'DF', (D, F))
    weight('down', 'FD', (F, D))
    # Norm gains are whole on every device: they are read, never multiplied as
    # matrices.
    gain('attention_norm', '_', D)
    gain('mlp_norm', '_', D)
    if c.post_norms:
      gain('attention_post_norm', '_', D)
      gain('mlp_post_norm', '_', D)
    if c.qk_norm:
      gain('q_norm', '_', layer.head_dim)
      if not layer.shares_kv:
        gain('k_norm', '_', layer.head_dim)
    if c.num_experts:
      E, F = c.num_experts, c.expert_d_ff
      make.plain(self, 'router', 'D_', (D, E), repeats=repeats)
      vector('router_gain', '_', D, value=1.0)
      vector('expert_gain', '_', E, value=1.0)
      weight('expert_gate', 'EDF', (E, D, F))
      weight('expert_up', 'EDF', (E, D, F))
      weight('expert_down', 'EFD', (E, F, D))
      gain('dense_post_norm', '_', D)
      gain('expert_norm', '_', D)
      gain('expert_post_norm', '_', D)
    if C:
      weight('own_gate', 'D_', (D, C))
      weight('own_out', '_D', (C, D))
      gain('own_norm', '_', D)
    if c.layer_scalar:
      vector('scalar', '_', 1, value=1.0)


class Stack(nnx.Module):
  """Consecutive layers: `repeats` times the blocks, scanned if more than one.

  Attributes:
    blocks: one block for each place in the group.
    repeats: how often the group occurs.
    first: index of the first layer.
  """

  def __init__(
    self,
    config: model_config.ModelConfig,
    first: int,
    places: int,
    repeats: int,
    *,
    make: 'Maker',
  ):
    self.first = first
    self.repeats = repeats
    self.blocks = nnx.List(
      [
        Block(config, layer, repeats=repeats, make=make)
        for layer in config.layers[first : first + places]
      ]
    )


@dataclasses.dataclass(frozen=True)
class Start:
  """How a Param starts; it is kept with it.

  Attributes:
    kind: `normal` with a deviation of `size`, `integers` from -127 to 127, or
      `constant`, all of it `size`.
    size: as `kind` says.
  """

  kind: str
  size: float = 0.0

  def make(self, key: jax.Array | None, shape, dtype) -> jax.Array:
    """Returns an array of that kind; a constant takes no key."""
    if self.kind == 'constant':
      return jnp.full(shape, self.size, dtype)
    if self.kind == 'integers':
      return jax.random.randint(key, shape, -127, 128, dtype)
    return (self.size * jax.random.normal(key, shape)).astype(dtype)


class Maker:
  """Makes Params with the letters of their axes, on the modules they are of."""

  def __init__(self, dtype: Any, rngs: nnx.Rngs, *, int8: bool):
    self._dtype = dtype
    self._rngs = rngs
    self._int8 = int8

  def weight(self, module, name, letters, shape, *, repeats: int = 1) -> None:
    """Sets a matrix with a random start, held in int8 if so asked."""
    if not self._int8:
      return self.plain(module, name, letters, shape, repeats=repeats)
    # Of a table a row is a channel, of a product's factor a column.
    table = letters == 'VD'
    channels = letters[:1] if table else letters.replace(letters[-2], '')
    sizes = shape[:1] if table else (*shape[:-2], shape[-1])
    # The variance is that of a start in floats.
    scale = Start('constant', (3 / _fan_in(letters, shape)) ** 0.5 / 127)
    integers = Start('integers')
    self._set(module, name, letters, shape, repeats, integers, jnp.int8)
    self._set(
      module, f'{name}_scale', channels, sizes, repeats, scale, jnp.float32
    )
    return None

  def plain(self, module, name, letters, shape, *, repeats: int = 1) -> None:
    """Sets a matrix with a random start."""
    start = Start('normal', _fan_in(letters, shape) ** -0.5)
    self._set(module, name, letters, shape, repeats, start, self._dtype)

  def vector(
    self, module, name, letters, size: int, *, value: float, repeats: int = 1
  ) -> None:
    """Sets a vector that starts at one value."""
    start = Start('constant', value)
    self._set(module, name, letters, (size,), repeats, start, self._dtype)

  def _set(self, module, name, letters, shape, repeats, start, dtype) -> None:
    if repeats > 1:
      letters, shape = 'L' + letters, (repeats, *shape)
    key = None if start.kind == 'constant' else self._rngs.params()
    made = start.make(key, shape, dtype)
    setattr(module, name, nnx.Param(made, letters=letters, start=start))


def _fan_in(letters: str, shape: tuple[int, ...]) -> int:
  # Embedding rows are scaled up by sqrt(D) on the way in: a start of
  # 1 / sqrt(D) gives unit variance there and unit logits at the head.
  return shape[-1] if letters == 'VD' else shape[-2]


def held(module, name: str) -> tuple[jax.Array, jax.Array | None]:
  """Returns (matrix, its scales); None where it is not held in int8."""
  scale = getattr(module, f'{name}_scale', None)
  whole = getattr(module, name)[...]
  return whole, None if scale is None else scale[...]


def layout(
  layers: tuple[model_config.Layer, ...], scan: bool
) -> list[tuple[int, int, int]]:
  """Returns (first layer, blocks in the group, repeats) of each stack.

  Each stack takes the group whose repeats cover most of what is left; of equal
  ones, the shortest.
  """
  count = len(layers)
  if not scan:
    return [(i, 1, 1) for i in range(count)]
  stacks = []
  first = 0
  while first < count:
    best = (1, 1)
    for period in range(1, (count - first) // 2 + 1):
      repeats = 1
      while (
        layers[first : first + period]
        == layers[first + period * repeats : first + period * (repeats + 1)]
      ):
        repeats += 1
      if repeats > 1 and period * repeats > best[0] * best[1]:
        best = (period, repeats)
    stacks.append((first, *best))
    first += best[0] * best[1]
  return stacks
