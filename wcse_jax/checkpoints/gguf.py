"""GGUF files: metadata, and tensors by rows.

Source: gguf-py, quants.py, whose functions unpack the quantised blocks.
"""

import math
import os
import stat

import ml_dtypes
import numpy as np
from gguf import constants, quants

from wcse_jax import errors
from wcse_jax.checkpoints import gguf_header


KINDS = gguf_header.KINDS

_FLOATS = {
  'F32': np.dtype(np.float32),
  'F16': np.dtype(np.float16),
  'BF16': np.dtype(ml_dtypes.bfloat16),
  'F64': np.dtype(np.float64),
}
# Quantised tensors are read and unpacked in pieces of this many values, whose
# transients take about 10 bytes a value.
_PIECE = 1 << 19
# The unpacker works on 16 lines at once: lines of this many values are large
# enough for numpy and small enough for a cache.
_LINE = 1 << 13


class File:
  """An open GGUF file; a context manager.

  Attributes:
    label: what messages call the file.
    metadata: value by key: an int, float, bool or str, a numpy array, or a
      list of str.
    tensors: by their names in the file.
  """

  def __init__(self, path: str, label: str = ''):
    """Opens a local file and parses its header.

    Raises:
      InputError: if it is no GGUF file, is cut short, contradicts itself, or
        holds a tensor of a kind that cannot be read.
    """
    self.label = label or path
    try:
      # A pipe in the file's place must not block.
      self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
      raise errors.InputError(
        f'{self.label}: wanted a GGUF file; got {error.strerror}.'
      ) from None
    try:
      status = os.fstat(self._fd)
      if not stat.S_ISREG(status.st_mode):
        raise errors.InputError(
          f'{self.label}: wanted a GGUF file; got no regular file.'
        )
      self.metadata, self.tensors = gguf_header.parse(
        self._fd, status.st_size, self.label
      )
    except BaseException:
      self.close()
      raise

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.close()

  def close(self) -> None:
    if self._fd >= 0:
      os.close(self._fd)
      self._fd = -1

  def read(
    self, name: str, start: int = 0, stop: int | None = None
  ) -> np.ndarray:
    """Returns rows [start, stop) of the first axis of a tensor.

    They are in the file's own type where that is a float type, else in
    float32.  Only these rows are read, and besides the result at most a few
    MiB are taken.

    Raises:
      InputError: if the file was cut short since it was opened.
      ValueError: if there are no such rows.
    """
    tensor = self.tensors[name]
    rows = tensor.shape[0]
    stop = rows if stop is None else stop
    if not 0 <= start <= stop <= rows:
      raise ValueError(
        f'{name}: start and stop must be within 0..{rows}; got {start}, {stop}.'
      )
    width = math.prod(tensor.shape[1:])
    shape = (stop - start, *tensor.shape[1:])
    if tensor.kind in _FLOATS:
      found = np.empty(shape, _FLOATS[tensor.kind])
      self._fill(
        found.reshape(-1).view(np.uint8),
        tensor.start + start * width * found.itemsize,
      )
      return found
    block, _ = gguf_header.sizes(tensor.kind)
    # Rows of a matrix are whole blocks; items of a vector need not be.
    first, last = start * width // block, -(-stop * width // block)
    values = self._unpack(tensor, first, last)
    offset = start * width - first * block
    return values[offset : offset + (stop - start) * width].reshape(shape)

  def _unpack(
    self, tensor: gguf_header.Tensor, first: int, last: int
  ) -> np.ndarray:
    """Returns the float32 values of blocks [first, last)."""
    kind = constants.GGMLQuantizationType[tensor.kind]
    block, size = gguf_header.sizes(tensor.kind)
    found = np.empty((last - first) * block, np.float32)
    raw = np.empty(min(last - first, _PIECE // block) * size, np.uint8)
    per_line = _LINE // block
    for begin in range(first, last, _PIECE // block):
      count = min(_PIECE // block, last - begin)
      piece = raw[: count * size]
      self._fill(piece, tensor.start + begin * size)
      whole = count // per_line * per_line
      for low, high, lines in (
        (0, whole, whole // per_line),
        (whole, count, 1),
      ):
        if low == high:
          continue
        part = piece[low * size : high * size].reshape(lines, -1)
        # A scale may be anything, infinite or NaN: what follows from it is
        # in the weights, not on standard error.
        with np.errstate(all='ignore'):
          values = quants.dequantize(part, kind)
        at = (begin - first + low) * block
        found[at : at + values.size] = values.reshape(-1)
    return found

  def _fill(self, target: np.ndarray, offset: int) -> None:
    """Reads bytes from `offset` on until the array is full."""
    view = memoryview(target)
    while view:
      count = os.preadv(self._fd, [view], offset)
      if not count:
        raise errors.InputError(
          f'{self.label}: truncated while it was read: wanted '
          f'{offset + len(view)} bytes, got {offset}.'
        )
      view = view[count:]
      offset += count
