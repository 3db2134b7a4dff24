"""How the chance of a right sample, p, is distributed over problems.

A reading takes p to follow a distribution of two parameters, beside a share of
problems that are never solved (p = 0) and a share that always are (p = 1),
where it allows for them.  All that the samples say of p is how many problems
had how many right ones, so a reading is fitted to that histogram, by maximum
likelihood.

For given parameters the best shares of the two ends have a closed form; what is
searched is the plane of the parameters.  A resample of the problems is fitted
on a grid around the fit to the problems as they are: its axes are those of the
likelihood there, and a parabola through the best point's neighbours gives the
rest.  So thousands of resamples cost a few matrix products, and no special
function is worked out for each.

Source: Skellam 1948, JRSS B 10, 257-261 (beta-binomial); Kazdan et al. 2025,
arXiv:2510.05197 (beta-binomial for pass@k).
"""

import dataclasses
import functools
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy import special


Array = npt.NDArray[np.float64]

TINY = 1e-300
# The grid of resamples: this many points on each axis, over this many standard
# deviations either way.
_POINTS = 11
_SPAN = 4.5
# Deviations are taken to be no more than this (log units): what the samples
# do not tell, resamples do not either.
_WIDEST = 1.0
# Newton steps for the fit to the problems as they are, and the differences by
# which slopes are taken.
_STEPS = 30
_DELTA = 0.02
_STAR = np.array([(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1)])
_SCALES = np.array([1.0, 0.5, 0.25, 0.05])
# Nodes of the normal distribution, evenly spaced: log-odds of counts are narrow
# beside those of problems, so that fewer, chosen for polynomials, would miss.
_X = np.linspace(-6, 6, 201)
_W = np.exp(-(_X**2) / 2)
_W = _W / _W.sum()


class Family(Protocol):
  """A distribution of p on (0, 1) with two parameters, theta, in the last axis.

  Attributes:
    low: least values of theta that are searched.
    high: largest values.
  """

  low: Array
  high: Array

  def log_pmf(self, n: int, theta: Array) -> Array:
    """Returns log P(count = 0 to n) of n samples, in a last axis."""

  def none(self, k: npt.ArrayLike, theta: Array) -> Array:
    """Returns the mean of (1-p)^k; k, any number >= 0, is in a last axis."""

  def quantile(self, share: Array, theta: Array) -> Array:
    """Returns the p below which a share of the problems lies, of one theta."""


class _Beta:
  """A beta distribution; theta is (log a, log b)."""

  low = np.log([0.01, 0.01])
  high = np.log([100.0, 1e4])

  def log_pmf(self, n, theta):
    a, b = np.exp(theta[..., 0, None]), np.exp(theta[..., 1, None])
    count_C = np.arange(n + 1)
    return (
      log_choose(n, count_C)
      + special.betaln(a + count_C, b + n - count_C)
      - special.betaln(a, b)
    )

  def none(self, k, theta):
    a, b = np.exp(theta[..., 0, None]), np.exp(theta[..., 1, None])
    return np.exp(special.betaln(a, b + k) - special.betaln(a, b))

  def quantile(self, share, theta):
    return special.betaincinv(*np.exp(theta), share)


class _LogitNormal:
  """Normal log-odds of p; theta is (their mean, log of their deviation)."""

  low = np.array([-12.0, np.log(0.05)])
  high = np.array([12.0, np.log(8.0)])

  def log_pmf(self, n, theta):
    odds = theta[..., 0, None] + np.exp(theta[..., 1, None]) * _X
    right, wrong = -np.logaddexp(0, -odds), -np.logaddexp(0, odds)
    count_C = np.arange(n + 1)
    chance = np.exp(
      right[..., None] * count_C + wrong[..., None] * (n - count_C)
    )
    mean = np.einsum('x,...xc->...c', _W, chance)
    return log_choose(n, count_C) + np.log(np.maximum(mean, TINY))

  def none(self, k, theta):
    odds = theta[..., 0, None] + np.exp(theta[..., 1, None]) * _X
    wrong = -np.logaddexp(0, odds)
    k = np.atleast_1d(k)
    return np.einsum('x,...xk->...k', _W, np.exp(wrong[..., None] * k))

  def quantile(self, share, theta):
    return special.expit(theta[0] + np.exp(theta[1]) * special.ndtri(share))


