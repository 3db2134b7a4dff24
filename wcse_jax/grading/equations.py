"""The equation checker: is a right answer to a word problem rightly calculated?

Every equation that a text states must hold in exact rational arithmetic, and
the answer must be a result of one.  What words leave open is read in the
text's favour: a percentage as a share or a count of hundredths, a stated
decimal as rounded or cut, `4 hours = 240 minutes` as a conversion.  So an
equation that is called false is false however it is read; but an equation that
holds and does not fit the story (a wrong plan) is not found.
"""

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction

from wcse_jax.grading import arithmetic, numeric, prose


# A text with more equations is not judged.
MOST_EQUATIONS = 400
_MOST_POWER = 12
_MOST_BITS = 4096
_HUNDREDTH = Fraction(1, 100)
# What `≈` and its words allow, of the larger side.
_NEARLY = Fraction(1, 50)
_ROUND = re.compile(
  r'\b(?:round|approx|about|almost|nearly|whole|nearest|remainder|left\s?over'
  r'|leftover|full|at least|complete|roughly|estimat|integer|partial|cannot'
  r"|can't|fraction|more than)",
  re.IGNORECASE,
)
# Shares that are written short: 0.33 of 90 is 30.
_THIRDS = {
  **{Fraction(int('3' * n), 10**n): Fraction(1, 3) for n in range(2, 9)},
  **{Fraction(int('6' * n), 10**n): Fraction(2, 3) for n in range(2, 9)},
  **{Fraction(int('6' * n) + 1, 10**n): Fraction(2, 3) for n in range(2, 9)},
}
# Unit -> (what it measures, how much of it).
_UNITS = {
  name: (kind, Fraction(size))
  for kind, row in {
    'time': {
      'second': 1,
      'sec': 1,
      'minute': 60,
      'min': 60,
      'hour': 3600,
      'hr': 3600,
      'day': 86400,
      'week': 604800,
    },
    'months': {'month': 1, 'year': 12},
    'length': {'inch': 1, 'inche': 1, 'foot': 12, 'feet': 12, 'ft': 12}
    | {'yard': 36, 'mile': 63360},
    'metres': {'mm': 1, 'cm': 10, 'm': 1000, 'km': 10**6, 'millimeter': 1}
    | {'centimeter': 10, 'meter': 1000, 'kilometer': 10**6},
    'money': {'cent': 1, '¢': 1, 'dollar': 100},
    'weight': {'ounce': 1, 'oz': 1, 'pound': 16, 'lb': 16, 'ton': 32000},
    'mass': {'mg': 1, 'gram': 1000, 'g': 1000, 'kilogram': 10**6, 'kg': 10**6},
    'volume': {'cup': 1, 'pint': 2, 'quart': 4, 'gallon': 16},
    'litres': {'ml': 1, 'milliliter': 1, 'liter': 1000, 'l': 1000},
    'count': {'dozen': 12, 'pair': 2, 'score': 20},
  }.items()
  for name, size in row.items()
}


@dataclasses.dataclass(frozen=True)
class Judged:
  """An equation with its verdict.

  Attributes:
    shown: its sides in one spelling, as `3+4=7`.
    holds: None where it cannot be told, or where it has but one side.
  """

  shown: str
  holds: bool | None


def check(text: str, answer: str) -> tuple[bool | None, str, list[Judged]]:
  """Returns (is the text soundly calculated, why not, its equations).

  None where nothing can be judged: no equation is stated that can be read,
  every one that can be read holds but the answer is not the result of any (it
  may have been found in words), or the text is longer than is read.

  Args:
    text: a worked solution.
    answer: its final answer, as `numeric.extract` finds it.
  """
  found = arithmetic.equations(text)
  if len(found) > MOST_EQUATIONS:
    return None, f'more than {MOST_EQUATIONS} equations', []
  judged = []
  rounded = dict(_THIRDS)
  for equation in found:
    judged.append(Judged(_shown(equation), _holds(equation, rounded)))
  for one in judged:
    if one.holds is False:
      return False, f'{_short(one.shown)} is false', judged
  if len(text) > arithmetic.MAX_TEXT:
    return None, f'longer than {arithmetic.MAX_TEXT} characters', judged
  if not any(one.holds for one in judged):
    return None, 'no equation that can be judged', judged
  target = numeric.parse(answer)
  if target is None or not _reached(found, target):
    return None, f'no equation gives {_short(answer)}', judged
  return True, '', judged


