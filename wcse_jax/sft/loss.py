"""Cross-entropy over a large vocabulary, without the logits of a batch.

Logits are made for some tokens and some words at a time, and only for tokens
that are targets: prompts and padding cost nothing.  The gradient is worked out
in the same pass, while the logits are there, so that no product is done twice
where one device holds all columns of the table; where `fsdp` splits them, words
are taken in blocks whose columns are gathered when it is their turn, and the
logits are made once more for the gradient.

Dimension letters: see `wcse_jax/__init__.py`; M tokens of a batch, C of a
chunk, W words of a block.

Source: the gradient beside the loss: Liger kernel, arXiv:2410.10989, section
3.2; blocks of words: Cut Cross-Entropy, arXiv:2411.09009.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from wcse_jax import sharding


_ROWS = ('data', 'fsdp')
# Words of a block where the table's columns are gathered, at most.
_WORDS = 1 << 15
_LOW = jnp.finfo(jnp.float32).min


@dataclasses.dataclass(frozen=True)
class Head:
  """How losses are taken; hashable.

  Attributes:
    softcap: bound on |logits| (nats); None for no bound.
    z_loss: factor of the squared log of the softmax's denominator.
    room: bytes of the logits that are held at a time, on one device.
    mesh: where it runs; None for one device.
    every: whether all tokens count as targets for how long it takes: the
      number of chunks is then known when the program is compiled.

  Source of `z_loss`: PaLM, arXiv:2204.02311, section 5.
  """

  softcap: float | None = None
  z_loss: float = 0.0
  room: int = 1 << 28
  mesh: Mesh | None = None
  every: bool = False


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def total(
  head: Head,
  x_BTD: jax.Array,
  table_VD: jax.Array,
  scale_V: jax.Array | None,
  labels_BT: jax.Array,
  weights_BT: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Returns (what is minimised, sum of the weighted losses in nats).

  The two differ by the z-loss.  Only the first one has a gradient, and only
  with respect to `x_BTD` and `table_VD`.

  Args:
    head: how.
    x_BTD: hidden states, of the dtype in which products are done.
    table_VD: the output head.
    scale_V: of its rows, where it is held in int8.
    labels_BT: what each token should be followed by.
    weights_BT: how much it counts; 0 costs nothing.
  """
  return _run(head, x_BTD, table_VD, scale_V, labels_BT, weights_BT)[0]


def _forward(head, x, table, scale, labels, weights):
  values = [
    None if a is None else a.value for a in (x, table, scale, labels, weights)
  ]
  found, slopes = _run(head, *values, slopes=(True, table.perturbed))
  return found, slopes


def _backward(head, slopes, change):
  d_x, d_table = slopes
  factor = change[0]
  if not isinstance(factor, jax.Array):
    factor = jnp.zeros(())  # A symbolic zero.
  d_x = (d_x * factor).astype(d_x.dtype)
  if d_table is not None:
    d_table = (d_table * factor).astype(d_table.dtype)
  return d_x, d_table, None, None, None


total.defvjp(_forward, _backward, symbolic_zeros=True)


def _run(head: Head, x, table, scale, labels, weights, slopes=(False, False)):
  """Returns (`total`, its slopes (d_x, d_table), None where not asked for)."""
  if head.mesh is None or head.mesh.size == 1:
    return _local(head, x, table, scale, labels, weights, slopes, 1)
  mesh = head.mesh
  spec = PartitionSpec
  rows, columns = spec(_ROWS), spec('tensor', 'fsdp')
  x = sharding.constrain(x, 'BTD', mesh)
  run = jax.shard_map(
    lambda x, table, scale, labels, weights: _local(
      head, x, table, scale, labels, weights, slopes, mesh.shape['fsdp']
    ),
    mesh=mesh,
    in_specs=(
      rows,
      columns,
      None if scale is None else spec('tensor'),
      rows,
      rows,
    ),
    out_specs=(
      (spec(), spec()),
      (rows if slopes[0] else None, columns if slopes[1] else None),
    ),
    check_vma=False,
  )
  return run(x, table, scale, labels, weights)


