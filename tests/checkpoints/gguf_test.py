import gc
import os
import subprocess
import sys
import tracemalloc

import gguf as reference
import ml_dtypes
import numpy as np
import pytest

from wcse_jax import errors
from wcse_jax.checkpoints import gguf


_QUANTISED = [kind for kind in gguf.KINDS if kind[0] == 'Q']


def _blocks(rng, kind, shape):
  """Returns (bytes of random blocks, their values by the reference)."""
  code = reference.GGMLQuantizationType[kind]
  block, size = reference.GGML_QUANT_SIZES[code]
  raw = rng.integers(0, 256, (*shape[:-1], shape[-1] // block * size), np.uint8)
  with np.errstate(all='ignore'):
    return raw, reference.dequantize(raw, code)


def _write(path, tensors):
  """Writes {name: (kind, array)}; quantised arrays are bytes."""
  writer = reference.GGUFWriter(path, 'llama')
  for name, (kind, array) in tensors.items():
    code = reference.GGMLQuantizationType[kind]
    writer.add_tensor(
      name, array.view(np.uint8) if kind == 'BF16' else array, raw_dtype=code
    )
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  return str(path)


@pytest.mark.parametrize('kind', _QUANTISED)
@pytest.mark.parametrize('shape', [(5, 256), (3, 2, 512), (1024,), (70, 8448)])
def test_random_blocks_are_those_of_the_reference(kind, shape, tmp_path):
  rng = np.random.default_rng(list(kind.encode()))
  raw, want = _blocks(rng, kind, shape)
  # Something else lies on both sides.
  around = np.full(64, np.nan, np.float32)
  path = _write(
    tmp_path / 'x.gguf',
    {'a': ('F32', around), 't': (kind, raw), 'z': ('F32', around)},
  )
  with gguf.File(path) as file:
    assert file.tensors['t'].shape == shape
    got = file.read('t')
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, want)
    rows = shape[0]
    for start, stop in ((0, 1), (1, rows), (rows // 2, rows - 1), (rows, rows)):
      got = file.read('t', start, stop)
      np.testing.assert_array_equal(got, want[start:stop])


@pytest.mark.parametrize('kind', ['F32', 'F16', 'BF16', 'F64'])
def test_floats_keep_their_type(kind, tmp_path):
  types = {'F32': np.float32, 'F16': np.float16, 'F64': np.float64}
  dtype = types.get(kind, ml_dtypes.bfloat16)
  want = np.random.default_rng(0).normal(size=(7, 3, 5)).astype(dtype)
  path = _write(tmp_path / 'x.gguf', {'t': (kind, want)})
  with gguf.File(path) as file:
    assert file.tensors['t'].kind == kind
    assert file.tensors['t'].shape == (7, 3, 5)
    for start, stop in ((0, 7), (2, 3), (6, 7), (4, 4)):
      got = file.read('t', start, stop)
      assert got.dtype == dtype
      assert got.tobytes() == want[start:stop].tobytes()
      # It is the caller's own, not the file's.
      got[...] = 0
    assert file.read('t').tobytes() == want.tobytes()


@pytest.mark.parametrize('bounds', [(-1, 2), (2, 1), (0, 4), (4, 4)])
def test_rows_that_are_not_there_are_refused(bounds, tmp_path):
  path = _write(tmp_path / 'x.gguf', {'t': ('F32', np.zeros((3, 2), 'f4'))})
  with gguf.File(path) as file:
    with pytest.raises(ValueError, match=r't: start and stop .* 0\.\.3; got'):
      file.read('t', *bounds)


def test_infinite_scales_raise_no_warning(tmp_path):
  # Warnings are errors here.
  raw = np.full((4, 144), 0x7C, np.uint8)
  path = _write(tmp_path / 'x.gguf', {'t': ('Q4_K', raw)})
  with gguf.File(path) as file:
    assert not np.isfinite(file.read('t')).all()


@pytest.mark.parametrize('kind', ['Q6_K', 'Q8_0', 'F16'])
def test_little_is_taken_besides_the_result(kind, tmp_path):
  rows, width = 4096, 4096
  code = reference.GGMLQuantizationType[kind]
  block, size = reference.GGML_QUANT_SIZES[code]
  raw = np.zeros((rows, width // block * size), np.uint8)
  if kind == 'F16':
    raw = raw.view(np.float16)
  path = _write(tmp_path / 'x.gguf', {'t': (kind, raw)})
  del raw
  with gguf.File(path) as file:
    file.read('t', 0, 1)
    gc.collect()
    tracemalloc.start()
    try:
      found = file.read('t')
      _, peak = tracemalloc.get_traced_memory()
    finally:
      tracemalloc.stop()
  assert peak - found.nbytes < 16 << 20


def test_only_the_rows_are_read(tmp_path, monkeypatch):
  raw = np.zeros((1000, 34), np.uint8)
  path = _write(tmp_path / 'x.gguf', {'t': ('Q8_0', raw)})
  taken = []
  real = os.preadv

  def count(fd, views, offset):
    taken.append(real(fd, views, offset))
    return taken[-1]

  monkeypatch.setattr(os, 'preadv', count)
  with gguf.File(path) as file:
    file.read('t', 500, 510)
  assert sum(taken) == 340


def test_a_file_that_shrinks_while_it_is_open_is_named(tmp_path):
  path = _write(
    tmp_path / 'x.gguf', {'t': ('F32', np.ones((100, 100), np.float32))}
  )
  with gguf.File(path, 'label') as file:
    file.read('t')
    size = os.path.getsize(path) - 20_000
    os.truncate(path, size)
    with pytest.raises(errors.InputError) as caught:
      file.read('t')
    wanted = file.tensors['t'].start + 40_000
    assert str(caught.value) == (
      f'label: truncated while it was read: wanted {wanted} bytes, got {size}.'
    )
    # What is left is still good.
    assert (file.read('t', 0, 50) == 1).all()


def test_what_is_no_file_is_refused(tmp_path):
  missing = str(tmp_path / 'missing.gguf')
  pipe = str(tmp_path / 'pipe.gguf')
  os.mkfifo(pipe)
  for path, reason in (
    (missing, 'No such file or directory'),
    (str(tmp_path), 'no regular file'),
    (pipe, 'no regular file'),
  ):
    with pytest.raises(errors.InputError) as caught:
      gguf.File(path)
    assert str(caught.value) == f'{path}: wanted a GGUF file; got {reason}.'


def test_a_refused_file_is_closed(tmp_path):
  path = tmp_path / 'x.gguf'
  path.write_bytes(b'GGUF')
  before = len(os.listdir('/proc/self/fd'))
  for _ in range(3):
    with pytest.raises(errors.InputError):
      gguf.File(str(path))
  assert len(os.listdir('/proc/self/fd')) == before


def test_closing_twice_closes_no_other_file(tmp_path):
  path = _write(tmp_path / 'x.gguf', {'t': ('F32', np.zeros(3, 'f4'))})
  file = gguf.File(path)
  file.close()
  with open(path, 'rb') as other:
    file.close()
    assert other.read(4) == b'GGUF'


def test_it_never_loads_jax():
  code = (
    'import sys\n'
    'from wcse_jax.checkpoints import gguf, gguf_config, gguf_names\n'
    'print("jax" in sys.modules, "torch" in sys.modules)'
  )
  out = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert out.stdout.strip() == 'False False'
