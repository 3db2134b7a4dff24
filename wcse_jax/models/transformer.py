"""The decoder.  Families differ by fields of `ModelConfig` alone.

Layers come in stacks.  On accelerators the layers of a whole group (a local and
a global one, say) are stacked and scanned, so that compile time does not grow
with depth; layers left over at the end form a stack of their own.  On CPU every
layer is a stack by itself, which runs faster there.  One block function serves
both.  Source of the choice: docs/design/model.md.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from wcse_jax import sharding
from wcse_jax.models import attention
from wcse_jax.models import config as model_config


# A cache is a list (stacks) of lists (blocks of a stack) of {'k', 'v'}.
Cache = list[list[dict[str, jax.Array]]]


class Block(nnx.Module):
  """The weights of one layer, or of G stacked layers of one kind.

  Each Param carries the letters of its axes, from which its sharding follows.
  """

  def __init__(
    self,
    config: model_config.ModelConfig,
    kind: str,
    *,
    repeats: int,
    dtype: Any,
    rngs: nnx.Rngs,
  ):
    c = config
    heads, kv = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim

    def weight(letters: str, rows: int, columns: int) -> nnx.Param:
      return _param(letters, (rows, columns), repeats, dtype, rngs)

    def norm(letters: str, size: int) -> nnx.Param:
      return _param(letters, (size,), repeats, dtype, None)

    self.kind = kind
    self.q = weight('DN', c.d_model, heads)
    self.k = weight('DK', c.d_model, kv)
    self.v = weight('DK', c.d_model, kv)
    self.o = weight('ND', heads, c.d_model)
    self.gate = weight('DF', c.d_model, c.d_ff)
    self.up = weight('DF', c.d_model, c.d_ff)
    self.down = weight('FD', c.d_ff, c.d_model)
    # Norm gains are whole on every device: they are read, never multiplied as
    # matrices.
    self.attention_norm = norm('_', c.d_model)
    self.mlp_norm = norm('_', c.d_model)
    if c.post_norms:
      self.attention_post_norm = norm('_', c.d_model)
      self.mlp_post_norm = norm('_', c.d_model)
    if c.qk_norm:
      self.q_norm = norm('_', c.head_dim)
      self.k_norm = norm('_', c.head_dim)


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
    dtype: Any,
    rngs: nnx.Rngs,
  ):
    self.first = first
    self.repeats = repeats
    self.blocks = nnx.List(
      [
        Block(
          config,
          config.layer_kinds[first + place],
          repeats=repeats,
          dtype=dtype,
          rngs=rngs,
        )
        for place in range(places)
      ]
    )


class Transformer(nnx.Module):
  """A decoder-only language model.

  `model(tokens_BT)` gives float32 logits_BTV.

  Args:
    config: the architecture.
    dtype: of weights and activations; norms, softmax and logits are float32.
    rngs: for a random start.
    mesh: where it will run; None for one device.
    scan: stack and scan the layers; None: everywhere but on CPU.
  """

  def __init__(
    self,
    config: model_config.ModelConfig,
    *,
    dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
    mesh: Mesh | None = None,
    scan: bool | None = None,
  ):
    if scan is None:
      devices = jax.devices() if mesh is None else mesh.devices.flat
      scan = next(iter(devices)).platform != 'cpu'
    self.config = config
    self.dtype = jnp.dtype(dtype)
    self.mesh = mesh
    self.embedding = _param(
      'VD', (config.vocab_size, config.d_model), 1, dtype, rngs
    )
    self.final_norm = _param('_', (config.d_model,), 1, dtype, None)
    if not config.tie_embeddings:
      self.head = _param(
        'VD', (config.vocab_size, config.d_model), 1, dtype, rngs
      )
    self.stacks = nnx.List(
      [
        Stack(config, first, places, repeats, dtype=dtype, rngs=rngs)
        for first, places, repeats in _layout(config.layer_kinds, scan)
      ]
    )

  def __call__(
    self,
    tokens_BT: jax.Array,
    *,
    positions_BT: jax.Array | None = None,
    segments_BT: jax.Array | None = None,
  ) -> jax.Array:
    """Returns float32 logits_BTV.

    Args:
      tokens_BT: token ids.
      positions_BT: their positions; counted from 0 where None.
      segments_BT: ids of packed sequences; a token attends its own only.
    """
    x_BTD = self.hidden(
      tokens_BT, positions_BT=positions_BT, segments_BT=segments_BT
    )
    return self.logits(x_BTD)

  def hidden(
    self,
    tokens_BT: jax.Array,
    *,
    positions_BT: jax.Array | None = None,
    segments_BT: jax.Array | None = None,
  ) -> jax.Array:
    """Returns the final hidden states_BTD, before the output head."""
    if positions_BT is None:
      positions_BT = jnp.broadcast_to(
        jnp.arange(tokens_BT.shape[1]), tokens_BT.shape
      )
    segments = None if segments_BT is None else (segments_BT, segments_BT)
    scene = self._scene(positions_BT, positions_BT, segments)
    x_BTD = self._embed(tokens_BT)
    for stack in self.stacks:
      x_BTD, _ = self._run(stack, x_BTD, None, scene, None)
    return self._norm(x_BTD, self.final_norm[...])

  def extend(
    self, tokens_BT: jax.Array, positions_BT: jax.Array, cache: Cache
  ) -> tuple[jax.Array, Cache]:
    """Returns (hidden states_BTD, cache) after writing T more tokens.

    A token attends to all cache positions up to its own; position s of a row
    lies at place s of the cache.

    Args:
      tokens_BT: token ids.
      positions_BT: their positions, all below the cache's length.
      cache: from `make_cache`; donate it, it is updated in place.
    """
    places = cache[0][0]['k'].shape[-3]
    key_BS = jnp.broadcast_to(jnp.arange(places), (tokens_BT.shape[0], places))
    scene = self._scene(positions_BT, key_BS, None)
    x_BTD = self._embed(tokens_BT)
    filled = []
    for stack, part in zip(self.stacks, cache, strict=True):
      x_BTD, part = self._run(stack, x_BTD, part, scene, positions_BT)
      filled.append(part)
    return self._norm(x_BTD, self.final_norm[...]), filled

  def logits(self, x_BTD: jax.Array) -> jax.Array:
    """Returns float32 logits_BTV of hidden states."""
    table_VD = (self.embedding if self.config.tie_embeddings else self.head)[
      ...
    ]
    logits_BTV = jnp.einsum(
      'BTD,VD->BTV', x_BTD, table_VD, preferred_element_type=jnp.float32
    )
    cap = self.config.final_softcap
    if cap is not None:
      logits_BTV = cap * jnp.tanh(logits_BTV / cap)
    return sharding.constrain(logits_BTV, 'BTV', self.mesh)

  def make_cache(self, rows: int, places: int) -> Cache:
    """Returns an empty cache of `rows` sequences of `places` positions."""
    c = self.config
    shapes = {
      'k': ('BSKH', (rows, places, c.num_kv_heads, c.head_dim)),
      'v': ('BKHS', (rows, c.num_kv_heads, c.head_dim, places)),
    }

    def empty(letters: str, shape: tuple[int, ...], repeats: int) -> jax.Array:
      if repeats > 1:
        letters, shape = 'L' + letters, (repeats, *shape)
      zeros = jnp.zeros(shape, self.dtype)
      return sharding.constrain(zeros, letters, self.mesh)

    return [
      [
        {name: empty(*shape, stack.repeats) for name, shape in shapes.items()}
        for _ in stack.blocks
      ]
      for stack in self.stacks
    ]

  def _embed(self, tokens_BT: jax.Array) -> jax.Array:
    x_BTD = self.embedding[...][tokens_BT]
    if self.config.embed_scale:
      # Rounded to the weights' dtype, as the published checkpoints expect.
      x_BTD = x_BTD * jnp.asarray(self.config.d_model**0.5, x_BTD.dtype)
    return sharding.constrain(x_BTD, 'BTD', self.mesh)

  def _scene(self, query_BT, key_BS, segments) -> dict[str, Any]:
    """Returns, by kind of layer, the rotation and mask of this call."""
    c = self.config
    scene = {}
    for kind in sorted(set(c.layer_kinds)):
      local = kind == 'local'
      turn = attention.rotation(
        query_BT,
        c.head_dim,
        c.rope_base_local if local else c.rope_base_global,
        1.0 if local else c.rope_scale_global,
      )
      allowed_BTS = attention.mask(
        query_BT,
        key_BS,
        window=c.window if local else None,
        segments=segments,
      )
      scene[kind] = (turn, allowed_BTS)
    return scene

  def _run(self, stack: Stack, x_BTD, part, scene, positions_BT):
    """Returns (x_BTD, cache part) after all layers of one stack."""
    if stack.repeats == 1:
      done = []
      for i, block in enumerate(stack.blocks):
        cached = None if part is None else part[i]
        x_BTD, cached = self._block(
          block, x_BTD, cached, scene, positions_BT, None
        )
        done.append(cached)
      return x_BTD, done

    graph, state = nnx.split(stack.blocks)

    def body(carry, scanned):
      x_BTD, part = carry
      index, weights = scanned
      done = []
      for i, block in enumerate(nnx.merge(graph, weights)):
        cached = None if part is None else part[i]
        x_BTD, cached = self._block(
          block, x_BTD, cached, scene, positions_BT, index
        )
        done.append(cached)
      return (x_BTD, None if part is None else done), None

    # The cache is carried: as scanned input and output it would be copied.
    carry, _ = jax.lax.scan(
      body, (x_BTD, part), (jnp.arange(stack.repeats), state)
    )
    return carry

  def _block(self, block: Block, x_BTD, cached, scene, positions_BT, index):
    """Returns (x_BTD, cache) after one layer."""
    c = self.config
    turn, allowed_BTS = scene[block.kind]
    B, T, _ = x_BTD.shape
    groups = c.num_heads // c.num_kv_heads

    y_BTD = self._norm(x_BTD, block.attention_norm[...])
    q_BTNH = (y_BTD @ block.q[...]).reshape(B, T, c.num_heads, c.head_dim)
    k_BTKH = (y_BTD @ block.k[...]).reshape(B, T, c.num_kv_heads, c.head_dim)
    v_BTKH = (y_BTD @ block.v[...]).reshape(B, T, c.num_kv_heads, c.head_dim)
    if c.qk_norm:
      q_BTNH = self._norm(q_BTNH, block.q_norm[...])
      k_BTKH = self._norm(k_BTKH, block.k_norm[...])
    q_BTNH = attention.rotate(q_BTNH, turn) * jnp.asarray(
      c.query_scale, q_BTNH.dtype
    )
    k_BTKH = attention.rotate(k_BTKH, turn)
    q_BTNH = sharding.constrain(q_BTNH, 'BTNH', self.mesh)
    k_BSKH = sharding.constrain(k_BTKH, 'BTKH', self.mesh)
    v_BTKH = sharding.constrain(v_BTKH, 'BTKH', self.mesh)
    v_BKHS = jnp.transpose(v_BTKH, (0, 2, 3, 1))
    if cached is not None:
      rows = jnp.arange(B)[:, None]
      at = (rows, positions_BT)
      at_last = (rows, slice(None), slice(None), positions_BT)
      if index is not None:
        at, at_last = (index, *at), (index, *at_last)
      cached = {
        'k': cached['k'].at[at].set(k_BSKH, mode='promise_in_bounds'),
        'v': cached['v'].at[at_last].set(v_BTKH, mode='promise_in_bounds'),
      }
      k_BSKH, v_BKHS = cached['k'], cached['v']
      if index is not None:
        k_BSKH, v_BKHS = k_BSKH[index], v_BKHS[index]
    out_BTKGH = attention.attend(
      q_BTNH.reshape(B, T, c.num_kv_heads, groups, c.head_dim),
      k_BSKH,
      v_BKHS,
      allowed_BTS,
      softcap=c.attn_softcap,
    )
    y_BTD = out_BTKGH.reshape(B, T, -1) @ block.o[...]
    if c.post_norms:
      y_BTD = self._norm(y_BTD, block.attention_post_norm[...])
    x_BTD = sharding.constrain(x_BTD + y_BTD, 'BTD', self.mesh)

    y_BTD = self._norm(x_BTD, block.mlp_norm[...])
    gate_BTF = jax.nn.gelu(y_BTD @ block.gate[...], approximate=True)
    h_BTF = sharding.constrain(
      gate_BTF * (y_BTD @ block.up[...]), 'BTF', self.mesh
    )
    y_BTD = h_BTF @ block.down[...]
    if c.post_norms:
      y_BTD = self._norm(y_BTD, block.mlp_post_norm[...])
    return sharding.constrain(x_BTD + y_BTD, 'BTD', self.mesh), cached

  def _norm(self, x: jax.Array, gain: jax.Array) -> jax.Array:
    """Returns x over its root mean square, times 1 + gain."""
    wide = x.astype(jnp.float32)
    square = jnp.mean(wide * wide, axis=-1, keepdims=True)
    wide = wide * jax.lax.rsqrt(square + self.config.norm_eps)
    gain = 1.0 + gain.astype(jnp.float32)
    return (wide * jnp.expand_dims(gain, range(x.ndim - 1))).astype(x.dtype)


def _param(letters, shape, repeats, dtype, rngs) -> nnx.Param:
  """Returns a Param with its letters; gains start at 0, matrices at random."""
  if repeats > 1:
    letters, shape = 'L' + letters, (repeats, *shape)
  if rngs is None:
    return nnx.Param(jnp.zeros(shape, dtype), letters=letters)
  # Embedding rows are scaled up by sqrt(D) on the way in: a start of
  # 1 / sqrt(D) gives unit variance there and unit logits at the head.
  fan_in = shape[-1] if letters.endswith('VD') else shape[-2]
  start = jax.random.normal(rngs.params(), shape, jnp.float32) * fan_in**-0.5
  return nnx.Param(start.astype(dtype), letters=letters)


def _layout(kinds: tuple[str, ...], scan: bool) -> list[tuple[int, int, int]]:
  """Returns (first layer, blocks in the group, repeats) of each stack."""
  count = len(kinds)
  if not scan:
    return [(i, 1, 1) for i in range(count)]
  period = next(
    p
    for p in range(1, count + 1)
    if all(kinds[i] == kinds[i % p] for i in range(count))
  )
  repeats = count // period
  stacks = [(0, period, repeats)] if repeats else []
  if count % period:
    stacks.append((period * repeats, count % period, 1))
  return stacks
