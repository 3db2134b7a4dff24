"""Coverage of several models at any number of samples, from one pilot of each.

The estimand is mean coverage over an unlimited population of problems, of which
those of the pilot are a random sample.

Every reading of `READINGS` is fitted to each model's counts.  The curve is
their mean, weighted by how well each fits all models together (BIC, with
`PRIOR`); a reading that is right for one model is taken to be right for the
others, so that what choosing adds to the noise is mostly the same in both
curves of a pair.

The weighted mean is then corrected by what is known to be 0 in expectation
under a right fit: the fit's pass@1 less the observed one, of each model.  Which
share of these is taken off each point follows from the resamples.  Where the
models find the same problems hard this uses the pairing as a joint fit would:
at equal difficulty the gap's deviation is some 10% smaller
(docs/results/planner.md).

Intervals come from resampled problems, the same for all models.  `spread` goes
beyond them: it is the hull of the intervals of every reading, of the
non-parametric fit and of the power law, each on its own.

Sources: BIC: Schwarz 1978, Annals of Statistics 6, 461-464.  Control variates
from resamples: Davison and Hinkley 1997, Bootstrap Methods and their
Application, ch. 9.  Power law in -log coverage: Brown et al. 2024,
arXiv:2407.21787.  Non-parametric maximum likelihood: Kiefer and Wolfowitz 1956,
Annals of Mathematical Statistics 27, 887-906.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from wcse_jax.metrics import chances, coverage, intervals


Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

DRAWS = 500
# Fewer samples a problem do not tell the shape of a distribution.
LEAST = 2
READINGS = tuple(
  chances.Reading(family, never, always)
  for family in chances.FAMILIES
  for never in (False, True)
  for always in (False, True)
)
# Log of the odds before the pilot.  Success of samples mostly follows a beta
# distribution (published curves so far); problems that no model of its size
# ever solves are common in sets of problems, those that are always solved must
# be shown.  How well this does is in docs/results/planner.md.
_LOGIT_NORMAL, _NEVER, _ALWAYS = -2.0, 1.5, -1.0
PRIOR = np.array(
  [
    _LOGIT_NORMAL * (one.family != 'beta')
    + _NEVER * one.never
    + _ALWAYS * one.always
    for one in READINGS
  ]
)
# Readings that no resample believes in so much are passed over.
_DOUBTFUL = 1e-5
# Samples per problem reach at least this share of the problems.
_REACHED = 0.9
# Points of the non-parametric fit, and its steps.
_NODES = 81
_STEPS = 800
_STEPS_DRAW = 150


@dataclasses.dataclass(frozen=True)
class Pilot:
  """Graded samples of some models on the same problems.

  Attributes:
    names: of the models (M).
    n_MQ: graded samples of each problem, at least `LEAST` of most.
    right_MQ: how many of them are right.
  """

  names: tuple[str, ...]
  n_MQ: Counts
  right_MQ: Counts

  @property
  def problems(self) -> int:
    return self.n_MQ.shape[1]

  def of_problems(self, kept_Q: npt.NDArray[np.bool_]) -> 'Pilot':
    """Returns the pilot of some of the problems."""
    return Pilot(self.names, self.n_MQ[:, kept_Q], self.right_MQ[:, kept_Q])

  def common(self, model: int) -> int:
    """Returns the number of samples that most problems have."""
    return int(np.quantile(self.n_MQ[model], 1 - _REACHED, method='lower'))


class Curves:
  """The fits to a pilot, and what follows from them.

  Attributes:
    pilot: what was fitted.
    weights_DU: how often each kind of problem counts; first as they are, then
      one row a resample.
    of_U: a problem of each kind: two with the same counts are alike.
    shares: of each model, `share_DC` as `chances.fit` takes it.
    fits: of each model, one fit a reading.
    belief_RD: weight of each reading.
  """

  def __init__(self, pilot: Pilot, *, draws: int = DRAWS, seed: int = 0):
    self.pilot = pilot
    table = np.concatenate([pilot.n_MQ, pilot.right_MQ])
    _, of_U, counts_U = np.unique(
      table, axis=1, return_index=True, return_counts=True
    )
    self.of_U = of_U
    random = np.random.default_rng(seed)
    total = pilot.problems
    drawn = random.multinomial(total, counts_U / total, size=draws)
    self.weights_DU = np.concatenate([counts_U[None], drawn]).astype(float)
    self.shares = []
    for m in range(len(pilot.names)):
      n_U, right_U = pilot.n_MQ[m, of_U], pilot.right_MQ[m, of_U]
      n = pilot.common(m)
      self.shares.append(chances.histogram(n_U, right_U, self.weights_DU, n))
    self.fits = [
      [chances.fit(reading, share, total) for reading in READINGS]
      for share in self.shares
    ]
    self.belief_RD = self._belief()
    self._off_DM = self._observed(1) - np.stack(
      [self._mean(m, np.ones(1))[:, 0] for m in range(len(pilot.names))], 1
    )

  def _belief(self) -> Array:
    total = self.pilot.problems
    fitness_RD = sum(
      np.stack([one.fitness_D for one in fits]) * total for fits in self.fits
    )
    parameters = np.array([one.parameters for one in READINGS])
    penalty_R = len(self.fits) * parameters * np.log(total) / 2
    belief_RD = special.softmax(
      fitness_RD + (PRIOR - penalty_R)[:, None], axis=0
    )
    belief_RD[belief_RD.max(axis=1) <= _DOUBTFUL] = 0
    return belief_RD / belief_RD.sum(axis=0)

  def _observed(self, k: int) -> Array:
    """Returns observed coverage@k of each weighting and model, (D, M)."""
    return np.stack([observed(share_DC, k) for share_DC in self.shares], 1)

  def _mean(self, model: int, ks: Array) -> Array:
    """Returns the readings' weighted mean at each k, (D, K)."""
    found_DK = np.zeros((len(self.weights_DU), len(ks)))
    for belief_D, one in zip(self.belief_RD, self.fits[model], strict=True):
      if belief_D.any():
        found_DK += belief_D[:, None] * one.none(ks)
    return 1 - found_DK

  def covered(self, model: int, ks: npt.ArrayLike) -> Array:
    """Returns coverage at each k, whole or not, of each weighting: (D, K)."""
    ks = np.atleast_1d(np.asarray(ks, np.float64))
    mean_DK = self._mean(model, ks)
    draws_DM = self._off_DM[1:] - self._off_DM[1:].mean(axis=0)
    moved_DK = mean_DK[1:] - mean_DK[1:].mean(axis=0)
    share_MK = np.linalg.lstsq(draws_DM, moved_DK, rcond=1e-9)[0]
    # A fit that is off by a point at k = 1 is not off by more elsewhere.
    share_MK = np.clip(share_MK, -1, 1)
    return np.clip(mean_DK - self._off_DM @ share_MK, 0, 1)

  def each(self, model: int, ks: npt.ArrayLike) -> dict[str, Array]:
    """Returns coverage by every single fit, (D, K)."""
    ks = np.atleast_1d(np.asarray(ks, np.float64))
    return each(self.shares[model], self.fits[model], ks)

  def spread(self, model: int, ks: npt.ArrayLike) -> Array:
    """Returns (lowest, highest) of all fits' 95% intervals, (2, K)."""
    found = [ends(values_DK[1:]) for values_DK in self.each(model, ks).values()]
    low_RK, high_RK = np.stack(found, 1)
    return np.stack([low_RK.min(axis=0), high_RK.max(axis=0)])


