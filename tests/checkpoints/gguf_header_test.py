import os
import pathlib
import struct
import time

import gguf as reference
import gguf_models
import numpy as np
import pytest

from wcse_jax import errors
from wcse_jax.checkpoints import gguf, gguf_header


_U32, _STRING, _ARRAY = 4, 8, 9


def _text(value):
  data = value if isinstance(value, bytes) else value.encode()
  return struct.pack('<Q', len(data)) + data


def _key(name, code, value=b''):
  return _text(name) + struct.pack('<I', code) + value


def _tensor(name, shape=(32,), kind=0, offset=0):
  dims = struct.pack(f'<I{len(shape)}Q', len(shape), *shape)
  return _text(name) + dims + struct.pack('<IQ', kind, offset)


def _file(keys=(), tensors=(), data=256, version=3, counts=None):
  """Returns the bytes of a file; the data are zeros."""
  counts = counts or (len(tensors), len(keys))
  head = b'GGUF' + struct.pack('<IQQ', version, *counts)
  head += b''.join(keys) + b''.join(tensors)
  return head + bytes(-len(head) % 32) + bytes(data)


@pytest.fixture
def parse(tmp_path):
  """Parses bytes as a file."""

  def do(data):
    path = tmp_path / 'x.gguf'
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    try:
      return gguf_header.parse(fd, len(data), 'x.gguf')
    finally:
      os.close(fd)

  return do


@pytest.fixture
def refusal(parse):
  """Returns the message of a refusal."""

  def do(data):
    start = time.process_time()
    with pytest.raises(errors.InputError) as caught:
      parse(data)
    assert time.process_time() - start < 2
    message = str(caught.value)
    assert '\n' not in message
    assert message.startswith('x.gguf: ')
    assert len(message) < 400
    return message.removeprefix('x.gguf: ')

  return do


def test_every_type_of_value(tmp_path, parse):
  path = tmp_path / 'w.gguf'
  writer = reference.GGUFWriter(path, 'llama')
  writer.add_uint8('a.u8', 200)
  writer.add_int8('a.i8', -3)
  writer.add_uint16('a.u16', 60_000)
  writer.add_int16('a.i16', -300)
  writer.add_uint32('a.u32', 4_000_000_000)
  writer.add_int32('a.i32', -70_000)
  writer.add_uint64('a.u64', 2**63)
  writer.add_int64('a.i64', -(2**62))
  writer.add_float32('a.f32', 0.5)
  writer.add_float64('a.f64', 0.1)
  writer.add_bool('a.bool', True)
  writer.add_string('a.text', 'naïve ▁')
  writer.add_array('a.texts', ['', 'b', '▁c'])
  writer.add_array('a.ints', [1, -2, 3])
  writer.add_array('a.floats', [0.5, -1.5])
  writer.add_array('a.bools', [True, False])
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  metadata, tensors = parse(path.read_bytes())
  assert tensors == {}
  for key in ('a.ints', 'a.floats', 'a.bools'):
    assert isinstance(metadata[key], np.ndarray)
    metadata[key] = metadata[key].tolist()
  assert metadata == {
    'general.architecture': 'llama',
    'a.u8': 200,
    'a.i8': -3,
    'a.u16': 60_000,
    'a.i16': -300,
    'a.u32': 4_000_000_000,
    'a.i32': -70_000,
    'a.u64': 2**63,
    'a.i64': -(2**62),
    'a.f32': 0.5,
    'a.f64': 0.1,
    'a.bool': True,
    'a.text': 'naïve ▁',
    'a.texts': ['', 'b', '▁c'],
    'a.ints': [1, -2, 3],
    'a.floats': [0.5, -1.5],
    'a.bools': [True, False],
  }
  assert type(metadata['a.bool']) is bool
  assert type(metadata['a.u8']) is int


def test_tensors_lie_where_the_writer_put_them(tmp_path, parse):
  path = tmp_path / 'w.gguf'
  rng = np.random.default_rng(0)
  wanted = {
    'a': ((2, 3, 64), 'Q4_0', rng.integers(0, 256, (2, 3, 36), np.uint8)),
    'b': ((5,), 'F32', rng.normal(size=5).astype(np.float32)),
    'c': ((7, 1), 'F16', rng.normal(size=(7, 1)).astype(np.float16)),
  }
  writer = reference.GGUFWriter(path, 'llama')
  for name, (_, kind, array) in wanted.items():
    code = reference.GGMLQuantizationType[kind]
    writer.add_tensor(name, array, raw_dtype=code)
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  data = path.read_bytes()
  _, found = parse(data)
  assert list(found) == list(wanted)
  for name, (shape, kind, array) in wanted.items():
    got = found[name]
    assert (got.name, got.shape, got.kind) == (name, shape, kind)
    assert data[got.start : got.start + got.size] == array.tobytes()


