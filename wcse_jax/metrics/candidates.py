"""Intervals that were tried for students and for data, and what was chosen.

Each takes many studies at once and returns (low, high) of each.  Only
`metrics.simulated_studies` and `metrics.simulated_data` use them: a study's own
intervals are those of `metrics.replicated` and `metrics.intervals`.

Letters: Y studies, D resamples, R replicates, Q problems.

Sources: Owen 2007, The pigeonhole bootstrap; Efron and Tibshirani 1993, An
Introduction to the Bootstrap, chapters 12 (bootstrap-t) and 14 (BCa);
Satterthwaite 1946; Welch 1947; Hillis 2007.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from wcse_jax.metrics import intervals, replicated


Array = npt.NDArray[np.float64]
Bounds = tuple[Array, Array]

_TAIL = intervals.TAILS[1]
_DRAWS = 1000


def of_students(
  arms: Sequence[npt.NDArray], *, resample: bool = True
) -> dict[str, Bounds]:
  """Returns intervals of the mean of the first arm less that of the second.

  Of one replicate there is but one.

  Args:
    arms: values_YRQ of each arm of a setup, with as many replicates each.
    resample: whether to try those that resample, too.
  """
  a_YRQ, b_YRQ = arms[:2]
  whole = [replicated.moments(one) for one in arms]
  a, b = whole[:2]
  pools = [replicated.runs(whole[:count]) for count in range(2, len(arms) + 1)]

  def chosen(known: replicated.Runs) -> Bounds:
    found = replicated.difference_of(a, b, known)
    return found.low, found.high

  if a.replicates < 2:
    return {'chosen, over problems alone': chosen(pools[0])}
  found = {
    'ANOVA, Satterthwaite': _satterthwaite(a, b, pools[0], cut=True),
    'ANOVA, Hillis': _satterthwaite(a, b, pools[0], cut=False),
    'chosen, paired by replicate': _paired(a_YRQ - b_YRQ, a, b),
    'chosen, arms apart (Welch)': _welch(a, b),
  }
  for count, known in enumerate(pools, start=2):
    found[f'chosen, {count} arms pooled'] = chosen(known)
  if resample:
    stretch = np.sqrt(a.replicates / (a.replicates - 1))
    found |= {
      'two-way bootstrap': _two_way(a_YRQ - b_YRQ, 1.0),
      'two-way bootstrap, runs stretched': _two_way(a_YRQ - b_YRQ, stretch),
      'two-way bootstrap-t': _studentised(a_YRQ, b_YRQ),
    }
  return found


def _two_way(values_YRQ: npt.NDArray, stretch: float) -> Bounds:
  """Returns the percentile interval of rows and columns drawn anew.

  Args:
    values_YRQ: differences, paired by replicate.
    stretch: of the replicates' means around their mean.
  """
  _, replicates, problems = values_YRQ.shape
  of_problems, of_runs = _weights(problems), _weights(replicates)
  means_DYR = np.tensordot(of_problems, values_YRQ, (1, 2)) / problems
  middle_YR = values_YRQ.mean(axis=2)
  shift_YR = (stretch - 1) * (middle_YR - middle_YR.mean(axis=1)[:, None])
  means_DY = np.einsum('dyr,dr->dy', means_DYR + shift_YR, of_runs / replicates)
  low, high = np.quantile(means_DY, intervals.TAILS, axis=0)
  return low, high


def _studentised(a_YRQ: npt.NDArray, b_YRQ: npt.NDArray) -> Bounds:
  """Returns the bootstrap-t interval; runs of either arm are drawn apart."""
  problems = a_YRQ.shape[2]
  counts = [a_YRQ.shape[1], b_YRQ.shape[1]]
  of_problems = _weights(problems) / problems
  picks = [_weights(count, 1 + at) for at, count in enumerate(counts)]
  picks_DE = np.concatenate(
    [picks[0] / counts[0], -picks[1] / counts[1]], axis=1
  )
  lows, highs = [], []
  # One study at a time: the products of replicates need the room.
  for a_RQ, b_RQ in zip(a_YRQ, b_YRQ):
    values_EQ = np.concatenate([a_RQ, b_RQ]).astype(np.float64)
    runs_DE = of_problems @ values_EQ.T
    value_D = np.einsum('de,de->d', runs_DE, picks_DE)
    squares_DQ = (picks_DE @ values_EQ) ** 2
    of_problems_D = np.einsum('dq,dq->d', squares_DQ, of_problems)
    variance_D = (of_problems_D - value_D**2) / problems
    for at, (pick, count) in enumerate(zip(picks, counts)):
      own_DR = runs_DE[:, at * counts[0] : at * counts[0] + count]
      share_DR = pick / count
      first_D = np.sum(share_DR * own_DR, axis=1)
      second_D = np.sum(share_DR * own_DR**2, axis=1)
      variance_D += np.maximum(second_D - first_D**2, 0) / max(count - 1, 1)
    value = a_RQ.mean() - b_RQ.mean()
    variance = (a_RQ.mean(0) - b_RQ.mean(0)).var(ddof=1) / problems
    for one in (a_RQ, b_RQ):
      if len(one) > 1:
        variance += one.mean(1).var(ddof=1) / len(one)
    kept = variance_D > 1e-12
    t_D = (value_D[kept] - value) / np.sqrt(variance_D[kept])
    ends = np.quantile(t_D, intervals.TAILS) if kept.any() else (0.0, 0.0)
    lows.append(value - ends[1] * np.sqrt(variance))
    highs.append(value - ends[0] * np.sqrt(variance))
  return np.array(lows), np.array(highs)


def _parts(a, b, between, noise) -> tuple[Array, Array, Array, Array]:
  """Returns the difference and its variance over problems, in parts."""
  each_YQ = a.problem_Q - b.problem_Q
  of_problems = each_YQ.var(axis=-1, ddof=1) / a.problems
  rest = np.maximum(of_problems - noise, 0.0)
  return each_YQ.mean(axis=-1), of_problems, rest, between + rest


def _satterthwaite(a, b, known: replicated.Runs, cut: bool) -> Bounds:
  """Returns the interval at Satterthwaite's degrees of freedom.

  Args:
    a: one arm.
    b: the other.
    known: of runs.
    cut: whether the variance between runs is cut off at 0 (else that of
      problems is, after Hillis).
  """
  weight = 1 / a.replicates + 1 / b.replicates
  between = weight * known.between
  value, of_problems, rest, variance = _parts(
    a, b, between, weight * known.noise
  )
  other = rest
  if cut:
    other, variance = of_problems, np.maximum(variance, of_problems)
  squares = between**2 / known.degrees + other**2 / (a.problems - 1)
  degrees = variance**2 / np.maximum(squares, 1e-30)
  degrees = np.maximum(degrees, min(known.degrees, a.problems - 1))
  half = special.stdtrit(degrees, _TAIL) * np.sqrt(variance)
  return value - half, value + half


def _weighted(value, between, rest, degrees, problems) -> Bounds:
  t = replicated.quantile(between, rest, degrees, problems)
  half = t * np.sqrt(between + rest)
  return value - half, value + half


def _welch(a, b) -> Bounds:
  """Returns the chosen interval, the runs' variances of the arms apart."""
  parts = [arm.between / arm.replicates for arm in (a, b)]
  between = parts[0] + parts[1]
  noise = a.noise / a.replicates + b.noise / b.replicates
  value, _, rest, _ = _parts(a, b, between, noise)
  squares = sum(
    part**2 / (arm.replicates - 1) for part, arm in zip(parts, (a, b))
  )
  degrees = between**2 / np.maximum(squares, 1e-30)
  least = min(a.replicates, b.replicates) - 1
  return _weighted(value, between, rest, np.maximum(degrees, least), a.problems)


