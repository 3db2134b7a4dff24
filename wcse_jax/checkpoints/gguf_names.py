"""The tensors of a GGUF file by their Hugging Face names and values.

Converters rename every tensor, and change some values: the gains of Gemma 1 to
3 are stored plus one, and the rows of Llama's query and key projections in the
order of a rotation that turns neighbours, not halves.

Source: gguf-py, constants.py and tensor_mapping.py (names); the converter of
llama.cpp, conversion/gemma.py and conversion/llama.py (values); transformers 5,
models/{gemma,gemma2,gemma3,gemma4,qwen2,llama} (names).
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from wcse_jax import errors
from wcse_jax.checkpoints import gguf


# Names of whole models and, behind `blk.N.`, of layers.
_MODEL = {
  'token_embd.weight': 'model.embed_tokens.weight',
  'output_norm.weight': 'model.norm.weight',
  'output.weight': 'lm_head.weight',
}
_PER_LAYER_INPUTS = {
  'per_layer_token_embd.weight': 'model.embed_tokens_per_layer.weight',
  'per_layer_model_proj.weight': 'model.per_layer_model_projection.weight',
  'per_layer_proj_norm.weight': 'model.per_layer_projection_norm.weight',
}
_LAYER = {
  'attn_norm.weight': 'input_layernorm.weight',
  'attn_q.weight': 'self_attn.q_proj.weight',
  'attn_k.weight': 'self_attn.k_proj.weight',
  'attn_v.weight': 'self_attn.v_proj.weight',
  'attn_output.weight': 'self_attn.o_proj.weight',
  'ffn_gate.weight': 'mlp.gate_proj.weight',
  'ffn_up.weight': 'mlp.up_proj.weight',
  'ffn_down.weight': 'mlp.down_proj.weight',
}
_NORM_BEFORE = {'ffn_norm.weight': 'post_attention_layernorm.weight'}
_NORMS_AROUND = {
  'post_attention_norm.weight': 'post_attention_layernorm.weight',
  'ffn_norm.weight': 'pre_feedforward_layernorm.weight',
  'post_ffw_norm.weight': 'post_feedforward_layernorm.weight',
}
_QK_NORMS = {
  'attn_q_norm.weight': 'self_attn.q_norm.weight',
  'attn_k_norm.weight': 'self_attn.k_norm.weight',
}
_BIASES = {
  'attn_q.bias': 'self_attn.q_proj.bias',
  'attn_k.bias': 'self_attn.k_proj.bias',
  'attn_v.bias': 'self_attn.v_proj.bias',
}
_GEMMA4 = {
  'layer_output_scale.weight': 'layer_scalar',
  'inp_gate.weight': 'per_layer_input_gate.weight',
  'proj.weight': 'per_layer_projection.weight',
  'post_norm.weight': 'post_per_layer_input_norm.weight',
  'pre_ffw_norm_2.weight': 'pre_feedforward_layernorm_2.weight',
  'post_ffw_norm_1.weight': 'post_feedforward_layernorm_1.weight',
  'post_ffw_norm_2.weight': 'post_feedforward_layernorm_2.weight',
  'ffn_gate_inp.weight': 'router.proj.weight',
  'ffn_gate_inp.scale': 'router.scale',
  'ffn_down_exps.scale': 'router.per_expert_scale',
  'ffn_gate_up_exps.weight': 'experts.gate_up_proj',
  'ffn_down_exps.weight': 'experts.down_proj',
}
# By model type.
_NAMES = {
  'gemma': (_MODEL, _LAYER | _NORM_BEFORE),
  'gemma2': (_MODEL, _LAYER | _NORMS_AROUND),
  'gemma3_text': (_MODEL, _LAYER | _NORMS_AROUND | _QK_NORMS),
  'gemma4_text': (
    _MODEL | _PER_LAYER_INPUTS,
    _LAYER | _NORMS_AROUND | _QK_NORMS | _GEMMA4,
  ),
  'qwen2': (_MODEL, _LAYER | _NORM_BEFORE | _BIASES),
  'llama': (_MODEL, _LAYER | _NORM_BEFORE),
}
_PLUS_ONE = ('gemma', 'gemma2', 'gemma3_text')
# The rotation's factors: `gguf_config` has put them into the configuration.
_ROPE_FREQS = {'gemma4_text', 'llama'}
# What layers with the keys and values of an earlier one do not use.
_OWN_KV = ('attn_k.weight', 'attn_v.weight', 'attn_k_norm.weight')
_BLOCK = re.compile(r'blk\.(0|[1-9][0-9]{0,5})\.(.+)')


class Source:
  """The weights of a GGUF file; a context manager that closes it.

  Attributes:
    shapes: of every weight, by its Hugging Face name.
    unused: the file's own names of tensors that are not weights of the model.
  """

  def __init__(self, file: gguf.File, config: Mapping[str, Any]):
    """Names the tensors.

    Args:
      file: the open file.
      config: its config.json, from `gguf_config.config`.

    Raises:
      InputError: if a tensor is none of the model's.
    """
    self._file = file
    self._config = config
    self._names: dict[str, str] = {}
    self.unused: list[str] = []
    for name in sorted(file.tensors):
      known = self._known(name)
      if known is None:
        raise errors.InputError(
          f'{file.label}: tensor {name} is none of a {config["model_type"]} '
          f'model of {config["num_hidden_layers"]} layers.'
        )
      if known:
        self._names[known] = name
      else:
        self.unused.append(name)
    self.shapes = {
      known: file.tensors[name].shape for known, name in self._names.items()
    }
    # Rows to a head of the weights whose rows are in another order.
    self._heads: dict[str, int] = {}
    if config['model_type'] == 'llama':
      for part, key in (
        ('q_proj', 'num_attention_heads'),
        ('k_proj', 'num_key_value_heads'),
      ):
        rows = config[key] * config['head_dim']
        for known, shape in self.shapes.items():
          if f'.{part}.' not in known:
            continue
          if shape[0] != rows or config['head_dim'] % 2:
            raise errors.InputError(
              f'{file.label}: {self._names[known]}: wanted {rows} rows, '
              f'{config[key]} heads of an even width; got {shape[0]}.'
            )
          self._heads[known] = config['head_dim']

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self._file.close()

  def where(self, name: str) -> str:
    """Returns what messages call the file of a weight."""
    del name  # There is one file.
    return self._file.label

  def kind(self, name: str) -> str:
    """Returns the type of a weight in the file, one of `gguf.KINDS`."""
    return self._file.tensors[self._names[name]].kind

  def read(
    self, name: str, start: int = 0, stop: int | None = None
  ) -> np.ndarray:
    """Returns rows [start, stop) of the first axis of a weight.

    They are in the file's own type where that is a float type, else in
    float32.

    Raises:
      InputError: if the file was cut short since it was opened.
      ValueError: if there are no such rows.
    """
    stored = self._names[name]
    if name in self._heads:
      stop = self.shapes[name][0] if stop is None else stop
      return self._halves(stored, self._heads[name], start, stop)
    found = self._file.read(stored, start, stop)
    if self._config['model_type'] in _PLUS_ONE and stored.endswith(
      'norm.weight'
    ):
      # In float32: the difference has more digits than a short type holds.
      return found.astype(np.float32, copy=False) - np.float32(1)
    return found

  def _known(self, name: str) -> str | None:
    """Returns a tensor's Hugging Face name; '' if unused, None if unknown."""
    model_type = self._config['model_type']
    model, layer = _NAMES[model_type]
    if name in model:
      return model[name]
    if name == 'rope_freqs.weight' and model_type in _ROPE_FREQS:
      return ''
    match = _BLOCK.fullmatch(name)
    layers = self._config['num_hidden_layers']
    if not match or match[2] not in layer or int(match[1]) >= layers:
      return None
    shared = self._config.get('num_kv_shared_layers', 0)
    if int(match[1]) >= layers - shared and match[2] in _OWN_KV:
      return ''
    return f'model.layers.{match[1]}.{layer[match[2]]}'

  def _halves(
    self, stored: str, head: int, start: int, stop: int
  ) -> np.ndarray:
    """Returns rows of a projection in the order of a rotation of halves.

    In each head, row 2 i + j of the file is row j * head / 2 + i here.
    """
    if not 0 <= start <= stop:
      raise ValueError(f'{stored}: got rows from {start} to {stop}.')
    # Whole heads, at most two more than are asked for.
    first = start // head * head
    found = self._file.read(stored, first, -(-stop // head) * head)
    pairs = found.reshape(-1, head // 2, 2, *found.shape[1:])
    found = pairs.swapaxes(1, 2).reshape(found.shape)
    return found[start - first : stop - first]