@dataclasses.dataclass(frozen=True)
class _Words:
  """Some rows of the table, with whole columns.

  Attributes:
    table_WD: the rows, in the dtype of the products.
    scale_W: of each; None where there is none.
    first: the word of the first row.
  """

  table_WD: jax.Array
  scale_W: jax.Array | None
  first: Any


def _local(
  head: Head, x_BTD, table_VD, scale_V, labels_BT, weights_BT, slopes, parts
):
  """`_run` on one device's rows of the batch and part of the table."""
  meshed = head.mesh is not None and head.mesh.size > 1
  B, T, D = x_BTD.shape
  V = table_VD.shape[0]
  x_MD = x_BTD.reshape(B * T, D)
  first = jax.lax.axis_index('tensor') * V if meshed else 0
  size = V if parts == 1 else _divisor(V, _most_words(head, B * T))
  tokens = _Tokens.of(head, labels_BT, weights_BT, size, meshed)

  def words(block) -> _Words:
    at = block * size
    part, scale_W = table_VD, scale_V
    if size < V:
      part = jax.lax.dynamic_slice_in_dim(table_VD, at, size)
      if scale_V is not None:
        scale_W = jax.lax.dynamic_slice_in_dim(scale_V, at, size)
    part = part.astype(x_BTD.dtype)
    if parts > 1:
      part = jax.lax.all_gather(part, 'fsdp', axis=1, tiled=True)
    return _Words(part, scale_W, first + at)

  run = _whole if size == V else _blocks
  found, d_x_MD, d_table_VD = run(
    head, tokens, x_MD, words, V // size, slopes, meshed
  )
  if meshed:
    found = jax.lax.psum(found, _ROWS)
  d_x = d_x_MD.reshape(B, T, D) if slopes[0] else None
  if not slopes[1]:
    return found, (d_x, None)
  if meshed:
    d_table_VD = jax.lax.psum(d_table_VD, 'data')
    if parts > 1 and size == V:
      d_table_VD = _scattered(d_table_VD)
  return found, (d_x, d_table_VD.astype(table_VD.dtype))


