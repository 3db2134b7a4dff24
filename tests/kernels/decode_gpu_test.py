import functools

import decode_cases
import jax
import numpy as np
import pytest

from wcse_jax.kernels import decode_gpu


_run = functools.partial(decode_gpu.attend, interpret=True)


@pytest.mark.parametrize(
  'shape',
  [
    {'B': 3, 'K': 1, 'G': 2, 'S': 300, 'H': 128},
    {'B': 3, 'S': 45, 'softcap': 2.0},
    # More query heads than the least number of rows.
    {'B': 2, 'K': 1, 'G': 20, 'S': 64, 'dtype': 'bfloat16'},
    # One part, of more than one block.
    {'B': 140, 'K': 2, 'G': 1, 'S': 130, 'H': 8},
    {'B': 2, 'K': 1, 'G': 4, 'S': 64, 'H': 512},
  ],
  ids=str,
)
def test_is_the_reference(shape):
  case = decode_cases.make(**shape)
  run = functools.partial(_run, softcap=case.softcap)
  got = jax.jit(run)(*case.arrays)
  exact = case.k.dtype == np.float32
  decode_cases.check(got, case, 1e-5 if exact else 1e-2)


def test_a_slot_does_not_depend_on_the_others():
  case = decode_cases.make(B=4, K=1, S=200, filled=(5, 200, 1, 77))
  alike = jax.jit(_run)
  whole = alike(*case.arrays)
  for b in range(4):
    other = decode_cases.make(B=4, K=1, S=200, seed=b + 1)
    other.put(b, case)
    for got, want in zip(alike(*other.arrays), whole, strict=True):
      np.testing.assert_array_equal(got[b], want[b])


def test_parts_keep_the_device_busy():
  assert decode_gpu.split(64, 1, 512) == 4
  assert decode_gpu.split(64, 1, 128) == 2
  assert decode_gpu.split(256, 8, 512) == 1


def test_the_estimate_is_what_the_parts_read():
  B, K, G, S, H = 2, 2, 3, 256, 64
  case = decode_cases.make(B=B, K=K, G=G, S=S, H=H, dtype='bfloat16')
  got = decode_gpu.cost(case.q_BKGH, case.k, softcap=1.0, fill=0.25)
  parts = decode_gpu.split(B, K, S)
  small = B * K * G * (H * 2 + parts * (H + 1) * 4)
  assert got.bytes_accessed == 2 * B * K * (S // 4) * H * 2 + small
  assert got.transcendentals == 2 * B * K * G * (S // 4)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('width', [64, 128, 256, 512])
def test_lowers_for_cuda_without_a_device(dtype, width):
  case = decode_cases.make(K=1, H=width, dtype=dtype)
  run = jax.jit(functools.partial(decode_gpu.attend, softcap=50.0))
  lowered = run.trace(*case.arrays).lower(lowering_platforms=('cuda',))
  assert 'xla.gpu.triton' in lowered.as_text()
