"""Small random models of every family.

For tests and for the scripts that make goldens.  A model is its config.json
(`ROWS`) and its weights (`tensors`), which need no torch.  Weights are
multiples of 1/64 below 2, so that bfloat16 holds them exactly and an int8 file
too.  Gains, biases and scalars lie far from where a fresh model has them, so
that none can be left out unnoticed.

Source of names and shapes: transformers 5, models/{gemma, gemma2, gemma3,
gemma4, qwen2, llama}, configuration and modeling.
"""

import json
import pathlib
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.numpy
import tokenizers


_LOCAL, _GLOBAL = 'sliding_attention', 'full_attention'
# The token that ends a text.  Its row of the output head is zero: no greedy
# continuation meets it.
END = 1

# Windows far below the prompts, several key/value heads, and numbers of layers
# that leave a rest behind the last whole group.
_COMMON = {
  'vocab_size': 64,
  'hidden_size': 32,
  'intermediate_size': 48,
  'max_position_embeddings': 1024,
  'rms_norm_eps': 1e-5,
  'bos_token_id': 2,
  'eos_token_id': END,
  'pad_token_id': 0,
}
_GEMMA = _COMMON | {
  'num_attention_heads': 8,
  'num_key_value_heads': 4,
  'head_dim': 8,
}
_GEMMA4 = _COMMON | {
  'model_type': 'gemma4_text',
  'architectures': ['Gemma4ForCausalLM'],
  'num_attention_heads': 4,
  'num_key_value_heads': 2,
  'head_dim': 8,
  'global_head_dim': 16,
  'sliding_window': 32,
  'final_logit_softcapping': 6.0,
  'vocab_size_per_layer_input': 64,
  'tie_word_embeddings': True,
  'rope_parameters': {
    _GLOBAL: {
      'rope_type': 'proportional',
      'partial_rotary_factor': 0.25,
      'rope_theta': 2000.0,
    },
    _LOCAL: {'rope_type': 'default', 'rope_theta': 1000.0},
  },
}
# Keys double as values in global layers, which have fewer heads of them.
_K_EQ_V = {
  'hidden_size_per_layer_input': 0,
  'num_kv_shared_layers': 0,
  'attention_k_eq_v': True,
  'num_key_value_heads': 4,
  'num_global_key_value_heads': 2,
}
_QWEN2 = _COMMON | {
  'model_type': 'qwen2',
  'architectures': ['Qwen2ForCausalLM'],
  'num_hidden_layers': 3,
  'num_attention_heads': 4,
  'num_key_value_heads': 2,
  'hidden_act': 'silu',
  'bos_token_id': None,
  'use_sliding_window': False,
  'sliding_window': 32,
  'max_window_layers': 2,
  'rope_parameters': {'rope_type': 'default', 'rope_theta': 10_000.0},
}
_LLAMA = _COMMON | {
  'model_type': 'llama',
  'architectures': ['LlamaForCausalLM'],
  'num_hidden_layers': 3,
  'num_attention_heads': 4,
  'num_key_value_heads': 2,
  'head_dim': 16,
  'hidden_act': 'silu',
  'attention_bias': False,
  'mlp_bias': False,
}
# Of the eight wave lengths two stay, two are in the smoothed band of 32 to 128
# tokens, and four are stretched.
_LLAMA3_ROPE = {
  'rope_type': 'llama3',
  'factor': 8.0,
  'low_freq_factor': 1.0,
  'high_freq_factor': 4.0,
  'original_max_position_embeddings': 128,
}

