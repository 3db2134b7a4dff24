"""Decode attention over the slots' own caches, for TPU.

Only what is filled is read: a slot's keys and values come to on-chip memory in
one copy each, whose length is the slot's own, rounded up to a tile.  A grid
step works on a group of slots, while the copies of the next group are under
way, so that neither the start of a copy nor the overhead of a grid step is
waited for.  The floor by which the sizes were chosen: docs/design/kernels.md.

Dimension letters: see `wcse_jax/__init__.py`.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu


# Pairs of a slot and a key/value head that one grid step works on: their chains
# of small products and reductions are independent, and hide each other's
# latency.
_UNITS = 8
# Places of one pass of the softmax.
_BLOCK = 512
# Bytes of keys and values on the chip at a time, both halves of the buffer.
_BUFFER = 8 * 2**20
# Finite, so that a difference of two is not NaN.
_MASKED = float(jnp.finfo(jnp.float32).min)
_LANES = 128


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
  dtype = k_LBKSH.dtype
  n = group(B, K)
  chunk = _chunk(n * K, S, H, dtype)
  steps = pl.cdiv(B, n)
  step = functools.partial(
    _step, slots=B, places=S, chunk=chunk, softcap=softcap
  )
  buffer = pltpu.VMEM((2, n, K, chunk, H), dtype)
  if not interpret:
    # Else the compiler takes a whole cache to on-chip memory and back where it
    # finds room, and the kernel reads it from there.
    k_LBKSH, v_LBKSH = (
      pltpu.with_memory_space_constraint(x, pltpu.HBM)
      for x in (k_LBKSH, v_LBKSH)
    )
  out_BKGH, lse_BKG1 = pl.pallas_call(
    step,
    grid_spec=pltpu.PrefetchScalarGridSpec(
      num_scalar_prefetch=2,
      grid=(steps,),
      in_specs=[
        pl.BlockSpec((n, K, G, H), lambda a, *_: (a, 0, 0, 0)),
        pl.BlockSpec(memory_space=pl.ANY),
        pl.BlockSpec(memory_space=pl.ANY),
      ],
      out_specs=[
        pl.BlockSpec((n, K, G, H), lambda a, *_: (a, 0, 0, 0)),
        pl.BlockSpec((n, K, G, 1), lambda a, *_: (a, 0, 0, 0)),
      ],
      scratch_shapes=[
        buffer,
        buffer,
        pltpu.SemaphoreType.DMA((2, 2)),
        pltpu.SMEM((1,), jnp.int32),
      ],
    ),
    out_shape=[
      jax.ShapeDtypeStruct((B, K, G, H), jnp.float32),
      jax.ShapeDtypeStruct((B, K, G, 1), jnp.float32),
    ],
    compiler_params=pltpu.CompilerParams(
      dimension_semantics=('arbitrary',), disable_bounds_checks=True
    ),
    cost_estimate=cost(q_BKGH, k_LBKSH, softcap=softcap, fill=fill),
    interpret=pltpu.InterpretParams() if interpret else False,
    name='decode_attention',
  )(
    jnp.asarray(index, jnp.int32).reshape(1),
    jnp.maximum(filled_B, 1).astype(jnp.int32),
    q_BKGH.astype(dtype),
    k_LBKSH,
    v_LBKSH,
  )
  return out_BKGH, lse_BKG1


def group(slots: int, heads: int) -> int:
  """Returns how many slots one grid step works on.

  Groups are of one size, so that few slots of the last one are done twice.
  """
  most = max(1, min(slots, _UNITS // heads))
  return pl.cdiv(slots, pl.cdiv(slots, most))


def copied(filled: int, dtype) -> int:
  """Returns how many places are read of a slot in which some are filled."""
  tile = _tile(dtype)
  return pl.cdiv(max(filled, 1), tile) * tile


def cost(
  q_BKGH, k_LBKSH, *, softcap: float | None, fill: float
) -> pl.CostEstimate:
  """Returns what one call costs when a share `fill` of the places is filled."""
  _, B, K, S, H = k_LBKSH.shape
  G = q_BKGH.shape[2]
  places = min(S, copied(round(fill * S), k_LBKSH.dtype))
  pairs = B * K * G * places
  size = jnp.dtype(k_LBKSH.dtype).itemsize
  return pl.CostEstimate(
    flops=4 * pairs * H,
    bytes_accessed=2 * B * K * places * H * size
    # Queries, outputs and log-sum-exps.
    + B * K * G * (H * size + H * 4 + 4),
    transcendentals=pairs * (1 if softcap is None else 2),
  )


def _tile(dtype) -> int:
  """Returns the places of a tile of the cache as it lies in memory."""
  return 32 // jnp.dtype(dtype).itemsize


def _chunk(units: int, places: int, width: int, dtype) -> int:
  """Returns how many places of each slot are on the chip at a time."""
  each = 4 * units * width * jnp.dtype(dtype).itemsize
  unit = _BLOCK if places > _LANES and _BUFFER // each >= _BLOCK else _LANES
  fits = max(1, _BUFFER // each // unit)
  return unit * min(fits, pl.cdiv(places, unit))


def _step(
  index_ref,
  filled_ref,
  q_ref,
  k_hbm,
  v_hbm,
  out_ref,
  lse_ref,
  k_buffer,
  v_buffer,
  arrived,
  turn_ref,
  *,
  slots: int,
  places: int,
  chunk: int,
  softcap: float | None,
):
  """Attention of one group of slots."""
  _, n, K, _, H = k_buffer.shape
  G = q_ref.shape[2]
  dtype = k_buffer.dtype
  tile = _tile(dtype)
  block = min(_BLOCK, chunk)
  a = pl.program_id(0)
  single = places <= chunk

  def slot(a, i):
    # Beyond the last group's slots: the last one once more, thrown away.
    return jnp.minimum(a * n + i, slots - 1)

  def filled(a, i):
    return filled_ref[slot(a, i)]

  def most(a):
    return functools.reduce(jnp.maximum, [filled(a, i) for i in range(n)])

  def copies(a, c, half, act):
    """Does `act` to each copy of chunk c of a group into half the buffer."""
    whole = places // tile * tile
    for i in range(n):
      b = slot(a, i)
      held = filled_ref[b]
      left = jnp.minimum(pl.cdiv(held, tile) * tile, whole) - c * chunk
      size = pl.multiple_of(jnp.clip(left, 0, chunk), tile)

      def both(start, size, b=b, i=i):
        for which, (hbm, buffer) in enumerate(
          ((k_hbm, k_buffer), (v_hbm, v_buffer))
        ):
          first = pl.multiple_of(c * chunk + start, tile)
          act(
            pltpu.make_async_copy(
              hbm.at[index_ref[0], b, :, pl.ds(first, size)],
              buffer.at[half, i, :, pl.ds(start, size)],
              arrived.at[half, which],
            )
          )

      if single and whole:
        both(0, size)
      else:
        pl.when(size > 0)(functools.partial(both, 0, size))
      if whole < places:
        # What no whole tile holds lies at the end of the last chunk.
        last = (held > whole) & (c == whole // chunk)
        pl.when(last)(functools.partial(both, whole % chunk, places - whole))

  def clear(half):
    """Empties half the buffer of values."""

    def one(w, _):
      at = (half, slice(None), slice(None), pl.ds(w * _LANES, _LANES))
      v_buffer[at] = jnp.zeros((n, K, _LANES, H), dtype)

    jax.lax.fori_loop(0, chunk // _LANES, one, None)

  def cut(c, half):
    """Empties what a copy brought beyond the filled places."""
    for i in range(n):
      left = filled(a, i) - c * chunk
      last = jnp.clip(left - 1, 0, chunk - 1)
      # Not `//`: how that lowers depends on the device at hand.
      first = jax.lax.div(last, jnp.int32(tile)) * tile
      at = (half, i, slice(None), pl.ds(pl.multiple_of(first, tile), tile))
      place_KSH = jax.lax.broadcasted_iota(jnp.int32, (K, tile, H), 1)
      v_buffer[at] = jnp.where(
        place_KSH < left - first, v_buffer[at], jnp.zeros((), dtype)
      )

  # A place that is not filled gets no weight, but 0 * NaN is NaN: what memory
  # held before the first copy is cleared once, the end of each copy is cut.
  @pl.when(a == 0)
  def _():
    turn_ref[0] = 0
    clear(0)
    copies(0, 0, 0, lambda copy: copy.start())
    clear(1)

  chunks = 1 if single else pl.cdiv(most(a), chunk)

  def one_chunk(c, state):
    half = turn_ref[0]
    turn_ref[0] = 1 - half
    if single:
      after, next_a, next_c = a + 1 < pl.num_programs(0), a + 1, 0
    else:
      more = c + 1 < chunks
      after = more | (a + 1 < pl.num_programs(0))
      next_a, next_c = jnp.where(more, a, a + 1), jnp.where(more, c + 1, 0)

    @pl.when(after)
    def _():
      copies(next_a, next_c, 1 - half, lambda copy: copy.start())

    copies(a, c, half, lambda copy: copy.wait())
    cut(c, half)
    blocks = pl.cdiv(jnp.minimum(most(a) - c * chunk, chunk), block)
    return jax.lax.fori_loop(
      0, blocks, functools.partial(one_block, c, half), state
    )

  def one_block(c, half, w, state):
    first = pl.multiple_of(w * block, block)
    done = []
    for unit, (peak_G1, total_G1, sum_GH) in enumerate(state):
      i, h = divmod(unit, K)
      left = filled(a, i) - c * chunk - first
      at = (half, i, h, pl.ds(first, block))
      logits_GS = _product(q_ref[i, h], k_buffer[at], ((1,), (1,)))
      if softcap is not None:
        logits_GS = softcap * jnp.tanh(logits_GS / softcap)
      place_GS = jax.lax.broadcasted_iota(jnp.int32, (G, block), 1)
      logits_GS = jnp.where(place_GS < left, logits_GS, _MASKED)
      new_G1 = jnp.maximum(peak_G1, jnp.max(logits_GS, axis=1, keepdims=True))
      odds_GS = jnp.exp(logits_GS - new_G1)
      scale_G1 = jnp.exp(peak_G1 - new_G1)
      total_G1 = scale_G1 * total_G1 + jnp.sum(odds_GS, axis=1, keepdims=True)
      part_GH = _product(odds_GS.astype(dtype), v_buffer[at], ((1,), (0,)))
      done.append((new_G1, total_G1, scale_G1 * sum_GH + part_GH))
    return tuple(done)

  start = (
    jnp.full((G, 1), _MASKED, jnp.float32),
    jnp.zeros((G, 1), jnp.float32),
    jnp.zeros((G, H), jnp.float32),
  )
  state = (start,) * (n * K)
  if single:
    state = one_chunk(0, state)
  else:
    state = jax.lax.fori_loop(0, chunks, one_chunk, state)
  for unit, (peak_G1, total_G1, sum_GH) in enumerate(state):
    i, h = divmod(unit, K)
    out_ref[i, h] = sum_GH / total_G1
    lse_ref[i, h] = peak_G1 + jnp.log(total_G1)


def _product(a, b, contract) -> jax.Array:
  wide = a.dtype == jnp.float32
  return jax.lax.dot_general(
    a,
    b,
    (contract, ((), ())),
    precision=jax.lax.Precision.HIGHEST if wide else None,
    preferred_element_type=jnp.float32,
  )
