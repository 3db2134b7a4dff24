"""A judged rate, corrected for the judge's errors by a human audit.

Prediction-powered inference: the judge labels all samples, people a random part
of them.  The estimate is the judge's rate plus what people found on average
beyond the judge, and its interval holds however bad the judge is; a good judge
makes it narrow.  How far the judge is trusted, between 0 (the audit alone) and
1, is chosen to make the interval narrow (power tuning).

Source: Angelopoulos et al. 2023, arXiv:2301.09633, algorithm 1; Angelopoulos,
Duchi and Zrnic 2023, arXiv:2311.01453, section 6 (power tuning).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


# Of a 95% interval, in standard deviations.
_Z = 1.959963984540054


def rate(
  judged_M: npt.ArrayLike,
  human_M: Sequence[bool | float | None],
  strata_M: Sequence[str] | None = None,
  *,
  trust: float | None = None,
  shares: Mapping[str, float] | None = None,
) -> dict[str, Any]:
  """Returns the Estimate of the mean human label over all samples.

  `n` counts the samples with a human label and `judged` all of them; `trust`
  is the trust in the judge, averaged over strata.  `value` is None without a
  human label (in some stratum); `low` and `high` are None there and where a
  stratum has a single one.  The interval is normal, cut to [0, 1].  Where
  people and judge agree on every audited sample, so that the audit shows no
  spread, the end of Wilson's interval of 0 disagreements stands for it.

  Args:
    judged_M: the judge's label of every sample, in [0, 1]: 1 for a false
      positive.
    human_M: the human label in [0, 1], None where there is none.  Within a
      stratum the labelled samples must be a random part.
    strata_M: the stratum of each sample, as its level, where each was audited
      at a rate of its own; None for one stratum.
    trust: of the judge, 0 to 1; None to choose it.
    shares: stratum -> its share of what the mean is taken over, where the
      samples given are not all of it; None: as the samples have it.

  Raises:
    ValueError: if the lengths differ, a label is not in [0, 1], or `shares` are
      of other strata.
  """
  judged_M = np.asarray(judged_M, np.float64)
  labelled_M = np.array([label is not None for label in human_M], bool)
  human_M = np.array(
    [0.0 if label is None else float(label) for label in human_M]
  )
  if judged_M.ndim != 1 or judged_M.shape != human_M.shape:
    raise ValueError(
      'judged_M and human_M must be of the same samples; got shapes '
      f'{judged_M.shape} and {human_M.shape}.'
    )
  for name, labels_M in (('judged_M', judged_M), ('human_M', human_M)):
    if not np.all((labels_M >= 0) & (labels_M <= 1)):
      raise ValueError(f'{name} must be in [0, 1].')
  if trust is not None and not 0 <= trust <= 1:
    raise ValueError(f'trust must be in [0, 1]; got {trust}.')
  if strata_M is None:
    strata_M = np.zeros(judged_M.size, np.int64)
  strata_M = np.asarray(strata_M)
  if strata_M.shape != judged_M.shape:
    raise ValueError(
      f'strata_M must be of the same {judged_M.size} samples; got '
      f'{strata_M.size}.'
    )
  value = variance = trusted = 0.0
  if shares is not None and set(shares) != set(strata_M.tolist()):
    raise ValueError(
      f'shares must be of the strata {sorted(set(strata_M.tolist()))}; got '
      f'{sorted(shares)}.'
    )
  for stratum in np.unique(strata_M):
    mask_M = strata_M == stratum
    share = float(mask_M.mean()) if shares is None else shares[stratum]
    mean, spread, weight = _stratum(
      human_M[mask_M & labelled_M],
      judged_M[mask_M & labelled_M],
      judged_M[mask_M & ~labelled_M],
      trust,
    )
    value += share * mean
    variance += share**2 * spread
    trusted += share * weight
  known = judged_M.size > 0 and not math.isnan(value)
  bounded = known and not math.isnan(variance)
  half = _Z * math.sqrt(variance) if bounded else 0.0
  return {
    'value': min(max(value, 0.0), 1.0) if known else None,
    'low': max(value - half, 0.0) if bounded else None,
    'high': min(value + half, 1.0) if bounded else None,
    'n': int(labelled_M.sum()),
    'judged': judged_M.size,
    'trust': trusted if known else None,
  }


def rates(
  judged_M: npt.ArrayLike,
  human_M: Sequence[bool | float | None],
  strata_M: Sequence[str],
) -> dict[str, dict[str, Any]]:
  """Returns stratum -> its own Estimate, as `rate` of it alone."""
  judged_M = np.asarray(judged_M, np.float64)
  if not judged_M.size == len(human_M) == len(strata_M):
    raise ValueError(
      'judged_M, human_M and strata_M must be of the same samples; got '
      f'{judged_M.size}, {len(human_M)} and {len(strata_M)}.'
    )
  found = {}
  for stratum in sorted(set(strata_M)):
    at = [i for i, name in enumerate(strata_M) if name == stratum]
    found[stratum] = rate(judged_M[at], [human_M[i] for i in at])
  return found


def _stratum(
  human_L: npt.NDArray[np.float64],
  judged_L: npt.NDArray[np.float64],
  others_U: npt.NDArray[np.float64],
  trust: float | None,
) -> tuple[float, float, float]:
  """Returns (estimate, its variance, trust); NaN where it is undefined."""
  n, rest = human_L.size, others_U.size
  if not n:
    return math.nan, math.nan, math.nan
  if not rest:
    trust = 0.0
  elif trust is None:
    spread = float(np.var(np.concatenate([judged_L, others_U]), ddof=1))
    shared = float(np.mean((human_L - human_L.mean()) * judged_L))
    trust = shared / ((1 + n / rest) * spread) if spread else 0.0
    trust = min(max(trust, 0.0), 1.0)
  beyond_L = human_L - trust * judged_L
  value = float(beyond_L.mean())
  variance = float(beyond_L.var()) / n if n > 1 else math.nan
  if rest:
    value += trust * float(others_U.mean())
    variance += trust**2 * float(others_U.var()) / rest
  if n > 1 and beyond_L.min() == beyond_L.max():
    # z standard deviations reach the end of Wilson's interval of 0 of n.
    variance += (_Z / (n + _Z**2)) ** 2
  return value, variance, trust
