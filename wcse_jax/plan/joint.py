"""How hard several models find the same problems: p of all of them, jointly.

Each model's p follows its own curve; ranks of difficulty are tied by a normal
copula, whose correlation is fitted to how often each pair of counts occurs.
What follows, such as who solves what another left unsolved, is a mean over
`NODES` problems that stand for the population.

Source: copulas fitted after the marginals: Joe 1997, Multivariate Models and
Dependence Concepts, ch. 10; nodes: Sobol's sequence, Joe and Kuo 2008, SIAM
J. Sci. Comput. 30, 2635-2654.
"""

import functools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import linalg, optimize, special
from scipy.stats import qmc

from wcse_jax.metrics import chances, coverage
from wcse_jax.plan import curves


Array = npt.NDArray[np.float64]

NODES = 4096
# Grid of the normal distribution on which correlation is fitted.
_Z = np.linspace(-4.5, 4.5, 73)
_W = np.exp(-(_Z**2) / 2)
_W = _W / _W.sum()
_TABLE = np.linspace(-6, 6, 1201)
_LEAST, _MOST = -0.99, 0.999


class Population:
  """Problems that stand for all, by the chances of a right sample.

  Attributes:
    p_XM: of each node and model.
    correlation_MM: of the ranks of difficulty.
  """

  def __init__(
    self,
    found: curves.Curves,
    at: int = 0,
    correlation_MM: Array | None = None,
    nodes: int = NODES,
  ):
    """Fits the correlation, where none is given.

    Args:
      found: the fits of each model.
      at: which weighting of the problems; 0 as they are, then the resamples.
      correlation_MM: of the ranks; None to fit it.
      nodes: how many, a power of 2.
    """
    models = len(found.pilot.names)
    tables = [_chances(found, m, at) for m in range(models)]
    if correlation_MM is None:
      correlation_MM = np.eye(models)
      for a in range(models):
        for b in range(a):
          rho = _correlation(found, a, b, tables)
          correlation_MM[a, b] = correlation_MM[b, a] = rho
    self.correlation_MM = correlation_MM
    z_XM = normal(models, nodes) @ _root(correlation_MM).T
    self.p_XM = np.stack(
      [np.interp(z_XM[:, m], _TABLE, tables[m]) for m in range(models)], 1
    )


class Scale:
  """How much narrower intervals are where the problems are not unlimited.

  Of the problems that a plan is for, those of the pilot are known but for the
  samples' noise: that part of the variance which comes from which problems the
  pilot has shrinks by the share of all problems that it has.
  """

  def __init__(self, found: curves.Curves, whole: Population, total: int):
    self._found, self._whole = found, whole
    self._share = found.pilot.problems / total if total else 0.0
    self._known: dict[tuple[int, int], float] = {}

  def __call__(
    self, values_D: Array, parts: Sequence[tuple[int, float, int]]
  ) -> Array:
    """Returns (as it is, resamples), these moved towards the first.

    Args:
      values_D: the estimates.
      parts: what they are the sum of: (model, k, sign) of each coverage@k.
    """
    if not self._share:
      return values_D
    none_X = sum(
      sign * (1 - self._whole.p_XM[:, model]) ** k for model, k, sign in parts
    )
    between = float(np.var(none_X))
    within = sum(self._within(model, k) for model, k, _ in parts)
    total = between + within
    factor = math.sqrt(1 - self._share * between / total) if total else 1.0
    return values_D[0] + (values_D - values_D[0]) * factor

  def _within(self, model: int, k: float) -> float:
    """Returns the variance of a problem's observed coverage@k, given its p.

    The mean over the nodes; beyond the samples at hand, as if k were all of
    them.
    """
    n = self._found.pilot.common(model)
    k = min(max(1, round(k)), n)
    if (model, k) not in self._known:
      self._known[model, k] = self._noise(model, n, k)
    return self._known[model, k]

  def _noise(self, model: int, n: int, k: int) -> float:
    seen_C = coverage.coverage(np.full(n + 1, n), np.arange(n + 1), k)
    pmf_XC = _pmf(self._whole.p_XM[:, model], n)
    mean_X = pmf_XC @ seen_C
    return float(np.mean(pmf_XC @ seen_C**2 - mean_X**2))