def test_version_2_and_another_alignment(parse):
  aligned = _key('general.alignment', _U32, struct.pack('<I', 8))
  tensors = [_tensor('a', (2,)), _tensor('b', (2,), offset=8)]
  data = _file([aligned], tensors, data=64, version=2)
  _, found = parse(data)
  assert found['b'].start - found['a'].start == 8
  # What lies behind the last tensor does not matter.
  _, found = parse(data[: found['b'].start + 8])
  assert found['b'].size == 8


def test_a_vocabulary_is_parsed_in_less_than_a_second(tmp_path):
  path = tmp_path / 'x.gguf'
  writer = reference.GGUFWriter(path, 'gemma3')
  tokens = [f'▁token{i}' for i in range(262_144)]
  writer.add_token_list(tokens)
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  start = time.process_time()
  with gguf.File(str(path)) as file:
    assert file.metadata['tokenizer.ggml.tokens'] == tokens
  assert time.process_time() - start < 1


_HUGE = (2**31, 2**32 - 1, 2**40, 2**62, 2**63, 2**64 - 1)


@pytest.mark.parametrize('count', _HUGE)
def test_huge_counts_are_refused(count, refusal):
  huge = struct.pack('<Q', count)
  for code in (0, 4, 7, 8, 10, 12):
    array = _key('a', _ARRAY, struct.pack('<I', code) + huge)
    assert 'wanted' in refusal(_file([array]))
  assert 'wanted at most' in refusal(_file([_key('a', _STRING, huge)]))
  assert 'at least' in refusal(_file(counts=(count, 0)))
  assert 'at least' in refusal(_file(counts=(0, count)))
  assert 'wanted at most' in refusal(_file([huge]))
  shapes = [(count,), (32, count), (32, count, count, count)]
  for shape in shapes:
    message = refusal(_file(tensors=[_tensor('a', shape)]))
    assert 'truncated: wanted' in message or 'wanted rows' in message
  aligned = count // 32 * 32
  message = refusal(_file(tensors=[_tensor('a', offset=aligned)]))
  assert message.startswith('truncated: wanted ')


def test_the_file_that_hangs_the_reference_reader(refusal):
  array = struct.pack('<IQ', 0, 2**63)
  data = _file([_key('a', _ARRAY, array)], data=0)[:49]
  assert len(data) == 49
  assert 'wanted' in refusal(data)


