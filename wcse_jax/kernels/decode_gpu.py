"""Attention of one decode step for GPU (Triton), from projections to output.

A small model's step is many small operations, and on a GPU each costs a few
microseconds however little it does.  So three kernels do all that lies between
a layer's projections and its output product:

- `_own`: norms and rotates queries and the new key, writes the new key and
  value to the slot's cache, and attends to that cache.  A program works on one
  part of one slot's filled places for one key/value head; only what is filled
  is read.
- `_prefix`: attends to the prefix that all slots share, many slots at a time.
- `_merge`: puts the parts together by log-sum-exp.

Source: flash-decoding, crfm.stanford.edu/2023/10/12/flashdecoding.html (parts);
Hydragen, arXiv:2402.05099, section 3 (shared prefix).

Dimension letters: see `wcse_jax/__init__.py`; X queries of a key/value head and
what lies behind them, Y parts, R rows of a product, E half a head.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from wcse_jax.kernels import gpu_parts


# Places of one pass of the softmax, of a slot's own and of the prefix, where
# what is on its way fits into so much of a multiprocessor's shared memory.
_BLOCK, _PREFIX_BLOCK = 32, 64
_SHARED_BYTES = 160 << 10
# Programs that keep a large GPU busy, of 132 multiprocessors: as many as there
# may be before what is read is split no more.
_PROGRAMS, _PREFIX_PROGRAMS = 528, 264
# The most parts of a slot's own places, and of the prefix.
_PARTS, _PREFIX_PARTS = 4, 16
# The least number of rows that a matrix product of a warp has; and how many
# share what is read of a prefix, where more than a few come together and a head
# is no wider than what their sums have registers for.
_ROWS, _MANY_ROWS = 16, 64
_FEW, _WIDEST = 128, 256
_WARPS, _STAGES = 4, 2


def attend(
  x_BKXH: jax.Array,
  turn: tuple[jax.Array, jax.Array],
  gains: tuple[jax.Array, ...],
  k_LBKSH: jax.Array,
  v_LBKSH: jax.Array,
  index: jax.Array | int,
  place_B: jax.Array,
  filled_B: jax.Array,
  prefix: tuple[jax.Array, jax.Array, jax.Array] | None,
  *,
  layer: gpu_parts.Layer,
  interpret: bool = False,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns (out_BKGH, k_LBKSH, v_LBKSH) of one token; see `decode.step`."""
  parts = _run_own(
    x_BKXH,
    turn,
    gains,
    k_LBKSH,
    v_LBKSH,
    index,
    place_B,
    filled_B,
    layer=layer,
    interpret=interpret,
  )
  if layer.fresh:
    *parts, k_LBKSH, v_LBKSH = parts
  if prefix is not None:
    parts += _run_prefix(
      x_BKXH, turn, gains, *prefix, layer=layer, interpret=interpret
    )
  out_BKGH = _run_merge(
    parts, x_BKXH.dtype, queries=layer.queries, interpret=interpret
  )
  return out_BKGH, k_LBKSH, v_LBKSH