BETA: Family = _Beta()
LOGIT_NORMAL: Family = _LogitNormal()
FAMILIES = {'beta': BETA, 'logit-normal': LOGIT_NORMAL}


@dataclasses.dataclass(frozen=True)
class Reading:
  """What p is taken to follow.

  Attributes:
    family: a key of `FAMILIES`.
    never: whether a share of the problems may have p = 0.
    always: whether a share may have p = 1.
  """

  family: str
  never: bool = False
  always: bool = False

  @property
  def parameters(self) -> int:
    return 2 + self.never + self.always


@dataclasses.dataclass(frozen=True)
class Fit:
  """Distributions of p, one for each weighting of the problems.

  Attributes:
    reading: what p was taken to follow.
    theta_D2: the family's parameters.
    never_D: share of problems with p = 0.
    always_D: share of problems with p = 1.
    fitness_D: log-likelihood (nats) a problem.
  """

  reading: Reading
  theta_D2: Array
  never_D: Array
  always_D: Array
  fitness_D: Array

  @property
  def family(self) -> Family:
    return FAMILIES[self.reading.family]

  def none(self, ks: npt.ArrayLike) -> Array:
    """Returns the chance that k samples of a problem hold no right one.

    Args:
      ks: numbers of samples (K), at least 0, whole or not.

    Returns:
      Shape (D, K).
    """
    ks = np.atleast_1d(np.asarray(ks, np.float64))
    inner_DK = self.family.none(ks, self.theta_D2)
    middle_D = 1 - self.never_D - self.always_D
    found_DK = self.never_D[:, None] + middle_D[:, None] * inner_DK
    return found_DK + self.always_D[:, None] * (ks == 0)

  def quantile(self, share: Array, at: int = 0) -> Array:
    """Returns the p below which a share of the problems lies, by one fit."""
    never, always = self.never_D[at], self.always_D[at]
    middle = max(1 - never - always, TINY)
    inner = np.clip((share - never) / middle, 0, 1)
    found = self.family.quantile(inner, self.theta_D2[at])
    found = np.where(share < never, 0.0, found)
    return np.where(share > 1 - always, 1.0, found)


def fit(reading: Reading, share_DC: Array, problems: int) -> Fit:
  """Returns the most likely distribution for each weighting of the problems.

  Args:
    reading: what p is taken to follow.
    share_DC: share of the problems by the number of right ones among n
      samples, C = n + 1; the first row is of the problems as they are, and the
      others, resamples, are fitted around it.
    problems: how many problems there are.
  """
  family, n = FAMILIES[reading.family], share_DC.shape[1] - 1
  theta_G2, log_pmf_GC = _coarse(reading.family, n)
  own_C = share_DC[0]
  value_G = _profile(own_C, log_pmf_GC, reading)[0]
  theta_2 = _climb(family, own_C, n, reading, theta_G2[np.argmax(value_G)])
  theta_D2 = np.repeat(theta_2[None], len(share_DC), axis=0)
  if len(share_DC) > 1:
    theta_D2[1:] = _around(family, share_DC, n, reading, theta_2, problems)[1:]
  log_pmf_DC = family.log_pmf(n, theta_D2)
  value_D, never_D, always_D = _profile(share_DC, log_pmf_DC, reading)
  return Fit(reading, theta_D2, never_D, always_D, value_D)


