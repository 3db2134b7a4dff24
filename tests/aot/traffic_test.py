"""Programs whose traffic is known from what they say, and texts of programs."""

# ruff: noqa: E501 (lines of HLO)

import functools
import itertools
import math
import textwrap

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import pallas as pl
from jax.sharding import NamedSharding, PartitionSpec

from wcse_jax import sharding
from wcse_jax.aot import programs, slices, traffic
from wcse_jax.models import cache as caches


# More than fits into the memory on the chip, so that nothing stays there.
MIB = 2**20


@functools.cache
def _mesh():
  pytest.importorskip('libtpu')
  pieces = slices.parse('v5e:1x1')
  return sharding.make_mesh('data=1', programs.devices(pieces))


def _struct(shape, dtype=jnp.float32):
  place = NamedSharding(_mesh(), PartitionSpec())
  return jax.ShapeDtypeStruct(shape, dtype, sharding=place)


def _counted(function, *arguments, **options) -> traffic.Traffic:
  compiled = jax.jit(function, **options).lower(*arguments).compile()
  found = traffic.count(compiled.as_text())
  assert not found.loops
  assert not found.outside.guessed
  return found.outside


def _close(found: float, want: float) -> None:
  assert found == pytest.approx(want, rel=0.03)


def test_elementwise_reads_and_writes_once():
  x = _struct((64, 1024, 1024))
  _close(_counted(lambda x: jnp.tanh(x) * 2 + 1, x).bytes, 2 * 256 * MIB)


def test_reduction_reads_once():
  x = _struct((64, 1024, 1024))
  _close(_counted(lambda x: jnp.sum(x, axis=0), x).bytes, 260 * MIB)


def test_padding_of_tiles_is_moved_too():
  # The compiler lays the 100 columns out in tiles of 8, and pads them to 104.
  x = _struct((2**19, 100))
  assert _counted(lambda x: x + 1, x).bytes == 2 * 2**19 * 104 * 4


def test_scanned_weights_are_read_once_each():
  # The input stays on the chip; a layer's weights are cut from the stack.
  x = _struct((128, 2048), jnp.bfloat16)
  w = _struct((24, 2048, 2048), jnp.bfloat16)
  found = _counted(
    lambda x, w: jax.lax.scan(lambda x, w: (x @ w, None), x, w)[0], x, w
  )
  _close(found.bytes, 24 * 8 * MIB + 2 * 128 * 2048 * 2)
  _close(found.flops, 24 * 2 * 128 * 2048 * 2048)


def test_prefetch_to_the_chip_counts_once():
  # Small weights are copied to on-chip memory ahead of their use.
  x = _struct((1024, 512), jnp.bfloat16)
  w = [_struct((512, 512), jnp.bfloat16) for _ in range(8)]

  def chain(x, w):
    for each in w:
      x = jnp.tanh(x @ each)
    return x

  text = jax.jit(chain).lower(x, w).compile().as_text()
  assert text.count('copy-start(') >= 4
  found = traffic.count(text).outside
  _close(found.bytes, 8 * 512 * 512 * 2 + 2 * 1024 * 512 * 2)


def test_update_in_place_writes_the_update_alone():
  # As decoding does: a layer's keys and values are read, and every slot gets
  # one more row.  No layout but the cache's own is asked for, or all of it
  # would be copied.
  L, B, K, S, H = 16, 64, 8, 1024, 128
  cache = _struct((L, B, K, S, H), jnp.bfloat16)
  q = _struct((B, K, H), jnp.bfloat16)
  at = _struct((B,), jnp.int32)

  def fill(part, q, at):
    def body(carry, layer):
      part, q = carry
      part = caches.write(part, q, q, at, layer, keys_last=False)
      p = jnp.einsum('bkh,bksh->bks', q, part['k'][layer])
      q = jnp.einsum('bks,bksh->bkh', jax.nn.softmax(p), part['v'][layer])
      return (part, q), None

    return jax.lax.scan(body, (part, q), jnp.arange(L))[0]

  part = {'k': cache, 'v': cache}
  found = _counted(fill, part, q, at, donate_argnums=0)
  whole = L * B * K * S * H * 2
  _close(found.bytes, 2 * whole)
  written = sum(n for row, n in found.rows.items() if 'scatter' in row.op)
  _close(written, 2 * L * B * K * H * 2)


