r"""Answers in LaTeX taken apart: lists, sets, tuples, intervals, matrices.

A `Comparison` takes two answers apart side by side and compares their parts:
numbers exactly, words as words, and what needs algebra by a function that it is
given.  Every verdict is true, false, or None for "not decided here", and None
is never taken for false.
"""

import itertools
import re
from collections.abc import Callable, Sequence

from wcse_jax.grading import numeric, parts, spelling


# More parts are compared in order only.
_MOST_UNORDERED = 40
_WORDS = re.compile(
  r"[a-zA-Z]{2,}(?:['-][a-zA-Z]{2,})*(?: +[a-zA-Z0-9'.,-]+)*\.?"
)
# Letters that may be a product.
_FACTORS = re.compile(r'[a-z]{2,3}|[A-Z]{2}')
# A unit of one letter; a reference that is a number has no variable.
_MEASURED = re.compile(r'[\d.}] ?[mgshlLV]\Z')
_SIGNS = re.compile(r'\\cdot|[*^/+]')
_TIME = re.compile(r'\d{1,2}(?::\d{2}(?:[ap]m)?|[ap]m)')
_BASED = re.compile(r'\(?(\d+)\)?\s*_\s*\{?\s*\(?(\d+)\)?\s*\}?')
_CHOICE = re.compile(r'\(?([A-Za-z])\)?')


