"""The published models by name, with the source of their sizes."""

from typing import Any

from wcse_jax.models import config, hf_config


_SHAPE = (
  'hidden_size',
  'intermediate_size',
  'num_hidden_layers',
  'num_attention_heads',
  'num_key_value_heads',
  'head_dim',
)


_SMALL_GEMMA3 = {
  'query_pre_attn_scalar': 256,
  'vocab_size': 262_144,
  'sliding_window': 512,
  'max_position_embeddings': 32_768,
}


_LARGE_GEMMA3 = {
  'query_pre_attn_scalar': 256,
  'sliding_window': 1024,
  'rope_scaling': {'rope_type': 'linear', 'factor': 8.0},
}


# Every fifth layer of E2B is global, every sixth of the others.
_E2B_LAYERS = (['sliding_attention'] * 4 + ['full_attention']) * 7


_GEMMA4_E = {
  'final_logit_softcapping': 30.0,
  'hidden_size_per_layer_input': 256,
}


_GEMMA4 = {
  'final_logit_softcapping': 30.0,
  'hidden_size_per_layer_input': 0,
  'attention_k_eq_v': True,
  'sliding_window': 1024,
  'max_position_embeddings': 262_144,
}


_QWEN = {'rope_theta': 1_000_000.0, 'max_position_embeddings': 32_768}


_LLAMA3 = {
  'vocab_size': 128_256,
  'rope_theta': 500_000.0,
  'max_position_embeddings': 131_072,
  'bos_token_id': 128_000,
  'eos_token_id': 128_001,
}


_LLAMA3_ROPE = {
  'rope_type': 'llama3',
  'low_freq_factor': 1.0,
  'high_freq_factor': 4.0,
  'original_max_position_embeddings': 8192,
}


_PUBLISHED: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
  'gemma-2b': ('gemma', (2048, 16384, 18, 8, 1, 256), {}),
  'gemma-7b': ('gemma', (3072, 24576, 28, 16, 16, 256), {}),
  'gemma2-2b': ('gemma2', (2304, 9216, 26, 8, 4, 256), {}),
  'gemma2-9b': ('gemma2', (3584, 14336, 42, 16, 8, 256), {}),
  'gemma2-27b': (
    'gemma2',
    (4608, 36864, 46, 32, 16, 128),
    {'query_pre_attn_scalar': 144},
  ),
  'gemma3-270m': ('gemma3_text', (640, 2048, 18, 4, 1, 256), _SMALL_GEMMA3),
  'gemma3-1b': ('gemma3_text', (1152, 6912, 26, 4, 1, 256), _SMALL_GEMMA3),
  'gemma3-4b': ('gemma3_text', (2560, 10240, 34, 8, 4, 256), _LARGE_GEMMA3),
  'gemma3-12b': ('gemma3_text', (3840, 15360, 48, 16, 8, 256), _LARGE_GEMMA3),
  'gemma3-27b': (
    'gemma3_text',
    (5376, 21504, 62, 32, 16, 128),
    {**_LARGE_GEMMA3, 'query_pre_attn_scalar': 168},
  ),
  'gemma4-e2b': (
    'gemma4_text',
    (1536, 6144, 35, 8, 1, 256),
    {
      **_GEMMA4_E,
      'layer_types': _E2B_LAYERS,
      'num_kv_shared_layers': 20,
      'use_double_wide_mlp': True,
    },
  ),
  'gemma4-e4b': (
    'gemma4_text',
    (2560, 10240, 42, 8, 2, 256),
    {**_GEMMA4_E, 'num_kv_shared_layers': 18},
  ),
  'gemma4-26b-a4b': (
    'gemma4_text',
    (2816, 2112, 30, 16, 8, 256),
    {
      **_GEMMA4,
      'num_global_key_value_heads': 2,
      'enable_moe_block': True,
      'num_experts': 128,
      'top_k_experts': 8,
      'moe_intermediate_size': 704,
    },
  ),
  'gemma4-31b': (
    'gemma4_text',
    (5376, 21504, 60, 32, 16, 256),
    {**_GEMMA4, 'num_global_key_value_heads': 4},
  ),
  'qwen2.5-0.5b': (
    'qwen2',
    (896, 4864, 24, 14, 2, 64),
    {**_QWEN, 'tie_word_embeddings': True},
  ),
  'qwen2.5-1.5b': (
    'qwen2',
    (1536, 8960, 28, 12, 2, 128),
    {**_QWEN, 'tie_word_embeddings': True},
  ),
  'qwen2.5-3b': (
    'qwen2',
    (2048, 11008, 36, 16, 2, 128),
    {**_QWEN, 'tie_word_embeddings': True},
  ),
  'qwen2.5-7b': (
    'qwen2',
    (3584, 18944, 28, 28, 4, 128),
    {**_QWEN, 'vocab_size': 152_064},
  ),
  'llama3.1-8b': (
    'llama',
    (4096, 14336, 32, 32, 8, 128),
    {**_LLAMA3, 'rope_scaling': {**_LLAMA3_ROPE, 'factor': 8.0}},
  ),
  'llama3.1-70b': (
    'llama',
    (8192, 28672, 80, 64, 8, 128),
    {**_LLAMA3, 'rope_scaling': {**_LLAMA3_ROPE, 'factor': 8.0}},
  ),
  'llama3.2-1b': (
    'llama',
    (2048, 8192, 16, 32, 8, 64),
    {
      **_LLAMA3,
      'rope_scaling': {**_LLAMA3_ROPE, 'factor': 32.0},
      'tie_word_embeddings': True,
    },
  ),
  'llama3.2-3b': (
    'llama',
    (3072, 8192, 28, 24, 8, 128),
    {
      **_LLAMA3,
      'rope_scaling': {**_LLAMA3_ROPE, 'factor': 32.0},
      'tie_word_embeddings': True,
    },
  ),
  'smollm2-135m': (
    'llama',
    (576, 1536, 30, 9, 3, 64),
    {
      'vocab_size': 49_152,
      'rope_theta': 100_000.0,
      'max_position_embeddings': 8192,
      'tie_word_embeddings': True,
    },
  ),
}


def configs() -> dict[str, config.ModelConfig]:
  """Returns the published models by name.

  Source: the conversion scripts of transformers (models/gemma2/
  convert_gemma2_weights_to_hf.py, models/gemma3/convert_gemma3_weights.py) and
  the config.json of the published checkpoints; for the query scale of Gemma 2
  9B (256, not 224) google/gemma_pytorch commit 03e6575; for Gemma 4
  google-deepmind/gemma, gemma/gm/nn/gemma4/_gemma4.py.  Some code bases give
  Gemma 2 9B a feed-forward width of 28672; that is the gate and the up
  projection together, and only 14336 gives the published 9.24B.  The text
  models of Gemma 3 4B and larger have 64 unused rows in the embedding.
  """
  return {
    name: hf_config.from_hf(
      {'model_type': model_type, **dict(zip(_SHAPE, shape)), **more}
    )
    for name, (model_type, shape, more) in _PUBLISHED.items()
  }
