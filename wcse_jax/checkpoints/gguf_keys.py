"""The metadata of a GGUF file, each value checked where it is read.

Every method raises InputError that names the file, the key, what was wanted
and what came.

Source: gguf-py, constants.py, for the names.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from wcse_jax import errors
from wcse_jax.checkpoints import gguf


# What changes the model and is in none of the families.
_REFUSED = (
  *('attention.scale', 'attention.clamp_kqv', 'attention.max_alibi_bias'),
  *('logit_scale', 'residual_scale', 'embedding_scale'),
)


def _short(value: Any) -> str:
  """Returns a value of the file as it may stand in a message of one line."""
  if isinstance(value, (str, list)):
    value = value[:60]
  return ' '.join(repr(value).split())[:80]


_NEEDED = object()


class Keys:
  """The metadata of a file's architecture, each value checked."""

  def __init__(self, file: gguf.File, known: Sequence[str]):
    self.file = file
    parts = file.metadata.get('split.count', 1)
    if type(parts) is not int or parts != 1:
      raise errors.InputError(
        f'{file.label}: split.count: wanted a whole model in one file; got one '
        f'of {_short(parts)} parts.'
      )
    arch = file.metadata.get('general.architecture')
    if not isinstance(arch, str) or arch not in known:
      raise errors.InputError(
        f'{file.label}: general.architecture: wanted one of '
        f'{", ".join(known)}; got {_short(arch)}.'
      )
    self.arch = arch

  def refuse(self) -> None:
    """Raises InputError if the model has what is in none of the families."""
    for key in _REFUSED:
      if f'{self.arch}.{key}' in self.file.metadata:
        raise self.bad(key, 'none, as it is not implemented', self.get(key))
    if self.get('attention.causal', True) is not True:
      raise self.bad('attention.causal', 'true', self.get('attention.causal'))

  def bad(self, key: str, want: str, got: Any) -> errors.InputError:
    return errors.InputError(
      f'{self.file.label}: {self.arch}.{key}: wanted {want}; got {_short(got)}.'
    )

  def get(self, key: str, default: Any = _NEEDED) -> Any:
    """Returns a value of any type."""
    found = self.file.metadata.get(f'{self.arch}.{key}', default)
    if found is _NEEDED:
      raise errors.InputError(
        f'{self.file.label}: wanted the metadata key {self.arch}.{key}; there '
        'is none.'
      )
    return found

  def count(self, key: str, default: Any = _NEEDED) -> int:
    """Returns a whole number of at least 1, or 0 where that is the default."""
    found = self.get(key, default)
    least = 0 if default == 0 else 1
    if type(found) is not int or not least <= found < 2**31:
      raise self.bad(key, f'a whole number of at least {least}', found)
    return found

  def per_layer(
    self, key: str, layers: int, default: Any = _NEEDED
  ) -> list[int]:
    """Returns one whole number for each layer."""
    found = self.get(key, default)
    if isinstance(found, np.ndarray):
      whole = np.issubdtype(found.dtype, np.integer)
      if found.shape != (layers,) or not whole or found.min(initial=1) < 1:
        raise self.bad(key, f'{layers} whole numbers of at least 1', found)
      return found.tolist()
    return [self.count(key, default)] * layers

  def same(self, key: str, default: Any = _NEEDED) -> int:
    """Returns the whole number that all layers have."""
    counts = self.per_layer(key, self.count('block_count'), default)
    if len(set(counts)) > 1:
      raise self.bad(key, 'one number for all layers', sorted(set(counts)))
    return counts[0]

  def head_dim(self, suffix: str, default: Any = _NEEDED) -> int:
    """Returns the width of keys, values and what of them is rotated."""
    found = self.count(f'attention.key_length{suffix}', default)
    for key in (
      f'attention.value_length{suffix}',
      f'rope.dimension_count{suffix}',
    ):
      if self.count(key, found) != found:
        raise self.bad(key, f'{found}, the width of a key', self.get(key))
    return found

  def number(self, key: str, default: Any = _NEEDED) -> Any:
    """Returns a positive number, or the default."""
    found = self.get(key, default)
    if found is None:
      return None
    if type(found) not in (int, float) or not 0 < found < math.inf:
      raise self.bad(key, 'a positive number', found)
    # A float32 of the file in the digits that config.json had: 1e-6, not
    # 9.999999974752427e-07.
    with np.errstate(over='ignore'):
      short = np.float32(found)
    return float(str(short) if float(short) == found else found)

  def token(self, name: str) -> int | None:
    key = f'tokenizer.ggml.{name}'
    found = self.file.metadata.get(key)
    if found is None:
      return None
    if type(found) is not int or not 0 <= found < self.rows(
      'token_embd.weight'
    ):
      raise errors.InputError(
        f'{self.file.label}: {key}: wanted the id of a row of '
        f'token_embd.weight; got {_short(found)}.'
      )
    return found

  def rows(self, name: str) -> int:
    """Returns the rows of a matrix."""
    tensor = self.file.tensors.get(name)
    if tensor is None or len(tensor.shape) != 2:
      got = 'none' if tensor is None else f'shape {tensor.shape}'
      raise errors.InputError(
        f'{self.file.label}: wanted a matrix {name}; got {got}.'
      )
    return tensor.shape[0]

  def scaling(self) -> dict[str, Any]:
    """Returns how the rotation is stretched: not, or linearly."""
    factor = self.number(
      'rope.scaling.factor', self.get('rope.scale_linear', None)
    )
    # With a factor alone, the scaling is linear.
    kind = self.get('rope.scaling.type', 'none' if factor is None else 'linear')
    if not isinstance(kind, str):
      raise self.bad('rope.scaling.type', 'a name', kind)
    if kind == 'none' or (kind == 'linear' and factor == 1):
      return {'rope_type': 'default'}
    if kind != 'linear' or factor is None:
      raise self.bad('rope.scaling.type', 'none, or linear with a factor', kind)
    return {'rope_type': 'linear', 'factor': factor}
