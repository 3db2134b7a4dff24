"""The host's side of sampling: which request sits in which slot.

Requests of one prompt stand together, so that a prompt is prefilled once and
fanned out to its samples; a slot that falls free takes the next request while
the others go on.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

from wcse_jax.sampler import settings


@dataclasses.dataclass(frozen=True)
class Placement:
  """A request that is to start: its slot, and its row of the last prefill."""

  slot: int
  row: int
  request: settings.Request


class Schedule:
  """Requests in waiting, and the requests in the slots.

  Attributes:
    running: slot -> request.
  """

  def __init__(
    self, requests: Iterable[settings.Request], *, slots: int, prompts: int
  ):
    """`slots` sequences at a time; `prompts` prompts in one prefill."""
    groups = itertools.groupby(requests, key=lambda request: request.prompt)
    self._waiting = [(prompt, list(members)) for prompt, members in groups]
    self._waiting.reverse()
    self._prompts = prompts
    self._prefilled: list[tuple[int, list[settings.Request]]] = []
    self._free = list(range(slots))[::-1]
    self.running: dict[int, settings.Request] = {}

  def prefill(self) -> Sequence[tuple[int, ...]]:
    """Returns the prompts to prefill now; none if that is not needed.

    Row i of the prefill is prompt i; the rows stay valid until the next one.
    """
    if self._prefilled or not self._waiting or not self._free:
      return ()
    count = min(self._prompts, len(self._waiting))
    batch = [self._waiting.pop() for _ in range(count)]
    self._prefilled = [(row, members) for row, (_, members) in enumerate(batch)]
    return [prompt for prompt, _ in batch]

  def place(self) -> list[Placement]:
    """Returns what starts now, from the rows of the last prefill."""
    placed = []
    while self._free and self._prefilled:
      row, members = self._prefilled[0]
      request = members.pop(0)
      if not members:
        self._prefilled.pop(0)
      slot = self._free.pop()
      self.running[slot] = request
      placed.append(Placement(slot, row, request))
    return placed

  def finish(self, slot: int) -> settings.Request:
    """Frees a slot; returns the request that sat in it."""
    self._free.append(slot)
    return self.running.pop(slot)
