"""The header of a GGUF file: metadata, and where each tensor lies.

It is parsed here and not by the reader of the `gguf` package: that one takes
seconds over a vocabulary of 262,144 tokens, and a file of 49 bytes that states
an array of 2**63 items keeps it busy for ever.  Here every count is held
against the bytes that are really there before anything is made of it.

Source: the GGUF specification of ggml (docs/gguf.md); sizes of the quantised
blocks: gguf-py, constants.py.
"""

import dataclasses
import math
import os
import struct
from typing import Any

import numpy as np
from gguf import constants

from wcse_jax import errors


FLOATS = ('F32', 'F16', 'BF16', 'F64')
QUANTISED = (
  *('Q8_0', 'Q4_0', 'Q4_1', 'Q5_0', 'Q5_1'),
  *('Q2_K', 'Q3_K', 'Q4_K', 'Q5_K', 'Q6_K'),
)
KINDS = (*FLOATS, *QUANTISED)

# Types of metadata values by their number in the file.
_NUMBERS = {
  0: ('uint8', struct.Struct('<B')),
  1: ('int8', struct.Struct('<b')),
  2: ('uint16', struct.Struct('<H')),
  3: ('int16', struct.Struct('<h')),
  4: ('uint32', struct.Struct('<I')),
  5: ('int32', struct.Struct('<i')),
  6: ('float32', struct.Struct('<f')),
  10: ('uint64', struct.Struct('<Q')),
  11: ('int64', struct.Struct('<q')),
  12: ('float64', struct.Struct('<d')),
}
_BOOL, _STRING, _ARRAY = 7, 8, 9
_U32, _U64 = _NUMBERS[4][1], _NUMBERS[10][1]

# Far above what the largest models have, and low enough that a hostile header
# takes less than two seconds and bounded memory.
_MAX_HEADER_BYTES = 64 << 20
_MAX_STRINGS = 2_000_000
_MAX_ENTRIES = 1 << 16
_MAX_NAME_BYTES = 1 << 10
_MAX_ALIGNMENT = 1 << 16


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Tensor:
  """Where one tensor lies.

  Attributes:
    name: as the file has it.
    shape: in the order of numpy, the reverse of the file's.
    kind: one of `KINDS`.
    start: of the first byte in the file.
    size: bytes.
  """

  name: str
  shape: tuple[int, ...]
  kind: str
  start: int
  size: int


