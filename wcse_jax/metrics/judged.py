"""False positives by judges, corrected by a human audit."""

import hashlib
from collections.abc import Iterable


# (problem id, sample index).
Key = tuple[str, int]


def order(
  rows: Iterable[tuple[Key, str]], *, least: int = 0, seed: int = 0
) -> list[Key]:
  """Returns samples in the order in which they are judged or audited.

  Every beginning of the order is a random part of each level, and has the
  levels in proportion to their size, but that the first `least` samples of
  every level come before all others.  So who asks for more keeps what was
  asked, and what people audit first is among what a model judges first.

  Args:
    rows: ((problem id, sample index), level) of each sample, in any order.
    least: samples of each level at the beginning.
    seed: of the random order within a level.
  """
  levels: dict[str, list[tuple[bytes, Key]]] = {}
  for key, level in rows:
    text = f'{seed}\n{key[1]}\n{key[0]}'.encode('utf-8', 'surrogatepass')
    drawn = hashlib.sha256(text).digest()
    levels.setdefault(level, []).append((drawn, key))
  found = []
  for drawn_keys in levels.values():
    drawn_keys.sort()
    size = len(drawn_keys)
    found += [
      (rank >= least, (rank + 0.5) / size, drawn, key)
      for rank, (drawn, key) in enumerate(drawn_keys)
    ]
  return [key for *_, key in sorted(found)]
