"""How varied the wording of right solutions is: entropy of their n-grams.

For each problem the n-grams of `SAMPLES` of its right samples are counted
together, and their entropy is taken in bits: 0 for one word repeated, more the
less one solution foretells the next.  Every problem is given the same number of
samples, since entropy grows with it; a problem with fewer right ones is left
out.  What is left of the bias of small counts is corrected by Chao and Shen's
estimator, since most trigrams are seen once.

Words are stretches of letters and digits in lower case, or one other sign, and
are held as 32-bit hashes.  Where all right samples are more words than `LIMIT`,
whole samples are left out: those whose own hash is not under 1/2, 1/4, ... of
its range, whichever share fits first, so what is held does not depend on the
order in which samples come.
"""

import dataclasses
import re
import zlib

import numpy as np
import numpy.typing as npt


# Right samples of a problem whose n-grams are counted together.
SAMPLES = 4
ORDERS = (1, 2, 3)
# Words of one sample, from its start, that are counted.
LENGTH = 512
# Words that are held: 64 MiB.
LIMIT = 2**24
_WORD = re.compile(r'\w+|[^\w\s]')
# The same of ASCII, whose blanks are more of text than of bytes.
_ASCII = re.compile(rb'\w+|[^\w\s\x1c-\x1f]')
_MIX = np.uint64(0x9E3779B97F4A7C15)
_FULL = 1 << 32


@dataclasses.dataclass(frozen=True, eq=False)
class Words:
  """The words of some rows of a table.

  Attributes:
    start_M: where a row's words begin in `flat`.
    length_M: number of its words; -1 where they are not held.
    flat: hashes of words, row after row.
  """

  start_M: npt.NDArray[np.int64]
  length_M: npt.NDArray[np.int32]
  flat: npt.NDArray[np.uint32]

  @classmethod
  def none(cls, rows: int) -> 'Words':
    """Returns the words of a table that holds none."""
    return cls(
      np.zeros(rows, np.int64),
      np.full(rows, -1, np.int32),
      np.zeros(0, np.uint32),
    )

  def take(self, kept_M: npt.NDArray[np.bool_]) -> 'Words':
    """Returns the words of some of the rows."""
    return dataclasses.replace(
      self, start_M=self.start_M[kept_M], length_M=self.length_M[kept_M]
    )

  def row(self, at: int) -> npt.NDArray[np.uint32]:
    """Returns the words of one row."""
    start = self.start_M[at]
    return self.flat[start : start + self.length_M[at]]


class Collector:
  """Takes texts in any order, and holds at most `limit` words of them."""

  def __init__(self, limit: int = LIMIT):
    self._limit = limit
    self._below = _FULL
    # Row -> (own hash, hashes of its words).
    self._rows: dict[int, tuple[int, npt.NDArray[np.uint32]]] = {}
    self._held = 0

  def add(self, row: int, key: int, text: str) -> None:
    """Takes the text of a row; `key` decides whether it is held."""
    own = zlib.crc32(key.to_bytes(8, 'little'))
    if own >= self._below:
      return
    words = np.fromiter(map(zlib.crc32, split(text)), np.uint32)
    self._rows[row] = own, words
    self._held += words.size
    while self._held > self._limit:
      self._below //= 2
      self._rows = {
        row: (own, words)
        for row, (own, words) in self._rows.items()
        if own < self._below
      }
      self._held = sum(words.size for _, words in self._rows.values())

  def words(self, rows: int) -> Words:
    """Returns what is held, for a table of so many rows; empties itself."""
    found = Words.none(rows)
    flat = np.empty(self._held, np.uint32)
    start = 0
    while self._rows:
      row, (_, words) = self._rows.popitem()
      found.start_M[row], found.length_M[row] = start, words.size
      flat[start : start + words.size] = words
      start += words.size
    return dataclasses.replace(found, flat=flat)


def split(text: str) -> list[bytes]:
  """Returns the first `LENGTH` words of a text."""
  if text.isascii():
    return _ASCII.findall(text.lower().encode())[:LENGTH]
  found = []
  for match in _WORD.finditer(text):
    found.append(match[0].casefold().encode('utf-8', 'surrogatepass'))
    if len(found) == LENGTH:
      break
  return found


def by_problem(
  words: Words,
  problem_M: npt.NDArray[np.integer],
  problems: int,
  order: int,
) -> npt.NDArray[np.float64]:
  """Returns the entropy (bits) of each problem's n-grams.

  Args:
    words: of the rows of a table.
    problem_M: the problem of each row; rows of a problem are together.
    problems: how many there are.
    order: n of the n-grams.

  Returns:
    The entropies, NaN where fewer than `SAMPLES` right samples are held, or
    where none of them has n words.
  """
  rows = np.flatnonzero(words.length_M >= 0)
  starts = np.searchsorted(problem_M[rows], np.arange(problems + 1))
  found_Q = np.full(problems, np.nan)
  for problem in np.flatnonzero(np.diff(starts) >= SAMPLES):
    first = starts[problem]
    grams = np.concatenate(
      [_grams(words.row(row), order) for row in rows[first : first + SAMPLES]]
    )
    if grams.size:
      found_Q[problem] = chao_shen(np.unique(grams, return_counts=True)[1])
  return found_Q


def chao_shen(counts: npt.ArrayLike) -> float:
  """Returns the entropy (bits) of what was drawn `counts` times each.

  The shares are shrunk by the estimated share of what was not seen, and each
  term is weighted by the chance to be seen.  Where everything was seen once
  that share would be 1; it is then taken as if one had been seen twice.

  Source: Chao and Shen 2003, Environmental and Ecological Statistics 10,
  429-443, eq. 7.
  """
  counts = np.asarray(counts, np.float64)
  total = counts.sum()
  once = min(np.count_nonzero(counts == 1), total - 1)
  share = (1 - once / total) * counts / total
  with np.errstate(divide='ignore'):
    seen = -np.expm1(total * np.log1p(-share))
  return float(-np.sum(share * np.log2(share) / seen)) + 0.0


def _grams(words: npt.NDArray[np.uint32], order: int) -> npt.NDArray[np.uint64]:
  """Returns a 64-bit hash of each stretch of `order` words."""
  size = words.size - order + 1
  if size < 1:
    return np.zeros(0, np.uint64)
  found = np.zeros(size, np.uint64)
  for at in range(order):
    found = (found ^ words[at : at + size]) * _MIX
    found ^= found >> np.uint64(29)
  return found
