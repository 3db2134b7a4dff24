"""Coverage, also called pass@k: is any of k samples right?"""

import numpy as np
import numpy.typing as npt


def coverage(
  n_Q: npt.ArrayLike, right_Q: npt.ArrayLike, k: int
) -> npt.NDArray[np.float64]:
  """Returns for each problem the chance that k of its samples hold a right one.

  The k samples are drawn without replacement from the n that were graded, so
  the mean over problems is an unbiased estimate of pass@k.  It is taken as a
  product of k factors in [0, 1]: nothing overflows, whatever n.

  Args:
    n_Q: graded samples of each problem (verdicts timeout and error left out).
    right_Q: how many of them are right.
    k: samples drawn, at least 1.

  Raises:
    ValueError: if k < 1, k > n, or not 0 <= right <= n for some problem.

  Source: 1 - C(n-c, k) / C(n, k); Chen et al. 2021, arXiv:2107.03374, eq. 1.
  """
  n_Q, right_Q = np.broadcast_arrays(
    np.asarray(n_Q, np.int64), np.asarray(right_Q, np.int64)
  )
  if k < 1:
    raise ValueError(f'k must be at least 1; got {k}.')
  if np.any(n_Q < k):
    raise ValueError(
      f'k must be at most the graded samples of each problem; got k={k} and a '
      f'problem with {n_Q.min()}.'
    )
  if np.any((right_Q < 0) | (right_Q > n_Q)):
    raise ValueError('right_Q must lie between 0 and n_Q.')
  none_Q = np.ones(n_Q.shape, np.float64)
  for drawn in range(k):
    none_Q *= np.maximum(n_Q - right_Q - drawn, 0) / (n_Q - drawn)
  return 1.0 - none_Q
