"""The decoder.  Families differ by fields of `ModelConfig` alone.

Layers come in stacks.  On TPU the layers of a whole group (local and global,
say) are stacked and scanned, so that compile time does not grow with depth;
layers left over at the end form a stack of their own.  On CPU and GPU every
layer is a stack by itself, which runs faster there.  One block function serves
both.  Source of the choice: docs/design/model.md.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from wcse_jax import sharding
from wcse_jax.kernels import train
from wcse_jax.models import attention, layers, modules
from wcse_jax.models import cache as caches
from wcse_jax.models import config as model_config


# What the forward pass of a layer keeps for the backward pass: outputs of
# products by name, or all that is wanted (`none`: nothing is done again).
REMAT = {
  'none': (),
  'dots': ('q', 'k', 'v', 'o', 'gate', 'up', 'down'),
  'attention': ('q', 'k', 'v', 'o'),
  'full': (),
}


class Transformer(nnx.Module):
  """A decoder-only language model.

  `model(tokens_BT)` gives float32 logits_BTV.

  Args:
    config: the architecture.
    dtype: of weights and activations; norms, softmax and logits are float32.
    rngs: for a random start.
    mesh: where it will run; None for one device.
    scan: stack and scan the layers; None: on TPU.
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
    platform = sharding.platform(mesh)
    if scan is None:
      scan = platform == 'tpu'
    c = config
    make = modules.Maker(jnp.dtype(dtype), rngs, int8=weights == 'int8')
    gain = 0.0 if c.norm_plus_one else 1.0
    self.config = c
    self.dtype = jnp.dtype(dtype)
    self.mesh = mesh
    self.weights = weights
    # See `cache.empty`.
    self.keys_last = platform == 'cpu' and not scan
    self.cache_dtype = jnp.dtype(
      caches.dtype_on(platform, self.dtype.name) if self.keys_last else dtype
    )
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

  @property
  def _layers(self) -> layers.Layers:
    return layers.Layers(
      self.config, self.mesh, self.keys_last, self.cache_dtype
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
    attention: str = '',
    remat: str = 'none',
  ) -> jax.Array:
    """Returns the final hidden states_BTD, before the output head.

    Args:
      tokens_BT: token ids.
      positions_BT: their positions; counted from 0 where None.
      segments_BT: ids of packed sequences; a token attends its own only.
      attention: which implementation; see `kernels.train.chosen`.
      remat: what the backward pass works out again; one of `REMAT`.
    """
    if positions_BT is None:
      positions_BT = jnp.arange(tokens_BT.shape[1])[None]
    kernels = {}
    if attention:
      kernels = {
        kind: functools.partial(
          train.attend,
          segments_BT=segments_BT,
          window=self._window(kind),
          softcap=self.config.attn_softcap,
          mesh=self.mesh,
          name=attention,
        )
        for kind in set(self.config.layer_kinds)
      }
    return self._sequence(
      tokens_BT,
      positions_BT,
      segments_BT,
      kernels=kernels,
      remat=remat,
      gather=self._gathers(tokens_BT.shape[0]),
    )[0]

  def _gathers(self, rows: int) -> bool:
    """Returns whether products gather their matrices over `fsdp`."""
    if self.mesh is None or self.mesh.shape['fsdp'] == 1:
      return False
    return rows % (self.mesh.shape['data'] * self.mesh.shape['fsdp']) == 0

  def prefill(
    self,
    tokens_BT: jax.Array,
    prefix: caches.Cache | None = None,
    start: int = 0,
  ) -> caches.Cache:
    """Returns keys and values of fresh tokens: k_BKTH and v_BKTH of each layer.

    A row's tokens attend to the prefix and to those before them.

    Args:
      tokens_BT: token ids, from position `start` on; padding comes last.
      prefix: from `cache.as_prefix`: what they can see of `start` tokens.
      start: tokens of the prefix.
    """
    positions_BT = start + jnp.arange(tokens_BT.shape[1])[None]
    return self._sequence(
      tokens_BT, positions_BT, None, prefix, start, keep=True
    )[1]

  def step(
    self,
    token_B: jax.Array,
    own_B: jax.Array,
    cache: caches.Cache,
    prefix: caches.Cache | None = None,
    start: int = 0,
    *,
    kernel: bool = False,
    fill: float = 0.5,
  ) -> tuple[jax.Array, caches.Cache]:
    """Returns (hidden states_BD, cache) after one more token of every slot.

    Args:
      token_B: token ids.
      own_B: their own indices: positions less `start`.
      cache: from `make_cache`; donate it, it is updated in place.
      prefix: from `cache.as_prefix`: what they can see of `start` tokens.
      start: tokens of the prefix.
      kernel: whether a kernel reads the cache; see `decode.chosen`.
      fill: share of the places that its cost estimate takes as filled.
    """
    tokens_BT = token_B[:, None]
    position_B1 = start + own_B[:, None]
    # The first layer of each kind has keys of its own.
    count = {
      block.layer.kind: part['v'].shape[-2]
      for stack, parts in zip(self.stacks, cache, strict=True)
      for block, part in zip(stack.blocks, parts, strict=True)
      if part
    }
    # The places of a window fill up first.
    whole = max(count.values())
    scene = {
      kind: layers.Scene(
        turn,
        caches.visible(own_B, count[kind])[:, None],
        self._prefix_mask(kind, position_B1, prefix, start),
        caches.filled(own_B, count[kind]) if kernel else None,
        min(1.0, fill * whole / count[kind]),
      )
      for kind, turn in self._turns(position_B1).items()
    }
    x_BTD = self._embed(tokens_BT)
    own_BTLC = self._own_inputs(tokens_BT, x_BTD)
    filled = []
    shared: layers.Shared = {}
    for stack, parts, before in self._zipped(cache, prefix):
      x_BTD, parts, shared = self._run_step(
        stack, x_BTD, parts, before, shared, scene, own_B, own_BTLC
      )
      filled.append(parts)
    return self._layers.norm(x_BTD, self.final_norm[...])[:, 0], filled

  def head_table(self) -> tuple[jax.Array, jax.Array | None]:
    """Returns the output head table_VD and, held in int8, its scale_V."""
    name = 'embedding' if self.config.tie_embeddings else 'head'
    return modules.held(self, name)

  def logits(self, x_BTD: jax.Array) -> jax.Array:
    """Returns float32 logits_BTV of hidden states."""
    table_VD, scale_V = self.head_table()
    table_VD = table_VD.astype(x_BTD.dtype)
    wide = jnp.float32
    if x_BTD.shape[1] == 1:
      # As a product of three axes it would have the table turned round on CPU.
      logits_BTV = jnp.einsum(
        'BD,VD->BV', x_BTD[:, 0], table_VD, preferred_element_type=wide
      )[:, None]
    else:
      logits_BTV = jnp.einsum(
        'BTD,VD->BTV', x_BTD, table_VD, preferred_element_type=wide
      )
    if scale_V is not None:
      logits_BTV = logits_BTV * scale_V[None, None]
    cap = self.config.final_softcap
    if cap is not None:
      logits_BTV = cap * jnp.tanh(logits_BTV / cap)
    return sharding.constrain(logits_BTV, 'BTV', self.mesh)

  def make_cache(self, rows: int, places: int) -> caches.Cache:
    """Returns an empty cache of `rows` slots of up to `places` own tokens."""
    window = self.config.window
    return [
      [
        caches.empty(
          block.layer,
          stack.repeats,
          rows=rows,
          count=caches.places(block.layer, window, places),
          dtype=self.cache_dtype,
          mesh=self.mesh,
          keys_last=self.keys_last,
        )
        for block in stack.blocks
      ]
      for stack in self.stacks
    ]

  def as_prefix(self, rows: caches.Cache) -> caches.Cache:
    """Returns the prefix that the one fresh row of `prefill` makes."""
    kinds = [[block.layer for block in stack.blocks] for stack in self.stacks]
    prefix = caches.as_prefix(rows, kinds, self.config.window)
    # Never written, so never wider than the weights.
    return jax.tree.map(lambda x: x.astype(self.dtype), prefix)

  def _embed(self, tokens_BT: jax.Array) -> jax.Array:
    x_BTD = self._look_up('embedding', tokens_BT)
    if self.config.embed_scale:
      # Rounded to the weights' dtype, as the published checkpoints expect.
      x_BTD = x_BTD * jnp.asarray(self.config.d_model**0.5, x_BTD.dtype)
    return sharding.constrain(x_BTD, 'BTD', self.mesh)

  def _look_up(self, name: str, tokens_BT: jax.Array) -> jax.Array:
    table_VD, scale_V = modules.held(self, name)
    if self.keys_last:
      # Else the compiler for CPU takes the whole table into float32 first.
      table_VD, tokens_BT = jax.lax.optimization_barrier((table_VD, tokens_BT))
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
    seen_BTLC = self._layers.dot(x_BTD, self, 'own_projection')
    seen_BTLC = seen_BTLC * c.d_model**-0.5
    seen_BTLC = self._layers.norm(seen_BTLC.reshape(shape), self.own_norm[...])
    return (seen_BTLC + own_BTLC) * 2.0**-0.5

  def _turns(self, positions_BT) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Returns kind of layer -> rotation."""
    c = self.config
    return {
      kind: attention.rotation(
        positions_BT, attention.frequencies(c.rope(kind), head_dim)
      )
      for kind, head_dim in sorted({(l.kind, l.head_dim) for l in c.layers})
    }

  def _window(self, kind: str) -> int | None:
    return self.config.window if kind == 'local' else None

  def _prefix_mask(self, kind, positions_BT, prefix, start: int):
    """Returns which keys of the prefix are in sight; None: all of them."""
    window = self._window(kind)
    if prefix is None or window is None:
      return None
    count = min(window - 1, start)
    key_1S = jnp.arange(start - count, start)[None]
    return attention.mask(positions_BT, key_1S, window=window)

  def _zipped(self, cache: caches.Cache | None, prefix: caches.Cache | None):
    """Yields (stack, its parts of the cache, its parts of the prefix)."""
    for i, stack in enumerate(self.stacks):
      none = [None] * len(stack.blocks)
      yield (
        stack,
        none if cache is None else cache[i],
        none if prefix is None else prefix[i],
      )

  def _sequence(
    self,
    tokens_BT,
    positions_BT,
    segments_BT,
    prefix=None,
    start: int = 0,
    *,
    keep: bool = False,
    kernels: Mapping[str, Any] | None = None,
    remat: str = 'none',
    gather: bool = False,
  ):
    """Returns (final hidden states_BTD, fresh keys and values if to keep)."""
    work = dataclasses.replace(self._layers, gather=gather)
    segments = None if segments_BT is None else (segments_BT, segments_BT)

    def mask(kind):
      return attention.mask(
        positions_BT,
        positions_BT,
        window=self._window(kind),
        segments=segments,
      )

    scene = {
      kind: layers.Scene(
        turn,
        None if kernels else mask(kind),
        self._prefix_mask(kind, positions_BT, prefix, start),
        kernel=kernels[kind] if kernels else None,
      )
      for kind, turn in self._turns(positions_BT).items()
    }
    x_BTD = self._embed(tokens_BT)
    own_BTLC = self._own_inputs(tokens_BT, x_BTD)
    kept = []
    shared: layers.Shared = {}
    for stack, _, before in self._zipped(None, prefix):
      x_BTD, parts, shared = self._run_sequence(
        work, stack, x_BTD, before, shared, scene, own_BTLC, keep, remat
      )
      kept.append(parts)
    return self._layers.norm(x_BTD, self.final_norm[...]), kept

  def _run_sequence(
    self,
    work: layers.Layers,
    stack: modules.Stack,
    x_BTD,
    before,
    shared,
    scene,
    own,
    keep: bool,
    remat: str,
  ):
    """Returns (x_BTD, fresh parts, shared) after all layers of one stack."""
    own = _own_of(stack, own)

    def one(block, x_BTD, before, shared, own):
      attended = work.attend_sequence(
        block, scene[block.layer.kind], before, shared
      )
      x_BTD, (part, shared) = work.block(block, x_BTD, attended, own)
      return x_BTD, part if keep else {}, shared

    def group(blocks, x_BTD, before, shared, own):
      done = []
      for i, block in enumerate(blocks):
        x_BTD, part, shared = _remembering(one, remat, stack.repeats > 1)(
          block, x_BTD, before[i], shared, None if own is None else own[i]
        )
        done.append(part)
      return x_BTD, done, shared

    if stack.repeats == 1:
      return group(stack.blocks, x_BTD, before, shared, own)

    graph, state = nnx.split(stack.blocks)
    # Which repeat is the last of its kind is not known inside, so the scan
    # carries shared keys and values, from a start that the first one replaces.
    carried = {}
    if self.config.num_kv_shared_layers:
      B, T, _ = x_BTD.shape
      for block, part in zip(stack.blocks, before, strict=True):
        if not block.layer.shares_kv:
          K, H = block.layer.num_kv_heads, block.layer.head_dim
          # As `Layers.attend_sequence` leaves them.
          plain = scene[block.layer.kind].kernel is None
          v_shape = (B, K, H, T) if plain else (B, T, K, H)
          fresh = {
            'k': jnp.zeros((B, T, K, H), self.cache_dtype),
            'v': jnp.zeros(v_shape, self.cache_dtype),
          }
          first = jax.tree.map(lambda whole: whole[0], part)
          carried[block.layer.kind] = (fresh, first)

    def body(carry, scanned):
      x_BTD, carried = carry
      weights, before, own = scanned
      x_BTD, done, seen = group(
        nnx.merge(graph, weights), x_BTD, before, {**shared, **carried}, own
      )
      return (x_BTD, {kind: seen[kind] for kind in carried}), done

    (x_BTD, carried), done = jax.lax.scan(
      body, (x_BTD, carried), (state, before, own)
    )
    return x_BTD, done, {**shared, **carried}

  def _run_step(
    self, stack: modules.Stack, x_BTD, parts, before, shared, scene, own_B, own
  ):
    """Returns (x_BTD, parts, shared) after all layers of one stack."""
    own = _own_of(stack, own)

    def group(blocks, x_BTD, parts, before, shared, own, index):
      done = []
      for i, block in enumerate(blocks):
        attended = self._layers.attend_step(
          block,
          scene[block.layer.kind],
          parts[i],
          before[i],
          shared,
          own_B,
          index,
        )
        x_BTD, (part, shared) = self._layers.block(
          block, x_BTD, attended, None if own is None else own[i]
        )
        done.append(part)
      return x_BTD, done, shared

    if stack.repeats == 1:
      return group(stack.blocks, x_BTD, parts, before, shared, own, None)

    graph, state = nnx.split(stack.blocks)

    def body(carry, scanned):
      x_BTD, parts = carry
      index, weights, before, own = scanned
      x_BTD, parts, _ = group(
        nnx.merge(graph, weights), x_BTD, parts, before, shared, own, index
      )
      return (x_BTD, parts), None

    # The cache is carried: as scanned input and output it would be copied.
    (x_BTD, parts), _ = jax.lax.scan(
      body, (x_BTD, parts), (jnp.arange(stack.repeats), state, before, own)
    )
    if self.config.num_kv_shared_layers:
      last = jax.tree.map(lambda whole: whole[-1], (parts, before))
      for block, part, seen in zip(stack.blocks, *last, strict=True):
        if not block.layer.shares_kv:
          shared = {**shared, block.layer.kind: (part, seen)}
    return x_BTD, parts, shared


def _remembering(one, remat: str, scanned: bool):
  """Returns `one` so that its backward pass keeps what `remat` says.

  Args:
    one: a layer: (block, x_BTD, before, shared, own) -> the same kind of.
    remat: one of `REMAT`.
    scanned: whether it is the body of a scan, where nothing else can be merged
      with what is worked out again.
  """
  if remat == 'none':
    return one

  def run(block, *rest):
    graph, state = nnx.split(block)
    kept = jax.checkpoint(
      lambda state, *rest: one(nnx.merge(graph, state), *rest),
      policy=jax.checkpoint_policies.save_only_these_names(*REMAT[remat]),
      prevent_cse=not scanned,
    )
    return kept(state, *rest)

  return run


def _own_of(stack: modules.Stack, own_BTLC: jax.Array | None):
  """Returns the own inputs of a stack's blocks, of scanned ones stacked."""
  if own_BTLC is None:
    return None
  group = len(stack.blocks)
  own = own_BTLC[:, :, stack.first : stack.first + group * stack.repeats]
  if stack.repeats == 1:
    return [own[:, :, i] for i in range(group)]
  own = own.reshape(*own.shape[:2], stack.repeats, group, own.shape[-1])
  return jnp.transpose(own, (2, 3, 0, 1, 4))