# config.json by name.  `gemma` and `llama_tied` have the spelling of before
# transformers 5.
ROWS: dict[str, dict[str, Any]] = {
  'gemma': _GEMMA
  | {
    'model_type': 'gemma',
    'architectures': ['GemmaForCausalLM'],
    'num_hidden_layers': 3,
    'num_attention_heads': 4,
    'num_key_value_heads': 1,
    'head_dim': 16,
    # What the first checkpoints say, and what is meant is the tanh form.
    'hidden_act': 'gelu',
    'rope_theta': 10_000.0,
    'rope_scaling': None,
  },
  'gemma2': _GEMMA
  | {
    'model_type': 'gemma2',
    'architectures': ['Gemma2ForCausalLM'],
    'num_hidden_layers': 5,
    'layer_types': [_LOCAL, _GLOBAL, _LOCAL, _GLOBAL, _LOCAL],
    'query_pre_attn_scalar': 6,
    'sliding_window': 32,
    'attn_logit_softcapping': 15.0,
    'final_logit_softcapping': 5.0,
    'rope_parameters': {'rope_type': 'default', 'rope_theta': 10_000.0},
  },
  'gemma3': _GEMMA
  | {
    'model_type': 'gemma3_text',
    'architectures': ['Gemma3ForCausalLM'],
    'num_hidden_layers': 7,
    'layer_types': [_LOCAL, _LOCAL, _GLOBAL] * 2 + [_LOCAL],
    'query_pre_attn_scalar': 6,
    'sliding_window': 32,
    'rope_parameters': {
      _GLOBAL: {'rope_type': 'linear', 'factor': 8.0, 'rope_theta': 20_000.0},
      _LOCAL: {'rope_type': 'default', 'rope_theta': 1000.0},
    },
  },
  # As E2B: inputs to every layer, half of the layers without keys and values
  # of their own, and those twice as wide.
  'gemma4_e': _GEMMA4
  | {
    'num_hidden_layers': 10,
    'intermediate_size': 16,
    'layer_types': ([_LOCAL] * 4 + [_GLOBAL]) * 2,
    'hidden_size_per_layer_input': 8,
    'num_kv_shared_layers': 5,
    'use_double_wide_mlp': True,
    'attention_k_eq_v': False,
    'num_global_key_value_heads': None,
  },
  # As 31B.
  'gemma4_dense': _GEMMA4
  | _K_EQ_V
  | {
    'num_hidden_layers': 6,
    'layer_types': [_LOCAL, _LOCAL, _GLOBAL] * 2,
  },
  # As 26B-A4B.
  'gemma4_moe': _GEMMA4
  | _K_EQ_V
  | {
    'num_hidden_layers': 4,
    'intermediate_size': 16,
    'layer_types': [_LOCAL, _GLOBAL] * 2,
    'enable_moe_block': True,
    'num_experts': 8,
    'top_k_experts': 3,
    'moe_intermediate_size': 8,
  },
  'qwen2': _QWEN2 | {'tie_word_embeddings': False},
  'qwen2_tied': _QWEN2 | {'tie_word_embeddings': True},
  'qwen2_window': _QWEN2
  | {
    'num_hidden_layers': 4,
    'tie_word_embeddings': False,
    'use_sliding_window': True,
  },
  'llama': _LLAMA
  | {
    'tie_word_embeddings': False,
    'rope_parameters': _LLAMA3_ROPE | {'rope_theta': 2000.0},
  },
  'llama_tied': _LLAMA
  | {
    'tie_word_embeddings': True,
    'rope_theta': 2000.0,
    'rope_scaling': _LLAMA3_ROPE | {'factor': 32.0},
  },
}

# With these the continuations are no loops, and no step of them is near a tie;
# tests/goldens/make_model_goldens.py checks it.
_SEEDS = {
  'gemma': 5,
  'gemma2': 44,
  'gemma3': 3,
  'gemma4_e': 20,
  'gemma4_dense': 19,
  'gemma4_moe': 87,
  'qwen2': 7,
  'qwen2_tied': 1,
  'qwen2_window': 4,
  'llama': 33,
  'llama_tied': 84,
}

# Tokens of the prompts: far beyond the windows, beyond them, and little more
# than one.
_LENGTHS = (600, 350, 61)


def prompts(row: Mapping[str, Any]) -> list[np.ndarray]:
  """Returns prompts of unequal lengths, without special tokens."""
  rng = np.random.default_rng(4)
  return [rng.integers(3, row['vocab_size'], count) for count in _LENGTHS]


