"""The memory that sampling needs on a device, known before anything runs.

Counted are what must be there: weights, keys and values of the slots, of the
shared prefix and of the prompts prefilled ahead, and the largest intermediate
results of a prefill and of a decode step.  What the compiler needs besides is
not known before it ran; `launch/compile.py` tells of it for TPUs.
"""

import dataclasses
from collections.abc import Mapping

from wcse_jax import errors
from wcse_jax.models import cache, config
from wcse_jax.sampler import schedule, settings


# Arrays of the size of the logits that a draw holds at a time.
_LOGITS = 2


@dataclasses.dataclass(frozen=True)
class Need:
  """Bytes on each device.

  Attributes:
    weights: of the model.
    prompts: keys and values of the prefix and of prompts prefilled ahead, and
      what a prefill holds besides.
    slot: of one slot: its keys and values, its logits.
    slots: how many there are on a device.
  """

  weights: int
  prompts: int
  slot: int
  slots: int

  @property
  def total(self) -> int:
    return self.weights + self.prompts + self.slot * self.slots


def need(
  model: config.ModelConfig,
  sampler: settings.SamplerConfig,
  *,
  prefix: int,
  suffix: int,
  dtype: str,
  cache_dtype: str = '',
  weights: str = '',
  mesh: Mapping[str, int] | None = None,
) -> Need:
  """Returns what sampling needs on each device of a mesh.

  Args:
    model: the architecture.
    sampler: the settings.
    prefix: tokens of the shared prefix.
    suffix: tokens of the longest rest of a prompt.
    dtype: of weights and activations.
    cache_dtype: of keys and values; empty: as `dtype`.
    weights: `int8` where the matrices are held so.
    mesh: sizes of its axes; None for one device.
  """
  mesh = dict(mesh or {})
  tensor = mesh.get('tensor', 1)
  rows = mesh.get('data', 1) * mesh.get('fsdp', 1)
  wide, kept = (
    2 if kind == 'bfloat16' else 4 for kind in (dtype, cache_dtype or dtype)
  )
  matrices = model.parameters() - model.vector_parameters()
  held = matrices * (1 if weights == 'int8' else wide)
  held += model.vector_parameters() * wide
  # The two tables and all matrices are split over both axes.
  held //= tensor * mesh.get('fsdp', 1)

  def keys_and_values(count: int, held) -> int:
    return (
      sum(
        2
        * layer.num_kv_heads
        * layer.head_dim
        * kept
        * held(layer, model.window, count)
        for layer in model.layers
        if not layer.shares_kv
      )
      // tensor
    )

  places = suffix + sampler.max_new_tokens
  prompts = -(-sampler.prefill_batch // rows)
  widest = max(layer.d_ff for layer in model.layers)
  ahead = schedule.batches_ahead(sampler.slots, sampler.prefill_batch)
  # Fresh keys and values of a prefill are those of every position.
  fresh = keys_and_values(
    max(suffix * prompts * ahead, prefix), lambda layer, window, count: count
  )
  tokens = max(suffix * prompts, prefix)
  inner = tokens * (3 * model.d_model + 2 * widest // tensor) * wide
  return Need(
    weights=held,
    prompts=keys_and_values(prefix, cache.seen) + fresh + inner,
    slot=keys_and_values(places, cache.places)
    + _LOGITS * 4 * model.vocab_size // tensor,
    slots=-(-sampler.slots // rows),
  )


def check(found: Need, free: int | None, rows: int, places: int) -> None:
  """Raises InputError if a device has not enough memory, and says what fits.

  Args:
    found: what is needed, its weights 0 if they are there already.
    free: bytes that a device has left; None where that is not known.
    rows: over how many devices the slots are split.
    places: own positions of a slot, for the message.
  """
  if free is None or found.total <= free:
    return
  left = free - found.weights - found.prompts
  fits = max(0, left // found.slot) * rows
  hint = (
    f'{fits} slots would fit'
    if fits
    else 'not one slot would fit: it wants more devices on `mesh`, or a '
    'narrower `dtype` or `weights`'
  )
  raise errors.InputError(
    f'sampler.slots: {found.slots * rows} slots of {places} positions need '
    f'{_gigabytes(found.slot * found.slots)} on each device beside '
    f'{_gigabytes(found.weights)} of weights and '
    f'{_gigabytes(found.prompts)} for prompts; {_gigabytes(free)} are free: '
    f'{hint}.'
  )


def describe(found: Need, free: int | None, places: int) -> str:
  """Returns one line on what is needed."""
  line = (
    f'memory of a device: {_gigabytes(found.weights)} of weights, '
    f'{_gigabytes(found.slot * found.slots)} for {found.slots} slots of '
    f'{places} positions, {_gigabytes(found.prompts)} for prompts'
  )
  return line if free is None else f'{line}; {_gigabytes(free)} are free'


def _gigabytes(count: int) -> str:
  return f'{count / 1e9:.3g} GB'