def observed(share_DC: Array, k: int) -> Array:
  """Returns observed coverage@k of histograms of n samples, n >= k: (D,)."""
  n = share_DC.shape[1] - 1
  return share_DC @ coverage.coverage(np.full(n + 1, n), np.arange(n + 1), k)


def each(
  share_DC: Array, fits: Sequence[chances.Fit], ks: Array
) -> dict[str, Array]:
  """Returns coverage at each k by every single fit, (D, K)."""
  found = {label(one.reading): 1 - one.none(ks) for one in fits}
  found['non-parametric'] = 1 - NonParametric(share_DC).none(ks)
  law_DK = power_law(share_DC, ks)
  if law_DK is not None:
    found['power law'] = law_DK
  return found


def backtest(pilot: Pilot, model: int) -> dict[str, Any] | None:
  """Fits to half of each problem's samples, and foretells all of them.

  Of the halves there are many; the histogram that is fitted is their mean.

  Returns:
    `k_fitted`; `k`; `observed`, coverage at k; `foretold` by each fit; None
    where half of the samples are fewer than `LEAST`.
  """
  n = pilot.common(model)
  half = n // 2
  if half < LEAST:
    return None
  own_DQ = np.ones((1, pilot.problems))
  n_Q, right_Q = pilot.n_MQ[model], pilot.right_MQ[model]
  share_DC = chances.histogram(n_Q, right_Q, own_DQ, half)
  fits = [chances.fit(one, share_DC, pilot.problems) for one in READINGS]
  found = each(share_DC, fits, np.array([float(n)]))
  whole_DC = chances.histogram(n_Q, right_Q, own_DQ, n)
  return {
    'k_fitted': half,
    'k': n,
    'observed': float(observed(whole_DC, n)[0]),
    'foretold': {name: float(value[0, 0]) for name, value in found.items()},
  }