def parse(
  fd: int, size: int, label: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
  """Returns (metadata, tensors) of an open file.

  Args:
    fd: file descriptor; its position is left alone.
    size: of the file (bytes).
    label: what messages call the file.

  Raises:
    InputError: if it is no GGUF file, is cut short, contradicts itself, or
      holds a tensor that is none of `KINDS`.
  """
  return _Header(fd, size, label).parse()


def sizes(kind: str) -> tuple[int, int]:
  """Returns (values of a block, bytes of a block)."""
  return constants.GGML_QUANT_SIZES[constants.GGMLQuantizationType[kind]]


def _plain(text: str) -> str:
  """Returns a name of the file as it may stand in a message of one line."""
  if len(text) > 80:
    text = text[:80] + '...'
  return text if text.isprintable() else repr(text)


class _Header:
  """Reads a header from front to back."""

  def __init__(self, fd: int, size: int, label: str):
    self._fd = fd
    self._size = size
    self._label = label
    self._data = b''
    self._at = 0
    self._strings = _MAX_STRINGS

  def parse(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Returns (metadata, tensors)."""
    tensors, keys = self._counts()
    metadata: dict[str, Any] = {}
    for _ in range(keys):
      key = self._name('a metadata key')
      if key in metadata:
        raise self._bad(f'wanted each metadata key once; got {key} twice')
      metadata[key] = self._value(self._number(_U32, key), key)
    rows = [self._tensor() for _ in range(tensors)]
    alignment = metadata.get('general.alignment', 32)
    if (
      type(alignment) is not int
      or not 8 <= alignment <= _MAX_ALIGNMENT
      or alignment % 8
    ):
      raise self._bad(
        'general.alignment: wanted a multiple of 8 up to '
        f'{_MAX_ALIGNMENT}; got {str(alignment)[:80]}'
      )
    return metadata, self._placed(rows, alignment)

  def _bad(self, what: str) -> errors.InputError:
    return errors.InputError(f'{self._label}: {what}.')

  def _counts(self) -> tuple[int, int]:
    """Returns (number of tensors, number of metadata keys)."""
    self._need(min(4, self._size), 'the file')
    if self._data[:4] != b'GGUF':
      raise self._bad(
        f'wanted a GGUF file, which begins with GGUF; got {self._data[:4]!r}'
      )
    self._at = 4
    version = self._number(_U32, 'the version')
    if version not in (2, 3):
      swapped = int.from_bytes(version.to_bytes(4, 'little'), 'big')
      if swapped in (2, 3):
        raise self._bad(
          'wanted a little-endian GGUF file; got a big-endian one'
        )
      raise self._bad(f'wanted GGUF version 2 or 3; got {version}')
    tensors = self._number(_U64, 'the number of tensors')
    keys = self._number(_U64, 'the number of metadata keys')
    # The least that a tensor (name, 1 dimension) and a key can take.
    self._fits(tensors, 8 + 4 + 8 + 4 + 8, 'tensors')
    self._fits(keys, 8 + 4 + 1, 'metadata keys')
    for count, what in ((tensors, 'tensors'), (keys, 'metadata keys')):
      if count > _MAX_ENTRIES:
        raise self._bad(f'wanted at most {_MAX_ENTRIES} {what}; got {count}')
    return tensors, keys

  def _tensor(self) -> tuple[str, tuple[int, ...], str, int]:
    """Returns (name, shape, kind, offset in the data section)."""
    name = self._name('a tensor name')
    what = f'tensor {name}'
    ndim = self._number(_U32, what)
    if not 1 <= ndim <= 4:
      raise self._bad(f'{what}: wanted 1 to 4 dimensions; got {ndim}')
    shape = tuple(self._number(_U64, what) for _ in range(ndim))[::-1]
    code = self._number(_U32, what)
    try:
      kind = constants.GGMLQuantizationType(code).name
    except ValueError:
      kind = f'the number {code}'
    if kind not in KINDS:
      raise self._bad(f'{what}: wanted one of {", ".join(KINDS)}; got {kind}')
    offset = self._number(_U64, what)
    block, _ = sizes(kind)
    if min(shape) < 1 or shape[-1] % block:
      raise self._bad(
        f'{what}: wanted rows of a multiple of {block} values, as {kind} has; '
        f'got shape {shape}'
      )
    return name, shape, kind, offset

  def _placed(
    self, rows: list[tuple[str, tuple[int, ...], str, int]], alignment: int
  ) -> dict[str, Tensor]:
    """Returns the tensors where they lie, checked against the file's size."""
    base = -(-self._at // alignment) * alignment
    tensors: dict[str, Tensor] = {}
    for name, shape, kind, offset in rows:
      if name in tensors:
        raise self._bad(f'wanted each tensor once; got {name} twice')
      if offset % alignment:
        raise self._bad(
          f'tensor {name}: wanted an offset that is a multiple of {alignment}; '
          f'got {offset}'
        )
      block, size = sizes(kind)
      tensors[name] = Tensor(
        name=name,
        shape=shape,
        kind=kind,
        start=base + offset,
        size=math.prod(shape) // block * size,
      )
    end, before = base, ''
    for tensor in sorted(tensors.values(), key=lambda t: t.start):
      if tensor.start < end:
        raise self._bad(
          f'tensor {tensor.name}: wanted it behind {before}, which ends at '
          f'byte {end}; got a start at {tensor.start}'
        )
      end, before = tensor.start + tensor.size, tensor.name
      if end > self._size:
        raise self._bad(
          f'truncated: wanted {end} bytes, up to the end of tensor {before}; '
          f'got {self._size}'
        )
    return tensors

  def _value(self, code: int, key: str) -> Any:
    """Returns a metadata value of the type with this number."""
    if code in _NUMBERS:
      return self._number(_NUMBERS[code][1], key)
    if code == _BOOL:
      return bool(self._bools(1, key)[0])
    if code == _STRING:
      return self._string(key, _MAX_HEADER_BYTES)
    if code == _ARRAY:
      item = self._number(_U32, key)
      return self._array(item, self._number(_U64, key), key)
    raise self._bad(f'{key}: wanted a value type from 0 to 12; got {code}')

  def _array(self, code: int, count: int, key: str) -> Any:
    if code == _STRING:
      return self._string_list(count, key)
    if code == _BOOL:
      return self._bools(count, key)
    if code not in _NUMBERS:
      got = 'arrays' if code == _ARRAY else f'the type {code}'
      raise self._bad(f'{key}: wanted an array of numbers or text; got {got}')
    kind = np.dtype(_NUMBERS[code][0]).newbyteorder('<')
    self._fits(count, kind.itemsize, f'items of {key}')
    self._need(count * kind.itemsize, key)
    found = np.frombuffer(self._data, kind, count, self._at)
    self._at += count * kind.itemsize
    # A copy, as the header's bytes are let go; in the machine's byte order.
    return found.astype(kind.newbyteorder('='))

  def _bools(self, count: int, key: str) -> np.ndarray:
    self._need(count, key)
    found = np.frombuffer(self._data, np.uint8, count, self._at)
    if count and found.max() > 1:
      raise self._bad(f'{key}: wanted 0 or 1 for a bool; got {found.max()}')
    self._at += count
    return found.astype(bool)

  def _number(self, form: struct.Struct, what: str) -> Any:
    self._need(form.size, what)
    (found,) = form.unpack_from(self._data, self._at)
    self._at += form.size
    return found

  def _name(self, what: str) -> str:
    found = self._string(what, _MAX_NAME_BYTES)
    if not found or not found.isprintable():
      raise self._bad(f'{what}: wanted printable text; got {_plain(found)!r}')
    return found

  def _string(self, what: str, longest: int) -> str:
    count = self._number(_U64, what)
    if count > longest:
      raise self._bad(
        f'{_plain(what)}: wanted at most {longest} bytes; got {count}'
      )
    self._need(count, what)
    self._spend(1)
    found = self._data[self._at : self._at + count]
    self._at += count
    try:
      return found.decode()
    except UnicodeDecodeError:
      raise self._not_utf8(what, found) from None

  def _string_list(self, count: int, key: str) -> list[str]:
    self._fits(count, 8, f'items of {key}')
    self._spend(count)
    # The one long loop of a header: on local names.
    found: list[str] = []
    data, at = self._data, self._at
    unpack, size = _U64.unpack_from, len(data)
    for _ in range(count):
      if at + 8 > size:
        data, at = self._refilled(at, 8, key)
        size = len(data)
      end = at + 8 + unpack(data, at)[0]
      if end > size:
        data, at = self._refilled(at, end - at, key)
        size = len(data)
      try:
        found.append(data[at + 8 : end].decode())
      except UnicodeDecodeError:
        raise self._not_utf8(key, data[at + 8 : end]) from None
      at = end
    self._at = at
    return found

  def _refilled(self, at: int, count: int, what: str) -> tuple[bytes, int]:
    self._at = at
    self._need(count, what)
    return self._data, at

  def _not_utf8(self, what: str, found: bytes) -> errors.InputError:
    return self._bad(f'{_plain(what)}: wanted UTF-8 text; got {found[:40]!r}')

  def _spend(self, strings: int) -> None:
    self._strings -= strings
    if self._strings < 0:
      raise self._bad(f'wanted at most {_MAX_STRINGS} strings in the header')

  def _fits(self, count: int, size: int, what: str) -> None:
    """Raises InputError if the rest is too short for what a count states."""
    rest = self._size - self._at
    if count * size > rest:
      raise self._bad(
        f'wanted {count} {_plain(what)}, at least {count * size} bytes; got '
        f'{rest} bytes behind byte {self._at}'
      )

  def _need(self, count: int, what: str) -> None:
    """Has the next bytes at hand."""
    end = self._at + count
    if end <= len(self._data):
      return
    if end > self._size:
      raise self._bad(
        f'truncated in {_plain(what)}: wanted {end} bytes; got {self._size}'
      )
    if end > _MAX_HEADER_BYTES:
      raise self._bad(
        f'{_plain(what)}: wanted a header of at most {_MAX_HEADER_BYTES} '
        f'bytes; got {end}'
      )
    # Twice as much as so far, so that the total stays linear.
    wanted = max(end, 2 * len(self._data), 1 << 16)
    wanted = min(wanted, self._size, _MAX_HEADER_BYTES)
    self._data = os.pread(self._fd, wanted, 0)
    if len(self._data) < end:
      raise self._bad(
        f'truncated while it was read: wanted {end} bytes; got '
        f'{len(self._data)}'
      )
