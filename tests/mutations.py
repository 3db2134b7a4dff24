"""Harmed weight files, and a process that opens them under a memory limit.

Run as a script it prints one JSON line: how many files of each format were
opened and how many refused, and the first that did neither.  See
`tests/checkpoints/hostile_test.py`.
"""

import json
import os
import pathlib
import re
import resource
import struct
import sys
import time
from typing import Any

import numpy as np

from wcse_jax import errors
from wcse_jax.checkpoints import gguf, gguf_config, gguf_names, hf


# Above what the process has when it starts, bytes.
MEMORY = 1 << 30
# Of one file, seconds of processor time.
SECONDS = 2.0

_EXTREME = [0, 1, 2, 3, 7, 8, 9, 31, 33, 255, 2**16, 2**31 - 1, 2**31]
_EXTREME += [2**32 - 1, 2**32, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1]
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


def gguf_fields(data: bytes) -> tuple[list[tuple[int, int]], int]:
  """Returns ((offset, bytes) of every number in a sound header, its end)."""
  found: list[tuple[int, int]] = []
  at = 4

  def number(size: int) -> int:
    nonlocal at
    found.append((at, size))
    at += size
    return int.from_bytes(data[at - size : at], 'little')

  def text() -> None:
    nonlocal at
    count = number(8)
    at += count

  def value(code: int) -> None:
    if code == 8:
      text()
    elif code == 9:
      item = number(4)
      for _ in range(number(8)):
        value(item)
    else:
      number(_SIZES[code])

  number(4)
  tensors, keys = number(8), number(8)
  for _ in range(keys):
    text()
    value(number(4))
  for _ in range(tensors):
    text()
    for _ in range(number(4)):
      number(8)
    number(4)
    number(8)
  return found, at


def harm_gguf(
  data: bytes,
  fields: list[tuple[int, int]],
  end: int,
  rng: np.random.Generator,
  payload: bytes,
) -> bytes:
  """Returns a file with one to three things wrong with its header."""
  out = bytearray(data)
  for _ in range(rng.choice([1, 1, 1, 2, 3])):
    way = rng.integers(9)
    at, size = fields[rng.integers(len(fields))]
    if way == 0:
      out[at : at + size] = _extreme(rng, size)
    elif way == 1:
      # One bit of one number, unless it was cut off before.
      at += int(rng.integers(size))
      out[at : at + 1] = bytes(
        byte ^ 1 << int(rng.integers(8)) for byte in out[at : at + 1]
      )
    elif way == 2:
      # Two numbers change places: overlaps, doubles, other types.
      other, width = fields[rng.integers(len(fields))]
      if width == size:
        a, b = out[at : at + size], out[other : other + size]
        out[at : at + size], out[other : other + size] = b, a
    elif way == 3:
      # A text, a count and a type make an array of arrays of arrays.
      deep = struct.pack('<IQ', 9, 1) * int(rng.integers(1, 2000))
      out[at:at] = struct.pack('<I', 9) + deep
    elif way == 4:
      out[at:at] = payload
    else:
      out = _splice(out, end, rng, way)
  return bytes(out)


def harm_safetensors(
  data: bytes, rng: np.random.Generator, payload: bytes
) -> bytes:
  """Returns a file with one to three things wrong with its header."""
  (length,) = struct.unpack_from('<Q', data)
  header, body = bytearray(data[8 : 8 + length]), data[8 + length :]
  told = length
  for _ in range(rng.choice([1, 1, 1, 2, 3])):
    way = rng.integers(10)
    numbers = list(re.finditer(rb'\d+', header))
    if way == 0 and numbers:
      at = numbers[rng.integers(len(numbers))]
      value = str(rng.choice([*map(str, _EXTREME), '-1', '0.5', '1e9', 'NaN']))
      header[at.start() : at.end()] = value.encode()
    elif way == 1:
      told = int.from_bytes(_extreme(rng, 8), 'little')
    elif way == 2:
      kinds = [b'F32', b'F16', b'I64', b'BOOL', b'F8_E4M3', b'U8', b'F99', b'']
      header = header.replace(
        b'F32', kinds[rng.integers(8)], rng.integers(1, 5)
      )
    elif way == 3:
      at = int(rng.integers(len(header) + 1))
      header[at:at] = [b'[', b'{"a":'][rng.integers(2)] * 100_000
    elif way == 4:
      # One tensor under two names, one name twice, or a field twice.
      parts = re.findall(rb'"[^"]*":\{[^}]*\}', header)
      if parts:
        header[-1:] = b',' + parts[rng.integers(len(parts))] + b'}'
    elif way == 5:
      at = int(rng.integers(len(header) + 1))
      header[at:at] = payload
    else:
      header = _splice(header, len(header), rng, way)
  if rng.integers(2):
    # Else it would fail at the length, every time.
    told = len(header) if told == length else told
  return struct.pack('<Q', told) + bytes(header) + body