@dataclasses.dataclass(frozen=True)
class _Tokens:
  """The tokens of a device, targets first.

  Attributes:
    order_M: their places, filled up to whole chunks.
    labels_M: of each place.
    weights_M: of each place.
    count: how many are targets.
    chunk: tokens of a chunk.
    chunks: how many chunks are to be worked on, the same on all devices.
  """

  order_M: jax.Array
  labels_M: jax.Array
  weights_M: jax.Array
  count: jax.Array
  chunk: int
  chunks: Any

  @classmethod
  def of(
    cls, head: Head, labels_BT, weights_BT, words: int, meshed: bool
  ) -> '_Tokens':
    weights_M = weights_BT.reshape(-1)
    M = weights_M.shape[0]
    chunk = max(1, head.room // 4 // words)
    # Whole tiles, where there is room for some.
    chunk = min(M, chunk - chunk % min(128, chunk))
    order_M = jnp.argsort(weights_M == 0, stable=True)
    order_M = jnp.pad(order_M, (0, -M % chunk))
    count = jnp.sum(weights_M != 0)
    chunks = -(-M // chunk)
    if not head.every:
      chunks = -(-count // chunk)
      if meshed:
        # The devices exchange data in every chunk.
        chunks = jax.lax.pmax(chunks, _ROWS)
    return cls(order_M, labels_BT.reshape(-1), weights_M, count, chunk, chunks)

  def take(self, index):
    """Returns (places, labels, weights) of a chunk; of a filler weight 0."""
    first = index * self.chunk
    at_C = jax.lax.dynamic_slice_in_dim(self.order_M, first, self.chunk)
    real_C = first + jnp.arange(self.chunk) < self.count
    weights_C = jnp.where(real_C, self.weights_M[at_C], 0)
    # A filler's place is beyond the last, where nothing is written.
    put_C = jnp.where(real_C, at_C, self.weights_M.shape[0])
    return at_C, put_C, self.labels_M[at_C], weights_C


def _logits(head: Head, x_CD, words: _Words):
  """Returns float32 logits_CW."""
  logits_CW = jax.lax.dot_general(
    x_CD,
    words.table_WD,
    (((1,), (1,)), ((), ())),
    preferred_element_type=jnp.float32,
  )
  if words.scale_W is not None:
    logits_CW = logits_CW * words.scale_W[None]
  if head.softcap is not None:
    logits_CW = head.softcap * jnp.tanh(logits_CW / head.softcap)
  return logits_CW


def _hits(words: _Words, labels_C):
  """Returns hits_CW, where a word is the label."""
  words_W = words.first + jnp.arange(words.table_WD.shape[0])
  return labels_C[:, None] == words_W[None]


def _slope(head: Head, logits_CW, words, labels_C, weights_C, norm_C):
  """Returns the slope of the objective before scale and soft cap."""
  # At most 1; of a filler, whose denominator is not known, else infinite.
  share_CW = jnp.exp(jnp.minimum(logits_CW - norm_C[:, None], 0))
  rise_C = weights_C * (1 + 2 * head.z_loss * norm_C)
  slope_CW = share_CW * rise_C[:, None]
  slope_CW -= jnp.where(_hits(words, labels_C), weights_C[:, None], 0)
  if head.softcap is not None:
    slope_CW *= 1 - jnp.square(logits_CW / head.softcap)
  if words.scale_W is not None:
    slope_CW *= words.scale_W[None]
  return slope_CW.astype(words.table_WD.dtype)


def _sums(head: Head, norm_C, picked_C, weights_C):
  """Returns (objective, losses) of a chunk."""
  losses = jnp.sum(weights_C * (norm_C - picked_C))
  extra = head.z_loss * jnp.sum(weights_C * jnp.square(norm_C))
  return losses + extra, losses


def _products(slope_CW, x_CD, words: _Words, slopes, meshed: bool):
  """Returns (d_x_CD, d_table_WD) in float32; None where not asked for."""
  d_x, d_table = None, None
  if slopes[0]:
    d_x = jnp.matmul(
      slope_CW, words.table_WD, preferred_element_type=jnp.float32
    )
    if meshed:
      d_x = jax.lax.psum(d_x, 'tensor')
  if slopes[1]:
    d_table = jax.lax.dot_general(
      slope_CW,
      x_CD,
      (((0,), (0,)), ((), ())),
      preferred_element_type=jnp.float32,
    )
  return d_x, d_table


def _whole(head, tokens, x_MD, words, blocks, slopes, meshed):
  """Works on all words at once: loss and slopes in one pass."""
  del blocks
  all_words = words(0)

  def body(index, carry):
    sums, d_x_MD, d_table_VD = carry
    at_C, put_C, labels_C, weights_C = tokens.take(index)
    x_CD = x_MD[at_C]
    logits_CW = _logits(head, x_CD, all_words)
    peak_C = jnp.max(logits_CW, axis=-1)
    if meshed:
      peak_C = jax.lax.pmax(peak_C, 'tensor')
    share_C = jnp.sum(jnp.exp(logits_CW - peak_C[:, None]), axis=-1)
    picked_C = _picked(logits_CW, all_words, labels_C)
    if meshed:
      share_C, picked_C = jax.lax.psum((share_C, picked_C), 'tensor')
    norm_C = peak_C + jnp.log(share_C)
    found = _sums(head, norm_C, picked_C, weights_C)
    sums = jax.tree.map(jnp.add, sums, found)
    if any(slopes):
      slope_CW = _slope(head, logits_CW, all_words, labels_C, weights_C, norm_C)
      d_x_CD, d_table = _products(slope_CW, x_CD, all_words, slopes, meshed)
      d_x_MD = d_x_MD.at[put_C].set(d_x_CD.astype(x_MD.dtype), mode='drop')
      if slopes[1]:
        d_table_VD = d_table_VD + d_table
    return sums, d_x_MD, d_table_VD

  start = (
    (jnp.zeros(()), jnp.zeros(())),
    jnp.zeros_like(x_MD) if slopes[0] else None,
    jnp.zeros(all_words.table_WD.shape, jnp.float32) if slopes[1] else None,
  )
  return jax.lax.fori_loop(0, tokens.chunks, body, start)


def _picked(logits_CW, words: _Words, labels_C):
  """Returns the logit of each label; 0 where it is not among the words."""
  at_C = labels_C - words.first
  inside_C = (at_C >= 0) & (at_C < logits_CW.shape[1])
  picked_C = jnp.take_along_axis(
    logits_CW, jnp.clip(at_C, 0, logits_CW.shape[1] - 1)[:, None], axis=1
  )[:, 0]
  return jnp.where(inside_C, picked_C, 0)


def _blocks(head, tokens, x_MD, words, blocks, slopes, meshed):
  """Works block by block: a pass for the denominators, one for the slopes."""
  M = x_MD.shape[0]

  def measure(block, carry):
    here = words(block)

    def body(index, carry):
      peak_M, share_M, picked_M = carry
      at_C, put_C, labels_C, _ = tokens.take(index)
      logits_CW = _logits(head, x_MD[at_C], here)
      old_C = peak_M[at_C]
      peak_C = jnp.maximum(old_C, jnp.max(logits_CW, axis=-1))
      share_C = share_M[at_C] * jnp.exp(old_C - peak_C)
      share_C += jnp.sum(jnp.exp(logits_CW - peak_C[:, None]), axis=-1)
      picked_C = picked_M[at_C] + _picked(logits_CW, here, labels_C)
      return tuple(
        whole.at[put_C].set(part, mode='drop')
        for whole, part in zip(carry, (peak_C, share_C, picked_C))
      )

    return jax.lax.fori_loop(0, tokens.chunks, body, carry)

  start = jnp.full(M, _LOW), jnp.zeros(M), jnp.zeros(M)
  peak_M, share_M, picked_M = jax.lax.fori_loop(0, blocks, measure, start)
  if meshed:
    highest_M = jax.lax.pmax(peak_M, 'tensor')
    share_M = share_M * jnp.exp(peak_M - highest_M)
    share_M, picked_M = jax.lax.psum((share_M, picked_M), 'tensor')
    peak_M = highest_M
  target_M = tokens.weights_M != 0
  norm_M = jnp.where(target_M, peak_M + jnp.log(share_M), 0)
  found = _sums(head, norm_M, picked_M, tokens.weights_M)
  if not any(slopes):
    return found, None, None

  def work(d_x_MD, block):
    here = words(block)

    def body(index, carry):
      d_x_MD, d_table_WD = carry
      at_C, put_C, labels_C, weights_C = tokens.take(index)
      x_CD = x_MD[at_C]
      logits_CW = _logits(head, x_CD, here)
      slope_CW = _slope(
        head, logits_CW, here, labels_C, weights_C, norm_M[at_C]
      )
      d_x_CD, d_table = _products(slope_CW, x_CD, here, slopes, False)
      d_x_MD = d_x_MD.at[put_C].add(d_x_CD, mode='drop')
      if slopes[1]:
        d_table_WD = d_table_WD + d_table
      return d_x_MD, d_table_WD

    start = None
    if slopes[1]:
      start = jnp.zeros(here.table_WD.shape, jnp.float32)
    d_x_MD, d_table_WD = jax.lax.fori_loop(
      0, tokens.chunks, body, (d_x_MD, start)
    )
    return d_x_MD, _scattered(d_table_WD) if slopes[1] else None

  d_x_MD, parts = jax.lax.scan(
    work, jnp.zeros(x_MD.shape, jnp.float32), jnp.arange(blocks)
  )
  if meshed:
    d_x_MD = jax.lax.psum(d_x_MD, 'tensor')
  d_table = None
  if slopes[1]:
    d_table = parts.reshape(-1, parts.shape[-1])
  return found, d_x_MD.astype(x_MD.dtype), d_table


def _scattered(d_table_WD):
  """Returns the sum over `fsdp` of some rows, each device its own columns."""
  # Along the first axis: else the compiler for TPU has every device sum all.
  return jax.lax.psum_scatter(
    d_table_WD.T, 'fsdp', scatter_dimension=0, tiled=True
  ).T


def _most_words(head: Head, M: int) -> int:
  """Returns how many words a block should have.

  A block's hidden slopes go to memory and back once a block, the table's once a
  chunk: least is moved where both have as many rows.  Where all tokens fit into
  a chunk, the blocks may be larger.
  """
  room = head.room // 4
  return max(math.isqrt(room), min(_WORDS, room // M))


def _divisor(number: int, most: int) -> int:
  """Returns the largest divisor of a number that is at most `most`."""
  return max(n for n in range(1, min(number, most) + 1) if number % n == 0)
