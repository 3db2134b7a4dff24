"""What a sampling run is asked for.  No jax here."""

import dataclasses
from typing import Any

from wcse_jax import errors


@dataclasses.dataclass(kw_only=True)
class SamplerConfig:
  """How tokens are drawn and how the device is used.

  Attributes:
    temperature: divides the logits; 0 takes the most probable token.
    top_k: most probable tokens kept; 0 keeps all.
    top_p: probability mass kept, in (0, 1].
    min_p: least probability kept, as a share of the largest, in [0, 1].
    max_new_tokens: tokens drawn at most.
    slots: sequences decoded at a time; part of what fixes a sample's bits.
    prefill_batch: prompts of one prefill; likewise.
    chunk: decode steps between two visits of the host at most; changes no
      result.
    attention: what reads the slots' caches in a decode step: `pallas` (a
      kernel, which reads what is filled) or `xla` (compiled code, which reads
      all of it); empty: the one that is known to be better on the device.
  """

  temperature: float = 0.7
  top_k: int = 0
  top_p: float = 1.0
  min_p: float = 0.0
  max_new_tokens: int = 256
  slots: int = 64
  prefill_batch: int = 8
  chunk: int = 64
  attention: str = ''

  def validate(self, where: str = 'sampler.') -> None:
    """Raises InputError for the first field that is out of range.

    Args:
      where: goes before the field's name.
    """
    checks = (
      ('temperature', self.temperature >= 0, 'a number >= 0'),
      ('top_k', self.top_k >= 0, 'a count >= 0 (0 keeps all)'),
      ('top_p', 0 < self.top_p <= 1, 'a number in (0, 1]'),
      ('min_p', 0 <= self.min_p <= 1, 'a number in [0, 1]'),
      ('max_new_tokens', self.max_new_tokens >= 1, 'a count >= 1'),
      ('slots', self.slots >= 1, 'a count >= 1'),
      ('prefill_batch', self.prefill_batch >= 1, 'a count >= 1'),
      ('chunk', self.chunk >= 1, 'a count >= 1'),
      (
        'attention',
        self.attention in ('', 'xla', 'pallas'),
        'xla, pallas or nothing',
      ),
    )
    for name, fine, wanted in checks:
      if not fine:
        raise errors.InputError(
          f'{where}{name}: wanted {wanted}; got {getattr(self, name)}.'
        )

  def fingerprint(self) -> dict[str, float | int | str]:
    """Returns the fields on which a sample's bits depend."""
    fields = dataclasses.asdict(self)
    del fields['chunk']
    # What it is left to follows from the device and the versions.
    if not self.attention:
      del fields['attention']
    return fields


def check_loading(config: Any) -> None:
  """Raises InputError if how a model is loaded and asked is out of range.

  Args:
    config: has the fields `dtype`, `weights` and `chat` of a sampling run.
  """
  for field, known in (
    ('dtype', ('float32', 'bfloat16')),
    ('weights', ('', 'int8')),
    ('chat', ('', 'on', 'off')),
  ):
    if getattr(config, field) not in known:
      wanted = ' or '.join(name or 'nothing' for name in known)
      raise errors.InputError(
        f'{field}: wanted {wanted}; got {getattr(config, field)!r}.'
      )


@dataclasses.dataclass(frozen=True)
class Request:
  """One sample to draw.

  Attributes:
    problem_id: the problem.
    index: which of the problem's samples.
    prompt: token ids, start token included.
  """

  problem_id: str
  index: int
  prompt: tuple[int, ...]
