"""Attention of whole sequences to themselves, forwards and backwards.

On TPU a kernel that holds no logits and skips what is masked; elsewhere, and
for shapes that the kernel does not take, `models.attention` under a mask.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.pallas.ops.tpu import splash_attention as splash
from jax.sharding import Mesh, PartitionSpec

from wcse_jax import errors, sharding


# Other than '': the mask and the softmax written out.
NAMES = ('plain', 'splash')
# A vector register's width, of which the kernel's blocks are multiples.
_LANES = 128
_BLOCKS = (512, 256, 128)


def chosen(name: str, mesh: Mesh | None, length: int, widths: set[int]) -> str:
  """Returns what `attend` takes for `name`; '' where it is not called.

  Args:
    name: one of `NAMES`, or '' for what is fastest.
    mesh: where it will run.
    length: tokens of a sequence.
    widths: of the heads.

  Raises:
    InputError: if a kernel is asked for that does not take such shapes.
  """
  fits = length % _LANES == 0 and all(
    width % _LANES == 0 or width == _LANES // 2 for width in widths
  )
  if name == 'splash' and not fits:
    raise errors.InputError(
      f'attention: splash wants a length that is a multiple of {_LANES} and '
      f'heads of width {_LANES // 2} or such a multiple; got length {length} '
      f'and width {sharding.any_of(sorted(widths))}.'
    )
  if name == 'splash' and sharding.platform(mesh) != 'tpu':
    raise errors.InputError(
      f'attention: splash wants a TPU; got a {sharding.platform(mesh).upper()}.'
    )
  if name:
    return '' if name == 'plain' else name
  return 'splash' if fits and sharding.platform(mesh) == 'tpu' else ''


def block(length: int) -> int:
  """Returns the tokens of a block of the kernel."""
  return next(size for size in _BLOCKS if length % size == 0)


def attend(
  q_BTKGH: jax.Array,
  k_BTKH: jax.Array,
  v_BTKH: jax.Array,
  *,
  segments_BT: jax.Array | None,
  window: int | None,
  softcap: float | None,
  mesh: Mesh | None,
  name: str,
  interpret: bool = False,
) -> jax.Array:
  """Returns out_BTKGH, the causal attention of each row to itself.

  Args:
    q_BTKGH: queries, rotated and scaled.
    k_BTKH: keys, rotated.
    v_BTKH: values.
    segments_BT: ids of packed sequences, each in one piece; None for one a row.
    window: tokens that a query sees, itself included; None for all before it.
    softcap: bound on |logits| (nats) before the softmax; None for no bound.
    mesh: where it runs; None for one device.
    name: from `chosen`, not ''.
    interpret: whether to run on CPU, for tests.

  Source: jax.experimental.pallas.ops.tpu.splash_attention.
  """
  if name != 'splash':
    raise ValueError(f'name: wanted splash; got {name!r}.')
  B, T, _, G, _ = q_BTKGH.shape
  if segments_BT is None:
    segments_BT = jnp.zeros((B, T), jnp.int32)

  def run(q_BTKGH, k_BTKH, v_BTKH, segments_BT):
    kernel = _kernel(T, G, window, softcap, interpret)

    def row(q_TKGH, k_TKH, v_TKH, segments_T):
      ids = splash.SegmentIds(segments_T, segments_T)
      out_KGTH = jax.vmap(lambda q, k, v: kernel(q, k, v, ids))(
        jnp.transpose(q_TKGH, (1, 2, 0, 3)),
        jnp.swapaxes(k_TKH, 0, 1),
        jnp.swapaxes(v_TKH, 0, 1),
      )
      return jnp.transpose(out_KGTH, (2, 0, 1, 3))

    return jax.vmap(row)(q_BTKGH, k_BTKH, v_BTKH, segments_BT)

  if mesh is not None and mesh.size > 1:
    rows = ('data', 'fsdp')
    heads = PartitionSpec(rows, None, 'tensor')
    run = jax.shard_map(
      run,
      mesh=mesh,
      in_specs=(heads, heads, heads, PartitionSpec(rows)),
      out_specs=heads,
      check_vma=False,
    )
  return run(q_BTKGH, k_BTKH, v_BTKH, segments_BT)


def _kernel(T: int, G: int, window: int | None, softcap, interpret: bool):
  size = block(T)
  mask = splash.CausalMask((T, T))
  if window is not None and window < T:
    mask = splash.LocalMask((T, T), (window - 1, 0), 0)
  return splash.make_splash_mqa_single_device(
    splash.MultiHeadMask([mask] * G),
    block_sizes=splash.BlockSizes(
      block_q=size,
      block_kv=size,
      block_q_dkv=size,
      block_kv_dkv=size,
      use_fused_bwd_kernel=True,
    ),
    attn_logits_soft_cap=softcap,
    interpret=interpret,
  )


def pairs(length: int, window: int | None) -> int:
  """Returns the pairs of query and key that the kernel works on in a row.

  Whole blocks of them: those in which some pair is in sight.
  """
  size = block(length)
  count = length // size
  first = np.arange(count)[:, None] * size
  other = np.arange(count)[None] * size
  seen = other <= first
  if window is not None:
    seen &= first - (other + size - 1) < window
  return int(seen.sum()) * size * size
