"""What makes one Gemma-family decoder differ from another.

Families are told apart by the fields of `ModelConfig` alone.  The fields are
read from a checkpoint's own config.json, in the spelling of transformers 5
(`rope_parameters`, `layer_types`) or the one before it (`rope_theta`,
`rope_local_base_freq`, `rope_scaling`, `sliding_window_pattern`).  A key that
is missing there has the default of its transformers class, as in transformers.

Source: transformers 5, models/gemma2 and models/gemma3, configuration and
modeling; Gemma 2 report, arXiv:2408.00118; Gemma 3 report, arXiv:2503.19786.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from wcse_jax import errors


_GEMMA2, _GEMMA3 = 'Gemma2ForCausalLM', 'Gemma3ForCausalLM'


_MODEL_TYPES = {_GEMMA2: 'gemma2', _GEMMA3: 'gemma3_text'}


_KINDS = {'sliding_attention': 'local', 'full_attention': 'global'}


_LAYER_TYPES = {kind: name for name, kind in _KINDS.items()}


_ACTIVATIONS = {'gelu_pytorch_tanh': 'gelu_tanh'}


_HF_ACTIVATIONS = {ours: name for name, ours in _ACTIVATIONS.items()}


# The defaults of the transformers classes.
_COMMON_DEFAULTS = {
  'hidden_size': 2304,
  'intermediate_size': 9216,
  'num_hidden_layers': 26,
  'num_attention_heads': 8,
  'num_key_value_heads': 4,
  'head_dim': 256,
  'hidden_activation': 'gelu_pytorch_tanh',
  'rms_norm_eps': 1e-6,
  'query_pre_attn_scalar': 256,
  'sliding_window': 4096,
  'layer_types': None,
  'tie_word_embeddings': True,
  'bos_token_id': 2,
  'eos_token_id': 1,
  'rope_parameters': None,
}


_DEFAULTS = {
  _GEMMA2: _COMMON_DEFAULTS
  | {
    'vocab_size': 256_000,
    'max_position_embeddings': 8192,
    'final_logit_softcapping': 30.0,
    'attn_logit_softcapping': 50.0,
  },
  _GEMMA3: _COMMON_DEFAULTS
  | {
    'vocab_size': 262_208,
    'max_position_embeddings': 131_072,
    'final_logit_softcapping': None,
    'attn_logit_softcapping': None,
  },
}


# Options that change what the model computes and that are not implemented,
# with the values that leave them off.
_OFF: dict[str, tuple[Any, ...]] = {
  'attention_bias': (None, False),
  'use_bidirectional_attention': (None, False),
  'quantization_config': (None,),
  'per_layer_config': (None,),
  'partial_rotary_factor': (None, 1, 1.0),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
  """The shapes and the arithmetic of one decoder.

  Attributes:
    vocab_size: rows of the embedding (V).
    d_model: model width (D).
    d_ff: width of the gated feed-forward layer (F).
    num_layers: number of layers (L).
    num_heads: query heads (N).
    num_kv_heads: key/value heads (K), a divisor of `num_heads`.
    head_dim: width of a head (H), even.
    activation: of the gate; `gelu_tanh`.
    norm_eps: added to the mean square in RMS norms.
    query_scale: factor on the queries before the dot product with the keys.
    attn_softcap: bound on |attention logits| (nats); None for no bound.
    final_softcap: bound on |output logits| (nats); None for no bound.
    qk_norm: whether queries and keys are normalised per head.
    post_norms: whether the outputs of attention and feed-forward layer are
      normalised before they are added to the residual.
    window: tokens that a local layer sees, the own one included.
    layer_kinds: `local` or `global` for each layer.
    rope_base_local: base wavelength of the rotation in local layers.
    rope_base_global: base wavelength of the rotation in global layers.
    rope_scale_global: positions are divided by it in global layers; 1.0: none.
    tie_embeddings: whether the output head is the embedding.
    max_positions: longest sequence the model was made for (tokens).
    embed_scale: whether embeddings are multiplied by sqrt(d_model).
    bos_id: the token that begins a text; None if there is none.
    eos_ids: the tokens that end one.
    architecture: name of the transformers class for export.
  """

  vocab_size: int
  d_model: int
  d_ff: int
  num_layers: int
  num_heads: int
  num_kv_heads: int
  head_dim: int
  activation: str = 'gelu_tanh'
  norm_eps: float = 1e-6
  query_scale: float
  attn_softcap: float | None = None
  final_softcap: float | None = None
  qk_norm: bool
  post_norms: bool = True
  window: int
  layer_kinds: tuple[str, ...]
  rope_base_local: float = 10_000.0
  rope_base_global: float
  rope_scale_global: float = 1.0
  tie_embeddings: bool = True
  max_positions: int
  embed_scale: bool = True
  bos_id: int | None = 2
  eos_ids: tuple[int, ...] = (1,)
  architecture: str

  def __post_init__(self):
    if len(self.layer_kinds) != self.num_layers:
      raise ValueError(
        f'layer_kinds must name {self.num_layers} layers; got '
        f'{len(self.layer_kinds)}.'
      )
    if not set(self.layer_kinds) <= set(_LAYER_TYPES):
      raise ValueError(
        f'layer_kinds must be {" or ".join(_LAYER_TYPES)}; got '
        f'{sorted(set(self.layer_kinds))}.'
      )
    if self.num_heads % self.num_kv_heads:
      raise ValueError(
        f'num_kv_heads must divide num_heads={self.num_heads}; got '
        f'{self.num_kv_heads}.'
      )
    if self.head_dim % 2:
      raise ValueError(f'head_dim must be even; got {self.head_dim}.')
    if self.architecture not in _MODEL_TYPES:
      raise ValueError(
        f'architecture must be one of {", ".join(_MODEL_TYPES)}; got '
        f'{self.architecture!r}.'
      )

  def embedding_parameters(self) -> int:
    """Returns the parameters of the embedding and of an untied output head."""
    return (2 - self.tie_embeddings) * self.vocab_size * self.d_model

  def matrix_parameters(self) -> int:
    """Returns the parameters of the matrices of one layer.

    Query, key, value and output projection; gate, up and down projection.
    """
    attention = 2 * (self.num_heads + self.num_kv_heads) * self.head_dim
    return self.d_model * (attention + 3 * self.d_ff)

  def parameters(self) -> int:
    """Returns all parameters; a tied embedding counts once."""
    norms = (4 if self.post_norms else 2) * self.d_model
    if self.qk_norm:
      norms += 2 * self.head_dim
    layer = self.matrix_parameters() + norms
    return self.embedding_parameters() + self.num_layers * layer + self.d_model


def from_hf(config: Mapping[str, Any]) -> ModelConfig:
  """Returns the model that a config.json describes.

  Of a multimodal Gemma 3 (`gemma3`) it is the text model.

  Raises:
    InputError: if the model type is unknown, a value is not of its type, or an
      option is on that is not implemented.
  """
  if not isinstance(config, Mapping):
    raise errors.InputError(
      f'config.json: wanted an object; got {str(config)[:80]}.'
    )
  model_type = config.get('model_type')
  if model_type == 'gemma3':
    text = config.get('text_config') or {}
    if not isinstance(text, Mapping) or text.get(
      'model_type', 'gemma3_text'
    ) not in ('gemma3_text', 'gemma3'):
      raise errors.InputError(
        'text_config: wanted the config of a gemma3_text model.'
      )
    # Special tokens and tying stand beside the text config, or in it.
    outer = ('bos_token_id', 'eos_token_id', 'tie_word_embeddings')
    outer = {key: config[key] for key in outer if config.get(key) is not None}
    outer_off = {key: config[key] for key in _OFF if key in config}
    return _read({**outer_off, **text, **outer}, _GEMMA3)
  for architecture, known in _MODEL_TYPES.items():
    if model_type == known:
      return _read(config, architecture)
  raise errors.InputError(
    f'model_type: wanted one of {", ".join(_MODEL_TYPES.values())}, gemma3; '
    f'got {model_type!r}.'
  )


def to_hf(cfg: ModelConfig) -> dict[str, Any]:
  """Returns a config.json that transformers loads back to the same model.

  It has the spelling of transformers 5 and the one before it.

  Raises:
    ValueError: if the architecture cannot express a field.
  """
  gemma3 = cfg.architecture == _GEMMA3
  scalar = round(cfg.query_scale**-2)
  for field, got, want in (
    ('qk_norm', cfg.qk_norm, gemma3),
    ('post_norms', cfg.post_norms, True),
    ('embed_scale', cfg.embed_scale, True),
    ('query_scale', cfg.query_scale, scalar**-0.5),
    ('rope_scale_global', gemma3 or cfg.rope_scale_global, gemma3 or 1.0),
    (
      'rope_base_local',
      gemma3 or cfg.rope_base_local,
      gemma3 or cfg.rope_base_global,
    ),
  ):
    if got != want:
      raise ValueError(
        f'{field} must be {want!r} in a {cfg.architecture}; got {got!r}.'
      )
  ends = list(cfg.eos_ids)
  scaling = (
    None
    if cfg.rope_scale_global == 1.0
    else {'rope_type': 'linear', 'factor': cfg.rope_scale_global}
  )
  rope_global = {
    **(scaling or {'rope_type': 'default'}),
    'rope_theta': cfg.rope_base_global,
  }
  row = {
    'architectures': [cfg.architecture],
    'model_type': _MODEL_TYPES[cfg.architecture],
    'vocab_size': cfg.vocab_size,
    'hidden_size': cfg.d_model,
    'intermediate_size': cfg.d_ff,
    'num_hidden_layers': cfg.num_layers,
    'num_attention_heads': cfg.num_heads,
    'num_key_value_heads': cfg.num_kv_heads,
    'head_dim': cfg.head_dim,
    'hidden_activation': _HF_ACTIVATIONS[cfg.activation],
    'rms_norm_eps': cfg.norm_eps,
    'query_pre_attn_scalar': scalar,
    'attn_logit_softcapping': cfg.attn_softcap,
    'final_logit_softcapping': cfg.final_softcap,
    'sliding_window': cfg.window,
    'layer_types': [_LAYER_TYPES[kind] for kind in cfg.layer_kinds],
    'rope_parameters': rope_global,
    'rope_theta': cfg.rope_base_global,
    'max_position_embeddings': cfg.max_positions,
    'tie_word_embeddings': cfg.tie_embeddings,
    'bos_token_id': cfg.bos_id,
    'eos_token_id': ends[0] if len(ends) == 1 else ends or None,
    'pad_token_id': 0,
    'attention_bias': False,
    'attention_dropout': 0.0,
  }
  if gemma3:
    row['rope_parameters'] = {
      'full_attention': rope_global,
      'sliding_attention': {
        'rope_type': 'default',
        'rope_theta': cfg.rope_base_local,
      },
    }
    row['rope_local_base_freq'] = cfg.rope_base_local
    row['rope_scaling'] = scaling
  return row


def _read(config: Mapping[str, Any], architecture: str) -> ModelConfig:
  for key, off in _OFF.items():
    if config.get(key) not in off:
      raise errors.InputError(
        f'{key}: wanted it off, as it is not implemented; got '
        f'{str(config[key])[:80]}.'
      )
  values = {**_DEFAULTS[architecture], **config}
  activation = values['hidden_activation']
  if not isinstance(activation, str) or activation not in _ACTIVATIONS:
    raise errors.InputError(
      f'hidden_activation: wanted {", ".join(_ACTIVATIONS)}; got '
      f'{activation!r}.'
    )
  gemma3 = architecture == _GEMMA3
  local_base, global_base, global_scale = (
    _gemma3_rope(values) if gemma3 else _gemma2_rope(values)
  )
  num_layers = _count(values, 'num_hidden_layers')
  kinds = _layer_kinds(values, num_layers, 6 if gemma3 else 2)
  num_heads = _count(values, 'num_attention_heads')
  max_positions = _count(values, 'max_position_embeddings')
  if values['sliding_window'] is None and 'local' not in kinds:
    window = max_positions
  else:
    window = _count(values, 'sliding_window')
  for key, good, want in (
    (
      'num_key_value_heads',
      num_heads % _count(values, 'num_key_value_heads') == 0,
      f'a divisor of num_attention_heads={num_heads}',
    ),
    ('head_dim', _count(values, 'head_dim') % 2 == 0, 'an even number'),
    (
      'tie_word_embeddings',
      isinstance(values['tie_word_embeddings'], bool),
      'true or false',
    ),
  ):
    if not good:
      raise errors.InputError(f'{key}: wanted {want}; got {values[key]!r}.')
  return ModelConfig(
    vocab_size=_count(values, 'vocab_size'),
    d_model=_count(values, 'hidden_size'),
    d_ff=_count(values, 'intermediate_size'),
    num_layers=num_layers,
    num_heads=num_heads,
    num_kv_heads=_count(values, 'num_key_value_heads'),
    head_dim=_count(values, 'head_dim'),
    activation=_ACTIVATIONS[activation],
    norm_eps=_positive(values, 'rms_norm_eps'),
    query_scale=_positive(values, 'query_pre_attn_scalar') ** -0.5,
    attn_softcap=_softcap(values, 'attn_logit_softcapping'),
    final_softcap=_softcap(values, 'final_logit_softcapping'),
    qk_norm=gemma3,
    window=window,
    layer_kinds=kinds,
    rope_base_local=local_base,
    rope_base_global=global_base,
    rope_scale_global=global_scale,
    tie_embeddings=values['tie_word_embeddings'],
    max_positions=max_positions,
    bos_id=_tokens(values, 'bos_token_id', single=True)[0],
    eos_ids=_tokens(values, 'eos_token_id', single=False),
    architecture=architecture,
  )


def _layer_kinds(
  values: Mapping[str, Any], num_layers: int, period: int
) -> tuple[str, ...]:
  """Returns the kinds; without `layer_types` each period ends in a global."""
  names = values['layer_types']
  if names is None:
    if 'sliding_window_pattern' in values:
      period = _count(values, 'sliding_window_pattern')
    return tuple(
      'local' if (layer + 1) % period else 'global'
      for layer in range(num_layers)
    )
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
  return tuple(_KINDS[name] for name in names)


def _gemma2_rope(values: Mapping[str, Any]) -> tuple[float, float, float]:
  """Returns (base, base, 1.0): one rotation for all layers, not scaled."""
  field = 'rope_scaling' if values.get('rope_scaling') else 'rope_parameters'
  base, scale = _rope(
    values.get(field), field, values.get('rope_theta', 10_000.0)
  )
  if scale != 1.0:
    raise errors.InputError(
      f'{field}: wanted rope_type "default" in a gemma2 model; got a factor of '
      f'{scale}.'
    )
  return base, base, 1.0


def _gemma3_rope(values: Mapping[str, Any]) -> tuple[float, float, float]:
  """Returns (local base, global base, global scale)."""
  nested = values['rope_parameters'] or {}
  if not isinstance(nested, Mapping) or not set(nested) <= set(_KINDS):
    raise errors.InputError(
      f'rope_parameters: wanted {" and ".join(_KINDS)}; got '
      f'{sorted(nested) if isinstance(nested, Mapping) else nested!r}.'
    )
  rows = {}
  for name in _KINDS:
    row = nested.get(name) or {}
    if not isinstance(row, Mapping):
      raise errors.InputError(
        f'rope_parameters.{name}: wanted an object; got {row!r}.'
      )
    rows[name] = row
  scaling = values.get('rope_scaling') or {}
  if not isinstance(scaling, Mapping):
    raise errors.InputError(f'rope_scaling: wanted an object; got {scaling!r}.')
  # The old key is of global layers only, and goes before the new one.
  global_base, global_scale = _rope(
    {**rows['full_attention'], **scaling},
    'rope_scaling' if scaling else 'rope_parameters.full_attention',
    values.get('rope_theta', 1_000_000.0),
  )
  local_base, local_scale = _rope(
    rows['sliding_attention'],
    'rope_parameters.sliding_attention',
    values.get('rope_local_base_freq', 10_000.0),
  )
  if local_scale != 1.0:
    raise errors.InputError(
      'rope_parameters.sliding_attention: wanted rope_type "default"; got a '
      f'factor of {local_scale}.'
    )
  return local_base, global_base, global_scale


def _rope(row: Any, field: str, default_base: Any) -> tuple[float, float]:
  """Returns (base, factor) of one rotation."""
  row = {} if row is None else row
  known = ('rope_type', 'type', 'rope_theta', 'factor')
  if not isinstance(row, Mapping) or not set(row) <= set(known):
    raise errors.InputError(
      f'{field}: wanted an object with the fields {", ".join(known)}; got '
      f'{sorted(row) if isinstance(row, Mapping) else row!r}.'
    )
  kind = row.get('rope_type', row.get('type', 'default'))
  if kind not in ('default', 'linear'):
    raise errors.InputError(
      f'{field}.rope_type: wanted default or linear; got {kind!r}.'
    )
  base = _positive(
    {f'{field}.rope_theta': row.get('rope_theta', default_base)},
    f'{field}.rope_theta',
  )
  if kind == 'default':
    return base, 1.0
  return base, _positive(
    {f'{field}.factor': row.get('factor')}, f'{field}.factor'
  )


def _count(values: Mapping[str, Any], key: str) -> int:
  value = values[key]
  if isinstance(value, bool) or not isinstance(value, int) or value < 1:
    raise errors.InputError(
      f'{key}: wanted a whole number of at least 1; got {value!r}.'
    )
  return value


def _positive(values: Mapping[str, Any], key: str) -> float:
  value = values[key]
  if (
    isinstance(value, bool)
    or not isinstance(value, (int, float))
    or not 0 < value < math.inf
  ):
    raise errors.InputError(f'{key}: wanted a positive number; got {value!r}.')
  return float(value)


def _softcap(values: Mapping[str, Any], key: str) -> float | None:
  return None if values[key] is None else _positive(values, key)


def _tokens(values: Mapping[str, Any], key: str, *, single: bool) -> tuple:
  """Returns the ids; where `single`, exactly one, which may be None."""
  value = values[key]
  ids = [value] if single or not isinstance(value, (list, tuple)) else value
  ids = [i for i in ids if single or i is not None]
  size = _count(values, 'vocab_size')
  for i in ids:
    if i is None:
      continue
    if isinstance(i, bool) or not isinstance(i, int) or not 0 <= i < size:
      raise errors.InputError(
        f'{key}: wanted ids of at least 0 and under vocab_size={size}; got '
        f'{value!r}.'
      )
  return tuple(ids)
