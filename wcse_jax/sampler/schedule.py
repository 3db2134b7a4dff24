"""The host's side of sampling: which request sits in which slot.

Requests of one prompt stand together, so that a prompt is prefilled once and
fanned out to its samples; a slot that falls free takes the next request while
the others go on.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable

from wcse_jax.sampler import settings


# Prompts that are looked through for those of one padded length, over the
# prompts of a prefill.
_AHEAD = 8
# Requests that are kept prefilled, as a share of the slots.
_READY = 1 / 8


def batches_ahead(slots: int, prompts: int) -> int:
  """Returns how many prefilled batches are held at a time at most."""
  return -(-_wanted(slots) // prompts) + 1


def _wanted(slots: int) -> int:
  return max(1, int(slots * _READY))


@dataclasses.dataclass(frozen=True)
class Batch:
  """Prompts that are prefilled together.

  Attributes:
    number: of the batch, from 0.
    length: padded length.
    prompts: token ids of each row.
  """

  number: int
  length: int
  prompts: tuple[tuple[int, ...], ...]


@dataclasses.dataclass(frozen=True)
class Placement:
  """A request that is to start: its slot, and its row of a prefilled batch."""

  slot: int
  batch: int
  row: int
  request: settings.Request


class Schedule:
  """Requests in waiting, and the requests in the slots.

  Attributes:
    running: slot -> request.
    ready: requests that are prefilled and wait for a slot.
  """

  def __init__(
    self,
    requests: Iterable[settings.Request],
    *,
    slots: int,
    prompts: int,
    length: Callable[[tuple[int, ...]], int] = lambda _: 0,
  ):
    """Takes the requests.

    Args:
      requests: those of one prompt next to each other.
      slots: sequences at a time.
      prompts: prompts of one prefill.
      length: prompt -> padded length; prompts of one batch have the same.
    """
    groups = itertools.groupby(requests, key=lambda request: request.prompt)
    self._waiting = [
      (length(prompt), prompt, list(members)) for prompt, members in groups
    ]
    self._waiting.reverse()
    self._prompts = prompts
    self._batches = 0
    # (batch, row, requests that have not started) of each prefilled prompt.
    self._prefilled: list[tuple[int, int, list[settings.Request]]] = []
    self._free = list(range(slots))[::-1]
    self._wanted = _wanted(slots)
    self.running: dict[int, settings.Request] = {}
    self.ready = 0

  @property
  def waiting(self) -> bool:
    """Whether a request has not started."""
    return bool(self._waiting or self._prefilled)

  @property
  def free(self) -> int:
    """Slots that hold nothing."""
    return len(self._free)

  @property
  def short(self) -> bool:
    """Whether more prompts should be prefilled ahead, if any are left."""
    return self.ready < self._wanted

  def batches(self) -> frozenset[int]:
    """Returns the batches of which a request waits for a slot."""
    return frozenset(batch for batch, _, _ in self._prefilled)

  def prefill(self) -> Batch | None:
    """Returns the prompts to prefill next; None if none is left.

    They are the next ones that have the padded length of the very next.
    """
    if not self._waiting:
      return None
    length = self._waiting[-1][0]
    look = self._waiting[-_AHEAD * self._prompts :][::-1]
    chosen = [one for one in look if one[0] == length][: self._prompts]
    taken = {id(one) for one in chosen}
    rest = [one for one in look if id(one) not in taken]
    self._waiting[len(self._waiting) - len(look) :] = rest[::-1]
    batch = Batch(self._batches, length, tuple(one[1] for one in chosen))
    self._batches += 1
    for row, (_, _, members) in enumerate(chosen):
      self._prefilled.append((batch.number, row, members))
      self.ready += len(members)
    return batch

  def place(self) -> list[Placement]:
    """Returns what starts now, of the first batch that has any."""
    placed: list[Placement] = []
    while self._free and self._prefilled:
      batch, row, members = self._prefilled[0]
      if placed and placed[0].batch != batch:
        break
      request = members.pop(0)
      if not members:
        self._prefilled.pop(0)
      slot = self._free.pop()
      self.running[slot] = request
      self.ready -= 1
      placed.append(Placement(slot, batch, row, request))
    return placed

  def finish(self, slot: int) -> settings.Request:
    """Frees a slot; returns the request that sat in it."""
    self._free.append(slot)
    return self.running.pop(slot)
