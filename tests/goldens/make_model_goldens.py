"""Writes the logits that transformers computes for two tiny random models.

  python tests/goldens/make_model_goldens.py

A file holds all that a test needs: config.json (`config`), the shapes of the
tensors (`shapes`, JSON), their values in 64ths, one after the other (`weights`,
int8), token ids (`tokens`) and float32 logits (`logits`).  The script wants
torch and transformers; the files were made with 2.13.0 and 5.23.0.
"""

import json
import pathlib

import numpy as np
import torch
import transformers


_LOCAL, _GLOBAL = 'sliding_attention', 'full_attention'
_COMMON = {
  'vocab_size': 48,
  'hidden_size': 16,
  'intermediate_size': 16,
  'num_attention_heads': 4,
  'num_key_value_heads': 2,
  'head_dim': 4,
  'query_pre_attn_scalar': 3,
  'sliding_window': 5,
  'max_position_embeddings': 64,
  'bos_token_id': 2,
  'eos_token_id': 1,
  'pad_token_id': 0,
}
_GEMMA2 = transformers.Gemma2Config(
  **_COMMON,
  num_hidden_layers=3,
  layer_types=[_LOCAL, _GLOBAL, _LOCAL],
  attn_logit_softcapping=2.0,
  final_logit_softcapping=3.0,
  rope_parameters={'rope_type': 'default', 'rope_theta': 100.0},
)
_GEMMA3 = transformers.Gemma3TextConfig(
  **_COMMON,
  num_hidden_layers=4,
  layer_types=[_LOCAL, _GLOBAL, _LOCAL, _LOCAL],
  rope_parameters={
    _GLOBAL: {'rope_type': 'linear', 'factor': 8.0, 'rope_theta': 100.0},
    _LOCAL: {'rope_type': 'default', 'rope_theta': 10.0},
  },
)


def make(name: str, model: transformers.PreTrainedModel) -> None:
  rng = np.random.default_rng(0)
  shapes, weights = {}, []
  with torch.no_grad():
    for key, parameter in model.named_parameters():
      shape = tuple(parameter.shape)
      spread = 64 * (shape[-1] ** -0.5 if len(shape) == 2 else 0.3)
      drawn = np.clip(np.rint(rng.normal(size=shape) * spread), -127, 127)
      shapes[key] = shape
      weights.append(drawn.astype(np.int8).ravel())
      parameter.copy_(torch.from_numpy(drawn / 64))
    tokens = rng.integers(0, 48, size=(1, 24))
    logits = model.eval()(torch.from_numpy(tokens)).logits.numpy()
  np.savez_compressed(
    pathlib.Path(__file__).with_name(f'{name}.npz'),
    config=json.dumps(model.config.to_dict()),
    tokens=tokens.astype(np.int32),
    logits=logits,
    shapes=json.dumps(shapes),
    weights=np.concatenate(weights),
  )


def main() -> None:
  for name, model in (
    ('gemma2', transformers.Gemma2ForCausalLM(_GEMMA2)),
    ('gemma3', transformers.Gemma3ForCausalLM(_GEMMA3)),
  ):
    make(name, model.float())


if __name__ == '__main__':
  main()