def _extreme(rng: np.random.Generator, size: int) -> bytes:
  value = _EXTREME[rng.integers(len(_EXTREME))] + int(rng.integers(-1, 2))
  return (value % 256**size).to_bytes(size, 'little')


def _splice(
  out: bytearray, end: int, rng: np.random.Generator, way: int
) -> bytearray:
  """Returns the bytes with bits turned, or a piece cut, moved or doubled."""
  end = min(end, len(out))
  if not end:
    return out
  low, high = sorted(int(i) for i in rng.integers(0, end + 1, 2))
  high = min(high, low + int(rng.integers(1, 200)))
  at = int(rng.integers(end))
  if way == 5:
    out[at:at] = out[low:high]
  elif way == 6:
    del out[low:high]
  elif way == 7:
    del out[int(rng.integers(len(out))) :]
  else:
    for _ in range(rng.choice([1, 1, 2, 8])):
      at = int(rng.integers(end))
      out[at] ^= 1 << int(rng.integers(8))
  return out


def open_gguf(path: str) -> None:
  """Opens a file and reads all of it.

  Raises:
    InputError: if it is refused.
  """
  with gguf.File(path) as file:
    for name, tensor in file.tensors.items():
      _check(file.read(name), tensor.shape)
    row = gguf_config.config(file)
    source = gguf_names.Source(file, row)
    for name, shape in source.shapes.items():
      _check(source.read(name, 0, shape[0]), shape)


def open_safetensors(folder: str) -> None:
  """Opens a folder's weights and reads all of them.

  Raises:
    InputError: if they are refused.
  """
  with hf.Source(folder) as source:
    for name, shape in source.shapes.items():
      # No weight is a scalar: the shape is refused before it is read.
      if shape:
        _check(source.read(name, 0, shape[0]), shape)


def _check(array: np.ndarray, shape: tuple[int, ...]) -> None:
  if array.shape != tuple(shape):
    raise AssertionError(f'wanted shape {shape}; got {array.shape}')


def run(folder: str, seed: int, count: int, payload: bytes) -> dict[str, Any]:
  """Opens `count` harmed files, half of them of each format.

  Args:
    folder: holds sound.gguf and sound.safetensors; harmed files go there, too.
    seed: of the harm.
    count: of the files.
    payload: put into some of them.
  """
  root = pathlib.Path(folder)
  sound = (root / 'sound.gguf').read_bytes()
  fields, end = gguf_fields(sound)
  other = (root / 'sound.safetensors').read_bytes()
  weights = root / 'weights'
  weights.mkdir(exist_ok=True)
  found: dict[str, Any] = {'slowest': 0.0, 'bad': None}
  for i in range(count):
    rng = np.random.default_rng([seed, i])
    if i % 2:
      kind, path, opened = 'safetensors', str(weights), open_safetensors
      data = harm_safetensors(other, rng, payload)
      (weights / 'model.safetensors').write_bytes(data)
    else:
      kind, path, opened = 'gguf', str(root / 'harmed.gguf'), open_gguf
      data = harm_gguf(sound, fields, end, rng, payload)
      (root / 'harmed.gguf').write_bytes(data)
    start = time.process_time()
    reason = None
    try:
      opened(path)
      verdict = 'opened'
    except errors.InputError as error:
      verdict = 'refused'
      if '\n' in str(error) or len(str(error)) > 1000:
        reason = f'a message of one line; got {str(error)[:2000]!r}'
    except BaseException as error:
      verdict, reason = 'failed', f'{type(error).__name__}: {error}'[:2000]
    took = time.process_time() - start
    found['slowest'] = max(found['slowest'], took)
    if took > SECONDS:
      reason = f'an answer in {SECONDS} s; got one in {took:.1f} s'
    found[f'{kind} {verdict}'] = found.get(f'{kind} {verdict}', 0) + 1
    if reason and found['bad'] is None:
      found['bad'] = {'seed': seed, 'number': i, 'kind': kind, 'why': reason}
  return found


def main(folder: str, seed: str, count: str, payload: str) -> None:
  pages = int(pathlib.Path('/proc/self/statm').read_text().split()[0])
  limit = pages * os.sysconf('SC_PAGE_SIZE') + MEMORY
  resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
  print(json.dumps(run(folder, int(seed), int(count), bytes.fromhex(payload))))


if __name__ == '__main__':
  main(*sys.argv[1:])
