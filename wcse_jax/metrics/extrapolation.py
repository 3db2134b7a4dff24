"""Coverage at more samples than were drawn.

The problems' chances of a right sample, p, are taken to follow a beta
distribution, beside a share that are always solved (p = 1) and, in a second
reading, a share that never are (p = 0).  The counts of right samples are then
beta-binomial with more mass at the ends; the shares and both parameters are
fitted by maximum likelihood.

A fit is asked only for what the samples do not say.  Of n samples a problem,
coverage at k > n is

  coverage@n + mean over problems of P(no right one in n, but one in k - n more)

where the last chance follows from the fit for a problem without a right sample.
So the curve goes on from the observed one without a jump, and a wrong shape
harms its tail alone.

Few samples hardly tell a problem of p = 0 from one of p = 0.01, and beyond n
that is what counts.  So both readings are fitted: the value is their mean,
weighted by how well each fits (BIC), and the interval reaches from the lower of
the two lower ends to the higher of the two upper ends, each reading refitted to
resampled problems.  Of either reading alone the intervals held the truth in as
few as 0 to 30 of 100 cases where the other was true; docs/results/metrics.md
has the figures.

Good and Toulmin's series (Biometrika 43, 1956, 45-63) needs no shape, but its
terms grow without bound from k = 2 n on, where an extrapolation is wanted.

Source: Skellam 1948, JRSS B 10, 257-261 (beta-binomial); Kazdan et al. 2025,
arXiv:2510.05197 (beta-binomial for pass@k).  The second reading, the
continuation from coverage@n and the interval are this project's.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from wcse_jax.metrics import coverage, intervals


DRAWS = 500
# Fewer samples a problem do not tell the shape of a distribution.
LEAST = 4
# The fit is of equally many samples a problem: as many as this share of the
# problems has.  Those with fewer (timeouts) are predicted, not fitted.
_REACHED = 0.9
# Coarse grid of log(a) and log(b); its step is then halved around the best
# point.
_LOG_A = np.linspace(np.log(0.01), np.log(100), 24)
_LOG_B = np.linspace(np.log(0.01), np.log(1e4), 36)
_HALVINGS = 6
_AROUND = np.array([(x, y) for x in (0, -1, 1) for y in (0, -1, 1)])
_TINY = 1e-300


@dataclasses.dataclass(frozen=True)
class Fit:
  """Distributions of the chance p, one for each weighting of the problems.

  Attributes:
    never_D: share of problems with p = 0.
    always_D: share of problems with p = 1.
    a_D: first parameter of the beta distribution of the others.
    b_D: its second parameter.
    fitness_D: log-likelihood (nats) a problem.
  """

  never_D: npt.NDArray[np.float64]
  always_D: npt.NDArray[np.float64]
  a_D: npt.NDArray[np.float64]
  b_D: npt.NDArray[np.float64]
  fitness_D: npt.NDArray[np.float64]

  def none(self, k: int) -> npt.NDArray[np.float64]:
    """Returns the chance that k samples of a problem hold no right one."""
    beta_D = np.exp(
      special.betaln(self.a_D, self.b_D + k)
      - special.betaln(self.a_D, self.b_D)
    )
    return self.never_D + (1 - self.never_D - self.always_D) * beta_D


def coverage_at(
  n_Q: npt.ArrayLike,
  right_Q: npt.ArrayLike,
  ks: Sequence[int],
  *,
  draws: int = DRAWS,
  seed: int = 0,
) -> list[dict[str, Any]]:
  """Returns coverage@k with intervals, observed where it can be.

  Args:
    n_Q: graded samples of each problem; problems without any are left out.
    right_Q: how many of them are right.
    ks: numbers of samples, also beyond n.
    draws: number of bootstrap resamples.
    seed: of the resampling.

  Returns:
    For each k an Estimate with `k` and `extrapolated`: whether some problem has
    fewer than k samples.  An extrapolated one is None where fewer than
    `LEAST` samples a problem are at hand.
  """
  n_Q, right_Q = _graded(n_Q, right_Q)
  rows = []
  beyond = [k for k in ks if n_Q.size and k > n_Q.min()]
  predicted: dict[int, dict[str, Any]] = {}
  if beyond and _common(n_Q) >= LEAST:
    weights_DQ = _weights(n_Q.size, draws, seed)
    reading = _Reading(n_Q, right_Q, beyond, weights_DQ)
    for at, k in enumerate(beyond):
      predicted[k] = _estimate(
        reading.value()[at], reading.values_VDK[:, 1:, at], n_Q.size
      )
  for k in ks:
    if k in beyond or not n_Q.size:
      row = predicted.get(k, _undefined(n_Q.size))
    else:
      row = intervals.mean(
        coverage.coverage(n_Q, right_Q, k), draws=draws, seed=seed
      )
    rows.append({'k': k, **row, 'extrapolated': k in beyond})
  return rows


def difference(
  a: tuple[npt.ArrayLike, npt.ArrayLike],
  b: tuple[npt.ArrayLike, npt.ArrayLike],
  k_a: int,
  k_b: int,
  *,
  draws: int = DRAWS,
  seed: int = 0,
) -> dict[str, Any]:
  """Returns the Estimate of coverage of a at k_a less that of b at k_b.

  Both are refitted to the same resampled problems, so the interval is paired;
  it is the hull over both readings of both.

  Args:
    a: (n_Q, right_Q) of one model.
    b: the same of another model on the same problems.
    k_a: samples of a problem by a.
    k_b: samples of a problem by b.
    draws: number of bootstrap resamples.
    seed: of the resampling.
  """
  (n_a, right_a), (n_b, right_b) = (
    [np.asarray(x, np.int64) for x in pair] for pair in (a, b)
  )
  if n_a.shape != n_b.shape:
    raise ValueError(
      f'a and b must be of the same problems; got {n_a.size} and {n_b.size}.'
    )
  both = (n_a > 0) & (n_b > 0)
  n_a, right_a, n_b, right_b = (x[both] for x in (n_a, right_a, n_b, right_b))
  if not n_a.size or min(_common(n_a), _common(n_b)) < LEAST:
    return _undefined(n_a.size)
  weights_DQ = _weights(n_a.size, draws, seed)
  of_a = _Reading(n_a, right_a, [k_a], weights_DQ)
  of_b = _Reading(n_b, right_b, [k_b], weights_DQ)
  gaps_VDK = of_a.values_VDK[:, None] - of_b.values_VDK[None]
  return _estimate(
    of_a.value()[0] - of_b.value()[0],
    gaps_VDK[:, :, 1:, 0].reshape(-1, draws),
    n_a.size,
  )


def fit(
  n_Q: npt.ArrayLike,
  right_Q: npt.ArrayLike,
  weights_DQ: npt.NDArray[np.float64] | None = None,
  *,
  never: bool = True,
) -> Fit:
  """Returns the most likely distribution for each weighting of the problems.

  Args:
    n_Q: graded samples of each problem, at least 1.
    right_Q: how many are right.
    weights_DQ: how often each problem counts; None: once, D = 1.
    never: whether a share of the problems may have p = 0.
  """
  n_Q, right_Q = np.asarray(n_Q, np.int64), np.asarray(right_Q, np.int64)
  if weights_DQ is None:
    weights_DQ = np.ones((1, n_Q.size))
  n = _common(n_Q)
  share_DC = _histogram(n_Q, right_Q, weights_DQ, n)
  a_G, b_G = (g.ravel() for g in np.meshgrid(_LOG_A, _LOG_B))
  grid_GC = _log_pmf(n, a_G, b_G)
  best_D = np.concatenate(
    [
      np.argmax(_profile(part_DC[:, None], grid_GC[None], never)[0], axis=1)
      # Blocks of 16 resamples bound the memory.
      for part_DC in np.array_split(share_DC, -(-len(share_DC) // 16))
    ]
  )
  a_D, b_D = a_G[best_D], b_G[best_D]
  step = np.array([_LOG_A[1] - _LOG_A[0], _LOG_B[1] - _LOG_B[0]])
  for _ in range(_HALVINGS):
    step = step / 2
    near_a, near_b = (
      x[:, None] + step[i] * _AROUND[:, i] for i, x in enumerate((a_D, b_D))
    )
    value_DG, _, _ = _profile(
      share_DC[:, None], _log_pmf(n, near_a, near_b), never
    )
    best_D1 = np.argmax(value_DG, axis=1)[:, None]
    a_D = np.take_along_axis(near_a, best_D1, 1)[:, 0]
    b_D = np.take_along_axis(near_b, best_D1, 1)[:, 0]
  value_D, never_D, always_D = _profile(share_DC, _log_pmf(n, a_D, b_D), never)
  return Fit(never_D, always_D, np.exp(a_D), np.exp(b_D), value_D)


class _Reading:
  """Coverage by both readings (letter V), for each weighting, at each k.

  The first weighting is of the problems as they are.
  """

  def __init__(self, n_Q, right_Q, ks, weights_DQ):
    self._problems = n_Q.size
    self._fits = [
      fit(n_Q, right_Q, weights_DQ, never=never) for never in (False, True)
    ]
    self.values_VDK = np.stack(
      [
        np.stack([_covered(n_Q, right_Q, k, one, weights_DQ) for k in ks], 1)
        for one in self._fits
      ]
    )

  def value(self) -> npt.NDArray[np.float64]:
    """Returns the mean of the readings at each k, weighted by BIC.

    Source: Schwarz 1978, Annals of Statistics 6, 461-464.
    """
    without, with_never = (one.fitness_D[0] for one in self._fits)
    gain = self._problems * (with_never - without)
    share = special.expit(gain - np.log(self._problems) / 2)
    return (1 - share) * self.values_VDK[0, 0] + share * self.values_VDK[1, 0]


def _covered(n_Q, right_Q, k, fitted: Fit, weights_DQ):
  """Returns coverage@k of each weighting."""
  sure_Q = (right_Q > 0).astype(np.float64)
  enough_Q = n_Q >= k
  sure_Q[enough_Q] = coverage.coverage(n_Q[enough_Q], right_Q[enough_Q], k)
  total_D = weights_DQ @ sure_Q
  none_D = fitted.none(k)
  open_Q = ~enough_Q & (right_Q == 0)
  for n in np.unique(n_Q[open_Q]):
    before_D = np.maximum(fitted.none(int(n)), _TINY)
    count_D = weights_DQ[:, open_Q & (n_Q == n)].sum(axis=1)
    # Where the fit says that all are solved, none is left to be.
    gained_D = np.where(before_D > _TINY, 1 - none_D / before_D, 0.0)
    total_D = total_D + count_D * gained_D
  return total_D / weights_DQ.sum(axis=1)


def _common(n_Q: npt.NDArray[np.int64]) -> int:
  """Returns the number of samples that most problems have."""
  return int(np.quantile(n_Q, 1 - _REACHED, method='lower')) if n_Q.size else 0


def _histogram(n_Q, right_Q, weights_DQ, n: int):
  """Returns the share of problems by the number of right ones among n.

  Of a problem with more than n samples it is the chance of each number when n
  of them are drawn.
  """
  kept_Q = n_Q >= n
  n_Q, right_Q = n_Q[kept_Q], right_Q[kept_Q]
  drawn_C = np.arange(n + 1)
  chance_QC = np.exp(
    _log_choose(right_Q[:, None], drawn_C)
    + _log_choose((n_Q - right_Q)[:, None], n - drawn_C)
    - _log_choose(n_Q, n)[:, None]
  )
  share_DC = weights_DQ[:, kept_Q] @ chance_QC
  return share_DC / share_DC.sum(axis=1, keepdims=True)


def _log_choose(n, k):
  possible = (k >= 0) & (k <= n)
  k = np.where(possible, k, 0)
  value = (
    special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
  )
  return np.where(possible, value, -np.inf)


def _log_pmf(n: int, log_a, log_b):
  """Returns log P(count = 0 to n) of beta-binomials, in a last axis."""
  a, b = np.exp(log_a)[..., None], np.exp(log_b)[..., None]
  count_C = np.arange(n + 1)
  return (
    _log_choose(n, count_C)
    + special.betaln(a + count_C, b + n - count_C)
    - special.betaln(a, b)
  )


def _profile(share, log_pmf, never: bool):
  """Returns (log-likelihood, never, always) at the best shares of both ends.

  For given beta parameters the best shares have a closed form: each end's cell
  is either met exactly, or its share is 0.

  Args:
    share: of problems, by count in the last axis.
    log_pmf: of the beta-binomial, by count in the last axis.
    never: whether a share may have p = 0.
  """
  first, last = np.exp(log_pmf[..., 0]), np.exp(log_pmf[..., -1])
  none, all_, between = share[..., 0], share[..., -1], share[..., 1:-1]
  inner = (between * log_pmf[..., 1:-1]).sum(-1)
  middle = between.sum(-1)
  best = None
  for free_never in (False, True)[: 1 + never]:
    for free_always in (False, True):
      met = first * free_never + last * free_always
      wanted = none * free_never + all_ * free_always
      # Mass of the beta part: what is left is shared out as it says.
      part = (1 - wanted) / np.maximum(1 - met, _TINY)
      zero = (none - part * first) * free_never
      one = (all_ - part * last) * free_always
      value = (
        special.xlogy(none, np.maximum(zero + part * first, _TINY))
        + special.xlogy(all_, np.maximum(one + part * last, _TINY))
        + special.xlogy(middle, np.maximum(part, _TINY))
        + inner
      )
      value = np.where((zero >= 0) & (one >= 0), value, -np.inf)
      found = np.broadcast_arrays(value, zero, one)
      if best is None:
        best = found
      else:
        better = found[0] > best[0]
        best = [np.where(better, x, y) for x, y in zip(found, best)]
  return best


def _graded(n_Q, right_Q):
  n_Q, right_Q = np.asarray(n_Q, np.int64), np.asarray(right_Q, np.int64)
  if n_Q.shape != right_Q.shape or np.any((right_Q < 0) | (right_Q > n_Q)):
    raise ValueError(
      'n_Q and right_Q must be of the same problems, with right_Q between 0 '
      'and n_Q.'
    )
  return n_Q[n_Q > 0], right_Q[n_Q > 0]


def _weights(problems: int, draws: int, seed: int):
  """Returns weights of the problems, ones first, then one row a resample."""
  random = np.random.default_rng(seed)
  return np.concatenate(
    [np.ones((1, problems)), *intervals.weights(random, problems, draws)]
  )


def _estimate(value, resampled_VD, problems: int) -> dict[str, Any]:
  low = high = None
  if problems > 1:
    lows, highs = np.quantile(resampled_VD, intervals.TAILS, axis=1)
    low, high = float(lows.min()), float(highs.max())
  return {'value': float(value), 'low': low, 'high': high, 'n': problems}


def _undefined(problems: int) -> dict[str, Any]:
  return {'value': None, 'low': None, 'high': None, 'n': problems}
