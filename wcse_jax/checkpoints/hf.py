"""Hugging Face folders: weights in and out, tensor by tensor.

Nothing in a folder is ever run: the configuration and the tensors are data,
pickled weights are refused.
"""

import contextlib
import json
import math
import os
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy
from jax.sharding import Mesh

from wcse_jax import checkpoints, errors, storage
from wcse_jax.checkpoints import weights as checkpoint_weights
from wcse_jax.models import hf_config, transformer


_FLOATS = {
  'F64': np.dtype(np.float64),
  'F32': np.dtype(np.float32),
  'F16': np.dtype(np.float16),
  'BF16': np.dtype(ml_dtypes.bfloat16),
  'F8_E4M3': np.dtype(ml_dtypes.float8_e4m3fn),
  'F8_E5M2': np.dtype(ml_dtypes.float8_e5m2),
}
# Tensors of one file of an exported model, bytes.
_FILE_BYTES = 2 << 30


def weight_files(folder: str) -> list[str]:
  """Returns the names of the folder's safetensors files.

  Raises:
    InputError: if there is none; pickled weights are refused.
  """
  names = storage.names(folder)
  found = [name for name in names if name.endswith('.safetensors')]
  index = storage.join(folder, 'model.safetensors.index.json')
  if storage.exists(index):
    row = storage.read_json(index)
    try:
      wanted = sorted(set(row['weight_map'].values()))
      missing = sorted(set(wanted) - set(found))
    except (AttributeError, KeyError, TypeError):
      raise errors.InputError(
        f'{index}: wanted {{"weight_map": {{TENSOR: FILE}}}}; got '
        f'{str(row)[:80]!r}.'
      ) from None
    if missing:
      raise errors.InputError(
        f'{index}: wanted the file {str(missing[0])[:80]}; missing.'
      )
    return wanted
  if not found:
    pickled = [n for n in names if n.endswith(('.bin', '.pt', '.pth'))]
    came = f', only {pickled[0]}: pickles are refused' if pickled else ''
    raise errors.InputError(
      f'checkpoint: {folder} holds no *.safetensors{came}.'
    )
  return found


class Source(contextlib.ExitStack):
  """The weights of a folder; see `weights.Source`.

  Rows are read into arrays of their own: pages of a mapped file would count as
  memory of the process for as long as it is open.
  """

  def __init__(self, folder: str):
    """Opens every file.

    Raises:
      InputError: if a file is corrupt or not of floats, or a tensor is in two.
    """
    super().__init__()
    self.shapes: dict[str, tuple[int, ...]] = {}
    self._tensors: dict[str, tuple[str, int, str, int]] = {}
    with contextlib.ExitStack() as opened:
      for name in weight_files(folder):
        path = storage.join(folder, name)
        copy = opened.enter_context(storage.local(path))
        file = os.open(copy, os.O_RDONLY)
        opened.callback(os.close, file)
        self._add(path, copy, file)
      self.push(opened.pop_all())

  def where(self, name: str) -> str:
    return self._tensors[name][0]

  def kind(self, name: str) -> str:
    return self._tensors[name][2]

  def read(self, name: str, start: int, stop: int) -> np.ndarray:
    path, file, kind, first = self._tensors[name]
    row = math.prod(self.shapes[name][1:])
    out = np.empty((stop - start, *self.shapes[name][1:]), _FLOATS[kind])
    # Not `out.data`: numpy gives no buffer of bfloat16.
    raw = memoryview(out.reshape(-1).view(np.uint8))
    at = first + start * row * out.itemsize
    while raw:
      count = os.preadv(file, [raw], at)
      if not count:
        raise errors.InputError(f'{path}: {name}: the file ends before it.')
      raw, at = raw[count:], at + count
    return out

  def _add(self, path: str, copy: str, file: int) -> None:
    # The library refuses headers and offsets that do not fit the file.
    try:
      with safetensors.safe_open(copy, framework='numpy') as checked:
        names = sorted(checked.keys())
    except Exception as error:  # SafetensorError, OSError.
      reason = ' '.join(str(error).split())[:200]
      raise errors.InputError(
        f'{path}: wanted a whole safetensors file; {reason}.'
      ) from None
    (length,) = struct.unpack('<Q', os.pread(file, 8, 0))
    header = json.loads(os.pread(file, length, 8))
    for name in names:
      row = header[name]
      if name in self._tensors:
        raise errors.InputError(
          f'{path}: tensor {name[:80]} is also in {self.where(name)}.'
        )
      if row['dtype'] not in _FLOATS:
        raise errors.InputError(
          f'{path}: {name[:80]}: wanted one of {", ".join(_FLOATS)}; got '
          f'{row["dtype"]}.'
        )
      start = 8 + length + row['data_offsets'][0]
      self.shapes[name] = tuple(row['shape'])
      self._tensors[name] = (path, file, row['dtype'], start)


