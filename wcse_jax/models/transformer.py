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
from wcse_jax.models import attention, experts, modules
from wcse_jax.models import config as model_config


# A cache is a list (stacks) of lists (blocks of a stack) of {'k', 'v'}; it is
# empty for a block that attends to the keys and values of another.
Cache = list[list[dict[str, jax.Array]]]
# Keys and values of the last layer of each kind that has its own.
Shared = dict[str, tuple[jax.Array, jax.Array]]


class Transformer(nnx.Module):
  """A decoder-only language model.

  `model(tokens_BT)` gives float32 logits_BTV.

  Args:
    config: the architecture.
    dtype: of weights and activations; norms, softmax and logits are float32.
    rngs: for a random start.
    mesh: where it will run; None for one device.
    scan: stack and scan the layers; None: everywhere but on CPU.
    weights: `int8` holds the matrices in int8 with a scale an output channel,
      for sampling and scoring; empty: as `dtype`.
  """

  def __init__(
    self,
    config: model_config.ModelConfig,
    *,
    dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
    mesh: Mesh | None = None,
    scan: bool | None = None,
    weights: str = '',
  ):
    if weights not in ('', 'int8'):
      raise ValueError(f"weights must be '' or 'int8'; got {weights!r}.")
    if scan is None:
      devices = jax.devices() if mesh is None else mesh.devices.flat
      scan = next(iter(devices)).platform != 'cpu'
    c = config
    make = modules.Maker(jnp.dtype(dtype), rngs, int8=weights == 'int8')
    gain = 0.0 if c.norm_plus_one else 1.0
    self.config = c
    self.dtype = jnp.dtype(dtype)
    self.mesh = mesh
    make.weight(self, 'embedding', 'VD', (c.vocab_size, c.d_model))
    make.vector(self, 'final_norm', '_', c.d_model, value=gain)
    if not c.tie_embeddings:
      make.weight(self, 'head', 'VD', (c.vocab_size, c.d_model))
    if c.per_layer_dim:
      width = c.num_layers * c.per_layer_dim
      make.weight(self, 'own_embedding', 'VD', (c.per_layer_vocab, width))
      make.weight(self, 'own_projection', 'D_', (c.d_model, width))
      make.vector(self, 'own_norm', '_', c.per_layer_dim, value=gain)
    self.stacks = nnx.List(
      [
        modules.Stack(c, first, places, repeats, make=make)
        for first, places, repeats in modules.layout(c.layers, scan)
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
    own_BTLC = self._own_inputs(tokens_BT, x_BTD)
    shared: Shared = {}
    for stack in self.stacks:
      x_BTD, _, shared = self._run(
        stack, x_BTD, None, shared, scene, None, own_BTLC
      )
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
    # The first layer always has keys of its own.
    places = cache[0][0]['k'].shape[-3]
    key_BS = jnp.broadcast_to(jnp.arange(places), (tokens_BT.shape[0], places))
    scene = self._scene(positions_BT, key_BS, None)
    x_BTD = self._embed(tokens_BT)
    own_BTLC = self._own_inputs(tokens_BT, x_BTD)
    filled = []
    shared: Shared = {}
    for stack, part in zip(self.stacks, cache, strict=True):
      x_BTD, part, shared = self._run(
        stack, x_BTD, part, shared, scene, positions_BT, own_BTLC
      )
      filled.append(part)
    return self._norm(x_BTD, self.final_norm[...]), filled

  def logits(self, x_BTD: jax.Array) -> jax.Array:
    """Returns float32 logits_BTV of hidden states."""
    name = 'embedding' if self.config.tie_embeddings else 'head'
    table_VD, scale_V = modules.held(self, name)
    logits_BTV = jnp.einsum(
      'BTD,VD->BTV',
      x_BTD,
      table_VD.astype(x_BTD.dtype),
      preferred_element_type=jnp.float32,
    )
    if scale_V is not None:
      logits_BTV = logits_BTV * scale_V[None, None]
    cap = self.config.final_softcap
    if cap is not None:
      logits_BTV = cap * jnp.tanh(logits_BTV / cap)
    return sharding.constrain(logits_BTV, 'BTV', self.mesh)

  def make_cache(self, rows: int, places: int) -> Cache:
    """Returns an empty cache of `rows` sequences of `places` positions."""

    def empty(letters: str, shape: tuple[int, ...], repeats: int) -> jax.Array:
      if repeats > 1:
        letters, shape = 'L' + letters, (repeats, *shape)
      zeros = jnp.zeros(shape, self.dtype)
      return sharding.constrain(zeros, letters, self.mesh)

    def block(layer: model_config.Layer, repeats: int) -> dict[str, jax.Array]:
      if layer.shares_kv:
        return {}
      K, H = layer.num_kv_heads, layer.head_dim
      return {
        'k': empty('BSKH', (rows, places, K, H), repeats),
        'v': empty('BKHS', (rows, K, H, places), repeats),
      }

    return [
      [block(b.layer, stack.repeats) for b in stack.blocks]
      for stack in self.stacks
    ]

  def _embed(self, tokens_BT: jax.Array) -> jax.Array:
    x_BTD = self._look_up('embedding', tokens_BT)
    if self.config.embed_scale:
      # Rounded to the weights' dtype, as the published checkpoints expect.
      x_BTD = x_BTD * jnp.asarray(self.config.d_model**0.5, x_BTD.dtype)
    return sharding.constrain(x_BTD, 'BTD', self.mesh)

  def _look_up(self, name: str, tokens_BT: jax.Array) -> jax.Array:
    table_VD, scale_V = modules.held(self, name)
    rows_BTD = table_VD[tokens_BT].astype(self.dtype)
    if scale_V is None:
      return rows_BTD
    return rows_BTD * scale_V[tokens_BT][:, :, None].astype(self.dtype)

  def _own_inputs(self, tokens_BT, x_BTD) -> jax.Array | None:
    """Returns the inputs_BTLC that each layer gets for itself, if any.

    Source: transformers 5, models/gemma4 (per-layer embeddings).
    """
    c = self.config
    if not c.per_layer_dim:
      return None
    shape = (*tokens_BT.shape, c.num_layers, c.per_layer_dim)
    own_BTLC = self._look_up('own_embedding', tokens_BT).reshape(shape)
    own_BTLC = own_BTLC * jnp.asarray(c.per_layer_dim**0.5, own_BTLC.dtype)
    seen_BTLC = _dot(x_BTD, self, 'own_projection') * c.d_model**-0.5
    seen_BTLC = self._norm(seen_BTLC.reshape(shape), self.own_norm[...])
    return (seen_BTLC + own_BTLC) * 2.0**-0.5

  def _scene(self, query_BT, key_BS, segments) -> dict[str, Any]:
    """Returns, by kind of layer, the rotation and mask of this call."""
    c = self.config
    scene = {}
    for kind, head_dim in sorted({(l.kind, l.head_dim) for l in c.layers}):
      turn = attention.rotation(
        query_BT, attention.frequencies(c.rope(kind), head_dim)
      )
      allowed_BTS = attention.mask(
        query_BT,
        key_BS,
        window=c.window if kind == 'local' else None,
        segments=segments,
      )
      scene[kind] = (turn, allowed_BTS)
    return scene

  def _run(
    self, stack: modules.Stack, x_BTD, part, shared, scene, positions_BT, own
  ):
    """Returns (x_BTD, cache part, shared) after all layers of one stack."""
    group = len(stack.blocks)
    if stack.repeats == 1:
      done = []
      for i, block in enumerate(stack.blocks):
        x_BTD, cached, shared = self._block(
          block,
          x_BTD,
          None if part is None else part[i],
          shared,
          scene,
          positions_BT,
          None,
          None if own is None else own[:, :, stack.first + i],
        )
        done.append(cached)
      return x_BTD, done, shared

    graph, state = nnx.split(stack.blocks)
    if own is not None:
      own = own[:, :, stack.first : stack.first + group * stack.repeats]
      own = own.reshape(*own.shape[:2], stack.repeats, group, own.shape[-1])
      own = jnp.transpose(own, (2, 3, 0, 1, 4))
    # With a cache the shared keys and values lie in it; without one the scan
    # carries them, from a start that the first repeat replaces.
    carried = {}
    if part is None and self.config.num_kv_shared_layers:
      for block in stack.blocks:
        if not block.layer.shares_kv:
          B, T, _ = x_BTD.shape
          K, H = block.layer.num_kv_heads, block.layer.head_dim
          carried[block.layer.kind] = (
            jnp.zeros((B, T, K, H), x_BTD.dtype),
            jnp.zeros((B, K, H, T), x_BTD.dtype),
          )

    def body(carry, scanned):
      x_BTD, part, carried = carry
      index, weights, own = scanned
      done = []
      seen = {**shared, **carried}
      for i, block in enumerate(nnx.merge(graph, weights)):
        x_BTD, cached, seen = self._block(
          block,
          x_BTD,
          None if part is None else part[i],
          seen,
          scene,
          positions_BT,
          index,
          None if own is None else own[i],
        )
        done.append(cached)
      carried = {kind: seen[kind] for kind in carried}
      return (x_BTD, None if part is None else done, carried), None

    # The cache is carried: as scanned input and output it would be copied.
    (x_BTD, part, carried), _ = jax.lax.scan(
      body, (x_BTD, part, carried), (jnp.arange(stack.repeats), state, own)
    )
    shared = {**shared, **carried}
    if part is not None and self.config.num_kv_shared_layers:
      for block, cached in zip(stack.blocks, part, strict=True):
        if not block.layer.shares_kv:
          shared[block.layer.kind] = (cached['k'][-1], cached['v'][-1])
    return x_BTD, part, shared

  def _block(
    self,
    block: modules.Block,
    x_BTD,
    cached,
    shared,
    scene,
    positions_BT,
    index,
    own,
  ):
    """Returns (x_BTD, cache, shared) after one layer."""
    c = self.config
    y_BTD = self._norm(x_BTD, block.attention_norm[...])
    y_BTD, cached, shared = self._attention(
      block, y_BTD, cached, shared, scene, positions_BT, index
    )
    if c.post_norms:
      y_BTD = self._norm(y_BTD, block.attention_post_norm[...])
    x_BTD = sharding.constrain(x_BTD + y_BTD, 'BTD', self.mesh)

    y_BTD = self._norm(x_BTD, block.mlp_norm[...])
    h_BTF = self._gate(_dot(y_BTD, block, 'gate')) * _dot(y_BTD, block, 'up')
    h_BTF = sharding.constrain(h_BTF, 'BTF', self.mesh)
    y_BTD = _dot(h_BTF, block, 'down')
    if c.num_experts:
      y_BTD = self._norm(y_BTD, block.dense_post_norm[...])
      y_BTD = y_BTD + self._experts(block, x_BTD)
    if c.post_norms:
      y_BTD = self._norm(y_BTD, block.mlp_post_norm[...])
    x_BTD = sharding.constrain(x_BTD + y_BTD, 'BTD', self.mesh)

    if own is not None:
      h_BTC = self._gate(_dot(x_BTD, block, 'own_gate')) * own
      y_BTD = self._norm(_dot(h_BTC, block, 'own_out'), block.own_norm[...])
      x_BTD = sharding.constrain(x_BTD + y_BTD, 'BTD', self.mesh)
    if c.layer_scalar:
      x_BTD = x_BTD * block.scalar[...][None, None]
    return x_BTD, cached, shared

  def _attention(
    self,
    block: modules.Block,
    y_BTD,
    cached,
    shared,
    scene,
    positions_BT,
    index,
  ):
    """Returns (out_BTD, cache, shared) of one layer's attention."""
    c, layer = self.config, block.layer
    turn, allowed_BTS = scene[layer.kind]
    B, T, _ = y_BTD.shape
    N, K, H = c.num_heads, layer.num_kv_heads, layer.head_dim

    def heads(name: str, count: int) -> jax.Array:
      out = _dot(y_BTD, block, name)
      if c.qkv_bias:
        out = out + getattr(block, f'{name}_bias')[...][None, None]
      return out.reshape(B, T, count, H)

    q_BTNH = heads('q', N)
    if c.qk_norm:
      q_BTNH = self._norm(q_BTNH, block.q_norm[...])
    q_BTNH = attention.rotate(q_BTNH, turn) * jnp.asarray(
      c.query_scale, q_BTNH.dtype
    )
    q_BTNH = sharding.constrain(q_BTNH, 'BTNH', self.mesh)
    if layer.shares_kv:
      k_BSKH, v_BKHS = shared[layer.kind]
    else:
      k_BTKH = heads('k', K)
      v_BTKH = k_BTKH if layer.keys_as_values else heads('v', K)
      if c.qk_norm:
        k_BTKH = self._norm(k_BTKH, block.k_norm[...])
      if c.v_norm:
        v_BTKH = self._norm(v_BTKH, None)
      k_BTKH = attention.rotate(k_BTKH, turn)
      k_BSKH = sharding.constrain(k_BTKH, 'BTKH', self.mesh)
      v_BTKH = sharding.constrain(v_BTKH, 'BTKH', self.mesh)
      if cached is None:
        v_BKHS = jnp.transpose(v_BTKH, (0, 2, 3, 1))
      else:
        cached = _write(cached, k_BSKH, v_BTKH, positions_BT, index)
        k_BSKH, v_BKHS = cached['k'], cached['v']
        if index is not None:
          k_BSKH, v_BKHS = k_BSKH[index], v_BKHS[index]
      shared = {**shared, layer.kind: (k_BSKH, v_BKHS)}
    out_BTKGH = attention.attend(
      q_BTNH.reshape(B, T, K, N // K, H),
      k_BSKH,
      v_BKHS,
      allowed_BTS,
      softcap=c.attn_softcap,
    )
    out_BTD = _dot(out_BTKGH.reshape(B, T, N * H), block, 'o')
    return out_BTD, cached, shared

  def _experts(self, block: modules.Block, x_BTD: jax.Array) -> jax.Array:
    """Returns the experts' part of a layer's output, normalised."""
    c = self.config
    B, T, D = x_BTD.shape
    x_MD = x_BTD.reshape(B * T, D)
    y_MD = self._norm(x_MD, None) * block.router_gain[...][None]
    y_MD = y_MD * jnp.asarray(c.d_model**-0.5, y_MD.dtype)
    experts_MX, weights_MX = experts.route(
      y_MD @ block.router[...], block.expert_gain[...], c.experts_per_token
    )

    def feed_forward(rows_ZD, sizes_E, expert_Z):
      def product(rows, name):
        held, scale = modules.held(block, name)
        out = jax.lax.ragged_dot(rows, held.astype(rows.dtype), sizes_E)
        if scale is None:
          return out
        return (out * scale[expert_Z]).astype(rows.dtype)

      gate_ZF = self._gate(product(rows_ZD, 'expert_gate'))
      return product(gate_ZF * product(rows_ZD, 'expert_up'), 'expert_down')

    y_MD = experts.apply(
      self._norm(x_MD, block.expert_norm[...]),
      experts_MX,
      weights_MX,
      feed_forward,
      c.num_experts,
    )
    y_MD = self._norm(y_MD, block.expert_post_norm[...])
    return y_MD.reshape(B, T, D)

  def _gate(self, x: jax.Array) -> jax.Array:
    if self.config.activation == 'silu':
      return jax.nn.silu(x)
    return jax.nn.gelu(x, approximate=True)

  def _norm(self, x: jax.Array, gain: jax.Array | None) -> jax.Array:
    """Returns x over its root mean square, times its gain."""
    wide = x.astype(jnp.float32)
    square = jnp.mean(wide * wide, axis=-1, keepdims=True)
    wide = wide * jax.lax.rsqrt(square + self.config.norm_eps)
    if gain is not None:
      gain = gain.astype(jnp.float32)
      if self.config.norm_plus_one:
        gain = 1.0 + gain
      wide = wide * jnp.expand_dims(gain, range(x.ndim - 1))
    return wide.astype(x.dtype)


def _dot(x_BTA: jax.Array, module, name: str) -> jax.Array:
  """Returns x times a matrix of the module, in the dtype of x."""
  held, scale = modules.held(module, name)
  if scale is None:
    return x_BTA @ held
  out = jnp.matmul(
    x_BTA, held.astype(x_BTA.dtype), preferred_element_type=jnp.float32
  )
  return (out * scale[None, None]).astype(x_BTA.dtype)


def _write(cached, k_BTKH, v_BTKH, positions_BT, index):
  """Returns the cache with T more positions, of layer `index` if stacked."""
  rows = jnp.arange(k_BTKH.shape[0])[:, None]
  at = (rows, positions_BT)
  at_last = (rows, slice(None), slice(None), positions_BT)
  if index is not None:
    at, at_last = (index, *at), (index, *at_last)
  return {
    'k': cached['k'].at[at].set(k_BTKH, mode='promise_in_bounds'),
    'v': cached['v'].at[at_last].set(v_BTKH, mode='promise_in_bounds'),
  }
