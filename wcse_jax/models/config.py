"""What makes one decoder differ from another.

Families are told apart by the fields of `ModelConfig` alone.
`models/hf_config.py` reads them from a checkpoint's config.json.

Source: transformers 5, models/{gemma,gemma2,gemma3,gemma4,qwen2,llama}; Gemma
report, arXiv:2403.08295; Gemma 2 report, arXiv:2408.00118; Gemma 3 report,
arXiv:2503.19786; Qwen2.5 report, arXiv:2412.15115; Llama 3 report,
arXiv:2407.21783.
"""

import dataclasses
import functools


KINDS = ('local', 'global')


ACTIVATIONS = ('gelu_tanh', 'silu')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rope:
  """How positions turn queries and keys.

  Attributes:
    base: the longest wave length over 2 pi, in tokens.
    scale: all positions are divided by it; 1.0 for none.
    rotated: share of the head's frequencies that turn; the rest, the slow
      ones, stand still.
    smooth: (low, high, original positions) where only slow frequencies are
      divided by `scale`: those that turn less than `low` times in the original
      positions; those that turn more than `high` times stay, and the ones
      between are interpolated.  None to divide all.

  Source: arXiv:2104.09864 (rotation), arXiv:2306.15595 (linear scaling),
    Llama 3.1 (`smooth`), Gemma 4 (`rotated`).
  """

  base: float
  scale: float = 1.0
  rotated: float = 1.0
  smooth: tuple[float, float, int] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layer:
  """The shapes of one layer.

  Attributes:
    kind: `local` or `global`.
    num_kv_heads: key/value heads (K).
    head_dim: width of a head (H).
    d_ff: width of the gated feed-forward layer (F).
    shares_kv: whether it attends to the keys and values of the last layer of
      its kind that has its own.
    keys_as_values: whether the key projection gives the values, too.
  """

  kind: str
  num_kv_heads: int
  head_dim: int
  d_ff: int
  shares_kv: bool
  keys_as_values: bool


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
    activation: of the gate; one of `ACTIVATIONS`.
    norm_eps: added to the mean square in RMS norms.
    norm_plus_one: whether gains are stored less one.
    query_scale: factor on the queries before the dot product with the keys.
    attn_softcap: bound on |attention logits| (nats); None for no bound.
    final_softcap: bound on |output logits| (nats); None for no bound.
    qkv_bias: whether the query, key and value projections have a bias.
    qk_norm: whether queries and keys are normalised per head.
    v_norm: whether values are normalised per head, without a gain.
    post_norms: whether the outputs of attention and feed-forward layer are
      normalised before they are added to the residual.
    layer_scalar: whether the output of a layer has a factor of its own.
    window: tokens that a local layer sees, the own one included.
    layer_kinds: `local` or `global` for each layer.
    rope_local: the rotation in local layers.
    rope_global: the rotation in global layers.
    global_num_kv_heads: key/value heads in global layers; 0: `num_kv_heads`.
    global_head_dim: width of a head in global layers; 0: `head_dim`.
    global_keys_as_values: whether the keys of global layers, before their
      norm, are the values.
    num_kv_shared_layers: layers at the end without keys and values of their
      own.
    shared_d_ff: feed-forward width in those layers; 0: `d_ff`.
    per_layer_dim: width of the input that each layer gets for itself (P); 0
      for none.
    per_layer_vocab: rows of the table that gives it.
    num_experts: experts (E) beside the dense feed-forward layer; 0 for none.
    experts_per_token: experts that a token is sent to.
    expert_d_ff: feed-forward width of an expert.
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
  norm_plus_one: bool = True
  query_scale: float
  attn_softcap: float | None = None
  final_softcap: float | None = None
  qkv_bias: bool = False
  qk_norm: bool = False
  v_norm: bool = False
  post_norms: bool = True
  layer_scalar: bool = False
  window: int
  layer_kinds: tuple[str, ...]
  rope_local: Rope
  rope_global: Rope
  global_num_kv_heads: int = 0
  global_head_dim: int = 0
  global_keys_as_values: bool = False
  num_kv_shared_layers: int = 0
  shared_d_ff: int = 0
  per_layer_dim: int = 0
  per_layer_vocab: int = 0
  num_experts: int = 0
  experts_per_token: int = 0
  expert_d_ff: int = 0
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
    if not set(self.layer_kinds) <= set(KINDS):
      raise ValueError(
        f'layer_kinds must be {" or ".join(KINDS)}; got '
        f'{sorted(set(self.layer_kinds))}.'
      )
    if self.activation not in ACTIVATIONS:
      raise ValueError(
        f'activation must be {" or ".join(ACTIVATIONS)}; got '
        f'{self.activation!r}.'
      )
    for field in ('num_kv_heads', 'global_num_kv_heads'):
      heads = getattr(self, field)
      if heads and self.num_heads % heads:
        raise ValueError(
          f'{field} must divide num_heads={self.num_heads}; got {heads}.'
        )
    for field in ('head_dim', 'global_head_dim'):
      if getattr(self, field) % 2:
        raise ValueError(f'{field} must be even; got {getattr(self, field)}.')
    if not 0 <= self.experts_per_token <= self.num_experts:
      raise ValueError(
        f'experts_per_token must be at most num_experts={self.num_experts}; '
        f'got {self.experts_per_token}.'
      )
    own = self.num_layers - self.num_kv_shared_layers
    lost = set(self.layer_kinds[own:]) - set(self.layer_kinds[:own])
    if own < 1 or lost:
      raise ValueError(
        'num_kv_shared_layers must leave a layer of each kind with keys of its '
        f'own; got {self.num_kv_shared_layers} of {self.num_layers} layers.'
      )

  @functools.cached_property
  def layers(self) -> tuple[Layer, ...]:
    """The shapes of every layer."""
    found = []
    for index, kind in enumerate(self.layer_kinds):
      whole = kind == 'global'
      shares = index >= self.num_layers - self.num_kv_shared_layers
      heads = self.global_num_kv_heads if whole else 0
      width = self.global_head_dim if whole else 0
      found.append(
        Layer(
          kind=kind,
          num_kv_heads=heads or self.num_kv_heads,
          head_dim=width or self.head_dim,
          d_ff=(self.shared_d_ff if shares else 0) or self.d_ff,
          shares_kv=shares,
          keys_as_values=whole and self.global_keys_as_values,
        )
      )
    return tuple(found)

  def rope(self, kind: str) -> Rope:
    """Returns the rotation in layers of a kind."""
    return self.rope_local if kind == 'local' else self.rope_global

  def embedding_parameters(self) -> int:
    """Returns the parameters of the embedding and of an untied output head."""
    return (2 - self.tie_embeddings) * self.vocab_size * self.d_model

  def matrix_parameters(self, *, active: bool = False) -> int:
    """Returns the parameters of all matrices between embedding and head.

    Projections of attention, feed-forward layers, routers and experts, and the
    projections of the per-layer inputs; no table that is only looked up in.

    Args:
      active: count only the experts that one token is sent to.
    """
    total = self.d_model * self.num_layers * self.per_layer_dim
    experts = self.experts_per_token if active else self.num_experts
    for layer in self.layers:
      projections = 2 * self.num_heads * layer.head_dim
      if not layer.shares_kv:
        count = 1 if layer.keys_as_values else 2
        projections += count * layer.num_kv_heads * layer.head_dim
      width = projections + 3 * layer.d_ff + 2 * self.per_layer_dim
      width += self.num_experts + 3 * experts * self.expert_d_ff
      total += self.d_model * width
    return total

  def vector_parameters(self) -> int:
    """Returns the parameters of all norms, biases and scales."""
    total = self.d_model + self.per_layer_dim
    for layer in self.layers:
      total += (4 if self.post_norms else 2) * self.d_model
      if self.qk_norm:
        total += (1 if layer.shares_kv else 2) * layer.head_dim
      if self.qkv_bias:
        heads = self.num_heads + 2 * layer.num_kv_heads
        total += heads * layer.head_dim
      if self.num_experts:
        # Three norms, and the scales of the router's input and output.
        total += 4 * self.d_model + self.num_experts
      if self.per_layer_dim:
        total += self.d_model
      total += self.layer_scalar
    return total

  def parameters(self) -> int:
    """Returns all parameters; a tied embedding counts once."""
    table = self.per_layer_vocab * self.num_layers * self.per_layer_dim
    rest = self.matrix_parameters() + self.vector_parameters()
    return self.embedding_parameters() + table + rest

  def active_parameters(self) -> int:
    """Returns the parameters that the work on one token goes through.

    Of the experts only those that a token is sent to count, and the table of
    per-layer inputs does not: it is looked up in, never multiplied with.  For
    all other models these are all parameters.
    """
    rest = self.matrix_parameters(active=True) + self.vector_parameters()
    return self.embedding_parameters() + rest