def test_copied_cache_is_seen():
  # The same without giving the cache up: it is read and written once more.
  cache = _struct((256, 1024, 128))
  row = _struct((1, 1024, 128))

  def put(cache, row):
    return jax.lax.dynamic_update_slice(cache, row, (3, 0, 0))

  _close(_counted(put, cache, row).bytes, 2 * 128 * MIB)
  assert _counted(put, cache, row, donate_argnums=0).bytes < 2 * MIB


def test_gather_reads_rows():
  table = _struct((262_144, 1024), jnp.bfloat16)
  ids = _struct((4096,), jnp.int32)
  found = _counted(
    lambda table, ids: table[ids].astype(jnp.float32), table, ids
  )
  # At least rows and result; results of 16 MiB may pass HBM once more.
  assert 24 * MIB <= found.bytes < 60 * MIB


def test_batched_product_written_as_convolution():
  q = _struct((64, 16, 128), jnp.bfloat16)
  k = _struct((64, 4096, 128), jnp.bfloat16)
  found = _counted(lambda q, k: jnp.einsum('bgh,bsh->bgs', q, k), q, k)
  _close(found.flops, 2 * 64 * 16 * 128 * 4096)
  _close(found.bytes, 64 * 2 * (4096 * 128 + 16 * 128 + 16 * 4096))


def test_int8_products_are_told_apart():
  a = _struct((512, 1024), jnp.int8)
  b = _struct((1024, 512), jnp.int8)

  def product(a, b):
    return jnp.matmul(a, b, preferred_element_type=jnp.int32)

  found = _counted(product, a, b)
  assert not found.flops
  _close(found.int8_flops, 2 * 512 * 1024 * 512)


def _scaled(blocks: int):
  """Returns x times a row of factors, a kernel of blocks of 512 x 512."""

  def kernel(x_ref, scale_ref, out_ref):
    out_ref[...] = x_ref[...] * scale_ref[...]

  size = blocks * 512
  item = 4
  block = pl.BlockSpec((512, 512), lambda i, j: (i, j))
  return pl.pallas_call(
    kernel,
    grid=(blocks, blocks),
    in_specs=[block, pl.BlockSpec((1, 512), lambda i, j: (0, j))],
    out_specs=block,
    out_shape=jax.ShapeDtypeStruct((size, size), jnp.float32),
    input_output_aliases={0: 0},
    cost_estimate=pl.CostEstimate(
      flops=size * size,
      # The factors' block changes at every turn.
      bytes_accessed=item * (2 * size * size + blocks * size),
      transcendentals=0,
    ),
  )


def _transferred(traced) -> int:
  """Returns the bytes that a kernel's blocks bring in and take out.

  A block is brought when it is another one than at the turn before.
  """
  (call,) = (e for e in traced.eqns if e.primitive.name == 'pallas_call')
  mapping = call.params['grid_mapping']
  total = 0
  for block in mapping.block_mappings:
    before, index = None, block.index_map_jaxpr
    item = block.array_aval.dtype.itemsize
    size = item * math.prod(side.block_size for side in block.block_shape)
    for turn in itertools.product(*(range(n) for n in mapping.grid)):
      at = jax.core.eval_jaxpr(index.jaxpr, index.consts, *turn)
      at = tuple(int(n) for n in at)
      total += size * (at != before)
      before = at
  return total


def test_estimate_of_a_kernel_is_what_its_blocks_bring():
  x = jax.ShapeDtypeStruct((2048, 2048), jnp.float32)
  scale = jax.ShapeDtypeStruct((1, 2048), jnp.float32)
  traced = jax.make_jaxpr(_scaled(4))(x, scale).jaxpr
  (call,) = traced.eqns
  assert call.params['cost_estimate'].bytes_accessed == _transferred(traced)


def test_kernel_counts_as_it_estimates():
  x = _struct((8192, 8192))
  scale = _struct((1, 8192))
  kernel = _scaled(16)
  found = _counted(
    lambda x, s: jax.lax.scan(lambda x, _: (kernel(x, s), None), x, length=3)[
      0
    ],
    x,
    scale,
  )
  # The compiler copies the input once, as it is not given up.
  once = 4 * (2 * 8192 * 8192 + 16 * 8192)
  _close(found.bytes, 3 * once + 2 * 4 * 8192 * 8192)
  assert found.flops == 3 * 8192 * 8192
  ours = [row for row in found.rows if row.opcode == 'custom-call']
  assert sum(found.rows[row] for row in ours) == 3 * once


