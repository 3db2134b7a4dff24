"""config.json to `ModelConfig` and back.

Read is the spelling of transformers 5 (`rope_parameters`, `layer_types`) and of
the one before it (`rope_theta`, `rope_local_base_freq`, `rope_scaling`,
`sliding_window_pattern`).  A key that is missing has the default of its
transformers class, as in transformers.  An option that is not implemented is
refused when it is on, never ignored.

Source: transformers 5, the configuration files of models/{gemma,gemma2,gemma3,
gemma4,qwen2,llama}.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from wcse_jax import errors
from wcse_jax.models import config as model_config
from wcse_jax.models import families, hf_fields


_KINDS = {'sliding_attention': 'local', 'full_attention': 'global'}


_LAYER_TYPES = {kind: name for name, kind in _KINDS.items()}


# Options that change what a model computes and that are not implemented, with
# the values that leave them off.
_OFF: dict[str, tuple[Any, ...]] = {
  'attention_bias': (None, False),
  'mlp_bias': (None, False),
  'use_bidirectional_attention': (None, False, 'vision'),
  'quantization_config': (None,),
  # A model that brings code of its own, which is never run.
  'auto_map': (None, {}),
  'partial_rotary_factor': (None, 1, 1.0),
}


def from_hf(config: Mapping[str, Any]) -> model_config.ModelConfig:
  """Returns the model that a config.json describes.

  Of a multimodal Gemma 3 or 4 it is the text model.

  Raises:
    InputError: if the model type is unknown, a value is not of its type, or an
      option is on that is not implemented.
  """
  if not isinstance(config, Mapping):
    raise errors.InputError(
      f'config.json: wanted an object; got {str(config)[:80]}.'
    )
  model_type = config.get('model_type')
  if isinstance(model_type, str) and model_type in families.MULTIMODAL:
    inner = families.MULTIMODAL[model_type]
    text = config.get('text_config') or {}
    if not isinstance(text, Mapping) or text.get('model_type', inner) not in (
      inner,
      model_type,
    ):
      raise errors.InputError(
        f'text_config: wanted the config of a {inner} model.'
      )
    # Special tokens and tying stand beside the text config, or in it.
    outer = ('bos_token_id', 'eos_token_id', 'tie_word_embeddings')
    outer = {key: config[key] for key in outer if config.get(key) is not None}
    outer_off = {key: config[key] for key in _OFF if key in config}
    return _read({**outer_off, **text, **outer}, inner)
  if isinstance(model_type, str) and model_type in families.FAMILIES:
    return _read(config, model_type)
  known = ', '.join([*families.FAMILIES, *families.MULTIMODAL])
  raise errors.InputError(
    f'model_type: wanted one of {known}; got {str(model_type)[:80]!r}.'
  )


def to_hf(cfg: model_config.ModelConfig) -> dict[str, Any]:
  """Returns a config.json that transformers loads back to the same model.

  It has the spelling of transformers 5 and the one before it.

  Raises:
    ValueError: if the architecture is unknown or cannot express a field.
  """
  if cfg.architecture not in families.BY_ARCHITECTURE:
    raise ValueError(
      f'architecture must be one of {", ".join(families.BY_ARCHITECTURE)}; got '
      f'{cfg.architecture!r}.'
    )
  model_type, family = families.BY_ARCHITECTURE[cfg.architecture]
  gates = {ours: name for name, ours in reversed(family.gates.items())}
  ends = list(cfg.eos_ids)
  row = {
    'architectures': [cfg.architecture],
    'model_type': model_type,
    'vocab_size': cfg.vocab_size,
    'hidden_size': cfg.d_model,
    'intermediate_size': cfg.d_ff,
    'num_hidden_layers': cfg.num_layers,
    'num_attention_heads': cfg.num_heads,
    'num_key_value_heads': cfg.num_kv_heads,
    'head_dim': cfg.head_dim,
    family.gate_key: gates.get(cfg.activation),
    'rms_norm_eps': cfg.norm_eps,
    'attn_logit_softcapping': cfg.attn_softcap,
    'final_logit_softcapping': cfg.final_softcap,
    'sliding_window': cfg.window,
    'layer_types': [_LAYER_TYPES[kind] for kind in cfg.layer_kinds],
    'max_position_embeddings': cfg.max_positions,
    'tie_word_embeddings': cfg.tie_embeddings,
    'bos_token_id': cfg.bos_id,
    'eos_token_id': ends[0] if len(ends) == 1 else ends or None,
    'pad_token_id': 0,
    'attention_bias': False,
  }
  if family.query_scalar:
    row['query_pre_attn_scalar'] = round(cfg.query_scale**-2)
  if model_type == 'gemma4_text':
    row |= _gemma4_keys(cfg)
  if model_type == 'qwen2' and 'local' in cfg.layer_kinds:
    row['use_sliding_window'] = True
  if family.nested_rope:
    row['rope_parameters'] = {
      'full_attention': hf_fields.rope_row(cfg.rope_global),
      'sliding_attention': hf_fields.rope_row(cfg.rope_local),
    }
  else:
    row['rope_parameters'] = hf_fields.rope_row(cfg.rope_global)
  always = {'architectures', 'model_type', 'attention_bias'}
  written = {k: v for k, v in row.items() if k in always | {*family.defaults}}
  if family.old_rope:
    written['rope_theta'] = cfg.rope_global.base
    if family.nested_rope:
      written['rope_local_base_freq'] = cfg.rope_local.base
    if cfg.rope_global.scale != 1.0:
      old = hf_fields.rope_row(cfg.rope_global)
      del old['rope_theta']
      written['rope_scaling'] = old
  # What the file cannot say shows when it is read back.
  again = dataclasses.asdict(from_hf(written))
  for field, value in dataclasses.asdict(cfg).items():
    if again[field] != value:
      raise ValueError(
        f'{field} must be {again[field]!r} in a {cfg.architecture}; got '
        f'{value!r}.'
      )
  return written


def _gemma4_keys(cfg: model_config.ModelConfig) -> dict[str, Any]:
  return {
    'global_head_dim': cfg.global_head_dim,
    'num_global_key_value_heads': (
      cfg.global_num_kv_heads if cfg.global_keys_as_values else None
    ),
    'attention_k_eq_v': cfg.global_keys_as_values,
    'num_kv_shared_layers': cfg.num_kv_shared_layers,
    'use_double_wide_mlp': bool(cfg.shared_d_ff),
    'hidden_size_per_layer_input': cfg.per_layer_dim,
    'vocab_size_per_layer_input': cfg.per_layer_vocab or cfg.vocab_size,
    'enable_moe_block': bool(cfg.num_experts),
    'num_experts': cfg.num_experts or None,
    'top_k_experts': cfg.experts_per_token or None,
    'moe_intermediate_size': cfg.expert_d_ff or None,
  }


def _read(
  config: Mapping[str, Any], model_type: str
) -> model_config.ModelConfig:
  family = families.FAMILIES[model_type]
  for key, off in _OFF.items():
    if config.get(key) not in off:
      raise errors.InputError(
        f'{key}: wanted it off, as it is not implemented; got '
        f'{str(config[key])[:80]}.'
      )
  if 'per_layer_config' not in family.defaults and config.get(
    'per_layer_config'
  ):
    raise errors.InputError(
      f'per_layer_config: wanted none in a {model_type} model; got '
      f'{str(config["per_layer_config"])[:80]}.'
    )
  known = family.defaults
  unknown = {k: v for k, v in families.UNKNOWN.items() if k not in known}
  values = {**known, **config, **unknown}
  activation = values[family.gate_key]
  if not isinstance(activation, str) or activation not in family.gates:
    raise errors.InputError(
      f'{family.gate_key}: wanted {", ".join(family.gates)}; got '
      f'{activation!r}.'
    )
  num_layers = hf_fields.count(values, 'num_hidden_layers')
  d_model = hf_fields.count(values, 'hidden_size')
  num_heads = hf_fields.count(values, 'num_attention_heads')
  if values['num_key_value_heads'] is None:
    values['num_key_value_heads'] = num_heads
  if values['head_dim'] is None:
    values['head_dim'] = d_model // num_heads
  kinds = _layer_kinds(values, num_layers, family)
  max_positions = hf_fields.count(values, 'max_position_embeddings')
  window = max_positions
  if 'local' in kinds or (
    family.period > 1 and values['sliding_window'] is not None
  ):
    window = hf_fields.count(values, 'sliding_window')
  num_kv_heads = hf_fields.divisor(values, 'num_key_value_heads', num_heads)
  head_dim = hf_fields.even(values, 'head_dim')
  hf_fields.boolean(values, 'tie_word_embeddings')
  if family.nested_rope:
    ropes = hf_fields.nested_rope(values)
  else:
    ropes = (hf_fields.single_rope(values, model_type),) * 2
  fields = {
    'vocab_size': hf_fields.count(values, 'vocab_size'),
    'd_model': d_model,
    'd_ff': hf_fields.count(values, 'intermediate_size'),
    'num_layers': num_layers,
    'num_heads': num_heads,
    'num_kv_heads': num_kv_heads,
    'head_dim': head_dim,
    'activation': family.gates[activation],
    'norm_eps': hf_fields.positive(values, 'rms_norm_eps'),
    'query_scale': (
      hf_fields.positive(values, 'query_pre_attn_scalar')
      if family.query_scalar
      else head_dim
    )
    ** -0.5,
    'attn_softcap': hf_fields.softcap(values, 'attn_logit_softcapping'),
    'final_softcap': hf_fields.softcap(values, 'final_logit_softcapping'),
    'window': window,
    'layer_kinds': kinds,
    'rope_local': ropes[0],
    'rope_global': ropes[1],
    'tie_embeddings': values['tie_word_embeddings'],
    'max_positions': max_positions,
    'bos_id': hf_fields.tokens(values, 'bos_token_id', single=True)[0],
    'eos_ids': hf_fields.tokens(values, 'eos_token_id', single=False),
    'architecture': family.architecture,
  }
  if model_type == 'gemma4_text':
    fields |= _gemma4_fields(values, kinds, num_heads)
  try:
    return model_config.ModelConfig(**{**fields, **family.fixed})
  except ValueError as error:
    raise errors.InputError(f'config.json: {error}') from None


def _gemma4_fields(
  values: Mapping[str, Any], kinds: tuple[str, ...], num_heads: int
) -> dict[str, Any]:
  """Returns what a Gemma 4 has beyond the families before it."""
  for key in ('attention_k_eq_v', 'enable_moe_block', 'use_double_wide_mlp'):
    hf_fields.boolean(values, key)
  values = {**values, **_global_layers(values, kinds)}
  shared = hf_fields.count(values, 'num_kv_shared_layers', least=0)
  per_layer = hf_fields.count(values, 'hidden_size_per_layer_input', least=0)
  keys_as_values = values['attention_k_eq_v']
  fields = {
    'global_head_dim': hf_fields.even(values, 'global_head_dim'),
    'global_keys_as_values': keys_as_values,
    'num_kv_shared_layers': shared,
    'per_layer_dim': per_layer,
  }
  if keys_as_values and values['num_global_key_value_heads'] is not None:
    fields['global_num_kv_heads'] = hf_fields.divisor(
      values, 'num_global_key_value_heads', num_heads
    )
  if shared and values['use_double_wide_mlp']:
    fields['shared_d_ff'] = 2 * hf_fields.count(values, 'intermediate_size')
  if per_layer:
    fields['per_layer_vocab'] = hf_fields.count(
      values, 'vocab_size_per_layer_input'
    )
  if values['enable_moe_block']:
    fields |= {
      'num_experts': hf_fields.count(values, 'num_experts'),
      'experts_per_token': hf_fields.count(values, 'top_k_experts'),
      'expert_d_ff': hf_fields.count(values, 'moe_intermediate_size'),
    }
  return fields


def _global_layers(
  values: Mapping[str, Any], kinds: tuple[str, ...]
) -> dict[str, Any]:
  """Returns the global layers' sizes where `per_layer_config` gives them.

  transformers 5 writes that key in the place of `global_head_dim` and
  `num_global_key_value_heads`; it must say the same of every global layer, and
  nothing of the others.
  """
  rows = values['per_layer_config']
  if rows is None:
    return {}
  wanted = [i for i, kind in enumerate(kinds) if kind == 'global']
  if (
    not isinstance(rows, Mapping)
    or not all(str(key).isdecimal() for key in rows)
    or sorted(int(key) for key in rows) != wanted
    or any(row != next(iter(rows.values())) for row in rows.values())
  ):
    raise errors.InputError(
      f'per_layer_config: wanted one row for all global layers '
      f'{", ".join(map(str, wanted))}; got {str(rows)[:80]}.'
    )
  row = next(iter(rows.values()), {})
  if not isinstance(row, Mapping) or not set(row) <= {
    'head_dim',
    'num_key_value_heads',
  }:
    raise errors.InputError(
      'per_layer_config: wanted head_dim and num_key_value_heads; got '
      f'{str(row)[:80]}.'
    )
  found = {'num_global_key_value_heads': row.get('num_key_value_heads')}
  if 'head_dim' in row:
    found['global_head_dim'] = row['head_dim']
  return found


def _layer_kinds(
  values: Mapping[str, Any], num_layers: int, family: families.Family
) -> tuple[str, ...]:
  """Returns the kinds; without `layer_types` each period ends in a global."""
  names = values['layer_types']
  if names is None:
    if 'max_window_layers' in family.defaults:
      return _last_local(values, num_layers)
    period = family.period
    if period > 1 and 'sliding_window_pattern' in values:
      period = hf_fields.count(values, 'sliding_window_pattern')
    kinds = tuple(
      'local' if (layer + 1) % period else 'global'
      for layer in range(num_layers)
    )
  else:
    if not isinstance(names, (list, tuple)) or len(names) != num_layers:
      raise errors.InputError(
        f'layer_types: wanted a list of {num_layers} names, one a layer; got '
        f'{len(names) if isinstance(names, (list, tuple)) else names!r}.'
      )
    for name in names:
      if not isinstance(name, str) or name not in _KINDS:
        raise errors.InputError(
          f'layer_types: wanted {" or ".join(_KINDS)}; got {name!r}.'
        )
    kinds = tuple(_KINDS[name] for name in names)
  if family.ends_global:
    kinds = (*kinds[:-1], 'global')
  return kinds


def _last_local(values: Mapping[str, Any], num_layers: int) -> tuple[str, ...]:
  """Returns the kinds where the layers from a given one on are local."""
  if not values['use_sliding_window'] or values['sliding_window'] is None:
    return ('global',) * num_layers
  whole = hf_fields.count(values, 'max_window_layers', least=0)
  return tuple(
    'local' if layer >= whole else 'global' for layer in range(num_layers)
  )