def _paired(difference_YRQ: npt.NDArray, a, b) -> Bounds:
  """Returns the chosen interval, replicates taken to be pairs."""
  own = replicated.moments(difference_YRQ)
  between = own.between / own.replicates
  value, _, rest, _ = _parts(a, b, between, own.noise / own.replicates)
  return _weighted(value, between, rest, own.replicates - 1, own.problems)


def of_means(values_YQ: Array) -> dict[str, Bounds]:
  """Returns intervals over problems of the mean of values, by method.

  Args:
    values_YQ: of each problem, or differences of two models on it.
  """
  _, problems = values_YQ.shape
  weights_DQ = _weights(problems) / problems
  value = values_YQ.mean(axis=1)
  means_DY = weights_DQ @ values_YQ.T
  squares_DY = weights_DQ @ (values_YQ**2).T
  low, high = np.quantile(means_DY, intervals.TAILS, axis=0)
  deviation = values_YQ.std(axis=1)
  # Where all values drawn are alike, a resample is out of all bounds.
  errors_DY = np.sqrt(np.maximum(squares_DY - means_DY**2, 1e-12))
  ends = np.quantile((means_DY - value) / errors_DY, intervals.TAILS, axis=0)
  half = special.stdtrit(problems - 1, _TAIL) * np.sqrt(
    values_YQ.var(axis=1, ddof=1) / problems
  )
  return {
    'percentile bootstrap': (low, high),
    'BCa bootstrap': _accelerated(values_YQ, means_DY),
    'bootstrap-t': (value - ends[1] * deviation, value - ends[0] * deviation),
    't': (value - half, value + half),
  }


def _accelerated(values_YQ: Array, means_DY: Array) -> Bounds:
  value = values_YQ.mean(axis=1)
  off_YQ = values_YQ - value[:, None]
  below = np.mean(means_DY < value - 1e-9, axis=0)
  below += np.mean(np.abs(means_DY - value) <= 1e-9, axis=0) / 2
  bias = special.ndtri(np.clip(below, 0.5 / _DRAWS, 1 - 0.5 / _DRAWS))
  squares = np.maximum(np.sum(off_YQ**2, axis=1), 1e-30)
  speed = np.sum(off_YQ**3, axis=1) / (6 * squares**1.5)
  ordered_DY = np.sort(means_DY, axis=0)
  found = []
  for tail in intervals.TAILS:
    z = bias + special.ndtri(tail)
    place = special.ndtr(bias + z / (1 - speed * z)) * _DRAWS
    at = np.clip(place.astype(int), 0, _DRAWS - 1)
    found.append(ordered_DY[at, np.arange(len(value))])
  return found[0], found[1]


def scored(ends_2Y: npt.ArrayLike, truth: float) -> dict[str, Any]:
  """Returns how good the intervals are that (low, high) are of.

  `coverage` is the share that holds the truth, `coverage_error` its standard
  error, `width` the mean one, `apart` the share that leaves 0 out: false
  alarms where the truth is 0.
  """
  low, high = np.asarray(ends_2Y)
  # A truth that is an end is held, whatever rounding does.
  held = float(np.mean((low <= truth + 1e-9) & (truth <= high + 1e-9)))
  return {
    'studies': len(low),
    'coverage': held,
    'coverage_error': math.sqrt(held * (1 - held) / len(low)),
    'width': float(np.mean(high - low)),
    'apart': float(np.mean((low > 0) | (high < 0))),
  }


@functools.lru_cache(maxsize=8)
def _weights(items: int, seed: int = 0) -> Array:
  """Returns weights_DX of resamples, the same ones for every study."""
  random = np.random.default_rng([seed, items])
  return np.concatenate(list(intervals.weights(random, items, _DRAWS)))
