"""What may be done with one problem, and what comes of it.

A policy is a row of stages, each of which draws samples from one model.  Its
outcome is worked out on every node of a population: how many samples it is
expected to draw, how many of them are right, and the chance that one is.

Where a policy stops a problem once it has enough right samples, samples come in
rounds, which are graded before the next one.  What happens depends then on the
number of right samples so far, which is followed as a Markov chain.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from wcse_jax.metrics import chances


Array = npt.NDArray[np.float64]

KINDS = ('skip', 'pure', 'mix', 'cascade', 'adaptive')


@dataclasses.dataclass(frozen=True, order=True)
class Stage:
  """Samples from one model.

  Attributes:
    model: its number.
    samples: most samples of a problem.
    round: samples that are drawn before any of them is graded.
  """

  model: int
  samples: int
  round: int


@dataclasses.dataclass(frozen=True, order=True)
class Policy:
  """What is done with a problem.

  Attributes:
    stages: one after another; none at all skips the problem.
    until: right samples after which a problem is left alone; 0: all samples of
      all stages are drawn.
  """

  stages: tuple[Stage, ...] = ()
  until: int = 0

  @property
  def kind(self) -> str:
    """One of `KINDS`."""
    if not self.stages:
      return 'skip'
    if not self.until:
      return 'pure' if len(self.stages) == 1 else 'mix'
    whole = all(stage.round == stage.samples for stage in self.stages)
    if whole and len(self.stages) == 1:
      return 'pure'
    return 'cascade' if whole else 'adaptive'


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What comes of a policy, on each node of a population.

  Attributes:
    drawn_XM: expected samples of each model.
    asked_XM: expected rounds of each model: a prompt is read in each.
    solved_X: chance that some sample is right.
  """

  drawn_XM: Array
  asked_XM: Array
  solved_X: Array


def outcome(policy: Policy, p_XM: Array) -> Outcome:
  """Returns what comes of a policy on problems of given chances."""
  if not policy.until:
    drawn_XM, asked_XM = np.zeros(p_XM.shape), np.zeros(p_XM.shape)
    none_X = np.ones(len(p_XM))
    for stage in policy.stages:
      drawn_XM[:, stage.model] += stage.samples
      asked_XM[:, stage.model] += 1
      none_X = none_X * (1 - p_XM[:, stage.model]) ** stage.samples
    return Outcome(drawn_XM, asked_XM, 1 - none_X)
  chain = Chain(p_XM, policy.until)
  for stage in policy.stages:
    for size in rounds(stage):
      chain = chain.after(stage.model, size)
  return chain.outcome()


class Chain:
  """Problems that are being worked on until they have enough right samples.

  Attributes:
    drawn_XM: expected samples so far, of each model.
    asked_XM: expected rounds so far, of each model.
    open_XT: chance of 0 to T-1 right samples: still worked on.
  """

  def __init__(self, p_XM: Array, until: int):
    self._p_XM = p_XM
    self.drawn_XM = np.zeros(p_XM.shape)
    self.asked_XM = np.zeros(p_XM.shape)
    self.open_XT = np.zeros((len(p_XM), until))
    self.open_XT[:, 0] = 1.0
    # Chances of a round's right samples, shared by all that follows.
    self._right: dict[tuple[int, int], Array] = {}

  @property
  def solved_X(self) -> Array:
    return 1 - self.open_XT[:, 0]

  def outcome(self) -> Outcome:
    return Outcome(self.drawn_XM, self.asked_XM, self.solved_X)

  def after(self, model: int, samples: int) -> 'Chain':
    """Returns the chain after a round of samples."""
    until = self.open_XT.shape[1]
    if (model, samples) not in self._right:
      self._right[model, samples] = _binomial(
        self._p_XM[:, model], samples, min(samples, until - 1)
      )
    right_XC = self._right[model, samples]
    moved_XT = np.zeros_like(self.open_XT)
    for right in range(right_XC.shape[1]):
      moved_XT[:, right:] += (
        self.open_XT[:, : until - right] * right_XC[:, right, None]
      )
    chain = Chain.__new__(Chain)
    chain._p_XM, chain.open_XT = self._p_XM, moved_XT
    chain._right = self._right
    chain.drawn_XM = self.drawn_XM.copy()
    chain.asked_XM = self.asked_XM.copy()
    open_X = self.open_XT.sum(axis=1)
    chain.drawn_XM[:, model] += samples * open_X
    chain.asked_XM[:, model] += open_X
    return chain


def _binomial(p_X: Array, n: int, most: int) -> Array:
  """Returns the chances of 0 to `most` right ones among n."""
  found = []
  for count in range(most + 1):
    ways = np.exp(chances.log_choose(n, count))
    found.append(ways * p_X**count * (1 - p_X) ** (n - count))
  return np.stack(found, 1)


def rounds(stage: Stage) -> Iterator[int]:
  """Yields the samples of each round."""
  left = stage.samples
  while left:
    size = min(stage.round, left)
    yield size
    left -= size


def grid(most: int) -> list[int]:
  """Returns numbers of samples from 1 to `most`, ever further apart.

  All up to 12, then steps of a sixth.
  """
  found, at = [], 1
  while at < most:
    found.append(at)
    at = max(at + 1, round(at * 7 / 6))
  return [*found, most]


def candidates(
  p_XM: Array,
  *,
  kinds: Sequence[str],
  most: int,
  sizes: Sequence[int],
  until: Sequence[int],
  order: Sequence[int],
) -> Iterator[tuple[Policy, Outcome]]:
  """Yields policies with their outcomes, each that `kinds` allow once.

  Args:
    p_XM: chances of a right sample, of each node and model.
    kinds: of `KINDS`; `skip` and `pure` are always in.
    most: samples of a problem by one model.
    sizes: samples of a round, of adaptive policies.
    until: right samples to stop at, of adaptive policies.
    order: the models, the cheapest first; stages follow it.
  """
  counts = grid(most)
  yield Policy(), outcome(Policy(), p_XM)
  for model in order:
    for count in counts:
      policy = Policy((Stage(model, count, count),))
      yield policy, outcome(policy, p_XM)
  pairs = [
    (first, second)
    for i, first in enumerate(order)
    for second in order[i + 1 :]
  ]
  # Coarser where two numbers vary.
  few = [count for i, count in enumerate(counts) if i < 4 or i % 2 == 0]
  for first, second in pairs:
    for kind, stop in (('mix', 0), ('cascade', 1)):
      if kind in kinds:
        for a in few:
          for b in few:
            policy = Policy((Stage(first, a, a), Stage(second, b, b)), stop)
            yield policy, outcome(policy, p_XM)
  if 'adaptive' in kinds:
    for stop, size in itertools.product(until, sizes):
      for model in order:
        yield from _growing(Chain(p_XM, stop), (), stop, model, counts, size)
      for first, second in pairs:
        chain = Chain(p_XM, stop)
        for head, begun in _growing(chain, (), stop, first, few, size, True):
          yield from _growing(begun, head.stages, stop, second, few, size)


def _growing(chain, before, stop, model, counts, size, chains=False):
  """Yields policies whose last stage grows to each of some counts."""
  whole = 0
  for count in counts:
    while (whole + 1) * size <= count:
      chain = chain.after(model, size)
      whole += 1
    rest = count - whole * size
    ended = chain.after(model, rest) if rest else chain
    policy = Policy((*before, Stage(model, count, min(size, count))), stop)
    yield (
      policy,
      ended if chains else ended.outcome(),
    )