def histogram(
  n_Q: npt.NDArray[np.int64],
  right_Q: npt.NDArray[np.int64],
  weights_DQ: Array,
  n: int,
) -> Array:
  """Returns the share of problems by the number of right ones among n.

  Of a problem with more than n samples it is the chance of each number when n
  of them are drawn; those with fewer are left out.

  Args:
    n_Q: samples of each problem.
    right_Q: how many of them are right.
    weights_DQ: how often each problem counts.
    n: samples.

  Returns:
    Shape (D, n + 1).
  """
  kept_Q = n_Q >= n
  n_Q, right_Q = n_Q[kept_Q], right_Q[kept_Q]
  share_DC = weights_DQ[:, kept_Q] @ drawn(n_Q, right_Q, n)
  return share_DC / share_DC.sum(axis=1, keepdims=True)


def drawn(
  n_Q: npt.NDArray[np.int64], right_Q: npt.NDArray[np.int64], n: int
) -> Array:
  """Returns the chance of each number of right ones among n of the n_Q."""
  drawn_C = np.arange(n + 1)
  return np.exp(
    log_choose(right_Q[:, None], drawn_C)
    + log_choose((n_Q - right_Q)[:, None], n - drawn_C)
    - log_choose(n_Q, n)[:, None]
  )


def log_choose(n: npt.ArrayLike, k: npt.ArrayLike) -> Array:
  """Returns log C(n, k), minus infinity outside of 0 <= k <= n."""
  possible = (k >= 0) & (k <= n)
  k = np.where(possible, k, 0)
  value = (
    special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
  )
  return np.where(possible, value, -np.inf)


@functools.lru_cache(maxsize=64)
def _coarse(name: str, n: int) -> tuple[Array, Array]:
  """Returns (theta, log P(count)) on a grid over all that is searched."""
  family = FAMILIES[name]
  axes = [
    np.linspace(low, high, 20)
    for low, high in zip(family.low, family.high, strict=True)
  ]
  theta_G2 = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
  return theta_G2, family.log_pmf(n, theta_G2)


def _climb(family: Family, own_C, n: int, reading: Reading, theta_2) -> Array:
  """Returns the most likely theta near a first guess, by Newton's steps."""

  def value(theta_G2):
    return _profile(own_C, family.log_pmf(n, theta_G2), reading)[0]

  best = value(theta_2)
  for _ in range(_STEPS):
    slope_2, bend_22 = _slopes(value(theta_2 + _DELTA * _STAR), _DELTA)
    bends, axes_22 = np.linalg.eigh(bend_22)
    # Uphill even where the likelihood does not bend down.
    bends = np.minimum(-np.abs(bends), -1e-4)
    step_2 = -axes_22 @ ((axes_22.T @ slope_2) / bends)
    step_2 *= min(1.0, 1.0 / max(np.abs(step_2).max(), TINY))
    near_G2 = np.clip(
      theta_2 + _SCALES[:, None] * step_2, family.low, family.high
    )
    value_G = value(near_G2)
    at = np.argmax(value_G)
    if not value_G[at] > best:
      break
    moved = np.abs(near_G2[at] - theta_2).max()
    theta_2, best = near_G2[at], value_G[at]
    if moved < 1e-4:
      break
  return theta_2


