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

How the fits are made is in `chances`.  The second reading, the continuation
from coverage@n and the interval are this project's.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from wcse_jax.metrics import chances, coverage, intervals


DRAWS = 500
# Fewer samples a problem do not tell the shape of a distribution.
LEAST = 4
# The fit is of equally many samples a problem: as many as this share of the
# problems has.  Those with fewer (timeouts) are predicted, not fitted.
_REACHED = 0.9


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


class _Reading:
  """Coverage by both readings (letter V), for each weighting, at each k.

  The first weighting is of the problems as they are.
  """

  def __init__(self, n_Q, right_Q, ks, weights_DQ):
    self._problems = n_Q.size
    share_DC = chances.histogram(n_Q, right_Q, weights_DQ, _common(n_Q))
    self._fits = [
      chances.fit(chances.Reading('beta', never, True), share_DC, n_Q.size)
      for never in (False, True)
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


def _covered(n_Q, right_Q, k, fitted: chances.Fit, weights_DQ):
  """Returns coverage@k of each weighting."""
  sure_Q = (right_Q > 0).astype(np.float64)
  enough_Q = n_Q >= k
  sure_Q[enough_Q] = coverage.coverage(n_Q[enough_Q], right_Q[enough_Q], k)
  total_D = weights_DQ @ sure_Q
  none_D = fitted.none(k)[:, 0]
  open_Q = ~enough_Q & (right_Q == 0)
  for n in np.unique(n_Q[open_Q]):
    before_D = np.maximum(fitted.none(int(n))[:, 0], chances.TINY)
    count_D = weights_DQ[:, open_Q & (n_Q == n)].sum(axis=1)
    # Where the fit says that all are solved, none is left to be.
    gained_D = np.where(before_D > chances.TINY, 1 - none_D / before_D, 0.0)
    total_D = total_D + count_D * gained_D
  return total_D / weights_DQ.sum(axis=1)


def _common(n_Q: npt.NDArray[np.int64]) -> int:
  """Returns the number of samples that most problems have."""
  return int(np.quantile(n_Q, 1 - _REACHED, method='lower')) if n_Q.size else 0


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
