"""Orbax folders: a model's weights as Orbax arrays, beside its configuration.

The arrays have the names and shapes of a Hugging Face folder, so that a model
comes back on another mesh, scanned or not.  They lie in groups that are written
and read one at a time, which bounds what the host holds.  Orbax restores
flipped bytes in silence: the folder's manifest is the guard.
"""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from wcse_jax import errors, storage
from wcse_jax.checkpoints import weights as checkpoint_weights
from wcse_jax.models import transformer


INDEX = 'weights.json'
# Types of the arrays, and what they are called elsewhere.
_KINDS = {
  'float64': 'F64',
  'float32': 'F32',
  'float16': 'F16',
  'bfloat16': 'BF16',
}
# Arrays of one group, bytes; a larger one has a group to itself.
_GROUP_BYTES = 128 << 20


class Source:
  """The weights of a folder; see `weights.Source`."""

  def __init__(self, folder: str):
    self._folder = folder
    path = storage.join(folder, INDEX)
    index = storage.read_json(path)
    self.shapes: dict[str, tuple[int, ...]] = {}
    self._group: dict[str, int] = {}
    try:
      kind = str(index['dtype'])
      for i, group in enumerate(index['groups']):
        for name, shape in group.items():
          self.shapes[name] = tuple(int(size) for size in shape)
          self._group[name] = i
    except (AttributeError, KeyError, TypeError, ValueError):
      raise errors.InputError(
        f'{path}: wanted {{"dtype", "groups": [{{NAME: SHAPE}}]}}; got '
        f'{str(index)[:80]!r}.'
      ) from None
    if kind not in _KINDS:
      raise errors.InputError(
        f'{path}: dtype: wanted one of {", ".join(_KINDS)}; got {kind[:80]!r}.'
      )
    self._kind = _KINDS[kind]
    self._held: tuple[int, dict[str, np.ndarray]] = (-1, {})

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self._held = (-1, {})

  def where(self, name: str) -> str:
    return storage.join(self._folder, _name(self._group[name]))

  def kind(self, name: str) -> str:
    del name
    return self._kind

  def read(self, name: str, start: int, stop: int) -> np.ndarray:
    group = self._group[name]
    if self._held[0] != group:
      # The old group goes before the new one comes.
      self._held = (-1, {})
      self._held = (group, self._restore(group))
    return self._held[1][name][start:stop]

  def _restore(self, group: int) -> dict[str, np.ndarray]:
    names = [name for name, held in self._group.items() if held == group]
    path = storage.join(self._folder, _name(group))
    args = ocp.args.PyTreeRestore(
      item=dict.fromkeys(names, 0),
      restore_args={n: ocp.RestoreArgs(restore_type=np.ndarray) for n in names},
    )
    try:
      with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        found = reader.restore(storage.absolute(path), args=args)
    except (ValueError, OSError, KeyError) as error:
      raise errors.InputError(
        f'{path}: wanted an Orbax checkpoint; '
        f'{" ".join(str(error).split())[:200]}.'
      ) from None
    for name in names:
      if found[name].shape != self.shapes[name]:
        raise errors.InputError(
          f'{path}: {name}: wanted shape {self.shapes[name]}, as {INDEX} '
          f'states; got {found[name].shape}.'
        )
    return found


def save(
  model: transformer.Transformer, folder: str, *, dtype: Any = None
) -> None:
  """Writes the weights; nothing of an older export is left.

  Args:
    model: the model, on any mesh.
    folder: the target.
    dtype: of the stored weights; None for the model's own.
  """
  dtype = jnp.dtype(model.dtype if dtype is None else dtype)
  for name in storage.names(folder):
    if name in (INDEX, 'manifest.json'):
      storage.remove(storage.join(folder, name))
  storage.remove_folder(storage.join(folder, 'weights'))
  shapes: list[dict[str, list[int]]] = []
  part: dict[str, np.ndarray] = {}

  def flush() -> None:
    path = storage.absolute(storage.join(folder, _name(len(shapes))))
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as writer:
      writer.save(path, args=ocp.args.PyTreeSave(dict(part)))
    shapes.append({name: list(t.shape) for name, t in part.items()})
    part.clear()

  for entry in checkpoint_weights.entries(model):
    each = math.prod(entry.shape()) * dtype.itemsize
    for name, tensor in checkpoint_weights.tensors(entry, dtype):
      held = sum(array.nbytes for array in part.values())
      if part and held + each > _GROUP_BYTES:
        flush()
      part[name] = tensor
  flush()
  storage.publish_json(
    storage.join(folder, INDEX), {'dtype': dtype.name, 'groups': shapes}
  )


def _name(group: int) -> str:
  return f'weights/{group:05d}'
