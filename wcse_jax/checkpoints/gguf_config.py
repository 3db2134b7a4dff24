"""The metadata of a GGUF file as the config.json of transformers 5.

GGUF leaves out what its readers know of a family: that is filled in with what
the family's published models have.

Source: the converter of llama.cpp (conversion/{base,gemma,llama,qwen}.py) for
what each key holds, its loader (src/models/gemma4.cpp) for what a missing key
of Gemma 4 means; the published models' config.json for what files of Gemma 2
and 3 leave out; transformers 5, the configuration files of models/{gemma,
gemma2,gemma3,gemma4,qwen2,llama}, for the spelling.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from wcse_jax import errors
from wcse_jax.checkpoints import gguf, gguf_keys


_GELU = 'gelu_pytorch_tanh'
# Architecture of the file -> (transformers class, model type, key of the
# activation, its name).
_CLASSES = {
  'gemma': ('GemmaForCausalLM', 'gemma', 'hidden_act', _GELU),
  'gemma2': ('Gemma2ForCausalLM', 'gemma2', 'hidden_activation', _GELU),
  'gemma3': ('Gemma3ForCausalLM', 'gemma3_text', 'hidden_activation', _GELU),
  'gemma4': ('Gemma4ForCausalLM', 'gemma4_text', 'hidden_activation', _GELU),
  'qwen2': ('Qwen2ForCausalLM', 'qwen2', 'hidden_act', 'silu'),
  'llama': ('LlamaForCausalLM', 'llama', 'hidden_act', 'silu'),
}
ARCHITECTURES = tuple(_CLASSES)

_LOCAL, _GLOBAL = 'sliding_attention', 'full_attention'
# (model width, heads, head width) of the 27B models of Gemma 2 and 3, whose
# queries are scaled by model width over heads, not by head width.
_SCALED_BY_WIDTH = ((4608, 32, 128), (5376, 32, 128))
# Llama 3.1 and later, whose `rope_freqs` are made with these.
_LLAMA3 = {
  'low_freq_factor': 1.0,
  'high_freq_factor': 4.0,
  'original_max_position_embeddings': 8192,
}
_ROPE_FREQS = 'rope_freqs.weight'


def config(file: gguf.File) -> dict[str, Any]:
  """Returns the config.json of the model in a GGUF file.

  Raises:
    InputError: if the architecture is unknown, a key is missing or not of its
      type, or the model has something that config.json cannot say.
  """
  keys = gguf_keys.Keys(file, ARCHITECTURES)
  arch = keys.arch
  name, model_type, gate_key, gate = _CLASSES[arch]
  keys.refuse()
  layers = keys.count('block_count')
  # Before anything is made of it, one item a layer.
  if layers > len(file.tensors):
    raise keys.bad(
      'block_count', f'at most {len(file.tensors)}, the tensors', layers
    )
  heads = keys.same('attention.head_count')
  width = keys.count('embedding_length')
  head_dim = keys.head_dim('', max(width // heads, 1))
  row = {
    'architectures': [name],
    'model_type': model_type,
    'vocab_size': keys.rows('token_embd.weight'),
    'hidden_size': width,
    'num_hidden_layers': layers,
    'num_attention_heads': heads,
    'head_dim': head_dim,
    gate_key: gate,
    'rms_norm_eps': keys.number('attention.layer_norm_rms_epsilon'),
    'max_position_embeddings': keys.count('context_length'),
    'tie_word_embeddings': 'output.weight' not in file.tensors,
    'bos_token_id': keys.token('bos_token_id'),
    'eos_token_id': _ends(keys),
  }
  if arch == 'gemma4':
    return row | _gemma4(keys, row)
  if keys.count('expert_count', 0):
    raise keys.bad('expert_count', 'a model without experts', 'some')
  row |= {
    'intermediate_size': keys.same('feed_forward_length'),
    'num_key_value_heads': keys.same('attention.head_count_kv', heads),
  }
  if arch == 'gemma3':
    return row | _gemma3(keys, row)
  row['rope_parameters'] = {
    **keys.scaling(),
    'rope_theta': keys.number('rope.freq_base', 10_000.0),
  }
  if arch == 'gemma2':
    row |= _gemma2(keys, row)
  elif arch == 'qwen2':
    # Converters do not keep the windows that some of its models can turn on.
    row |= {'use_sliding_window': False, 'sliding_window': None}
  elif arch == 'llama':
    row |= {'attention_bias': False, 'mlp_bias': False}
    row['rope_parameters'] |= _llama3(keys, row)
  return row


def _gemma2(keys: gguf_keys.Keys, row: dict[str, Any]) -> dict[str, Any]:
  return {
    'query_pre_attn_scalar': _query_scalar(row),
    'attn_logit_softcapping': keys.number('attn_logit_softcapping', 50.0),
    'final_logit_softcapping': keys.number('final_logit_softcapping', 30.0),
    **_windows(keys, row, period=2, window=4096),
  }


def _gemma3(keys: gguf_keys.Keys, row: dict[str, Any]) -> dict[str, Any]:
  return {
    'query_pre_attn_scalar': _query_scalar(row),
    'attn_logit_softcapping': None,
    'final_logit_softcapping': keys.number('final_logit_softcapping', None),
    **_windows(keys, row, period=6, window=None),
    'rope_parameters': {
      _GLOBAL: {
        **keys.scaling(),
        'rope_theta': keys.number('rope.freq_base', 1_000_000.0),
      },
      _LOCAL: {
        'rope_type': 'default',
        'rope_theta': keys.number('rope.freq_base_swa', 10_000.0),
      },
    },
  }


def _gemma4(keys: gguf_keys.Keys, row: dict[str, Any]) -> dict[str, Any]:
  layers, global_dim = row['num_hidden_layers'], row['head_dim']
  windows = _windows(keys, row, period=None, window=None)
  kinds = windows['layer_types']
  if kinds[-1] != _GLOBAL:
    raise keys.bad(
      'attention.sliding_window_pattern', 'a global last layer', kinds[-1]
    )
  if keys.scaling() != {'rope_type': 'default'}:
    raise keys.bad('rope.scaling.type', 'none', keys.scaling())
  shared = keys.count('attention.shared_kv_layers', 0)
  if shared >= layers:
    raise keys.bad('attention.shared_kv_layers', f'under {layers}', shared)
  own = layers - shared
  local_heads, global_heads = _by_kind(
    keys, 'attention.head_count_kv', kinds, row['num_attention_heads']
  )
  reuse = _keys_as_values(keys, kinds[:own])
  if not reuse and local_heads != global_heads:
    raise keys.bad(
      'attention.head_count_kv',
      f'{local_heads} in all layers, as the global ones have an attn_v',
      f'{global_heads} in those',
    )
  widths = keys.per_layer('feed_forward_length', layers)
  wide = shared > 0 and widths[-1] == 2 * widths[0]
  if widths != [widths[0]] * own + [widths[0] * (1 + wide)] * shared:
    raise keys.bad(
      'feed_forward_length',
      f'one width, or twice that in the last {shared} layers',
      sorted(set(widths)),
    )
  per_layer = keys.count('embedding_length_per_layer_input', 0)
  experts = keys.count('expert_count', 0)
  return {
    'intermediate_size': widths[0],
    'num_key_value_heads': local_heads,
    'num_global_key_value_heads': global_heads if reuse else None,
    'head_dim': keys.head_dim('_swa'),
    'global_head_dim': global_dim,
    'attention_k_eq_v': reuse,
    'num_kv_shared_layers': shared,
    'use_double_wide_mlp': wide,
    'final_logit_softcapping': keys.number('final_logit_softcapping', None),
    'hidden_size_per_layer_input': per_layer,
    'vocab_size_per_layer_input': (
      keys.rows('per_layer_token_embd.weight')
      if per_layer
      else row['vocab_size']
    ),
    'enable_moe_block': experts > 0,
    'num_experts': experts or None,
    'top_k_experts': keys.count('expert_used_count') if experts else None,
    'moe_intermediate_size': (
      keys.count('expert_feed_forward_length') if experts else None
    ),
    **windows,
    'rope_parameters': {
      _GLOBAL: {
        'rope_type': 'proportional',
        'partial_rotary_factor': _rotated(keys, global_dim),
        'rope_theta': keys.number('rope.freq_base', 1_000_000.0),
      },
      _LOCAL: {
        'rope_type': 'default',
        'rope_theta': keys.number('rope.freq_base_swa', 10_000.0),
      },
    },
  }


def _query_scalar(row: dict[str, Any]) -> int:
  shape = row['hidden_size'], row['num_attention_heads'], row['head_dim']
  return shape[0] // shape[1] if shape in _SCALED_BY_WIDTH else shape[2]


def _windows(
  keys: gguf_keys.Keys,
  row: dict[str, Any],
  *,
  period: int | None,
  window: int | None,
) -> dict[str, Any]:
  """Returns the window, and which layers have it.

  Args:
    keys: the metadata.
    row: what is known of the model so far.
    period: of the family: one global layer ends each; None if the file must
      say.
    window: of the family where the file has none (tokens); None for no local
      layers then.
  """
  layers = row['num_hidden_layers']
  key = 'attention.sliding_window_pattern'
  given = keys.get(key, period)
  window = keys.count('attention.sliding_window', window or 0)
  if not window:
    local = [False] * layers
  elif (
    isinstance(given, np.ndarray)
    and given.shape == (layers,)
    and given.dtype.kind in 'biu'
  ):
    local = [bool(one) for one in given]
  elif type(given) is int and given >= 0:
    # Of a period of 0, no layer is the last.
    local = [not given or (i + 1) % given > 0 for i in range(layers)]
  else:
    raise keys.bad(key, f'a number or {layers} bools', given)
  return {
    'sliding_window': window or row['max_position_embeddings'],
    'layer_types': [_LOCAL if one else _GLOBAL for one in local],
  }


def _by_kind(
  keys: gguf_keys.Keys, key: str, kinds: Sequence[str], default: int
) -> tuple[int, int]:
  """Returns the numbers of local and of global layers, equal within each."""
  counts = keys.per_layer(key, len(kinds), default)
  found = []
  for kind in (_LOCAL, _GLOBAL):
    # Where there are no layers of the kind, any number will do.
    some = [n for n, k in zip(counts, kinds, strict=True) if k == kind]
    some = sorted(set(some or counts))
    if len(some) > 1:
      raise keys.bad(key, f'one number for all {kind} layers', some)
    found += some
  return found[0], found[1]


def _keys_as_values(keys: gguf_keys.Keys, kinds: Sequence[str]) -> bool:
  """Returns whether the global layers take their keys for values."""
  has = {
    f'blk.{i}.attn_v.weight' in keys.file.tensors
    for i, kind in enumerate(kinds)
    if kind == _GLOBAL
  }
  if len(has) > 1:
    raise errors.InputError(
      f'{keys.file.label}: wanted attn_v in all global layers or in none; got '
      'it in some.'
    )
  return has == {False}


def _rotated(keys: gguf_keys.Keys, head_dim: int) -> float:
  """Returns the share of a global layer's frequencies that turn.

  The others are divided by 1e30 there, which stops them.
  """
  factors = _rope_freqs(keys, head_dim)
  if factors is None:
    raise errors.InputError(
      f'{keys.file.label}: wanted a tensor {_ROPE_FREQS}; there is none.'
    )
  turning = int((factors == 1).sum())
  still = factors[turning:]
  if not ((factors[:turning] == 1).all() and (still > 1e29).all()):
    raise errors.InputError(
      f'{keys.file.label}: {_ROPE_FREQS}: wanted ones and then 1e30; got '
      f'{_few(factors)}.'
    )
  return 2 * turning / head_dim


def _llama3(keys: gguf_keys.Keys, row: dict[str, Any]) -> dict[str, Any]:
  """Returns the scaling of the rotation that `rope_freqs` holds."""
  head_dim = row['head_dim']
  factors = _rope_freqs(keys, head_dim)
  if factors is None or (factors == 1).all():
    return {}
  rope = row['rope_parameters']
  if rope['rope_type'] != 'default':
    raise keys.bad('rope.scaling.type', f'none beside {_ROPE_FREQS}', rope)
  # The slowest frequency is divided by the whole factor.
  factor = float(factors[-1])
  powers = np.arange(0, head_dim, 2) / head_dim
  lengths = 2 * math.pi * rope['rope_theta'] ** powers
  low, high, positions = _LLAMA3.values()
  smooth = np.clip((positions / lengths - low) / (high - low), 0, 1)
  if 1 < factor < math.inf:
    wanted = 1 / ((1 - smooth) / factor + smooth)
  else:
    wanted = np.full_like(factors, math.nan)
  if not np.allclose(factors, wanted, rtol=1e-3, atol=0):
    raise errors.InputError(
      f'{keys.file.label}: {_ROPE_FREQS}: wanted the factors of Llama 3.1, '
      f'from 1 up to one number; got {_few(factors)}.'
    )
  return {'rope_type': 'llama3', 'factor': float(np.round(factor, 3))} | _LLAMA3


def _rope_freqs(keys: gguf_keys.Keys, head_dim: int) -> np.ndarray | None:
  """Returns what each frequency is divided by; None where nothing is said."""
  tensor = keys.file.tensors.get(_ROPE_FREQS)
  if tensor is None:
    return None
  if tensor.shape != (head_dim // 2,):
    raise errors.InputError(
      f'{keys.file.label}: {_ROPE_FREQS}: wanted shape ({head_dim // 2},), '
      f'half a head; got {tensor.shape}.'
    )
  return keys.file.read(_ROPE_FREQS).astype(np.float64)


def _few(values: np.ndarray) -> str:
  shown = ', '.join(f'{value:.4g}' for value in values[:4])
  return f'{shown}, ..., {values[-1]:.4g}'


def _ends(keys: gguf_keys.Keys) -> int | list[int] | None:
  """Returns the tokens that the file names as the end of a text or a turn."""
  found = [keys.token('eos_token_id'), keys.token('eot_token_id')]
  ids = list(dict.fromkeys(i for i in found if i is not None))
  return ids[0] if len(ids) == 1 else ids or None
