"""Single values of a config.json, each checked where it is read.

Every function raises InputError that names the key, what was wanted and what
came.
"""

import math
from collections.abc import Mapping
from typing import Any

from wcse_jax import errors
from wcse_jax.models import config as model_config


_ROPE_KEYS = {
  'default': (),
  'linear': ('factor',),
  'proportional': ('factor',),
  'llama3': (
    'factor',
    'low_freq_factor',
    'high_freq_factor',
    'original_max_position_embeddings',
  ),
}


def count(values: Mapping[str, Any], key: str, *, least: int = 1) -> int:
  value = values[key]
  if isinstance(value, bool) or not isinstance(value, int) or value < least:
    raise errors.InputError(
      f'{key}: wanted a whole number of at least {least}; got '
      f'{str(value)[:80]!r}.'
    )
  return value


def even(values: Mapping[str, Any], key: str) -> int:
  value = count(values, key)
  if value % 2:
    raise errors.InputError(f'{key}: wanted an even number; got {value}.')
  return value


def divisor(values: Mapping[str, Any], key: str, of: int) -> int:
  value = count(values, key)
  if of % value:
    raise errors.InputError(
      f'{key}: wanted a divisor of num_attention_heads={of}; got {value}.'
    )
  return value


def boolean(values: Mapping[str, Any], key: str) -> bool:
  if not isinstance(values[key], bool):
    raise errors.InputError(
      f'{key}: wanted true or false; got {str(values[key])[:80]!r}.'
    )
  return values[key]


def positive(values: Mapping[str, Any], key: str) -> float:
  value = values[key]
  if (
    isinstance(value, bool)
    or not isinstance(value, (int, float))
    or not 0 < value < math.inf
  ):
    raise errors.InputError(
      f'{key}: wanted a positive number; got {str(value)[:80]!r}.'
    )
  return float(value)


def softcap(values: Mapping[str, Any], key: str) -> float | None:
  return None if values[key] is None else positive(values, key)


def tokens(values: Mapping[str, Any], key: str, *, single: bool) -> tuple:
  """Returns the ids; where `single`, exactly one, which may be None."""
  value = values[key]
  ids = [value] if single or not isinstance(value, (list, tuple)) else value
  ids = [i for i in ids if single or i is not None]
  size = count(values, 'vocab_size')
  for i in ids:
    if i is None:
      continue
    if isinstance(i, bool) or not isinstance(i, int) or not 0 <= i < size:
      raise errors.InputError(
        f'{key}: wanted ids of at least 0 and under vocab_size={size}; got '
        f'{str(value)[:80]!r}.'
      )
  return tuple(ids)


def single_rope(
  values: Mapping[str, Any], model_type: str
) -> model_config.Rope:
  """Returns the one rotation of all layers."""
  field = 'rope_scaling' if values.get('rope_scaling') else 'rope_parameters'
  found = _rope(values.get(field), field, values.get('rope_theta', 10_000.0))
  allowed = model_type != 'gemma2'
  if found.rotated != 1.0 or (found.scale != 1.0 and not allowed):
    raise errors.InputError(
      f'{field}: wanted rope_type "default" in a {model_type} model; got '
      f'{str(values.get(field))[:80]}.'
    )
  return found