def chain(text: str) -> str:
  """Returns the equations in order, each in one spelling; empty if none.

  So two texts that calculate the same in other words are one chain.  What is
  told to a calculator, `<<2*3=6>>`, is in the text too, and is left out.
  """
  return ';'.join(
    _shown(equation)
    for equation in arithmetic.equations(text, told=False)
    if len(equation.sides) > 1
  )


def _shown(equation: arithmetic.Equation) -> str:
  return '='.join(arithmetic.spelled(side) for side in equation.sides)


def _short(text: str) -> str:
  return text if len(text) <= 60 else f'{text[:57]}...'


def _holds(
  equation: arithmetic.Equation, rounded: dict[Fraction, Fraction]
) -> bool | None:
  """Returns whether all sides are equal; adds to what results stand for."""
  sides = equation.sides
  if len(sides) < 2:
    return None
  nearly = equation.approximate or bool(_ROUND.search(equation.line))
  verdict: bool | None = True
  for at, (left, right) in enumerate(itertools.pairwise(sides)):
    if _equal(left, right, nearly, rounded):
      continue
    if _runs_on(left, right) or _converts(left, sides[at + 1 :], at == 0):
      continue
    if not left.sure or not right.sure or not _known(left, right):
      verdict = None
      continue
    return False
  return verdict


def _known(*sides: arithmetic.Side) -> bool:
  """Returns whether every side has a value: no division by 0, no huge power."""
  return all(any(_values(side, {})) for side in sides)


def _equal(
  left: arithmetic.Side,
  right: arithmetic.Side,
  nearly: bool,
  rounded: dict[Fraction, Fraction],
) -> bool:
  whole = any(n.decimals == 0 for s in (left, right) if (n := s.bare))
  for exact in ({}, rounded):
    for a, unit_a in _values(left, exact):
      for b, unit_b in _values(right, exact):
        gap = abs(a - b)
        near = gap == 0 or _rounds(left, unit_a, a, b)
        near = near or _rounds(right, unit_b, b, a)
        if nearly and not near:
          near = (whole and gap < 1) or gap <= _NEARLY * max(abs(a), abs(b))
        if near:
          _note(left, right, a, b, rounded)
          return True
  return _shorter(left, right, rounded)


def _rounds(
  side: arithmetic.Side, reading: str, stated: Fraction, exact: Fraction
) -> bool:
  """Returns whether a stated decimal is an exact value rounded, or cut."""
  number = side.bare
  if number is None or not number.decimals:
    return False
  unit = Fraction(1, 10**number.decimals)
  if number.percent and reading != 'count':
    unit *= _HUNDREDTH
  return -unit / 2 <= abs(exact) - abs(stated) < unit


def _shorter(left, right, rounded: Mapping[Fraction, Fraction]) -> bool:
  """Returns whether two calculations are equal but for rounded operands."""
  if left.bare or right.bare:
    return False
  if not any(
    isinstance(item, prose.Number) and item.decimals > 1
    for side in (left, right)
    for item in side.postfix
  ):
    return False
  return any(
    abs(a - b) * 100 <= max(abs(a), abs(b))
    for a, _ in _values(left, rounded)
    for b, _ in _values(right, rounded)
  )


def _note(left, right, a, b, rounded: dict[Fraction, Fraction]) -> None:
  """Notes what a rounded result stands for: 3.33 for 10/3."""
  number = right.bare
  if number is not None and left.bare is None and a != b:
    rounded.setdefault(number.value, a)


def _values(
  side: arithmetic.Side, exact: Mapping[Fraction, Fraction]
) -> Iterator[tuple[Fraction, str]]:
  """Yields (value, reading) of a side; none where it has no value."""
  percent = any(
    isinstance(item, prose.Number) and item.percent for item in side.postfix
  )
  for reading in ('share', 'count', 'change') if percent else ('share',):
    value = _evaluate(side.postfix, reading, exact)
    if value is not None:
      yield value, reading


