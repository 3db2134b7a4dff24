"""The least that a program has to move: what `bytes_accessed` is held against.

All figures are of the whole slice, whatever the mesh replicates.
"""

import math
from collections.abc import Iterator
from typing import Any

from flax import nnx

from wcse_jax.models import cache as caches
from wcse_jax.models import config as model_config
from wcse_jax.models import transformer


# Tables of which a step reads the rows of its tokens only.
_TABLES = ('embedding', 'own_embedding')
_EXPERTS = ('expert_gate', 'expert_up', 'expert_down')
# What keys and values of a layer are made with.
_KEYS = ('k', 'v', 'k_bias', 'v_bias', 'attention_norm', 'k_norm')


def weights(model: transformer.Transformer) -> int:
  """Returns the bytes of all weights."""
  return sum(size for _, size in _leaves(model))


def step_weights(model: transformer.Transformer, tokens: int) -> float:
  """Returns the bytes of weights that a decode step has to read.

  A tied embedding is read as the output head; a table that is only looked up
  in is not read as a whole.  Of experts as many as the tokens can be sent to.

  Args:
    model: the model.
    tokens: of the step.
  """
  total = 0.0
  for path, size in _leaves(model):
    name = path[-1].removesuffix('_scale')
    if name == 'own_embedding':
      continue
    if name == 'embedding' and not model.config.tie_embeddings:
      continue
    total += size * _share(model.config, name, tokens)
  return total


def prefill_weights(model: transformer.Transformer, tokens: int) -> float:
  """Returns the bytes of weights that a prefill has to read.

  It takes no logits, and nothing needs what the last layer that makes keys and
  values gives on: the compiler may leave that out.

  Args:
    model: the model.
    tokens: of the prefill.
  """
  kinds = model.config.layers
  last = max(n for n, layer in enumerate(kinds) if not layer.shares_kv)
  total = 0.0
  for path, size in _leaves(model):
    name = path[-1].removesuffix('_scale')
    if path[0] != 'stacks':
      continue
    stack = model.stacks[int(path[1])]
    group = len(stack.blocks)
    numbers = [
      stack.first + int(path[3]) + group * turn for turn in range(stack.repeats)
    ]
    read = sum(n < last or (n == last and name in _KEYS) for n in numbers)
    share = _share(model.config, name, tokens)
    total += size * read / stack.repeats * share
  return total


def cache(
  config: model_config.ModelConfig,
  *,
  slots: int,
  places: int,
  filled: int,
  item: int,
) -> tuple[int, int]:
  """Returns (bytes of the slots' cache, of its filled places).

  Args:
    config: the model.
    slots: sequences.
    places: own positions that each may reach.
    filled: own positions that each has reached.
    item: bytes of a number.
  """
  held, used = 0, 0
  for layer in config.layers:
    if layer.shares_kv:
      continue
    place = 2 * slots * layer.num_kv_heads * layer.head_dim * item
    held += place * caches.places(layer, config.window, places)
    used += place * caches.places(layer, config.window, filled)
  return held, used


def prefix(config: model_config.ModelConfig, tokens: int, item: int) -> int:
  """Returns the bytes of the shared prefix."""
  return sum(
    2
    * layer.num_kv_heads
    * layer.head_dim
    * item
    * caches.seen(layer, config.window, tokens)
    for layer in config.layers
    if not layer.shares_kv
  )


def logits(config: model_config.ModelConfig, slots: int) -> int:
  """Returns the bytes of float32 logits."""
  return 4 * slots * config.vocab_size


def _leaves(model) -> Iterator[tuple[tuple[str, ...], int]]:
  """Yields (path, bytes) of every weight."""
  _, state = nnx.split(model)
  for path, leaf in nnx.to_flat_state(state):
    size = leaf.dtype.itemsize * math.prod(leaf.shape)
    yield tuple(str(part) for part in path), size


def _share(config: model_config.ModelConfig, name: Any, tokens: int) -> float:
  """Returns which share of a matrix so many tokens have to do with."""
  if name not in _EXPERTS:
    return 1.0
  return min(1.0, tokens * config.experts_per_token / config.num_experts)
