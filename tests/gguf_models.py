"""Small models of every family as GGUF files, for tests.

A file is written as the converter of llama.cpp writes it, from a config.json
and tensors by their Hugging Face names (see `families.py`).  Names come from
the tables of the `gguf` package, independent of what reads them back.

Source: llama.cpp, conversion/{base,gemma,llama,qwen}.py.
"""

import math
import pathlib
from collections.abc import Mapping
from typing import Any

import families
import gguf
import numpy as np


_ARCHITECTURES = {
  'gemma': gguf.MODEL_ARCH.GEMMA,
  'gemma2': gguf.MODEL_ARCH.GEMMA2,
  'gemma3_text': gguf.MODEL_ARCH.GEMMA3,
  'gemma4_text': gguf.MODEL_ARCH.GEMMA4,
  'qwen2': gguf.MODEL_ARCH.QWEN2,
  'llama': gguf.MODEL_ARCH.LLAMA,
}
_GLOBAL, _LOCAL = 'full_attention', 'sliding_attention'
_LLAMA3 = {
  'rope_type': 'llama3',
  'low_freq_factor': 1.0,
  'high_freq_factor': 4.0,
  'original_max_position_embeddings': 8192,
}


def _rows() -> dict[str, dict[str, Any]]:
  """Returns the rows of `families` as a GGUF file can have them.

  Such a file has no query scale, no window of Qwen2 and no original length of
  Llama 3.
  """
  rows = {name: dict(row) for name, row in families.ROWS.items()}
  del rows['qwen2_window']
  for name in ('gemma2', 'gemma3'):
    rows[name]['query_pre_attn_scalar'] = rows[name]['head_dim']
  for name, factor in (('llama', 8.0), ('llama_tied', 32.0)):
    rows[name].pop('rope_theta', None)
    rows[name].pop('rope_scaling', None)
    # Of eight wave lengths four stay, one is in the band between, and three
    # are stretched.
    rope = _LLAMA3 | {'factor': factor, 'rope_theta': 500_000.0}
    rows[name]['rope_parameters'] = rope
  rows['llama_plain'] = rows['llama'] | {
    'rope_parameters': {'rope_type': 'default', 'rope_theta': 100.0}
  }
  return rows


ROWS = _rows()


def write(
  path: str | pathlib.Path,
  row: Mapping[str, Any],
  tensors: Mapping[str, np.ndarray],
  kind: str = 'F32',
  *,
  extra: Mapping[str, np.ndarray] | None = None,
  **changes: Any,
) -> str:
  """Writes a file; tensors whose rows fit a block are of the kind.

  Args:
    path: of the file.
    row: config.json.
    tensors: float32, by their Hugging Face names.
    kind: of all matrices whose rows are a multiple of its block.
    extra: tensors by their names in the file, beside the model's or in their
      place, written as they are.
    **changes: metadata keys without the architecture, dots as two underscores;
      None leaves a key out.
  """
  arch = _ARCHITECTURES[row['model_type']]
  names = gguf.get_tensor_name_map(arch, row['num_hidden_layers'])
  writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[arch])
  keys = _metadata(row) | {k.replace('__', '.'): v for k, v in changes.items()}
  for key, value in keys.items():
    if value is not None:
      if not key.startswith(('tokenizer.', 'general.', 'split.')):
        key = f'{writer.arch}.{key}'
      _add(writer, key, value)
  extra = {} if extra is None else extra
  for name, tensor in tensors.items():
    if _name(names, name) in extra:
      continue
    stored = _stored(row, name, tensor)
    wanted = gguf.GGMLQuantizationType[kind]
    block, _ = gguf.GGML_QUANT_SIZES[wanted]
    if tensor.ndim < 2 or tensor.shape[-1] % block:
      wanted = gguf.GGMLQuantizationType.F32
    writer.add_tensor(
      _name(names, name), gguf.quantize(stored, wanted), raw_dtype=wanted
    )
  factors = _factors(row)
  if factors is not None:
    extra = {'rope_freqs.weight': factors, **extra}
  for name, tensor in extra.items():
    writer.add_tensor(name, tensor)
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  return str(path)


def named(path: str | pathlib.Path, name: str, kind: str = 'F32') -> str:
  """Writes the model of a row, with the weights of `families`."""
  return write(path, ROWS[name], families.tensors(ROWS[name]), kind)