_LOOP = """
HloModule m

%body (p: (s32[], f32[1024,1024])) -> (s32[], f32[1024,1024]) {
  %p = (s32[]{:T(128)}, f32[1024,1024]{1,0:T(8,128)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  %x = f32[1024,1024]{1,0:T(8,128)} get-tuple-element(%p), index=1
  %y = f32[1024,1024]{1,0:T(8,128)} negate(%x), metadata={op_name="jit(f)/neg"}
  ROOT %t = (s32[]{:T(128)}, f32[1024,1024]{1,0:T(8,128)}) tuple(%i, %y)
}

%condition (p.1: (s32[], f32[1024,1024])) -> pred[] {
  %p.1 = (s32[]{:T(128)}, f32[1024,1024]{1,0:T(8,128)}) parameter(0)
  %j = s32[]{:T(128)S(6)} get-tuple-element(%p.1), index=0
  LIMIT
  ROOT %c = pred[]{:T(512)S(6)} compare(%j, %n), direction=LT
}

ENTRY %main (a: f32[1024,1024]) -> f32[1024,1024] {
  %a = f32[1024,1024]{1,0:T(8,128)} parameter(0)
  %zero = s32[]{:T(128)} constant(2)
  %s = (s32[]{:T(128)}, f32[1024,1024]{1,0:T(8,128)}) tuple(%zero, %a)
  %w = (s32[]{:T(128)}, f32[1024,1024]{1,0:T(8,128)}) while(%s), condition=%condition, body=%body
  %r = f32[1024,1024]{1,0:T(8,128)} get-tuple-element(%w), index=1
  ROOT %all = f32[1024,1024]{1,0:T(8,128)S(1)} all-reduce(%r), channel_id=1, replica_groups=[2,4]<=[4,2]T(1,0), to_apply=%add
}
"""


def test_rounds_come_from_the_condition():
  text = _LOOP.replace('LIMIT', '%n = s32[]{:T(128)} constant(7)')
  found = traffic.count(text, 8)
  assert not found.loops
  # Five rounds, and the collective reads what it adds up.
  assert found.outside.bytes == pytest.approx((5 * 2 + 1) * 4 * MIB, rel=1e-5)
  ((row, size),) = found.outside.largest(1)
  assert (row.op, row.array, size) == ('jit(f)/neg', 'f32[1024,1024]', 40 * MIB)
  (exchange,) = found.outside.collectives()
  assert exchange.kind == 'all-reduce'
  assert exchange.group == (0, 2, 4, 6)
  assert (exchange.bytes, exchange.count) == (4 * MIB, 1)


def test_loop_of_unknown_rounds_is_told_apart():
  text = _LOOP.replace('LIMIT', '%n = s32[]{:T(128)} negate(%j)')
  found = traffic.count(text, 8)
  (loop,) = found.loops
  assert loop.round.bytes == pytest.approx(8 * MIB, rel=1e-5)
  assert loop.resident == 0
  assert found.outside.bytes == 4 * MIB


def test_known_trip_count_wins():
  text = _LOOP.replace('LIMIT', '%n = s32[]{:T(128)} negate(%j)')
  text = text.replace(
    'body=%body', 'body=%body, backend_config={"known_trip_count":{"n":"3"}}'
  )
  assert traffic.count(text, 8).outside.bytes == pytest.approx(
    (3 * 2 + 1) * 4 * MIB, rel=1e-5
  )


def test_branches_cost_as_the_dearest():
  text = textwrap.dedent("""
  HloModule m

  %cheap (p: f32[1024,1024]) -> f32[1024,1024] {
    ROOT %p = f32[1024,1024]{1,0} parameter(0)
  }

  %dear (q: f32[1024,1024]) -> f32[1024,1024] {
    %q = f32[1024,1024]{1,0} parameter(0)
    ROOT %n = f32[1024,1024]{1,0} negate(%q)
  }

  ENTRY %main (a: f32[1024,1024], k: s32[]) -> f32[1024,1024] {
    %a = f32[1024,1024]{1,0} parameter(0)
    %k = s32[] parameter(1)
    ROOT %r = f32[1024,1024]{1,0} conditional(%k, %a, %a), branch_computations={%cheap, %dear}
  }
  """)
  assert traffic.count(text).outside.bytes == 8 * MIB


