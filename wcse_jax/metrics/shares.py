"""The interval of a share whose variance is known from the data.

The usual interval, value plus and minus some standard errors, fails near 0 and
1: few problems are then unlike the rest, and where none is it has no width.
Wilson's interval asks instead for which shares the observed one is likely.
Where values hang together, or are means of several, the number of trials in it
is the effective one: that at which a binomial share has the variance seen.

Sources: Wilson 1927, Probable inference, the law of succession, and statistical
inference; Dean and Pagano 2015, Evaluating confidence interval methods for
binomial proportions in clustered surveys.
"""

import numpy as np
import numpy.typing as npt


# A variance below it is that of rounding.
ROUNDING = 1e-15


def bounds(
  value: npt.ArrayLike,
  variance: npt.ArrayLike,
  quantile: npt.ArrayLike,
  trials: npt.ArrayLike,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
  """Returns (low, high) of shares; all arguments broadcast.

  Args:
    value: shares, 0 to 1.
    variance: of each share as an estimate.
    quantile: how many standard errors the interval takes on either side.
    trials: what counts as the number of trials where no variance is seen.
  """
  value, variance, quantile, trials = np.broadcast_arrays(
    *(
      np.asarray(one, np.float64) for one in (value, variance, quantile, trials)
    )
  )
  value = np.clip(value, 0.0, 1.0)
  spread = value * (1 - value)
  seen = (variance > ROUNDING) & (spread > ROUNDING)
  effective = np.where(seen, spread / np.where(seen, variance, 1.0), trials)
  scaled = quantile**2 / effective
  middle = (value + scaled / 2) / (1 + scaled)
  half = quantile / (1 + scaled)
  half = half * np.sqrt(spread / effective + scaled / (4 * effective))
  # The share itself is within, whatever rounding does at 0 and 1.
  return np.minimum(middle - half, value), np.maximum(middle + half, value)