def shapes(row: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
  """Returns the shape of every tensor of a text model, by its name."""
  d, f, n = (
    row['hidden_size'],
    row['intermediate_size'],
    row['num_attention_heads'],
  )
  gemma = row['model_type'].startswith('gemma')
  gemma4 = row['model_type'] == 'gemma4_text'
  count = row['num_hidden_layers']
  kinds = row.get('layer_types') or [_GLOBAL] * count
  inputs = row.get('hidden_size_per_layer_input') or 0
  own = count - (row.get('num_kv_shared_layers') or 0)
  found: dict[str, tuple[int, ...]] = {
    'model.embed_tokens.weight': (row['vocab_size'], d),
    'model.norm.weight': (d,),
  }
  if not row.get('tie_word_embeddings', gemma):
    found['lm_head.weight'] = (row['vocab_size'], d)
  if inputs:
    table = row['vocab_size_per_layer_input'], count * inputs
    found |= {
      'model.embed_tokens_per_layer.weight': table,
      'model.per_layer_model_projection.weight': (count * inputs, d),
      'model.per_layer_projection_norm.weight': (inputs,),
    }
  for i, kind in enumerate(kinds):
    h = row.get('head_dim') or d // n
    k = row['num_key_value_heads']
    shared_values = False
    if gemma4 and kind == _GLOBAL:
      h = row['global_head_dim']
      shared_values = row['attention_k_eq_v']
      k = row['num_global_key_value_heads'] if shared_values else k
    wide = f * (1 + bool(row.get('use_double_wide_mlp') and i >= own))
    layer: dict[str, tuple[int, ...]] = {
      'input_layernorm.weight': (d,),
      'post_attention_layernorm.weight': (d,),
      'self_attn.q_proj.weight': (n * h, d),
      'self_attn.o_proj.weight': (d, n * h),
      'mlp.gate_proj.weight': (wide, d),
      'mlp.up_proj.weight': (wide, d),
      'mlp.down_proj.weight': (d, wide),
    }
    if i < own:
      layer['self_attn.k_proj.weight'] = (k * h, d)
      if not shared_values:
        layer['self_attn.v_proj.weight'] = (k * h, d)
    if row['model_type'] == 'qwen2':
      layer |= {
        'self_attn.q_proj.bias': (n * h,),
        'self_attn.k_proj.bias': (k * h,),
        'self_attn.v_proj.bias': (k * h,),
      }
    if gemma and row['model_type'] != 'gemma':
      layer['pre_feedforward_layernorm.weight'] = (d,)
      layer['post_feedforward_layernorm.weight'] = (d,)
    if gemma4 or row['model_type'] == 'gemma3_text':
      layer['self_attn.q_norm.weight'] = (h,)
      if i < own:
        layer['self_attn.k_norm.weight'] = (h,)
    if gemma4:
      layer['layer_scalar'] = (1,)
    if inputs:
      layer |= {
        'per_layer_input_gate.weight': (inputs, d),
        'per_layer_projection.weight': (d, inputs),
        'post_per_layer_input_norm.weight': (d,),
      }
    if row.get('enable_moe_block'):
      e, m = row['num_experts'], row['moe_intermediate_size']
      layer |= {
        'router.scale': (d,),
        'router.per_expert_scale': (e,),
        'router.proj.weight': (e, d),
        'experts.gate_up_proj': (e, 2 * m, d),
        'experts.down_proj': (e, d, m),
        'post_feedforward_layernorm_1.weight': (d,),
        'post_feedforward_layernorm_2.weight': (d,),
        'pre_feedforward_layernorm_2.weight': (d,),
      }
    found |= {
      f'model.layers.{i}.{name}': shape for name, shape in layer.items()
    }
  return found


def tensors(row: Mapping[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
  """Returns float32 weights, each drawn by its name from the seed."""
  return {
    name: _draw(row, name, shape, seed) for name, shape in shapes(row).items()
  }


def named(name: str) -> dict[str, np.ndarray]:
  """Returns the weights of the model of that name."""
  return tensors(ROWS[name], _SEEDS[name])


def _draw(
  row: Mapping[str, Any], name: str, shape: tuple[int, ...], seed: int
) -> np.ndarray:
  """Returns a tensor; all that is chosen here serves calm, lively models.

  Calm: a last bit that differs makes no difference of 1e-4 in the logits, which
  attention to single tokens and long chains of large gains would.  Lively: the
  greedy continuations are no loops.
  """
  rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
  kind = row['model_type']
  # Up to Gemma 3 what is stored is the gain less one.
  less_one = kind in ('gemma', 'gemma2', 'gemma3_text')
  centre, spread = 0.0, shape[-1] ** -0.5
  if name == 'model.norm.weight':
    # Of either sign: a tied head would repeat the last token for ever.
    sign = rng.choice([-1, 1], shape)
    centre, spread = (0.8 * sign - 1, 0.1) if less_one else (1.6 * sign, 0.2)
  elif 'norm' in name:
    gain = 1.2 if less_one else 1.0
    if kind == 'gemma4_text':
      # Nothing is scaled down before its softmax.
      gain = 0.5 if '.q_norm' in name or '.k_norm' in name else gain
      gain = 0.25 if '.post_' in name else gain
    centre, spread = gain - less_one, 0.2
  elif name.endswith('.bias'):
    spread = 0.4
  elif name.endswith('layer_scalar'):
    centre, spread = 0.8, 0.2
  elif 'per_expert_scale' in name or 'router.scale' in name:
    centre, spread = 1.0, 0.4
  elif 'router.proj' in name:
    # Less would give all experts the same share.
    spread = 1.0
  elif 'embed_tokens_per_layer' in name:
    # The rows are multiplied by the root of their width on the way in.
    spread = row['hidden_size_per_layer_input'] ** -0.5
  elif name == 'model.embed_tokens.weight':
    spread *= 1 + less_one
  elif 'q_proj' in name or 'k_proj' in name:
    # Attention that prefers some tokens to others.
    spread *= 1.5 if kind == 'qwen2' else 1.2
  elif 'o_proj' in name or 'mlp.down_proj' in name:
    spread *= 2.0 if kind == 'qwen2' else 1.2
  drawn = centre + spread * rng.normal(size=shape)
  untied = 'lm_head.weight' in shapes(row)
  if name == ('lm_head.weight' if untied else 'model.embed_tokens.weight'):
    drawn[END] = 0
  grid = np.clip(np.rint(64 * drawn), -127, 127)
  return (grid / 64).astype(np.float32)


def write(
  folder: str | pathlib.Path,
  row: Mapping[str, Any],
  tensors: Mapping[str, np.ndarray],
  files: int = 1,
) -> str:
  """Writes a Hugging Face folder; several files have an index."""
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  (folder / 'config.json').write_text(json.dumps(row))
  names = sorted(tensors)
  where = {}
  for i in range(files):
    file = (
      'model.safetensors'
      if files == 1
      else f'model-{i + 1:05d}-of-{files:05d}.safetensors'
    )
    part = {name: tensors[name] for name in names[i::files]}
    where.update(dict.fromkeys(part, file))
    safetensors.numpy.save_file(part, folder / file, metadata={'format': 'pt'})
  if files > 1:
    index = {'metadata': {}, 'weight_map': where}
    (folder / 'model.safetensors.index.json').write_text(json.dumps(index))
  return str(folder)


def write_tokenizer(folder: str | pathlib.Path, size: int) -> None:
  """Writes a tokenizer whose words are the ids themselves."""
  folder = pathlib.Path(folder)
  words = {str(i): i for i in range(size)}
  backend = tokenizers.Tokenizer(
    tokenizers.models.WordLevel(words, unk_token='0')
  )
  backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
  backend.save(str(folder / 'tokenizer.json'))
  config = {'eos_token': str(END)}
  (folder / 'tokenizer_config.json').write_text(json.dumps(config))