def _metadata(row: Mapping[str, Any]) -> dict[str, Any]:
  rope = row.get('rope_parameters') or {'rope_theta': row['rope_theta']}
  whole = rope.get(_GLOBAL, rope)
  keys = {
    'block_count': row['num_hidden_layers'],
    'context_length': row['max_position_embeddings'],
    'embedding_length': row['hidden_size'],
    'feed_forward_length': row['intermediate_size'],
    'attention.head_count': row['num_attention_heads'],
    'attention.head_count_kv': row['num_key_value_heads'],
    'attention.layer_norm_rms_epsilon': row['rms_norm_eps'],
    'attention.key_length': row.get('head_dim'),
    'attention.value_length': row.get('head_dim'),
    'attention.sliding_window': row.get('sliding_window'),
    'attn_logit_softcapping': row.get('attn_logit_softcapping'),
    'final_logit_softcapping': row.get('final_logit_softcapping'),
    'rope.freq_base': whole['rope_theta'],
    'tokenizer.ggml.tokens': [f'▁{i}' for i in range(row['vocab_size'])],
    'tokenizer.ggml.scores': [-float(i) for i in range(row['vocab_size'])],
    'tokenizer.ggml.bos_token_id': row['bos_token_id'],
    'tokenizer.ggml.eos_token_id': row['eos_token_id'],
    'tokenizer.ggml.add_bos_token': True,
  }
  if whole.get('rope_type') == 'linear':
    keys |= {
      'rope.scaling.type': 'linear',
      'rope.scaling.factor': whole['factor'],
    }
  if _LOCAL in rope:
    keys['rope.freq_base_swa'] = rope[_LOCAL]['rope_theta']
  if row['model_type'] == 'gemma3_text':
    keys['attention.sliding_window_pattern'] = 3
  elif row['model_type'] == 'qwen2':
    del keys['attention.sliding_window']
  elif row['model_type'] == 'llama':
    keys['vocab_size'] = row['vocab_size']
    keys['rope.dimension_count'] = row['head_dim']
  elif row['model_type'] == 'gemma4_text':
    keys |= _gemma4(row)
  return keys


def _gemma4(row: Mapping[str, Any]) -> dict[str, Any]:
  kinds, shared = row['layer_types'], row['num_kv_shared_layers']
  keys = {
    'attention.shared_kv_layers': shared,
    'attention.sliding_window_pattern': [kind == _LOCAL for kind in kinds],
    'attention.key_length': row['global_head_dim'],
    'attention.value_length': row['global_head_dim'],
    'attention.key_length_swa': row['head_dim'],
    'attention.value_length_swa': row['head_dim'],
    'rope.dimension_count': row['global_head_dim'],
    'rope.dimension_count_swa': row['head_dim'],
    'embedding_length_per_layer_input': row['hidden_size_per_layer_input'],
    'expert_count': row.get('num_experts'),
    'expert_used_count': row.get('top_k_experts'),
    'expert_feed_forward_length': row.get('moe_intermediate_size'),
  }
  if row.get('use_double_wide_mlp'):
    width, own = row['intermediate_size'], len(kinds) - shared
    keys['feed_forward_length'] = [width] * own + [2 * width] * shared
  if row['num_global_key_value_heads']:
    few, many = row['num_global_key_value_heads'], row['num_key_value_heads']
    keys['attention.head_count_kv'] = [
      many if kind == _LOCAL else few for kind in kinds
    ]
  return keys


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
  if isinstance(value, bool):
    writer.add_bool(key, value)
  elif isinstance(value, int):
    writer.add_uint32(key, value)
  elif isinstance(value, float):
    writer.add_float32(key, value)
  elif isinstance(value, str):
    writer.add_string(key, value)
  else:
    writer.add_array(key, value)


def _name(names: gguf.TensorNameMap, name: str) -> str:
  if name.endswith('router.scale'):
    return f'blk.{name.split(".")[2]}.ffn_gate_inp.scale'
  if name.endswith('per_expert_scale'):
    return f'blk.{name.split(".")[2]}.ffn_down_exps.scale'
  if not name.endswith(('.weight', '.bias')):
    name += '.weight'
  found = names.get_name(name, try_suffixes=('.weight', '.bias'))
  assert found is not None, name
  return found


def _stored(
  row: Mapping[str, Any], name: str, tensor: np.ndarray
) -> np.ndarray:
  """Returns a tensor as the converter changes it."""
  plus_one = row['model_type'] in ('gemma', 'gemma2', 'gemma3_text')
  if plus_one and name.endswith('norm.weight'):
    return tensor + np.float32(1)
  for part, heads in (
    ('q_proj', 'num_attention_heads'),
    ('k_proj', 'num_key_value_heads'),
  ):
    if row['model_type'] == 'llama' and part in name:
      halves = tensor.reshape(row[heads], 2, -1, *tensor.shape[1:])
      return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(tensor.shape)
  return tensor


def _factors(row: Mapping[str, Any]) -> np.ndarray | None:
  """Returns what the frequencies of the rotation are divided by."""
  if row['model_type'] == 'gemma4_text':
    share = row['rope_parameters'][_GLOBAL]['partial_rotary_factor']
    count = row['global_head_dim'] // 2
    turning = int(count * share)
    return np.float32([1.0] * turning + [1e30] * (count - turning))
  rope = row.get('rope_parameters') or {}
  if rope.get('rope_type') != 'llama3':
    return None
  found = []
  for i in range(0, row['head_dim'], 2):
    length = 2 * math.pi * rope['rope_theta'] ** (i / row['head_dim'])
    turns = rope['original_max_position_embeddings'] / length
    low, high = rope['low_freq_factor'], rope['high_freq_factor']
    if turns > high:
      found.append(1.0)
    elif turns < low:
      found.append(rope['factor'])
    else:
      smooth = (turns - low) / (high - low)
      found.append(1 / ((1 - smooth) / rope['factor'] + smooth))
  return np.float32(found)