def label(reading: chances.Reading) -> str:
  """Returns what a reading is called in tables."""
  ends = [
    name
    for name, there in (('never', reading.never), ('always', reading.always))
    if there
  ]
  return reading.family + (f' + {" + ".join(ends)}' if ends else '')


class NonParametric:
  """Distributions of p on fixed nodes, of maximum likelihood (by EM).

  Beyond the samples at hand it is one of many that fit equally well.
  """

  def __init__(self, share_DC: Array):
    n = share_DC.shape[1] - 1
    # Even on the scale on which counts have one variance.
    self.p_X = np.sin(np.linspace(0, np.pi / 2, _NODES)) ** 2
    count_C = np.arange(n + 1)
    log_XC = (
      chances.log_choose(n, count_C)
      + special.xlogy(count_C, self.p_X[:, None])
      + special.xlog1py(n - count_C, -self.p_X[:, None])
    )
    chance_XC = np.exp(log_XC)
    own = np.full((1, _NODES), 1 / _NODES)
    own = _em(own, share_DC[:1], chance_XC, _STEPS)
    # Nodes without any mass would stay so.
    start_DX = np.repeat(0.9 * own + 0.1 / _NODES, len(share_DC), axis=0)
    self.share_DX = _em(start_DX, share_DC, chance_XC, _STEPS_DRAW)
    self.share_DX[0] = own[0]

  def none(self, ks: Array) -> Array:
    """Returns the chance that k samples hold no right one, (D, K)."""
    return self.share_DX @ (1 - self.p_X)[:, None] ** ks


def _em(share_DX, share_DC, chance_XC, steps: int) -> Array:
  for _ in range(steps):
    told_DC = np.maximum(share_DX @ chance_XC, chances.TINY)
    share_DX = share_DX * ((share_DC / told_DC) @ chance_XC.T)
  return share_DX


def power_law(share_DC: Array, ks: npt.ArrayLike) -> Array | None:
  """Returns coverage exp(-c k^-d), fitted to observed coverage at 1 to n.

  Each doubling of k has the same weight.  None where fewer than two points of
  some weighting lie strictly between 0 and 1.
  """
  n = share_DC.shape[1] - 1
  at_K = np.arange(1, n + 1)
  chance_CK = np.stack(
    [coverage.coverage(np.full(n + 1, n), np.arange(n + 1), k) for k in at_K], 1
  )
  seen_DK = share_DC @ chance_CK
  weight_DK = ((seen_DK > 0) & (seen_DK < 1)) / at_K
  if np.any((weight_DK > 0).sum(axis=1) < 2):
    return None
  clear_DK = np.clip(seen_DK, chances.TINY, 1 - 1e-16)
  y_DK, x_K = np.log(-np.log(clear_DK)), np.log(at_K)
  weight_DK = weight_DK / weight_DK.sum(axis=1, keepdims=True)
  x_D, y_D = weight_DK @ x_K, (weight_DK * y_DK).sum(axis=1)
  off_DK = x_K - x_D[:, None]
  slope_D = (weight_DK * off_DK * (y_DK - y_D[:, None])).sum(axis=1)
  slope_D = np.minimum(slope_D / (weight_DK * off_DK**2).sum(axis=1), 0)
  line_DK = y_D[:, None] + slope_D[:, None] * (
    np.log(np.asarray(ks, np.float64)) - x_D[:, None]
  )
  return np.exp(-np.exp(line_DK))


def estimate(values_D: Array) -> dict[str, float]:
  """Returns value, low and high from (as it is, resamples)."""
  low, high = ends(values_D[1:])
  return {'value': float(values_D[0]), 'low': float(low), 'high': float(high)}


def ends(resampled_D: Array, method: str = 'weibull') -> Array:
  """Returns the ends of the 95% interval of resamples, along the first axis.

  Of D resamples the end is the one in place (D+1) times the tail.

  Source: Davison and Hinkley 1997, Bootstrap Methods and their Application,
  section 5.3.
  """
  return np.quantile(resampled_D, intervals.TAILS, axis=0, method=method)