def _evaluate(
  postfix: Sequence, reading: str, exact: Mapping[Fraction, Fraction]
) -> Fraction | None:
  """Returns the value of an expression, or None.

  Args:
    postfix: as in `arithmetic.Side`.
    reading: what 20% is: a `share` of 0.2; a `count` of 20; or 0.2, but in
      80 - 20% a `change` by a fifth.
    exact: stated number -> what it is rounded from.
  """
  stack: list[tuple[Fraction, bool]] = []
  for item in postfix:
    if isinstance(item, prose.Number):
      value = exact.get(item.value, item.value)
      if item.percent and reading != 'count':
        value = value * _HUNDREDTH
      stack.append((value, item.percent))
      continue
    below, share = stack.pop()
    if item == 'neg':
      stack.append((-below, share))
      continue
    above, other = stack.pop()
    if reading == 'change' and item in '+-' and share and not other:
      below = above * below
    value = _apply(item, above, below)
    if value is None:
      return None
    if value.numerator.bit_length() + value.denominator.bit_length() > (
      _MOST_BITS
    ):
      return None
    stack.append((value, share and other))
  return stack[0][0]


def _apply(sign: str, above: Fraction, below: Fraction) -> Fraction | None:
  match sign:
    case '+':
      return above + below
    case '-':
      return above - below
    case '*':
      return above * below
    case '/':
      return above / below if below else None
  if below.denominator != 1 or abs(below) > _MOST_POWER:
    return None
  return above**below.numerator if above or below > 0 else None


def _converts(
  left: arithmetic.Side, others: Sequence[arithmetic.Side], first: bool
) -> bool:
  """Returns whether a side says the same as later ones in another unit.

  By the units of a table; and a first side also by a calculation that uses it
  (`2 bags = 2 x 5 apples`), or where both are bare amounts of unlike things
  (`1 bag = 5 apples`).
  """
  if any(_ratio(left, right) for right in others if left.bare or right.bare):
    return True
  if not first:
    return False
  number = left.bare
  if number is not None and any(
    number in right.postfix for right in others if right.bare is None
  ):
    return True
  amount = number is not None or (
    len(left.postfix) == 3 and left.postfix[2] == '/'
  )
  return (
    amount
    and others[0].bare is not None
    and bool(left.units)
    and left.units != others[0].units
  )


def _runs_on(left: arithmetic.Side, right: arithmetic.Side) -> bool:
  """Returns whether the next step begins with the result: 3/2 = 1.5 + 3."""
  if right.bare is not None or not isinstance(right.postfix[0], prose.Number):
    return False
  start = arithmetic.Side(right.postfix[:1], (), True)
  return _equal(left, start, False, {})


def _ratio(left: arithmetic.Side, right: arithmetic.Side) -> bool:
  from_, to = _measure(left), _measure(right)
  if not from_ or not to or from_[0] != to[0]:
    return False
  return any(
    a * from_[1] == b * to[1]
    for a, _ in _values(left, {})
    for b, _ in _values(right, {})
  )


def _measure(side: arithmetic.Side) -> tuple[str, Fraction] | None:
  for word in side.units[:2]:
    name = word.lower()
    if found := _UNITS.get(name) or _UNITS.get(name.removesuffix('s')):
      return found
  # A bare amount of money: its sign is gone.
  return None if side.units else _UNITS['dollar']


def _reached(found: Sequence[arithmetic.Equation], target: Fraction) -> bool:
  """Returns whether a side of an equation has the value of the answer."""
  # The answer may be rounded, or be said in cents or hundredths.
  for equation in reversed(found):
    for side in reversed(equation.sides):
      for value, _ in _values(side, {}):
        for scaled in (value, value * 100, value / 100):
          if abs(scaled - target) < (
            1
            if scaled.denominator != 1 and target.denominator == 1
            else _HUNDREDTH
          ):
            return True
  return False
