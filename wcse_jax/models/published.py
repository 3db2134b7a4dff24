"""The published models by name, with the source of their sizes."""

from typing import Any

from wcse_jax.models import config


_SHAPE = (
  'hidden_size',
  'intermediate_size',
  'num_hidden_layers',
  'num_attention_heads',
  'num_key_value_heads',
  'head_dim',
  'query_pre_attn_scalar',
)


_SMALL_GEMMA3 = {
  'vocab_size': 262_144,
  'sliding_window': 512,
  'max_position_embeddings': 32_768,
}


_LARGE_GEMMA3 = {
  'sliding_window': 1024,
  'rope_scaling': {'rope_type': 'linear', 'factor': 8.0},
}


_PUBLISHED: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
  'gemma2-2b': ('gemma2', (2304, 9216, 26, 8, 4, 256, 256), {}),
  'gemma2-9b': ('gemma2', (3584, 14336, 42, 16, 8, 256, 256), {}),
  'gemma2-27b': ('gemma2', (4608, 36864, 46, 32, 16, 128, 144), {}),
  'gemma3-270m': (
    'gemma3_text',
    (640, 2048, 18, 4, 1, 256, 256),
    _SMALL_GEMMA3,
  ),
  'gemma3-1b': (
    'gemma3_text',
    (1152, 6912, 26, 4, 1, 256, 256),
    _SMALL_GEMMA3,
  ),
  'gemma3-4b': (
    'gemma3_text',
    (2560, 10240, 34, 8, 4, 256, 256),
    _LARGE_GEMMA3,
  ),
  'gemma3-12b': (
    'gemma3_text',
    (3840, 15360, 48, 16, 8, 256, 256),
    _LARGE_GEMMA3,
  ),
  'gemma3-27b': (
    'gemma3_text',
    (5376, 21504, 62, 32, 16, 128, 168),
    _LARGE_GEMMA3,
  ),
}


def configs() -> dict[str, config.ModelConfig]:
  """Returns the published models by name.

  Source: the conversion scripts of transformers (models/gemma2/
  convert_gemma2_weights_to_hf.py, models/gemma3/convert_gemma3_weights.py) and
  the config.json of the published checkpoints; for the query scale of Gemma 2
  9B (256, not 224) google/gemma_pytorch commit 03e6575.  Some code bases give
  Gemma 2 9B a feed-forward width of 28672; that is the gate and the up
  projection together, and only 14336 gives the published 9.24B.  The text
  models of Gemma 3 4B and larger have 64 unused rows in the embedding.
  """
  return {
    name: config.from_hf(
      {'model_type': model_type, **dict(zip(_SHAPE, shape)), **more}
    )
    for name, (model_type, shape, more) in _PUBLISHED.items()
  }