_GOES_ON = """
HloModule m

%start (p: bf16[1024,1024]) -> (bf16[1024,1024], bf16[4096,1024], u32[]) {
  %p = bf16[1024,1024]{1,0} parameter(0)
  %all = bf16[4096,1024]{1,0} all-gather(%p), dimensions={0}, replica_groups={{0,1,2,3}}, backend_config={"async_collective_fusion_config":{}}
  ROOT %s = (bf16[1024,1024]{1,0}, bf16[4096,1024]{1,0}, u32[]{:S(2)}) custom-call(%all), custom_call_target="AsyncCollectiveStart"
}

%step (x: bf16[1024,1024], y: bf16[1024,1024], p: bf16[1024,1024], q: bf16[4096,1024], f: u32[]) -> (bf16[1024,1024], bf16[1024,1024], bf16[4096,1024], u32[]) {
  %x = bf16[1024,1024]{1,0} parameter(0)
  %y = bf16[1024,1024]{1,0} parameter(1)
  %p = bf16[1024,1024]{1,0} parameter(2)
  %q = bf16[4096,1024]{1,0} parameter(3)
  %f = u32[]{:S(2)} parameter(4)
  %z = bf16[1024,1024]{1,0} add(%x, %y)
  %all = bf16[4096,1024]{1,0} all-gather(%p), dimensions={0}, replica_groups={{0,1,2,3}}, backend_config={"async_collective_fusion_config":{}}
  ROOT %t = (bf16[1024,1024]{1,0}, bf16[1024,1024]{1,0}, bf16[4096,1024]{1,0}, u32[]{:S(2)}) tuple(%z, %p, %all, %f)
}

%done (p: bf16[1024,1024], q: bf16[4096,1024], f: u32[]) -> bf16[4096,1024] {
  %p = bf16[1024,1024]{1,0} parameter(0)
  %q = bf16[4096,1024]{1,0} parameter(1)
  %f = u32[]{:S(2)} parameter(2)
  %all = bf16[4096,1024]{1,0} all-gather(%p), dimensions={0}, replica_groups={{0,1,2,3}}, backend_config={"async_collective_fusion_config":{}}
  ROOT %d = bf16[4096,1024]{1,0} custom-call(%p, %q, %all, %f), custom_call_target="AsyncCollectiveDone"
}

ENTRY %main (w: bf16[1024,1024], x: bf16[1024,1024], y: bf16[1024,1024]) -> bf16[4096,1024] {
  %w = bf16[1024,1024]{1,0} parameter(0)
  %x = bf16[1024,1024]{1,0} parameter(1)
  %y = bf16[1024,1024]{1,0} parameter(2)
  %s = (bf16[1024,1024]{1,0}, bf16[4096,1024]{1,0}, u32[]{:S(2)}) fusion(%w), kind=kCustom, calls=%start
  %p = bf16[1024,1024]{1,0} get-tuple-element(%s), index=0
  %q = bf16[4096,1024]{1,0} get-tuple-element(%s), index=1
  %f = u32[]{:S(2)} get-tuple-element(%s), index=2
  %t = (bf16[1024,1024]{1,0}, bf16[1024,1024]{1,0}, bf16[4096,1024]{1,0}, u32[]{:S(2)}) fusion(%x, %y, %p, %q, %f), kind=kCustom, calls=%step
  %a = bf16[1024,1024]{1,0} get-tuple-element(%t), index=1
  %b = bf16[4096,1024]{1,0} get-tuple-element(%t), index=2
  %c = u32[]{:S(2)} get-tuple-element(%t), index=3
  ROOT %d = bf16[4096,1024]{1,0} fusion(%a, %b, %c), kind=kCustom, calls=%done
}
"""


def test_a_collective_beside_other_work_counts_once():
  found = traffic.count(_GOES_ON, 4).outside
  (exchange,) = found.collectives()
  assert (exchange.kind, exchange.count) == ('all-gather', 1)
  assert exchange.bytes == 8 * MIB
  # A quarter is read and all of it written; the addition moves three.
  assert found.bytes == (2 + 8 + 3 * 2) * MIB