def nested_rope(
  values: Mapping[str, Any],
) -> tuple[model_config.Rope, model_config.Rope]:
  """Returns (local, global): a rotation for each kind of layer."""
  names = ('sliding_attention', 'full_attention')
  nested = values['rope_parameters']
  whole_default: dict[str, Any] = {}
  if nested is None and 'attention_k_eq_v' in values:
    # The default of Gemma 4's class; older Gemmas have none of this kind.
    whole_default = {
      'rope_type': 'proportional',
      'partial_rotary_factor': 0.25,
    }
  nested = nested or {}
  if not isinstance(nested, Mapping) or not set(nested) <= set(names):
    raise errors.InputError(
      f'rope_parameters: wanted {" and ".join(names)}; got '
      f'{str(sorted(nested) if isinstance(nested, Mapping) else nested)[:80]}.'
    )
  rows = {}
  for name in names:
    row = nested.get(name) or {}
    if not isinstance(row, Mapping):
      raise errors.InputError(
        f'rope_parameters.{name}: wanted an object; got {str(row)[:80]!r}.'
      )
    rows[name] = row
  scaling = values.get('rope_scaling') or {}
  if not isinstance(scaling, Mapping):
    raise errors.InputError(
      f'rope_scaling: wanted an object; got {str(scaling)[:80]!r}.'
    )
  # The old key is of global layers only, and goes before the new one.
  whole = _rope(
    {**whole_default, **rows['full_attention'], **scaling},
    'rope_scaling' if scaling else 'rope_parameters.full_attention',
    values.get('rope_theta', 1_000_000.0),
  )
  local = _rope(
    rows['sliding_attention'],
    'rope_parameters.sliding_attention',
    values.get('rope_local_base_freq', 10_000.0),
  )
  if local.scale != 1.0 or local.rotated != 1.0:
    raise errors.InputError(
      'rope_parameters.sliding_attention: wanted rope_type "default"; got '
      f'{str(rows["sliding_attention"])[:80]}.'
    )
  return local, whole


def rope_row(rope: model_config.Rope) -> dict[str, Any]:
  """Returns the row of `rope_parameters` that gives this rotation."""
  row: dict[str, Any] = {'rope_type': 'default', 'rope_theta': rope.base}
  if rope.smooth is not None:
    low, high, original = rope.smooth
    row |= {
      'rope_type': 'llama3',
      'factor': rope.scale,
      'low_freq_factor': low,
      'high_freq_factor': high,
      'original_max_position_embeddings': original,
    }
  elif rope.rotated != 1.0:
    row |= {
      'rope_type': 'proportional',
      'partial_rotary_factor': rope.rotated,
    }
    if rope.scale != 1.0:
      row['factor'] = rope.scale
  elif rope.scale != 1.0:
    row |= {'rope_type': 'linear', 'factor': rope.scale}
  return row


def _rope(row: Any, field: str, default_base: Any) -> model_config.Rope:
  row = {} if row is None else row
  known = {'rope_type', 'type', 'rope_theta', 'partial_rotary_factor'}
  kind = 'default'
  if isinstance(row, Mapping):
    kind = row.get('rope_type', row.get('type', 'default'))
    if not isinstance(kind, str) or kind not in _ROPE_KEYS:
      raise errors.InputError(
        f'{field}.rope_type: wanted {", ".join(_ROPE_KEYS)}; got '
        f'{str(kind)[:80]!r}.'
      )
    known |= set(_ROPE_KEYS[kind])
  if not isinstance(row, Mapping) or not set(row) <= known:
    raise errors.InputError(
      f'{field}: wanted an object with the fields {", ".join(sorted(known))}; '
      f'got {str(sorted(row) if isinstance(row, Mapping) else row)[:80]}.'
    )

  def number(key: str, default: Any = None) -> float:
    return positive({f'{field}.{key}': row.get(key, default)}, f'{field}.{key}')

  base = number('rope_theta', default_base)
  rotated = number('partial_rotary_factor', 1.0)
  if rotated > 1.0 or (rotated != 1.0 and kind != 'proportional'):
    raise errors.InputError(
      f'{field}.partial_rotary_factor: wanted 1.0, or up to it with rope_type '
      f'proportional; got {rotated}.'
    )
  if kind == 'default':
    return model_config.Rope(base=base)
  if kind == 'linear':
    return model_config.Rope(base=base, scale=number('factor'))
  if kind == 'proportional':
    return model_config.Rope(
      base=base, scale=number('factor', 1.0), rotated=rotated
    )
  low, high = number('low_freq_factor'), number('high_freq_factor')
  if low >= high:
    raise errors.InputError(
      f'{field}.low_freq_factor: wanted less than high_freq_factor={high}; '
      f'got {low}.'
    )
  original = count(
    {'original_max_position_embeddings': None, **row},
    'original_max_position_embeddings',
  )
  return model_config.Rope(
    base=base, scale=number('factor'), smooth=(low, high, original)
  )
