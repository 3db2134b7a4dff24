"""Majority votes: maj@k, and the vote as verifier without a reference.

Samples without an answer do not vote.  Of answers with equally many votes the
one that came first wins, as in `evaluate.vote`; where k samples are drawn in
random order each of them is as likely to be first.  Samples whose verdict is
timeout or error are left out, as everywhere.

maj@k is the expectation over all draws of k from the n graded samples: exact up
to n = `EXACT`, beyond it the mean over `ORDERS` random orders of each problem's
samples (fixed seed), whose error is a tenth of the spread between problems or
less.
"""

import collections
import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import special

from wcse_jax.metrics import table as tables


EXACT = 32
ORDERS = 128
# Votes of random orders held at once.
_BLOCK = 2**20


@dataclasses.dataclass(frozen=True, eq=False)
class Ballot:
  """The votes of a table, one entry for each problem and answer (letter A).

  Entries are in the order of problems, then of the first sample index.

  Attributes:
    problem_A: position of the problem.
    votes_A: samples with this answer.
    right_A: whether one of them is right.
    n_Q: graded samples of each problem.
  """

  problem_A: npt.NDArray[np.int64]
  votes_A: npt.NDArray[np.int64]
  right_A: npt.NDArray[np.bool_]
  n_Q: npt.NDArray[np.int64]

  @classmethod
  def of(cls, table: tables.Table) -> 'Ballot':
    """Returns the votes of a table's graded samples."""
    voting_M = table.graded_M & (table.answer_M >= 0)
    problem_M = table.problem_M[voting_M].astype(np.int64)
    answer_M = table.answer_M[voting_M]
    width = int(answer_M.max(initial=0)) + 1
    _, first_A, entry_M, votes_A = np.unique(
      problem_M * width + answer_M,
      return_index=True,
      return_inverse=True,
      return_counts=True,
    )
    right_A = np.bincount(
      entry_M, weights=table.right_M[voting_M], minlength=votes_A.size
    )
    order = np.argsort(first_A)
    return cls(
      problem_M[first_A][order], votes_A[order], right_A[order] > 0, table.n_Q
    )

  @functools.cached_property
  def winner_Q(self) -> npt.NDArray[np.int64]:
    """Entry of each problem's majority answer among all n; -1 for none."""
    found_Q = np.full(self.n_Q.size, -1)
    # Stable: of equal votes the first entry stays first.
    order = np.lexsort((-self.votes_A, self.problem_A))
    problems, first = np.unique(self.problem_A[order], return_index=True)
    found_Q[problems] = order[first]
    return found_Q

  def right_Q(self) -> npt.NDArray[np.bool_]:
    """Returns whether each problem's majority answer is right."""
    return (self.winner_Q >= 0) & _at(self.right_A, self.winner_Q)

  def votes_Q(self) -> npt.NDArray[np.int64]:
    """Returns the votes of each problem's majority answer."""
    return np.where(self.winner_Q >= 0, _at(self.votes_A, self.winner_Q), 0)

  def share_Q(self) -> npt.NDArray[np.float64]:
    """Returns the share of each problem's samples that vote for the winner."""
    return self.votes_Q() / np.maximum(self.n_Q, 1)

  def chances(
    self, ks: Sequence[int], *, seed: int = 0
  ) -> npt.NDArray[np.float64]:
    """Returns the chance of a right majority, by k and problem.

    Args:
      ks: samples drawn of each problem; where it has fewer, 0 is returned.
      seed: of the random orders.
    """
    found_KQ = np.zeros((len(ks), self.n_Q.size))
    starts = np.searchsorted(self.problem_A, np.arange(self.n_Q.size + 1))
    large: dict[int, list[int]] = {}
    for problem in np.unique(self.problem_A[self.right_A]):
      n = int(self.n_Q[problem])
      part = slice(starts[problem], starts[problem + 1])
      if n > EXACT:
        large.setdefault(n, []).append(int(problem))
        continue
      right, wrong = self._counts(part)
      for at, k in enumerate(ks):
        if k <= n:
          found_KQ[at, problem] = chance(n, k, right, wrong)
    random = np.random.default_rng(seed)
    for n, problems in sorted(large.items()):
      size = max(1, _BLOCK // (ORDERS * n))
      for first in range(0, len(problems), size):
        block = problems[first : first + size]
        found_KQ[:, block] = self._drawn(n, block, starts, ks, random)
    return found_KQ

  def _counts(self, part: slice) -> tuple[tuple[int, ...], tuple[int, ...]]:
    votes, right = self.votes_A[part], self.right_A[part]
    return (
      tuple(sorted(votes[right].tolist())),
      tuple(sorted(votes[~right].tolist())),
    )

  def _drawn(self, n, problems, starts, ks, random):
    """Returns chances_KQ of problems of n samples, from random orders."""
    sizes = [starts[p + 1] - starts[p] for p in problems]
    # The last column is of samples that do not vote.
    width = max(sizes) + 1
    votes = np.full((len(problems), n), width - 1)
    right = np.zeros((len(problems), width), bool)
    for at, (problem, size) in enumerate(zip(problems, sizes)):
      part = slice(starts[problem], starts[problem + 1])
      names = np.repeat(np.arange(size), self.votes_A[part])
      votes[at, : names.size] = names
      right[at, :size] = self.right_A[part]
    orders = random.permuted(np.repeat(votes, ORDERS, axis=0), axis=1)
    rows = np.arange(len(orders))[:, None] * width
    found_KQ = np.zeros((len(ks), len(problems)))
    for at, k in enumerate(ks):
      if k > n:
        continue
      counts = np.bincount(
        (orders[:, :k] + rows).reshape(-1), minlength=len(orders) * width
      ).reshape(len(problems), ORDERS, width)
      counts = counts[..., :-1]
      most = counts.max(axis=-1, keepdims=True)
      tied = (counts == most) & (most > 0)
      # Each of the tied is as likely to have come first.
      share = (tied & right[:, None, :-1]).sum(-1) / np.maximum(tied.sum(-1), 1)
      found_KQ[at] = share.mean(axis=1)
    return found_KQ


@functools.lru_cache(maxsize=2**16)
def chance(
  n: int, k: int, right: tuple[int, ...], wrong: tuple[int, ...]
) -> float:
  """Returns the chance that the majority of k samples is a right answer.

  The numbers of votes in a draw of k without replacement are independent
  binomials, given that they sum to k.  With t votes for one right answer, the
  others have fewer, or as many (then the winner is any of the tied, the
  integral of y**tied over [0, 1]).  The sum to k is picked out of the product
  of generating functions by a discrete Fourier transform, the integral is a
  Gauss-Legendre sum: both are exact for polynomials.

  Args:
    n: graded samples; those in no count do not vote.
    k: samples drawn.
    right: votes of each right answer among all n.
    wrong: votes of each other answer.
  """
  if not right or not 1 <= k <= n:
    return 0.0
  rate = k / n
  groups = collections.Counter(right + wrong)
  silent = n - sum(right) - sum(wrong)
  # Half of the roots of unity: the rest are their conjugates.
  size = n + 1
  z_Z = np.exp(2j * np.pi * np.arange(size // 2 + 1) / size)
  twice_Z = np.full(z_Z.size, 2.0)
  twice_Z[0] = 1.0
  if size % 2 == 0:
    twice_Z[-1] = 1.0
  nodes = min(sum(groups.values()) - 1, k - 1) // 2 + 1
  y_Y, weight_Y = np.polynomial.legendre.leggauss(nodes)
  y_Y, weight_Y = (y_Y + 1) / 2, weight_Y / 2
  most = min(k, max(right))
  t_T = np.arange(1, most + 1)
  factors = {count: _factor(count, rate, t_T, z_Z, y_Y) for count in groups}
  quiet_Z = (1 - rate + rate * z_Z) ** silent
  total = 0.0
  for count, times in collections.Counter(right).items():
    product = np.broadcast_to(quiet_Z[None, :, None], (most, z_Z.size, nodes))
    for other, number in groups.items():
      number -= other == count
      if number:
        product = product * factors[other] ** number
    wanted_TZ = (product @ weight_Y) * z_Z[None] ** (t_T - k)[:, None]
    ways_T = (wanted_TZ.real @ twice_Z) / size
    total += times * float(
      ways_T[:count] @ _binomial(count, rate)[1 : most + 1]
    )
  return min(1.0, max(0.0, total / float(_binomial(n, rate)[k])))


def _factor(count, rate, t_T, z_Z, y_Y):
  """Returns the generating function of an answer with at most t votes.

  Of shape (t, z, y); votes are counted by powers of z, a tie by y.
  """
  votes_S = np.arange(count + 1)
  terms_SZ = _binomial(count, rate)[:, None] * z_Z ** votes_S[:, None]
  below_SZ = np.concatenate([np.zeros((1, z_Z.size)), np.cumsum(terms_SZ, 0)])
  below_TZ = below_SZ[np.minimum(t_T, count + 1)]
  tie_TZ = np.where(
    (t_T <= count)[:, None], terms_SZ[np.minimum(t_T, count)], 0
  )
  return below_TZ[..., None] + tie_TZ[..., None] * y_Y


@functools.lru_cache(maxsize=2**12)
def _binomial(count: int, rate: float) -> npt.NDArray[np.float64]:
  """Returns the chance of 0 to `count` of as many."""
  k_S = np.arange(count + 1)
  return np.exp(
    special.gammaln(count + 1)
    - special.gammaln(k_S + 1)
    - special.gammaln(count - k_S + 1)
    + special.xlogy(k_S, rate)
    + special.xlog1py(count - k_S, -rate)
  )


def _at(values_A: npt.NDArray, entry_Q: npt.NDArray[np.int64]) -> npt.NDArray:
  """Returns the value of each problem's entry; anything where it has none."""
  if not values_A.size:
    return np.zeros(entry_Q.shape, values_A.dtype)
  return values_A[entry_Q]
