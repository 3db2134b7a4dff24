"""Several questions asked of the same data.

Source: Holm 1979, A simple sequentially rejective multiple test procedure.
"""

import math
from collections.abc import Sequence


def holm(p_values: Sequence[float | None]) -> list[float | None]:
  """Returns p-values that may be held against one level, each.

  However many of the differences are none in truth, the chance that any of
  these is called one is at most the level.  A None stays None and is not
  counted: it is a question that could not be asked.

  Args:
    p_values: of the questions, in any order.

  Raises:
    ValueError: if one is not within 0 and 1.
  """
  asked = [(p, at) for at, p in enumerate(p_values) if p is not None]
  if not all(math.isfinite(p) and 0 <= p <= 1 for p, _ in asked):
    raise ValueError(f'p_values must lie between 0 and 1; got {p_values}.')
  adjusted: list[float | None] = [None] * len(p_values)
  largest = 0.0
  for rank, (p, at) in enumerate(sorted(asked)):
    largest = max(largest, min(1.0, (len(asked) - rank) * p))
    adjusted[at] = largest
  return adjusted
