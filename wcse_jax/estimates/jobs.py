"""What is to be done, and the FLOPs and bytes of it.  No jax here.

Lengths are means; FLOPs are exact for sequences of the mean length, rounded to
a token.
"""

import dataclasses
import math

from wcse_jax import budget, shardfiles
from wcse_jax.estimates import sizes
from wcse_jax.models import config
from wcse_jax.sampler import schedule, shapes
from wcse_jax.sft import settings


# Share of packed rows that holds tokens: measured 1,854 of 2,048 with rows of
# 512 and sequences of 190 (docs/results/training.md).
_PACKED = 0.9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
  """Samples of one model behind prompts that may share a prefix.

  Attributes:
    stage: what tables call it, as `sample wc`.
    name: of the model, likewise.
    model: its architecture.
    prompts: how many there are.
    samples: of all prompts together.
    block: samples of a prompt for which it is read once: those of a shard; 0
      where it is read once for all, as in an evaluation.
    rounds: parts of the samples, each of which is waited for before the next
      begins, as one evaluation for another.
    prompt_tokens: of a prompt, the shared prefix included.
    shared_prompt_tokens: of the prefix, which is read once.
    longest_prompt: tokens of the longest prompt, for which every slot has
      places; 0: `prompt_tokens`.
    output_tokens: drawn tokens of a sample.
    spread: standard deviation of that over its mean.
    max_new_tokens: drawn tokens at most.
    slots: sequences at a time; 0: as many of a few numbers as fit.
    prefill_batch: prompts that are read at a time; 0: as many as suit.
    draws: temperature, top_k, top_p, min_p.
    dtype: of weights and cache.
    weights: as `dtype` where empty, or `int8`.
    mesh: of the devices; empty: chosen on a slice, all on `data` elsewhere.
    keys: names under which a ledger may have earlier rows of this model.
  """

  stage: str
  name: str
  model: config.ModelConfig
  prompts: int
  samples: int
  block: int = shardfiles.BLOCK_SAMPLES
  rounds: int = 1
  prompt_tokens: float
  shared_prompt_tokens: int = 0
  longest_prompt: int = 0
  output_tokens: float
  spread: float = 0.5
  max_new_tokens: int = 256
  slots: int = 0
  prefill_batch: int = 0
  draws: tuple[float, int, float, float] = (0.7, 0, 1.0, 0.0)
  dtype: str = 'bfloat16'
  weights: str = ''
  mesh: str = ''
  keys: tuple[str, ...] = ()

  @property
  def work(self) -> str:
    return f'{self.samples:,} samples'

  @property
  def reads(self) -> int:
    """How often prompts are read, all together."""
    each = math.ceil(self.samples / self.prompts)
    return self.prompts * (-(-each // self.block) if self.block else 1)

  @property
  def own_tokens(self) -> int:
    """Tokens of a prompt behind the shared prefix, at least 1."""
    return max(1, round(self.prompt_tokens) - self.shared_prompt_tokens)

  @property
  def padded_prompt(self) -> int:
    """Tokens that a prompt behind the prefix is padded to where it is read."""
    longest = max(self.longest_prompt - self.shared_prompt_tokens, 1)
    shape = shapes.Shape((), -(-max(longest, self.own_tokens) // 16) * 16)
    return shape.prefilled(self.own_tokens)

  @property
  def places(self) -> int:
    """Own positions that a slot may reach, padded."""
    own = max(self.longest_prompt - self.shared_prompt_tokens, self.own_tokens)
    shape = shapes.Shape((), -(-own // 16) * 16)
    return shape.places(self.max_new_tokens)

  @property
  def filled(self) -> float:
    """Own positions of a slot that hold something, over the steps.

    A slot that is looked at in some step holds a long sample more often than a
    short one.
    """
    drawn = self.output_tokens * (1 + self.spread**2) / 2
    return min(self.own_tokens + drawn, self.places)

  def steps(self, slots: int, replicas: int = 1) -> int:
    """Returns the decode steps of one of some replicas.

    Slots are full until no sample of the round waits; then the longest of those
    that are under way, which has the most new tokens, is waited for.
    """
    parts = self.rounds * replicas
    turns = self.samples / parts * self.output_tokens / slots
    under_way = self.output_tokens * (1 + self.spread**2) / 2
    one = max(0.0, turns - under_way) + self.max_new_tokens
    return self.rounds * math.ceil(one)

  def prefix_flops(self) -> int:
    """Returns the FLOPs of reading the shared prefix."""
    return budget.forward_flops(self.model, self.shared_prompt_tokens, logits=0)

  def prompt_flops(self, tokens: int | None = None) -> int:
    """Returns the FLOPs of reading one prompt behind the prefix.

    Args:
      tokens: that are read; None: all but the last, which the first decode
        step takes.
    """
    tokens = self.own_tokens - 1 if tokens is None else tokens
    return budget.forward_flops(
      self.model, tokens, self.shared_prompt_tokens, logits=0
    )

  def flops(self) -> int:
    """Returns the FLOPs of all, as the ledger counts them."""
    start = self.shared_prompt_tokens + self.own_tokens
    drawn = budget.forward_flops(
      self.model, round(self.output_tokens), start - 1
    )
    read = self.reads * self.prompt_flops() + self.prefix_flops()
    return read + self.samples * drawn

  def step_flops(self, slots: int) -> int:
    """Returns the FLOPs of one decode step of all slots."""
    at = self.shared_prompt_tokens + round(self.filled)
    return slots * budget.forward_flops(self.model, 1, at)

  def step_bytes(self, slots: int, cache_item: int = 0) -> float:
    """Returns the least bytes that one decode step reads.

    All weights once (of experts those that the slots may be sent to), the
    filled cache once, the prefix once.

    Args:
      slots: sequences.
      cache_item: bytes of a number of the cache; 0: as `dtype`.
    """
    item = cache_item or sizes.item_bytes(self.dtype)
    model = self.model
    narrow = sizes.item_bytes(self.weights or self.dtype)
    # Of a table only the rows of the tokens are read.
    tables = model.per_layer_vocab * model.num_layers * model.per_layer_dim
    if not model.tie_embeddings:
      tables += model.vocab_size * model.d_model
    weights = self.weight_bytes() - narrow * tables
    if model.num_experts:
      share = min(1.0, slots * model.experts_per_token / model.num_experts)
      experts = model.matrix_parameters() - model.matrix_parameters(active=True)
      experts /= 1 - model.experts_per_token / model.num_experts
      weights -= narrow * experts * (1 - share)
    return weights + item * (
      slots * sizes.cache_numbers(self.model, self.filled)
      + sizes.cache_numbers(self.model, self.shared_prompt_tokens, prefix=True)
    )

  def device_bytes(
    self,
    slots: int,
    rows: int,
    *,
    data: int = 1,
    fsdp: int = 1,
    tensor: int = 1,
    cache_item: int = 0,
  ) -> float:
    """Returns what a run needs on each device of a mesh, in bytes.

    As `sampler.memory.need`, which a run asks before it starts.

    Args:
      slots: sequences at a time.
      rows: prompts that are read at a time.
      data: devices of that axis of the mesh.
      fsdp: likewise.
      tensor: likewise.
      cache_item: bytes of a number of the cache; 0: as `dtype`.
    """
    wide = sizes.item_bytes(self.dtype)
    kept = cache_item or wide
    parts = data * fsdp
    prompts = -(-rows // parts)
    suffix = self.places - self.max_new_tokens
    ahead = schedule.batches_ahead(slots, rows)
    fresh = max(suffix * prompts * ahead, self.shared_prompt_tokens)
    tokens = max(suffix * prompts, self.shared_prompt_tokens)
    widest = max(layer.d_ff for layer in self.model.layers)
    inner = tokens * (3 * self.model.d_model + 2 * widest // tensor) * wide
    keys = sizes.cache_numbers(
      self.model, self.shared_prompt_tokens, prefix=True
    )
    keys += fresh * sizes.token_numbers(self.model)
    each = kept * sizes.cache_numbers(self.model, self.places)
    each += 2 * 4 * self.model.vocab_size
    return (
      self.weight_bytes() / tensor / fsdp
      + kept * keys / tensor
      + inner
      + -(-slots // parts) * each / tensor
    )

  def weight_bytes(self) -> float:
    """Returns the bytes of all weights."""
    vectors = self.model.vector_parameters()
    matrices = self.model.parameters() - vectors
    wide = sizes.item_bytes(self.dtype)
    return (
      matrices * sizes.item_bytes(self.weights or self.dtype) + vectors * wide
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
  """Fine-tuning runs of one model, one after another.

  Attributes:
    stage: what tables call it, as `train student`.
    name: of the model, likewise.
    model: its architecture.
    sft: how it is trained: rows of a step, their length, packing, steps.
      `remat` may be empty: the one that keeps most and fits.
    tokens_per_sequence: of a sequence, prompt and completion.
    target_tokens: of them that bear loss; 0: all.
    sequences: of a run, epochs included; 0: as many as its steps take.
    runs: how many there are: learning rates, arms, replicates.
    keys: names under which a ledger may have earlier rows of this model.
  """

  stage: str
  name: str
  model: config.ModelConfig
  sft: settings.SftConfig
  tokens_per_sequence: float
  target_tokens: float = 0.0
  sequences: int = 0
  runs: int = 1
  keys: tuple[str, ...] = ()

  @property
  def work(self) -> str:
    return f'{self.runs * self.steps:,} steps'

  @property
  def sequences_per_row(self) -> float:
    if not self.sft.packing:
      return 1.0
    full = _PACKED * self.sft.max_length / self.tokens_per_sequence
    return max(1.0, full)

  @property
  def steps(self) -> int:
    """Optimiser steps of a run."""
    if self.sft.steps or not self.sequences:
      return self.sft.steps
    rows = self.sequences / self.sequences_per_row
    return max(1, math.ceil(rows / self.sft.batch_size))

  @property
  def adapters(self) -> int:
    """Parameters of the adapters; 0 where the whole model is trained."""
    return sizes.adapter_parameters(self.model, self.sft.lora)

  def flops(self) -> int:
    """Returns the FLOPs that the tokens need, of all runs."""
    tokens = max(1, round(self.tokens_per_sequence))
    one = budget.training_flops(
      self.model,
      tokens,
      logits=min(tokens, round(self.target_tokens) or tokens),
      adapters=self.adapters,
    )
    rows = self.steps * self.sft.batch_size
    return self.runs * round(rows * self.sequences_per_row) * one

  def row_flops(self) -> int:
    """Returns the FLOPs of a row with its padding, logits of targets alone."""
    share = (self.target_tokens or self.tokens_per_sequence) / (
      self.tokens_per_sequence
    )
    filled = self.sequences_per_row * self.tokens_per_sequence
    targets = min(self.sft.max_length, round(share * filled))
    return budget.training_flops(
      self.model,
      self.sft.max_length,
      logits=targets,
      adapters=self.adapters,
    )

  def state_bytes(self) -> float:
    """Returns the bytes of weights, slopes and optimiser state alone."""
    wide = sizes.item_bytes(self.sft.weights_dtype)
    state = 2 * sizes.item_bytes(self.sft.optimizer.state_dtype)
    if self.sft.optimizer.name != 'adamw':
      state = 0
    if not self.adapters:
      return self.model.parameters() * (2 * wide + state)
    base = sizes.item_bytes(self.sft.lora.base or self.sft.dtype)
    held = self.model.parameters() * base
    return held + self.adapters * (2 * wide + state)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grading:
  """Grading of samples on the host's cores.

  Attributes:
    stage: what tables call it, as `grade wc`.
    name: of the task, likewise.
    samples: how many.
    cpu_seconds: of one core and sample.
    cores: that grade at a time.
  """

  stage: str
  name: str
  samples: int
  cpu_seconds: float
  cores: int

  @property
  def work(self) -> str:
    return f'{self.samples:,} samples'

  def flops(self) -> int:
    """Returns 0: grading multiplies no matrices."""
    return 0


Job = Sampling | Training | Grading
