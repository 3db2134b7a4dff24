"""The padded shape of a run: with its settings it fixes every bit.  No jax."""

import dataclasses
from collections.abc import Iterable, Sequence

from wcse_jax import errors


# Padded lengths are rounded up to this, so that few shapes are compiled.
_ROUND = 16


@dataclasses.dataclass(frozen=True)
class Shape:
  """The padded shape of a run, taken from the whole split.

  Attributes:
    prefix: token ids that every prompt starts with; prefilled once.
    suffix_tokens: longest rest of a prompt, padded.
  """

  prefix: tuple[int, ...]
  suffix_tokens: int

  @classmethod
  def of(cls, prompts: Iterable[Sequence[int]]) -> 'Shape':
    """Returns the shape for these prompts: all of the split, not a part."""
    prompts = [tuple(prompt) for prompt in prompts]
    if not prompts:
      raise errors.InputError('prompts: wanted at least one; got none.')
    low, high = min(prompts), max(prompts)
    # The last token of a prompt is fed by the first decode step.
    most = min(len(prompt) for prompt in prompts) - 1
    shared = 0
    while shared < most and low[shared] == high[shared]:
      shared += 1
    longest = max(len(prompt) for prompt in prompts)
    return cls(low[:shared], _padded(max(longest - shared, 1)))

  @property
  def longest(self) -> int:
    """Tokens of a prompt at most."""
    return len(self.prefix) + self.suffix_tokens

  def fits(self, prompt: tuple[int, ...]) -> bool:
    """Returns whether a prompt starts with the prefix and is not too long."""
    start = len(self.prefix)
    return prompt[:start] == self.prefix and start < len(prompt) <= self.longest

  def places(self, max_new_tokens: int) -> int:
    """Returns the own positions that a slot may reach, padded."""
    return _padded(self.suffix_tokens + max_new_tokens)

  def prefilled(self, rest: int) -> int:
    """Returns the padded length of a prompt's prefill.

    Args:
      rest: its tokens behind the shared prefix.
    """
    length = _ROUND
    while length < rest - 1:
      # Powers of two, and what lies half way between them.
      power = 1 << (length.bit_length() - 1)
      length = 2 * power if length > power else power * 3 // 2
    return min(length, self.suffix_tokens)


def _padded(count: int) -> int:
  return -(-count // _ROUND) * _ROUND