def test_a_header_is_bounded_however_large_the_file(tmp_path):
  path = tmp_path / 'x.gguf'
  size = 3 << 30
  head = b'GGUF' + struct.pack('<IQQ', 3, 0, 1)
  path.write_bytes(b'GGUF' + struct.pack('<IQQ', 3, 2**20, 0))
  os.truncate(path, size)
  with pytest.raises(errors.InputError, match='at most 65536 tensors; got 104'):
    gguf.File(str(path))
  for code, count, reason in (
    (_STRING, size // 8 - 100, 'wanted at most 2000000 strings'),
    (_U32, size // 4 - 100, 'wanted a header of at most 67108864 bytes'),
  ):
    array = struct.pack('<IQ', code, count)
    path.write_bytes(head + _key('a', _ARRAY, array))
    os.truncate(path, size)  # Takes no room: zeros.
    start = time.process_time()
    with pytest.raises(errors.InputError, match=reason):
      gguf.File(str(path))
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
  ('data', 'reason'),
  [
    (b'', "begins with GGUF; got b''"),
    (b'GG', "begins with GGUF; got b'GG'"),
    (b'\x80\x04.\n' * 9, "got b'\\x80\\x04.\\n'"),
    (b'GGUF', 'truncated in the version: wanted 8 bytes; got 4'),
    (_file(version=1), 'wanted GGUF version 2 or 3; got 1'),
    (_file(version=4), 'wanted GGUF version 2 or 3; got 4'),
    (b'GGUF' + struct.pack('>IQQ', 3, 0, 0), 'got a big-endian one'),
    (b'GGUF' + struct.pack('<IQ', 3, 0), 'truncated in the number of metadata'),
    (
      _file([_key('a', 0, b'\1'), _key('a', 0, b'\1')]),
      'wanted each metadata key once; got a twice',
    ),
    (
      _file(tensors=[_tensor('t'), _tensor('t', offset=128)]),
      'wanted each tensor once; got t twice',
    ),
    (_file([_key('a', 13)]), 'a: wanted a value type from 0 to 12; got 13'),
    (_file([_key('a', 7, b'\2')]), 'a: wanted 0 or 1 for a bool; got 2'),
    (
      _file([_key('a', _ARRAY, struct.pack('<IQ', 9, 1) + bytes(12))]),
      'a: wanted an array of numbers or text; got arrays',
    ),
    (
      _file([_key('a', _ARRAY, struct.pack('<IQ', 77, 1))]),
      'a: wanted an array of numbers or text; got the type 77',
    ),
    (
      _file([_key('a', _STRING, _text(b'\xff\xfe'))]),
      "a: wanted UTF-8 text; got b'\\xff\\xfe'",
    ),
    (
      _file(
        [
          _key(
            'a', _ARRAY, struct.pack('<IQ', 8, 2) + _text('b') + _text(b'\xc3')
          )
        ]
      ),
      "a: wanted UTF-8 text; got b'\\xc3'",
    ),
    (_file([_key(b'\xff', 0, b'\0')]), 'wanted UTF-8 text'),
    (_file([_key('', 0, b'\0')]), 'a metadata key: wanted printable text'),
    (_file([_key('a\nb', 0, b'\0')]), 'a metadata key: wanted printable text'),
    (_file([_key('a' * 2000, 0, b'\0')]), 'at most 1024 bytes; got 2000'),
    (_file(tensors=[_tensor('')]), 'a tensor name: wanted printable text'),
    (_file(tensors=[_tensor('t', ())]), 'wanted 1 to 4 dimensions; got 0'),
    (
      _file(tensors=[_tensor('t', (1,) * 5)]),
      'wanted 1 to 4 dimensions; got 5',
    ),
    (
      _file(tensors=[_tensor('t', (32, 0))]),
      'wanted rows of a multiple of 1 values, as F32 has; got shape (0, 32)',
    ),
    (
      _file(tensors=[_tensor('t', (33,), kind=8)]),
      'wanted rows of a multiple of 32 values, as Q8_0 has; got shape (33,)',
    ),
    (
      # The whole is a multiple of the block, the rows are not.
      _file(tensors=[_tensor('t', (128, 2), kind=12)]),
      'wanted rows of a multiple of 256 values, as Q4_K has',
    ),
    (
      _file(tensors=[_tensor('t', kind=16)]),
      'Q5_K, Q6_K; got IQ2_XXS',
    ),
    (_file(tensors=[_tensor('t', kind=26)]), 'Q5_K, Q6_K; got I32'),
    (_file(tensors=[_tensor('t', kind=999)]), 'got the number 999'),
    (
      _file(tensors=[_tensor('t', offset=16)]),
      'tensor t: wanted an offset that is a multiple of 32; got 16',
    ),
    (
      _file(tensors=[_tensor('t'), _tensor('u', offset=96)]),
      'tensor u: wanted it behind t, which ends at byte ',
    ),
    (
      _file(tensors=[_tensor('u', offset=96), _tensor('t')]),
      'tensor u: wanted it behind t, which ends at byte ',
    ),
    (
      _file(tensors=[_tensor('t')], data=127),
      'truncated: wanted 192 bytes, up to the end of tensor t; got 191',
    ),
    (
      _file([_key('general.alignment', _U32, bytes(4))]),
      'general.alignment: wanted a multiple of 8 up to 65536; got 0',
    ),
    (
      _file([_key('general.alignment', _U32, struct.pack('<I', 12))]),
      'wanted a multiple of 8 up to 65536; got 12',
    ),
    (
      _file([_key('general.alignment', _STRING, _text('32'))]),
      'wanted a multiple of 8 up to 65536; got 32',
    ),
  ],
)
def test_what_is_wrong_is_named(data, reason, refusal):
  assert reason in refusal(data)


def test_every_truncation_is_refused(tmp_path, refusal):
  path = gguf_models.named(tmp_path / 'w.gguf', 'llama', 'Q8_0')
  with gguf.File(path) as file:
    end = max(t.start + t.size for t in file.tensors.values())
    start = min(t.start for t in file.tensors.values())
  data = pathlib.Path(path).read_bytes()
  for size in (*range(0, start, 7), *range(start, end, 997), end - 1):
    message = refusal(data[:size])
    assert 'got' in message, size


def test_the_longest_headers_take_less_than_two_seconds(parse):
  strings = struct.pack('<IQ', _STRING, 1_800_000) + bytes(8 * 1_800_000)
  keys = [_key(f'k{i}', 0, b'\0') for i in range(60_000)]
  tensors = [_tensor(f't{i}', (8,), offset=32 * i) for i in range(60_000)]
  data = _file([*keys, _key('a', _ARRAY, strings)], tensors, 32 * 60_000)
  start = time.process_time()
  metadata, found = parse(data)
  assert time.process_time() - start < 2
  assert len(metadata['a']) == 1_800_000
  assert len(found) == 60_000


def test_no_bytes_are_asked_for_twice_as_often(tmp_path, monkeypatch):
  # A header is read again from the start with each doubling, so that the
  # total is linear in its size.
  path = tmp_path / 'x.gguf'
  array = struct.pack('<IQ', _STRING, 100_000) + _text('x' * 40) * 100_000
  path.write_bytes(_file([_key('a', _ARRAY, array)]))
  asked = []
  real = os.pread

  def count(fd, size, offset):
    asked.append(size)
    return real(fd, size, offset)

  monkeypatch.setattr(os, 'pread', count)
  gguf.File(str(path)).close()
  assert sum(asked) < 4 * os.path.getsize(path)