def split(slots: int, heads: int, places: int) -> int:
  """Returns into how many parts the filled places of a slot are split."""
  return max(
    1, min(_PROGRAMS // (slots * heads), places // (2 * _BLOCK), _PARTS)
  )


def _fitting(most: int, held: jax.Array) -> int:
  """Returns the places of a pass over keys and values of a kind."""
  place = 2 * held.shape[-1] * held.dtype.itemsize * _STAGES
  while most > _ROWS and most * place > _SHARED_BYTES:
    most //= 2
  return most


_WHOLE = pl.BlockSpec(memory_space=pl.ANY)


def _run_own(
  x_BKXH,
  turn,
  gains,
  k_LBKSH,
  v_LBKSH,
  index,
  place_B,
  filled_B,
  *,
  layer: gpu_parts.Layer,
  interpret: bool,
) -> Any:
  """Returns [out_BKYGH, lse_BKYG], and behind them the caches if written."""
  _, B, K, S, H = k_LBKSH.shape
  G = layer.queries
  rows = max(_ROWS, pl.next_power_of_2(G))
  parts = split(B, K, S)
  block = _fitting(_BLOCK, k_LBKSH)
  inputs = [
    jnp.asarray(index, jnp.int32).reshape(1),
    place_B.astype(jnp.int32),
    filled_B.astype(jnp.int32),
    x_BKXH,
    *turn,
    *gains,
    k_LBKSH,
    v_LBKSH,
  ]
  last = len(inputs)
  written = (k_LBKSH, v_LBKSH) if layer.fresh else ()
  return pl.pallas_call(
    functools.partial(_own, parts=parts, block=block, layer=layer),
    grid=(B, K, parts),
    in_specs=[_WHOLE] * last,
    out_specs=[
      pl.BlockSpec(
        (None, None, None, rows, H), lambda b, h, y: (b, h, y, 0, 0)
      ),
      pl.BlockSpec((None, None, None, rows), lambda b, h, y: (b, h, y, 0)),
      *[_WHOLE for _ in written],
    ],
    out_shape=[
      jax.ShapeDtypeStruct((B, K, parts, G, H), jnp.float32),
      jax.ShapeDtypeStruct((B, K, parts, G), jnp.float32),
      *[jax.ShapeDtypeStruct(x.shape, x.dtype) for x in written],
    ],
    # What is only read stays where it is.
    input_output_aliases={last - 2: 2, last - 1: 3} if written else {},
    compiler_params=plgpu.CompilerParams(num_warps=_WARPS, num_stages=_STAGES),
    interpret=interpret,
    name='decode_own',
  )(*inputs)


def _run_prefix(
  x_BKXH,
  turn,
  gains,
  k_KUH,
  v_KUH,
  low_B,
  *,
  layer: gpu_parts.Layer,
  interpret: bool,
) -> Any:
  """Returns (out_KYMH, lse_KYM), M = B * G padded: slot by slot."""
  B = x_BKXH.shape[0]
  K, U, H = k_KUH.shape
  M = B * layer.queries
  rows = _ROWS if M <= _FEW or H > _WIDEST else _MANY_ROWS
  blocks = pl.cdiv(M, rows)
  block = _fitting(_PREFIX_BLOCK, k_KUH)
  passes = pl.cdiv(U, block)
  parts = min(_PREFIX_PROGRAMS // (blocks * K), passes, _PREFIX_PARTS)
  parts = max(1, parts)
  inputs = [low_B.astype(jnp.int32), x_BKXH, *turn, *gains]
  return pl.pallas_call(
    functools.partial(
      _prefix, each=pl.cdiv(passes, parts) * block, block=block, layer=layer
    ),
    grid=(blocks, K, parts),
    in_specs=[_WHOLE] * (len(inputs) + 2),
    out_specs=[
      pl.BlockSpec((None, None, rows, H), lambda m, h, y: (h, y, m, 0)),
      pl.BlockSpec((None, None, rows), lambda m, h, y: (h, y, m)),
    ],
    out_shape=[
      jax.ShapeDtypeStruct((K, parts, blocks * rows, H), jnp.float32),
      jax.ShapeDtypeStruct((K, parts, blocks * rows), jnp.float32),
    ],
    compiler_params=plgpu.CompilerParams(num_warps=_WARPS, num_stages=_STAGES),
    interpret=interpret,
    name='decode_prefix',
  )(*inputs, k_KUH, v_KUH)


def _run_merge(parts, dtype, *, queries: int, interpret: bool) -> jax.Array:
  """Returns out_BKGH of the parts of own places, and of a prefix if any."""
  B, K, _, G, H = parts[0].shape
  return pl.pallas_call(
    functools.partial(_merge, queries=queries),
    grid=(B, K, G),
    in_specs=[_WHOLE] * len(parts),
    out_specs=pl.BlockSpec((None, None, None, H), lambda b, h, g: (b, h, g, 0)),
    out_shape=jax.ShapeDtypeStruct((B, K, G, H), dtype),
    compiler_params=plgpu.CompilerParams(num_warps=1, num_stages=1),
    interpret=interpret,
    name='decode_merge',
  )(*parts)


def _own(*refs, parts: int, block: int, layer: gpu_parts.Layer):
  """Attention over one part of one slot's filled places."""
  written = refs[-2:]
  *refs, out_ref, lse_ref = refs[:-2] if layer.fresh else refs
  index_ref, place_ref, filled_ref, x_ref, sin_ref, cos_ref, *more = refs
  *gains, k_ref, v_ref = more
  b, h, y = (pl.program_id(axis) for axis in range(3))
  at_layer, place, filled = index_ref[0], place_ref[b], filled_ref[b]
  rows, H = out_ref.shape
  G, E = layer.queries, H // 2
  low, high = pl.ds(0, E), pl.ds(E, E)
  sin_E, cos_E = sin_ref[b], cos_ref[b]
  # Rows beyond the last query do its work again.
  query_R = jnp.minimum(jnp.arange(rows), G - 1)
  a_RE, b_RE = gpu_parts.prepared(
    (x_ref[b, h, query_R, low], x_ref[b, h, query_R, high]),
    gains[:1],
    (sin_E[None], cos_E[None]),
    layer,
  )
  a_RE, b_RE = (gpu_parts.scaled(half, layer) for half in (a_RE, b_RE))
  state = gpu_parts.begun(rows, H)
  if layer.fresh:
    ka_E, kb_E = gpu_parts.prepared(
      (x_ref[b, h, G, low], x_ref[b, h, G, high]),
      gains[1:],
      (sin_E, cos_E),
      layer,
    )
    v_H = x_ref[b, h, G if layer.keys_as_values else G + 1, :]
    if layer.v_norm:
      wide_H = v_H.astype(jnp.float32)
      square = jnp.sum(wide_H * wide_H) / H
      v_H = (wide_H * jax.lax.rsqrt(square + layer.eps)).astype(v_H.dtype)

    @pl.when(y == 0)
    def _():
      written[0][at_layer, b, h, place, low] = ka_E
      written[0][at_layer, b, h, place, high] = kb_E
      written[1][at_layer, b, h, place, :] = v_H

    # It weighs in the first part, from where it is.
    first = y == 0
    wide = [half.astype(jnp.float32) for half in (a_RE, b_RE, ka_E, kb_E)]
    logits_R = jnp.sum(
      wide[0] * wide[2][None] + wide[1] * wide[3][None], axis=1
    )
    logits_R = gpu_parts.capped(logits_R, layer)
    state = (
      jnp.where(first, logits_R, state[0]),
      jnp.where(first, 1.0, state[1]),
      jnp.where(first, v_H.astype(jnp.float32)[None], state[2]),
    )
  # The slot's own length decides its parts, whatever the others hold.
  each = pl.cdiv(pl.cdiv(filled, parts), block) * block
  start = y * each
  end = jnp.minimum(start + each, filled)

  def one_block(w, state):
    at_S = start + w * block + jnp.arange(block)
    inside_S = at_S < end
    if layer.fresh:
      inside_S = inside_S & (at_S != place)
    where = (at_layer, b, h, pl.ds(start + w * block, block))
    # What is not filled is not read, and 0 instead.
    held = [
      plgpu.load(ref.at[(*where, part)], mask=inside_S[:, None], other=0.0)
      for ref, part in ((k_ref, low), (k_ref, high), (v_ref, slice(None)))
    ]
    return gpu_parts.over(state, (a_RE, b_RE), held, inside_S[None], layer)

  blocks = pl.cdiv(jnp.maximum(end - start, 0), block)
  out_RH, lse_R = gpu_parts.ended(
    jax.lax.fori_loop(0, blocks, one_block, state)
  )
  some_R = jnp.arange(rows) < G
  plgpu.store(out_ref.at[:, :], out_RH, mask=some_R[:, None])
  plgpu.store(lse_ref.at[:], lse_R, mask=some_R)


def _prefix(*refs, each: int, block: int, layer: gpu_parts.Layer):
  """Attention of some rows over one part of the shared prefix."""
  *inputs, k_ref, v_ref, out_ref, lse_ref = refs
  low_ref, x_ref, sin_ref, cos_ref, *gains = inputs
  m, h, y = (pl.program_id(axis) for axis in range(3))
  rows, H = out_ref.shape
  slots, U = x_ref.shape[0], k_ref.shape[1]
  G, E = layer.queries, H // 2
  low, high = pl.ds(0, E), pl.ds(E, E)
  row_R = m * rows + jnp.arange(rows)
  slot_R = jnp.minimum(row_R // G, slots - 1)
  query_R = row_R % G
  turn = sin_ref[slot_R, :], cos_ref[slot_R, :]
  halves = gpu_parts.prepared(
    (x_ref[slot_R, h, query_R, low], x_ref[slot_R, h, query_R, high]),
    gains[:1],
    turn,
    layer,
  )
  halves = tuple(gpu_parts.scaled(half, layer) for half in halves)
  low_R = low_ref[slot_R]
  start = y * each
  end = jnp.minimum(start + each, U)

  def one_block(w, state):
    at_S = start + w * block + jnp.arange(block)
    inside_S = at_S < end
    where = (h, pl.ds(start + w * block, block))
    held = [
      plgpu.load(ref.at[(*where, part)], mask=inside_S[:, None], other=0.0)
      for ref, part in ((k_ref, low), (k_ref, high), (v_ref, slice(None)))
    ]
    seen_RS = inside_S[None] & (at_S[None] >= low_R[:, None])
    return gpu_parts.over(state, halves, held, seen_RS, layer)

  # What no row sees is not read.
  skipped = jnp.maximum(jnp.min(low_R) - start, 0) // block
  blocks = pl.cdiv(jnp.maximum(end - start, 0), block)
  state = gpu_parts.begun(rows, H)
  out_RH, lse_R = gpu_parts.ended(
    jax.lax.fori_loop(skipped, blocks, one_block, state)
  )
  out_ref[...] = out_RH
  lse_ref[...] = lse_R


def _merge(*refs, queries: int):
  """One softmax over the keys of all parts, of one query."""
  *parts, merged_ref = refs
  b, h, g = (pl.program_id(axis) for axis in range(3))
  found = [(parts[0], parts[1], (b, h, y, g)) for y in range(parts[1].shape[2])]
  if len(parts) > 2:
    found += [
      (parts[2], parts[3], (h, y, b * queries + g))
      for y in range(parts[3].shape[1])
    ]
  weights = [lse_ref[where] for _, lse_ref, where in found]
  peak = functools.reduce(jnp.maximum, weights)
  odds = [jnp.exp(lse - peak) for lse in weights]
  sum_H = sum(
    odd * out_ref[(*where, slice(None))]
    for odd, (out_ref, _, where) in zip(odds, found, strict=True)
  )
  merged_ref[...] = (sum_H / sum(odds)).astype(merged_ref.dtype)
