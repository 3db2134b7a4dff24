import functools

import decode_aot
import decode_cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.pallas.mosaic.interpret import interpret_pallas_call

from wcse_jax.kernels import decode_tpu


_run = functools.partial(decode_tpu.attend, interpret=True)


@pytest.mark.parametrize(
  'shape',
  [
    # More slots than a group has, and a last group that is not full.
    {'B': 13, 'K': 1, 'G': 2, 'S': 80, 'softcap': 2.0},
    # Places that fill no whole tile.
    {'B': 3, 'S': 45, 'dtype': 'bfloat16'},
    # More places than are held on the chip at a time.
    {'B': 2, 'K': 8, 'G': 1, 'S': 300, 'H': 512},
    *(
      pytest.param(shape, marks=pytest.mark.slow)
      for shape in (
        {'B': 3, 'K': 2, 'G': 8, 'S': 700, 'H': 128},
        {'B': 3, 'S': 45},
        {'B': 2, 'K': 1, 'S': 5, 'filled': (5, 2)},
        # More heads than a group has units.
        {'B': 2, 'K': 16, 'G': 1, 'S': 32, 'H': 256, 'dtype': 'bfloat16'},
        {'B': 9, 'K': 1, 'S': 64, 'softcap': 2.0, 'dtype': 'bfloat16'},
        {'B': 2, 'K': 1, 'S': 2100, 'H': 128},
      )
    ),
  ],
  ids=str,
)
def test_is_the_reference(shape):
  case = decode_cases.make(**shape)
  run = functools.partial(_run, softcap=case.softcap)
  got = jax.jit(run)(*case.arrays)
  exact = case.k.dtype == np.float32
  decode_cases.check(got, case, 1e-5 if exact else 1e-2)


def test_every_length_of_a_cache():
  run = jax.jit(_run)
  # One group, each slot one token longer than the one before.
  for first in (1, 9, 17, 25):
    case = decode_cases.make(
      B=8, K=1, G=1, S=32, filled=range(first, first + 8)
    )
    decode_cases.check(run(*case.arrays), case, 1e-5)


def test_a_slot_does_not_depend_on_the_others():
  case = decode_cases.make(B=6, K=1, S=600, filled=(5, 600, 1, 513, 512, 77))
  alike = jax.jit(_run)
  whole = alike(*case.arrays)
  for b in range(6):
    other = decode_cases.make(B=6, K=1, S=600, seed=b + 1)
    other.put(b, case)
    for got, want in zip(alike(*other.arrays), whole, strict=True):
      np.testing.assert_array_equal(got[b], want[b])


def test_groups_share_the_slots_evenly():
  assert decode_tpu.group(64, 1) == 8
  assert decode_tpu.group(13, 1) == 7
  assert decode_tpu.group(64, 4) == 2
  assert decode_tpu.group(64, 16) == 1
  assert decode_tpu.group(3, 1) == 3


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_the_estimate_is_what_is_copied(dtype, monkeypatch):
  B, K, G, S, H = 8, 2, 2, 128, 64
  case = decode_cases.make(B=B, K=K, G=G, S=S, H=H, dtype=dtype)
  size = case.k.dtype.itemsize
  copied = []
  read = interpret_pallas_call.DMA.execute_read

  def counted(copy):
    read(copy)
    copied.append(copy.data.nbytes)

  monkeypatch.setattr(interpret_pallas_call.DMA, 'execute_read', counted)
  jax.block_until_ready(_run(*case.arrays[:-1], jnp.full(B, S // 2, jnp.int32)))
  monkeypatch.undo()
  got = decode_tpu.cost(case.q_BKGH, case.k, softcap=None, fill=0.5)
  # One copy of keys and one of values a slot.
  assert len(copied) == 2 * B
  small = B * K * G * (H * size + H * 4 + 4)
  assert got.bytes_accessed == sum(copied) + small
  assert sum(copied) == 2 * B * K * (S // 2) * H * size
  assert got.flops == 4 * B * K * G * (S // 2) * H
  assert got.transcendentals == B * K * G * (S // 2)
  # What fills no whole tile is read as one.
  one = decode_tpu.cost(case.q_BKGH, case.k, softcap=None, fill=1 / S)
  tile = {'float32': 8, 'bfloat16': 16}[dtype]
  assert one.bytes_accessed == 2 * B * K * tile * H * size + small


def test_compiles_for_tpu_without_one():
  pytest.importorskip('libtpu')
  done = decode_aot.run('v5e:4x4', 'kernel')
  for shape, found in done.items():
    # Nothing is copied or turned round before the kernel reads it.
    assert found['temporary'] < 10**6, shape
    assert found['bytes'] < 1.1 * found['estimate'], shape


@pytest.mark.slow
@pytest.mark.parametrize('topology', ['v5e:4x4', 'v6e:4x4'])
def test_a_models_step_compiles_for_tpu(topology):
  pytest.importorskip('libtpu')
  xla, kernel = (decode_aot.run(topology, name) for name in ('xla', 'pallas'))
  print(topology, xla, kernel, sep='\n')
  for found in (xla, kernel):
    assert found['aliased'] >= found['cache']
    assert found['temporary'] < 10**6
  # The analysis counts the one scanned group of two layers.
  group = found['cache'] // found['repeats']
  # Compiled code reads all places, the kernel half of them.
  assert kernel['calls'] == 2
  assert kernel['cache_copies'] == 0
  assert xla['bytes'] - kernel['bytes'] > 0.45 * group