class Comparison:
  """Compares two answers part by part."""

  def __init__(
    self, near: spelling.Near, slow: Callable[[str, str], bool | None]
  ):
    """`near` compares numbers; `slow` what needs algebra, or returns None."""
    self._near = near
    self._slow = slow
    # Nested sets ask for the same pair again and again.
    self._known: dict[tuple[str, str], bool | None] = {}

  def same(self, answer: str, reference: str) -> bool | None:
    """Returns whether two answers are equal; None if that is not decided."""
    answer, reference = spelling.clean(answer), spelling.clean(reference)
    if not answer or not reference:
      return False
    return self._same(answer, reference)

  def _same(self, a: str, b: str) -> bool | None:
    if (a, b) not in self._known:
      self._known[a, b] = self._compared(a, b)
    return self._known[a, b]

  def _compared(self, a: str, b: str) -> bool | None:
    if parts.key(a) == parts.key(b):
      return True
    verdict = self._numbers(a, b)
    if verdict is not None:
      return verdict
    a, b = parts.as_range(a, b), parts.as_range(b, a)
    a, b = parts.stripped(a, b)
    if parts.key(a) == parts.key(b):
      return True
    for step in (
      self._numbers,
      self._based,
      self._words,
      self._ratio,
      self._lists,
      self._ranges,
      self._pairs,
      self._matrices,
    ):
      verdict = step(a, b)
      if verdict is not None:
        return verdict
    return self._slow(a, b)

  def _numbers(self, a: str, b: str) -> bool | None:
    first, second = spelling.number(a), spelling.number(b)
    if second is not None and first is None and re.fullmatch(r'-?\d+,\d+', a):
      # A comma for the decimal point.
      a = a.replace(',', '.')
      first = spelling.number(a)
    if second is not None and first is None and _MEASURED.search(a):
      a = a[:-1]
      first = spelling.number(a)
    if first is None or second is None:
      return None
    plain_a, plain_b = a.rstrip('% '), b.rstrip('% ')
    if self._near(plain_a, plain_b):
      # 25 for 25%: the sign is a unit, as a degree is.
      return True
    if plain_a != a and plain_b == b:
      return first / 100 == second
    if plain_b != b and plain_a == a:
      return first == second / 100
    return False

  def _words(self, a: str, b: str) -> bool | None:
    choice = _CHOICE.fullmatch(b)
    if choice and (b[0] == '(' or b.isupper()):
      given = re.match(r'\(?([A-Za-z])(?:\)|[.:]|\Z)', a)
      if given:
        return given[1] == choice[1]
    if _TIME.fullmatch(a) or _TIME.fullmatch(b):
      if spelling.number(b) is not None:
        a = a.rstrip('apm')
      return a.replace(':00', '') == b.replace(':00', '')
    products = [bool(_FACTORS.fullmatch(one)) for one in (a, b)]
    if any(products) and all(
      known or _SIGNS.search(one) for known, one in zip(products, (a, b))
    ):
      return None
    words = _WORDS.fullmatch(b)
    if not words:
      words = _WORDS.fullmatch(a)
      if not words or len(a) < 3:
        return None
      value = spelling.number(b)
      return None if value is None else numeric.spelt(a, whole=True) == value
    value = spelling.number(a)
    if value is not None:
      spelt = numeric.spelt(b, whole=True)
      if spelt is not None:
        return spelt == value
    return parts.said(a) == parts.said(b)

  def _based(self, a: str, b: str) -> bool | None:
    """Compares numbers in a base, which is a part of the answer."""
    first, second = _BASED.fullmatch(a), _BASED.fullmatch(b)
    if first is None and second is None:
      return None
    if first is None or second is None:
      return False if spelling.number(a if second else b) is not None else None
    return [g.lstrip('0') for g in first.groups()] == [
      g.lstrip('0') for g in second.groups()
    ]

  def _ratio(self, a: str, b: str) -> bool | None:
    """Compares ratios: 6:8 is 3:4, and 3/4."""
    if ':' not in a and ':' not in b:
      return None
    first = [spelling.number(part) for part in a.split(':')]
    second = [spelling.number(part) for part in b.split(':')]
    if None in first or None in second:
      return None
    if 0 in first or 0 in second:
      return first == second
    if len(first) + len(second) == 3:
      # One is a number, the other the ratio of two.
      ratio, (value,) = sorted((first, second), key=len, reverse=True)
      return ratio[0] == ratio[1] * value
    return len(first) == len(second) and all(
      x * second[0] == y * first[0] for x, y in zip(first, second)
    )

  def _lists(self, a: str, b: str) -> bool | None:
    first, second = parts.items(a), parts.items(b)
    if len(first) < 2 and len(second) < 2:
      return None
    return self._unordered(first, second)

  def _unordered(self, a: Sequence[str], b: Sequence[str]) -> bool | None:
    a, b = parts.distinct(a), parts.distinct(b)
    if max(len(a), len(b)) > _MOST_UNORDERED:
      return False if len(a) != len(b) else self._all(a, b)
    left = list(b)
    unknown = False
    for part in a:
      verdicts = []
      for at, other in enumerate(left):
        verdict = self._same(part, other)
        verdicts.append(verdict)
        if verdict:
          del left[at]
          break
      else:
        if any(self._same(part, other) for other in b):
          continue  # the same twice, in two spellings
        if None not in verdicts:
          return False
        unknown = True
    if unknown:
      return None
    return not left

  def _all(self, a: Sequence[str], b: Sequence[str]) -> bool | None:
    if len(a) != len(b):
      return False
    verdicts = [self._same(x.strip(), y.strip()) for x, y in zip(a, b)]
    if False in verdicts:
      return False
    return None if None in verdicts else True

  def _ranges(self, a: str, b: str) -> bool | None:
    """Compares unions, and inequalities with intervals."""
    first, second = parts.union(a), parts.union(b)
    if len(first) < 2 and len(second) < 2:
      if parts.RELATION.search(a) and parts.RELATION.search(b):
        x, y = parts.relation(a), parts.relation(b)
        if x is None or y is None or x[0] != y[0]:
          return None
        return self._pairs(x[1], y[1])
      if not (parts.is_interval(first[0]) and parts.is_interval(second[0])):
        return None
      if first == [a] and second == [b]:
        return None
      return self._pairs(first[0], second[0])
    return self._unordered(first, second)

  def _pairs(self, a: str, b: str) -> bool | None:
    """Compares what stands in brackets."""
    first, second = parts.bracketed(a), parts.bracketed(b)
    if first is None or second is None:
      return None
    if len(first[1]) < 2 or len(second[1]) < 2:
      return None
    if first[0] != second[0] and len(second[1]) == 2:
      return False
    return self._all(first[1], second[1])

  def _matrices(self, a: str, b: str) -> bool | None:
    first, second = parts.rows(a), parts.rows(b)
    if first is None or second is None:
      return None
    if [len(row) for row in first] != [len(row) for row in second]:
      return False
    return self._all(
      list(itertools.chain(*first)), list(itertools.chain(*second))
    )
