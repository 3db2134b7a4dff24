"""What a peer is asked, and what it says.  No jax here."""

import dataclasses
import itertools
import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol


@dataclasses.dataclass(frozen=True)
class Task:
  """What is to be drawn.

  Attributes:
    prompts: token ids of each problem.
    prefix: the tokens that they all start with.
    samples: of each problem.
    new_tokens: of each sample; no token ends one.
    temperature: divides the logits.
    top_k: most probable tokens kept; 0 keeps all.
    seed: of the draws.
  """

  prompts: tuple[tuple[int, ...], ...]
  prefix: tuple[int, ...]
  samples: int
  new_tokens: int
  temperature: float
  top_k: int
  seed: int

  @property
  def tokens(self) -> int:
    """Tokens that are drawn in all."""
    return len(self.prompts) * self.samples * self.new_tokens

  def batches(self, size: int) -> Iterator[tuple[tuple[int, ...], ...]]:
    """Yields the prompts, `size` problems at a time."""
    for at in range(0, len(self.prompts), size):
      yield self.prompts[at : at + size]


@dataclasses.dataclass(frozen=True)
class Run:
  """What a peer drew, and how long that took.

  Attributes:
    drawn: the tokens of each problem's samples, problem by problem.
    first: seconds up to the first token of every batch: prefill, mostly.
    step: median seconds of one more token of every sample of a batch.
    seconds: of the whole task.
  """

  drawn: list[list[int]]
  first: float
  step: float
  seconds: float

  @property
  def tokens(self) -> int:
    """Tokens that were drawn in all."""
    return sum(map(len, self.drawn))

  @classmethod
  def of(
    cls, drawn: Iterable[list[int]], times: Sequence[Sequence[float]]
  ) -> 'Run':
    """Returns the run of batches one after another.

    Args:
      drawn: the tokens of each sample.
      times: of each batch when it began and when each token was there (s).
    """
    steps = [b - a for batch in times for a, b in itertools.pairwise(batch[1:])]
    return cls(
      drawn=list(drawn),
      first=sum(batch[1] - batch[0] for batch in times),
      step=statistics.median(steps),
      seconds=sum(batch[-1] - batch[0] for batch in times),
    )


class Peer(Protocol):
  """An engine that holds a model.

  Attributes:
    version: of the engine.
    variants: ways of running that are tried at every batch size.
    schedules: whether it is given all problems at once and puts them into
      batches by itself.
  """

  version: str
  variants: tuple[str, ...]
  schedules: bool

  def run(self, task: Task, batch: int, variant: str) -> Run:
    """Draws a task, the samples of `batch` problems at a time."""

  def close(self) -> None:
    """Gives back the memory of the model, which is gone then."""
