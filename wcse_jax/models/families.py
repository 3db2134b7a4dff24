"""What the model classes of transformers imply and leave to config.json.

Source: transformers 5, the configuration files of models/{gemma,gemma2,gemma3,
gemma4,qwen2,llama}.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any


# What the gate of a family may be called, and what it is.  The first Gemma
# checkpoints say gelu and mean its tanh approximation.
_GELU = {'gelu_pytorch_tanh': 'gelu_tanh'}
_OLD_GELU = {**_GELU, 'gelu': 'gelu_tanh'}
_SILU = {'silu': 'silu'}


@dataclasses.dataclass(frozen=True)
class Family:
  """What the class of a model type implies.

  Attributes:
    architecture: name of the transformers class.
    fixed: fields of `ModelConfig` that the class cannot change.
    gates: known activations, by their name in config.json.
    gate_key: the key that holds the activation.
    defaults: of the keys of config.json.
    nested_rope: whether each kind of layer has a rotation of its own.
    query_scalar: whether the query scale is a key of its own.
    period: of the pattern of layers, each ending in a global one.
    old_rope: whether the class is older than `rope_parameters`.
    ends_global: whether the last layer is global, whatever the pattern.
  """

  architecture: str
  fixed: Mapping[str, Any]
  gates: Mapping[str, str]
  gate_key: str
  defaults: Mapping[str, Any]
  nested_rope: bool = False
  query_scalar: bool = False
  period: int = 1
  old_rope: bool = True
  ends_global: bool = False


_TEXT_DEFAULTS = {
  'head_dim': None,
  'num_key_value_heads': None,
  'rms_norm_eps': 1e-6,
  'rope_parameters': None,
  'bos_token_id': 2,
  'eos_token_id': 1,
}
# What a class that does not know these keys makes of them, whatever a file
# says.
UNKNOWN = {
  'sliding_window': None,
  'layer_types': None,
  'attn_logit_softcapping': None,
  'final_logit_softcapping': None,
}
_GEMMA_DEFAULTS = {
  **_TEXT_DEFAULTS,
  'tie_word_embeddings': True,
  'pad_token_id': 0,
}
_GEMMA2_DEFAULTS = {
  **_GEMMA_DEFAULTS,
  'layer_types': None,
  'final_logit_softcapping': None,
  'hidden_size': 2304,
  'intermediate_size': 9216,
  'num_hidden_layers': 26,
  'num_attention_heads': 8,
  'num_key_value_heads': 4,
  'head_dim': 256,
  'hidden_activation': 'gelu_pytorch_tanh',
  'query_pre_attn_scalar': 256,
  'sliding_window': 4096,
}
_GEMMA = {'norm_plus_one': True, 'embed_scale': True, 'qkv_bias': False}
_GEMMA |= {'v_norm': False, 'layer_scalar': False}
_PLAIN = {'norm_plus_one': False, 'embed_scale': False, 'post_norms': False}
_PLAIN |= {'qk_norm': False, 'v_norm': False, 'layer_scalar': False}


FAMILIES = {
  'gemma': Family(
    'GemmaForCausalLM',
    {**_GEMMA, 'post_norms': False, 'qk_norm': False},
    _OLD_GELU,
    'hidden_act',
    {
      **_GEMMA_DEFAULTS,
      'vocab_size': 256_000,
      'hidden_size': 3072,
      'intermediate_size': 24576,
      'num_hidden_layers': 28,
      'num_attention_heads': 16,
      'num_key_value_heads': 16,
      'head_dim': 256,
      'hidden_act': 'gelu_pytorch_tanh',
      'max_position_embeddings': 8192,
    },
  ),
  'gemma2': Family(
    'Gemma2ForCausalLM',
    {**_GEMMA, 'post_norms': True, 'qk_norm': False},
    _GELU,
    'hidden_activation',
    {
      **_GEMMA2_DEFAULTS,
      'vocab_size': 256_000,
      'max_position_embeddings': 8192,
      'final_logit_softcapping': 30.0,
      'attn_logit_softcapping': 50.0,
    },
    query_scalar=True,
    period=2,
  ),
  'gemma3_text': Family(
    'Gemma3ForCausalLM',
    {**_GEMMA, 'post_norms': True, 'qk_norm': True},
    _GELU,
    'hidden_activation',
    {
      **_GEMMA2_DEFAULTS,
      'vocab_size': 262_208,
      'max_position_embeddings': 131_072,
      'attn_logit_softcapping': None,
    },
    nested_rope=True,
    query_scalar=True,
    period=6,
  ),
  'gemma4_text': Family(
    'Gemma4ForCausalLM',
    {
      'norm_plus_one': False,
      'embed_scale': True,
      'qkv_bias': False,
      'post_norms': True,
      'qk_norm': True,
      'v_norm': True,
      'layer_scalar': True,
      'query_scale': 1.0,
      'attn_softcap': None,
    },
    _GELU,
    'hidden_activation',
    {
      **_GEMMA2_DEFAULTS,
      'vocab_size': 262_144,
      'num_hidden_layers': 30,
      'max_position_embeddings': 131_072,
      'sliding_window': 512,
      'vocab_size_per_layer_input': 262_144,
      'hidden_size_per_layer_input': 256,
      'attention_k_eq_v': False,
      'num_kv_shared_layers': 0,
      'enable_moe_block': False,
      'use_double_wide_mlp': False,
      'num_experts': None,
      'top_k_experts': None,
      'moe_intermediate_size': None,
      'global_head_dim': 512,
      'num_global_key_value_heads': None,
      'per_layer_config': None,
    },
    nested_rope=True,
    period=6,
    old_rope=False,
    ends_global=True,
  ),
  'qwen2': Family(
    'Qwen2ForCausalLM',
    {**_PLAIN, 'qkv_bias': True},
    _SILU,
    'hidden_act',
    {
      **_TEXT_DEFAULTS,
      'vocab_size': 151_936,
      'hidden_size': 4096,
      'intermediate_size': 22016,
      'num_hidden_layers': 32,
      'num_attention_heads': 32,
      'num_key_value_heads': 32,
      'hidden_act': 'silu',
      'max_position_embeddings': 32_768,
      'use_sliding_window': False,
      'sliding_window': 4096,
      'layer_types': None,
      'max_window_layers': 28,
      'tie_word_embeddings': False,
      'bos_token_id': None,
      'eos_token_id': None,
    },
  ),
  'llama': Family(
    'LlamaForCausalLM',
    {**_PLAIN, 'qkv_bias': False},
    _SILU,
    'hidden_act',
    {
      **_TEXT_DEFAULTS,
      'vocab_size': 32_000,
      'hidden_size': 4096,
      'intermediate_size': 11008,
      'num_hidden_layers': 32,
      'num_attention_heads': 32,
      'hidden_act': 'silu',
      'max_position_embeddings': 2048,
      'tie_word_embeddings': False,
      'bos_token_id': 1,
      'eos_token_id': 2,
    },
  ),
}


# Multimodal model type -> the type of its text model.
MULTIMODAL = {'gemma3': 'gemma3_text', 'gemma4': 'gemma4_text'}


BY_ARCHITECTURE = {
  family.architecture: (name, family) for name, family in FAMILIES.items()
}