def load(
  folder: str,
  *,
  dtype: Any = jnp.float32,
  mesh: Mesh | None = None,
  scan: bool | None = None,
  weights: str = '',
) -> transformer.Transformer:
  """Returns the model of a Hugging Face folder; see `weights.load`."""
  config = checkpoints.read_config(folder)
  with Source(folder) as source:
    return checkpoint_weights.load(
      source, config, dtype=dtype, mesh=mesh, scan=scan, weights=weights
    )


def save(
  model: transformer.Transformer,
  folder: str,
  *,
  dtype: Any = None,
  end_ids: Sequence[int] | None = None,
) -> None:
  """Writes weights and configuration that transformers loads back.

  Args:
    model: the model, on any mesh.
    folder: the target.
    dtype: of the stored weights; None for the model's own.
    end_ids: the tokens that end a sample; None for the model's own.
  """
  dtype = jnp.dtype(model.dtype if dtype is None else dtype)
  files = _plan(model, dtype)
  count = len(files)
  index = 'model.safetensors.index.json'
  # Of an older export nothing may stay that a reader would take for this one.
  for name in storage.names(folder):
    if name.endswith('.safetensors') or name in (index, 'manifest.json'):
      storage.remove(storage.join(folder, name))
  where = {}
  total = 0
  stream = tensors(model, dtype)
  for i, names in enumerate(files, 1):
    part = dict(next(stream) for _ in names)
    name = (
      'model.safetensors'
      if count == 1
      else f'model-{i:05d}-of-{count:05d}.safetensors'
    )
    where.update(dict.fromkeys(part, name))
    total += sum(tensor.nbytes for tensor in part.values())
    data = safetensors.numpy.save(part, metadata={'format': 'pt'})
    storage.publish(storage.join(folder, name), data)
  if count > 1:
    storage.publish_json(
      storage.join(folder, index),
      {'metadata': {'total_size': total}, 'weight_map': where},
    )
  write_config(model, folder, dtype=dtype, end_ids=end_ids)


def write_config(
  model: transformer.Transformer,
  folder: str,
  *,
  dtype: Any = None,
  end_ids: Sequence[int] | None = None,
) -> None:
  """Writes config.json and generation_config.json; see `save`."""
  dtype = jnp.dtype(model.dtype if dtype is None else dtype)
  described = hf_config.to_hf(model.config) | {'dtype': dtype.name}
  storage.publish(
    storage.join(folder, 'config.json'), json.dumps(described, indent=2)
  )
  ends = list(model.config.eos_ids if end_ids is None else end_ids)
  storage.publish(
    storage.join(folder, 'generation_config.json'),
    json.dumps(
      {
        'bos_token_id': model.config.bos_id,
        'eos_token_id': ends[0] if len(ends) == 1 else ends or None,
      },
      indent=2,
    ),
  )


def tensors(
  model: transformer.Transformer, dtype: Any
) -> Iterator[tuple[str, np.ndarray]]:
  """Yields (name in the file, array) of every weight, as the file has it."""
  for entry in checkpoint_weights.entries(model):
    yield from checkpoint_weights.tensors(entry, dtype)


def _plan(model: transformer.Transformer, dtype: Any) -> list[list[str]]:
  """Returns the tensors of each file, in the order of `tensors`."""
  files: list[list[str]] = [[]]
  size = 0
  for entry in checkpoint_weights.entries(model):
    each = math.prod(entry.shape()) * jnp.dtype(dtype).itemsize
    for name in entry.names:
      if files[-1] and size + each > _FILE_BYTES:
        files.append([])
        size = 0
      files[-1].append(name)
      size += each
  return files
