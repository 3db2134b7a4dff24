"""How many different right solutions a draw of k samples holds.

What "different" means is the caller's key: the exact text for the paper's
diversity@k, the text of `normalise` for distinct normalised solutions, the
task's chain (see `tasks.base.Task.chain`) for distinct chains.  They differ in
their denominator too:

  diversity@k        sum of `distinct` over sum of coverage@k: the mean over the
                     problems that the draw *solves*.  With the exact text as
                     key and no repeated text it equals k * pass@1 / coverage@k,
                     so it says little that coverage does not.
  distinct chains@k  mean of `distinct` over *all* problems.
  distinct normalised@k  the same.
"""

import re
import unicodedata

import numpy as np
import numpy.typing as npt

from wcse_jax.metrics import coverage


_NUMBER = re.compile(r'\d++(?:,\d{3}(?!\d))*+(?:\.\d++)?+')


def normalise(text: str) -> str:
  """Returns a text without what makes no other solution of it.

  Case, white space, the width of signs (Unicode NFKC) and the spelling of
  numbers go: `1,200.50` is `1200.5`.
  """
  text = unicodedata.normalize('NFKC', text).casefold()
  return ' '.join(_NUMBER.sub(_plain, text).split())


def _plain(number: re.Match[str]) -> str:
  whole, _, decimals = number[0].replace(',', '').partition('.')
  decimals = decimals.rstrip('0')
  return f'{whole}.{decimals}' if decimals else whole


def distinct(counts: npt.ArrayLike, n: int, k: int) -> float:
  """Returns the expected number of distinct keys among k samples of a problem.

  Args:
    counts: for each key, how many of the problem's right samples have it.
    n: graded samples of the problem, right or not.
    k: samples drawn without replacement.

  Raises:
    ValueError: if k > n, or if there are more right samples than samples.

  Source: linearity of expectation; a key with m samples is drawn with
  probability 1 - C(n-m, k) / C(n, k).
  """
  counts = np.asarray(counts, np.int64).reshape(-1)
  if counts.sum() > n:
    raise ValueError(
      f'counts must sum to at most n={n}; got {int(counts.sum())}.'
    )
  return float(coverage.coverage(np.int64(n), counts, k).sum())


def distinct_by_problem(
  key_Q: npt.NDArray[np.int64],
  count_Q: npt.NDArray[np.int64],
  n_Q: npt.NDArray[np.int64],
  k: int,
) -> npt.NDArray[np.float64]:
  """Returns `distinct` of each problem, for all problems at once.

  Args:
    key_Q: for each key, the position of its problem (one entry a key).
    count_Q: for each key, how many right samples have it.
    n_Q: graded samples of each problem; problems with fewer than k get 0.
    k: samples drawn without replacement.
  """
  taken = n_Q[key_Q] >= k
  key_Q, count_Q = key_Q[taken], count_Q[taken]
  # Few different (n, count) pairs occur, however many keys there are.
  width = int(n_Q.max(initial=0)) + 1
  pairs, which = np.unique(n_Q[key_Q] * width + count_Q, return_inverse=True)
  chances = coverage.coverage(pairs // width, pairs % width, k)
  return np.bincount(key_Q, weights=chances[which], minlength=n_Q.size)
