"""Decode attention over the slots' own caches, for GPU (Triton).

A program works on one part of one slot's filled places for one key/value head:
with few slots and heads there are more parts, so that every multiprocessor has
work (Source: flash-decoding, crfm.stanford.edu/2023/10/12/flashdecoding.html).
Only what is filled is read; the parts are merged by log-sum-exp.

Dimension letters: see `wcse_jax/__init__.py`; Y parts of a slot.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu


# Places of one pass of the softmax.
_BLOCK = 64
# Programs that keep a large GPU busy: two for each of 132 multiprocessors.
_PROGRAMS = 264
# The least number of rows that a matrix product of a warp has.
_ROWS = 16
# Finite, so that a difference of two is not NaN.
_MASKED = float(jnp.finfo(jnp.float32).min)


def attend(
  q_BKGH: jax.Array,
  k_LBKSH: jax.Array,
  v_LBKSH: jax.Array,
  index: jax.Array | int,
  filled_B: jax.Array,
  *,
  softcap: float | None = None,
  fill: float = 0.5,
  interpret: bool = False,
) -> tuple[jax.Array, jax.Array]:
  """Returns (out_BKGH, lse_BKG1), float32; see `decode.attend`."""
  _, B, K, S, H = k_LBKSH.shape
  G = q_BKGH.shape[2]
  parts = split(B, K, S)
  rows = max(_ROWS, pl.next_power_of_2(G))
  q_BKGH = jnp.pad(
    q_BKGH.astype(k_LBKSH.dtype), [(0, 0), (0, 0), (0, rows - G), (0, 0)]
  )
  whole = pl.BlockSpec(memory_space=pl.ANY)
  out_BKYGH, lse_BKYG = pl.pallas_call(
    functools.partial(_part, parts=parts, softcap=softcap),
    grid=(B, K, parts),
    in_specs=[
      whole,
      whole,
      pl.BlockSpec((None, None, rows, H), lambda b, h, _: (b, h, 0, 0)),
      whole,
      whole,
    ],
    out_specs=[
      pl.BlockSpec(
        (None, None, None, rows, H), lambda b, h, y: (b, h, y, 0, 0)
      ),
      pl.BlockSpec((None, None, None, rows), lambda b, h, y: (b, h, y, 0)),
    ],
    out_shape=[
      jax.ShapeDtypeStruct((B, K, parts, rows, H), jnp.float32),
      jax.ShapeDtypeStruct((B, K, parts, rows), jnp.float32),
    ],
    compiler_params=plgpu.CompilerParams(num_warps=4, num_stages=2),
    cost_estimate=cost(q_BKGH, k_LBKSH, softcap=softcap, fill=fill),
    interpret=interpret,
    name='decode_attention',
  )(
    jnp.asarray(index, jnp.int32).reshape(1),
    jnp.maximum(filled_B, 1).astype(jnp.int32),
    q_BKGH,
    k_LBKSH,
    v_LBKSH,
  )
  out_BKYGH, lse_BKYG = out_BKYGH[:, :, :, :G], lse_BKYG[:, :, :, :G]
  if parts == 1:
    return out_BKYGH[:, :, 0], lse_BKYG[:, :, 0, :, None]
  lse_BKG = jax.nn.logsumexp(lse_BKYG, axis=2)
  share_BKYG = jnp.exp(lse_BKYG - lse_BKG[:, :, None])
  out_BKGH = jnp.sum(out_BKYGH * share_BKYG[..., None], axis=2)
  return out_BKGH, lse_BKG[..., None]


def split(slots: int, heads: int, places: int) -> int:
  """Returns into how many parts the filled places of a slot are split."""
  return max(1, min(_PROGRAMS // (slots * heads), places // _BLOCK))


def cost(
  q_BKGH, k_LBKSH, *, softcap: float | None, fill: float
) -> pl.CostEstimate:
  """Returns what one call costs when a share `fill` of the places is filled."""
  _, B, K, S, H = k_LBKSH.shape
  rows = q_BKGH.shape[2]
  places = max(1, round(fill * S))
  size = jnp.dtype(k_LBKSH.dtype).itemsize
  outs = split(B, K, S) * (H + 1) * 4
  return pl.CostEstimate(
    flops=4 * B * K * rows * places * H,
    bytes_accessed=2 * B * K * places * H * size
    + B * K * rows * (H * size + outs),
    transcendentals=B * K * rows * places * (1 if softcap is None else 2),
  )


def _part(
  index_ref,
  filled_ref,
  q_ref,
  k_ref,
  v_ref,
  out_ref,
  lse_ref,
  *,
  parts: int,
  softcap: float | None,
):
  """Attention over one part of one slot's filled places."""
  b, h, y = (pl.program_id(axis) for axis in range(3))
  layer, filled = index_ref[0], filled_ref[b]
  rows, H = q_ref.shape
  # The slot's own length decides its parts, whatever the others hold.
  each = pl.cdiv(pl.cdiv(filled, parts), _BLOCK) * _BLOCK
  first = y * each
  end = jnp.minimum(first + each, filled)
  q_GH = q_ref[...]

  def one_block(w, state):
    peak_G, total_G, sum_GH = state
    start = first + w * _BLOCK
    inside_S = start + jnp.arange(_BLOCK) < end
    at = (layer, b, h, pl.ds(start, _BLOCK), slice(None))
    # What is not filled is not read, and 0 instead.
    k_SH = plgpu.load(k_ref.at[at], mask=inside_S[:, None], other=0.0)
    logits_GS = _product(q_GH, k_SH.T)
    if softcap is not None:
      logits_GS = softcap * jnp.tanh(logits_GS / softcap)
    logits_GS = jnp.where(inside_S[None], logits_GS, _MASKED)
    new_G = jnp.maximum(peak_G, jnp.max(logits_GS, axis=1))
    odds_GS = jnp.exp(logits_GS - new_G[:, None])
    scale_G = jnp.exp(peak_G - new_G)
    v_SH = plgpu.load(v_ref.at[at], mask=inside_S[:, None], other=0.0)
    part_GH = _product(odds_GS.astype(v_SH.dtype), v_SH)
    return (
      new_G,
      scale_G * total_G + jnp.sum(odds_GS, axis=1),
      scale_G[:, None] * sum_GH + part_GH,
    )

  blocks = pl.cdiv(jnp.maximum(end - first, 0), _BLOCK)
  peak_G, total_G, sum_GH = jax.lax.fori_loop(
    0,
    blocks,
    one_block,
    (
      jnp.full((rows,), _MASKED, jnp.float32),
      jnp.zeros((rows,), jnp.float32),
      jnp.zeros((rows, H), jnp.float32),
    ),
  )
  # A part without places has no weight.
  some = blocks > 0
  total_G = jnp.where(some, total_G, 1.0)
  out_ref[...] = sum_GH / total_G[:, None]
  lse_ref[...] = jnp.where(some, peak_G + jnp.log(total_G), _MASKED)


def _product(a, b) -> jax.Array:
  wide = a.dtype == jnp.float32
  return plgpu.dot(a, b, precision=jax.lax.Precision.HIGHEST if wide else None)