def _around(
  family: Family, share_DC, n: int, reading: Reading, theta_2, problems: int
) -> Array:
  """Returns the most likely theta of each weighting, near that of the first."""
  star = _profile(
    share_DC[0], family.log_pmf(n, theta_2 + _DELTA * _STAR), reading
  )[0]
  bends, axes_22 = np.linalg.eigh(-problems * _slopes(star, _DELTA)[1])
  width_2 = 1 / np.sqrt(np.maximum(bends, _WIDEST**-2))
  axis_P = np.linspace(-_SPAN, _SPAN, _POINTS)
  grid_G2 = np.stack(np.meshgrid(axis_P, axis_P, indexing='ij'), -1)
  theta_G2 = theta_2 + (grid_G2.reshape(-1, 2) * width_2) @ axes_22.T
  theta_G2 = np.clip(theta_G2, family.low, family.high)
  log_pmf_GC = family.log_pmf(n, theta_G2)
  found = []
  # Blocks of resamples bound the memory.
  for block_DC in np.array_split(share_DC, -(-len(share_DC) // 256)):
    value_DG = _profile(block_DC[:, None], log_pmf_GC, reading)[0]
    found.append(_peaks(value_DG.reshape(-1, _POINTS, _POINTS)))
  place_D2 = np.concatenate(found) * (axis_P[1] - axis_P[0]) - _SPAN
  theta_D2 = theta_2 + (place_D2 * width_2) @ axes_22.T
  return np.clip(theta_D2, family.low, family.high)


def _peaks(value_DPP) -> Array:
  """Returns the place of the largest value of each, in points of the grid."""
  draws = np.arange(len(value_DPP))
  best_D = value_DPP.reshape(len(draws), -1).argmax(axis=1)
  place_D2 = np.stack(np.unravel_index(best_D, (_POINTS, _POINTS)), -1)
  middle_D2 = np.clip(place_D2, 1, _POINTS - 2)
  near_DS = np.stack(
    [
      value_DPP[draws, middle_D2[:, 0] + i, middle_D2[:, 1] + j]
      for i, j in _STAR
    ],
    -1,
  )
  slope_D2, bend_D22 = _slopes(near_DS, 1.0)
  determinant_D = np.linalg.det(bend_D22)
  good_D = (bend_D22[:, 0, 0] < 0) & (determinant_D > 0)
  bend_D22 = np.where(good_D[:, None, None], bend_D22, -np.eye(2))
  step_D2 = -np.linalg.solve(bend_D22, slope_D2[..., None])[..., 0]
  parabola_D2 = middle_D2 + np.clip(step_D2, -1, 1)
  return np.where(good_D[:, None], parabola_D2, place_D2)


def _slopes(value_S, delta: float) -> tuple[Array, Array]:
  """Returns slope and second derivatives from the values on a star.

  Values of minus infinity give no slope that way.
  """
  v = np.nan_to_num(value_S, neginf=-1e6)
  v = [v[..., i] for i in range(len(_STAR))]
  slope_2 = np.stack([(v[1] - v[2]), (v[3] - v[4])], -1) / (2 * delta)
  xx, yy = v[1] + v[2] - 2 * v[0], v[3] + v[4] - 2 * v[0]
  xy = (v[5] + v[6] - v[1] - v[2] - v[3] - v[4] + 2 * v[0]) / 2
  bend_22 = np.stack([np.stack([xx, xy], -1), np.stack([xy, yy], -1)], -2)
  return slope_2, bend_22 / delta**2


def _profile(share, log_pmf, reading: Reading):
  """Returns (log-likelihood, never, always) at the best shares of both ends.

  For given parameters the best shares have a closed form: each end's cell is
  either met exactly, or its share is 0.

  Args:
    share: of problems, by count in the last axis.
    log_pmf: of the family, by count in the last axis.
    reading: which ends may have a share.
  """
  first, last = np.exp(log_pmf[..., 0]), np.exp(log_pmf[..., -1])
  none, all_, between = share[..., 0], share[..., -1], share[..., 1:-1]
  inner = np.einsum('...c,...c->...', between, log_pmf[..., 1:-1])
  middle = between.sum(-1)
  best = None
  for free_never in (False, True)[: 1 + reading.never]:
    for free_always in (False, True)[: 1 + reading.always]:
      met = first * free_never + last * free_always
      wanted = none * free_never + all_ * free_always
      # Mass of the middle part: what is left is shared out as it says.
      part = (1 - wanted) / np.maximum(1 - met, TINY)
      zero = (none - part * first) * free_never
      one = (all_ - part * last) * free_always
      value = (
        special.xlogy(none, np.maximum(zero + part * first, TINY))
        + special.xlogy(all_, np.maximum(one + part * last, TINY))
        + special.xlogy(middle, np.maximum(part, TINY))
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