def _chances(found: curves.Curves, model: int, at: int) -> Array:
  """Returns p at each point of `_TABLE`: the quantiles of all readings mixed.

  The mixture's distribution function is the readings' weighted mean, turned
  around by interpolation.
  """
  share_T = special.ndtr(_TABLE)
  belief_R = found.belief_RD[:, at]
  fits = [
    (belief, one)
    for belief, one in zip(belief_R, found.fits[model], strict=True)
    if belief > 1e-3
  ]
  quantiles = [(belief, one.quantile(share_T, at)) for belief, one in fits]
  if len(quantiles) == 1:
    return quantiles[0][1]
  values = np.unique(np.concatenate([q for _, q in quantiles]))
  total = sum(belief for belief, _ in quantiles)
  below = sum(
    belief / total * np.searchsorted(q, values, side='right') / len(q)
    for belief, q in ((belief, _even(one, at)) for belief, one in fits)
  )
  return np.interp(share_T, below, values)


def _even(fit: chances.Fit, at: int) -> Array:
  """Returns p at evenly spaced shares of the problems."""
  count = 4000
  return fit.quantile((np.arange(count) + 0.5) / count, at)


def _correlation(found: curves.Curves, a: int, b: int, tables) -> float:
  """Returns the most likely correlation of two models' ranks."""
  pilot = found.pilot
  n_a, n_b = pilot.common(a), pilot.common(b)
  kept_Q = (pilot.n_MQ[a] >= n_a) & (pilot.n_MQ[b] >= n_b)
  seen_CC = np.einsum(
    'qa,qb->ab',
    chances.drawn(pilot.n_MQ[a, kept_Q], pilot.right_MQ[a, kept_Q], n_a),
    chances.drawn(pilot.n_MQ[b, kept_Q], pilot.right_MQ[b, kept_Q], n_b),
  )
  of_a_ZC = _pmf(np.interp(_Z, _TABLE, tables[a]), n_a) * _W[:, None]
  table_TC = _pmf(tables[b], n_b)

  def loss(rho: float) -> float:
    z_ZZ = rho * _Z[:, None] + np.sqrt(1 - rho**2) * _Z
    of_b_ZC = _mixed(table_TC, z_ZZ)
    told_CC = np.maximum(of_a_ZC.T @ of_b_ZC, chances.TINY)
    return -float(np.sum(seen_CC * np.log(told_CC)))

  fitted = optimize.minimize_scalar(
    loss, bounds=(_LEAST, _MOST), method='bounded', options={'xatol': 2e-3}
  )
  return float(fitted.x)


def _mixed(table_TC: Array, z_ZZ: Array) -> Array:
  """Returns the mean over the last axis of a table's rows at points."""
  step = _TABLE[1] - _TABLE[0]
  at_ZZ = np.clip((z_ZZ - _TABLE[0]) / step, 0, len(_TABLE) - 1.001)
  low_ZZ = at_ZZ.astype(int)
  part_ZZ = at_ZZ - low_ZZ
  # How much of each row is in each mean: a sparse matrix, made dense.
  share_ZT = np.zeros((len(z_ZZ), len(_TABLE)))
  rows = np.repeat(np.arange(len(z_ZZ))[:, None], z_ZZ.shape[1], 1)
  np.add.at(share_ZT, (rows, low_ZZ), (1 - part_ZZ) * _W)
  np.add.at(share_ZT, (rows, low_ZZ + 1), part_ZZ * _W)
  return share_ZT @ table_TC


def _pmf(p: Array, n: int) -> Array:
  """Returns the binomial chances of 0 to n right ones of each p."""
  count_C = np.arange(n + 1)
  return np.exp(
    chances.log_choose(n, count_C)
    + special.xlogy(count_C, p[:, None])
    + special.xlog1py(n - count_C, -p[:, None])
  )


def _root(correlation_MM: Array) -> Array:
  """Returns a square root; of what is not positive, of the nearest that is."""
  values, vectors = linalg.eigh(correlation_MM)
  root_MM = vectors * np.sqrt(np.maximum(values, 0))
  return root_MM / np.linalg.norm(root_MM, axis=1, keepdims=True)


@functools.cache
def normal(models: int, count: int) -> Array:
  """Returns independent normal numbers, even over their space."""
  sobol = qmc.Sobol(models, scramble=True, seed=0)
  even_XM = np.clip(sobol.random(count), 1e-12, 1 - 1e-12)
  return special.ndtri(even_XM)
