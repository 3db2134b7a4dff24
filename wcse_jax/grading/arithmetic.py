r"""Reads the equations that stand in prose: `3 boxes x $4 = $12`.

A text is cleaned (LaTeX in light form, Unicode signs, currency signs), cut into
tokens, and each stretch between two equals signs into expressions: numbers,
operators and brackets, with units and remarks in words between them.  What
holds a variable, a clock time or anything else that is no number is not an
expression.

Texts are written by models, so they may be anything: only `MAX_TEXT` characters
are read, every pattern takes linear time, and numbers, expressions and nesting
are bounded.
"""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any

from wcse_jax.grading import prose


MAX_TEXT = 20_000
_MOST_ITEMS = 128
_MOST_DEPTH = 16

_OPERATORS = {'plus': '+', 'minus': '-', 'times': '*', 'of': '*'}
_RANK = {'+': 1, '-': 1, '*': 2, '/': 2, 'neg': 3, '^': 4}
_IS = frozenset(['is', 'are', 'equals', 'gives', 'makes', 'leaves'])
_WORTH = re.compile(r'[=≈]|~')
_SAID = re.compile(
  r'(?:[-+*/%]|\b[xX]|plus|minus|times)\ ?\d[^\n=]{0,60}?'
  r'\ (?:is|are|equals|gives|makes|leaves)\ \d'
)
_SENTENCE = re.compile(r'(?<=[.!?])\s(?=[A-Z])')
# Behind a number: a new clause and no unit.
_CLAUSE = frozenset(
  re.findall(
    r"[\w']+",
    'and so then thus therefore hence but while which that the he she '
    'they we it his her their our is are was were has have had will if '
    'since because where let total means gives leaving remaining',
  )
)
# Before a calculation: words that calculate too.
_CALCULATE = frozenset(
  re.findall(
    r"[\w']+",
    'twice double triple half third quarter times plus minus by of to',
  )
)
_CLOCK = frozenset(['am', 'pm', 'AM', 'PM', "o'clock", 'noon', 'midnight'])
# Words of one letter that are no variable.
_LETTERS = frozenset('aIgmlLshp')
_COMPARE = frozenset(['more', 'less', 'fewer', 'times', 'greater', 'larger'])


@dataclasses.dataclass(frozen=True, slots=True)
class Side:
  """One side of an equation.

  Attributes:
    postfix: numbers and operators (`+ - * / ^ neg`) in reverse Polish order.
    units: the words behind its last number.
    sure: whether the words leave but one reading.
  """

  postfix: tuple[Any, ...]
  units: tuple[str, ...]
  sure: bool

  @property
  def bare(self) -> prose.Number | None:
    """The number where the side is one number, without an operator."""
    return self.postfix[0] if len(self.postfix) == 1 else None


@dataclasses.dataclass(frozen=True, slots=True)
class Equation:
  """Sides that a text says are equal, in order; one where the rest is symbols.

  Attributes:
    sides: the sides that are numbers.
    approximate: whether a sign says that it holds only nearly.
    line: the text of the line it stands in.
  """

  sides: tuple[Side, ...]
  approximate: bool
  line: str


def equations(text: str, told: bool = True) -> list[Equation]:
  """Returns the equations of the first `MAX_TEXT` characters, in order.

  Args:
    text: any text.
    told: whether what a calculator was told, `<<2*3=6>>`, is taken as well;
      it comes last.
  """
  found = []
  for line in prose.lines(text[:MAX_TEXT], told):
    if not _WORTH.search(line) and not _SAID.search(line):
      continue
    # Most sentences have no equation, and need not be cut into tokens.
    for sentence in _SENTENCE.split(line):
      if _WORTH.search(sentence) or _SAID.search(sentence):
        for segment in prose.segments(sentence):
          found += _read(segment, line)
  return found


def spelled(side: Side) -> str:
  """Returns a side in one spelling: no blanks, units, commas, spare zeros."""
  stack: list[tuple[str, int]] = []
  for item in side.postfix:
    if isinstance(item, prose.Number):
      stack.append((_plain(item), 9))
      continue
    rank = _RANK[item]
    below, below_rank = stack.pop()
    if item == 'neg':
      stack.append(('-' + (below if below_rank > rank else f'({below})'), rank))
      continue
    above, above_rank = stack.pop()
    if above_rank < rank:
      above = f'({above})'
    if below_rank < rank or (below_rank == rank and item in '-/'):
      below = f'({below})'
    stack.append((f'{above}{item}{below}', rank))
  return stack[0][0]


def _plain(number: prose.Number) -> str:
  value = number.value
  if value.denominator == 1:
    return str(value.numerator)
  if not number.decimals:
    return f'({value})'
  digits = f'{value.numerator * 10**number.decimals // value.denominator}'
  digits = digits.rjust(number.decimals + 1, '0')
  at = len(digits) - number.decimals
  return f'{digits[:at]}.{digits[at:].rstrip("0")}'


def _read(tokens: Sequence[prose.Token], line: str) -> Iterator[Equation]:
  """Yields the equations of a segment."""
  parts: list[list[prose.Token]] = [[]]
  approximate = []
  for at, token in enumerate(tokens):
    if token[0] == 'equals' or (
      token[1] in _IS and token[0] == 'word' and _is(parts[-1], tokens, at)
    ):
      approximate.append(token[1][0] in '≈~')
      parts.append([])
    else:
      parts[-1].append(token)
  if len(parts) == 1:
    return
  sides: list[Side] = []
  nearly = False
  last = len(parts) - 1
  for at, part in enumerate(parts):
    runs = _runs(part, at == 0)
    right = runs[0].side() if at and runs and runs[0].first else None
    left = runs[-1].left() if at < last and runs else None
    if at:
      nearly = nearly or approximate[at - 1]
    if right is not None:
      sides.append(right)
    if at and (len(runs) != 1 or left is None or right is None):
      if sides:
        yield Equation(tuple(sides), nearly, line)
      sides, nearly = [], False
      if (left is not None and len(runs) == 1 and right is None) or (
        left is not None and len(runs) > 1
      ):
        sides = [left]
    elif not at and left is not None:
      sides = [left]
  if sides:
    yield Equation(tuple(sides), nearly, line)


def _is(part, tokens, at: int) -> bool:
  """Returns whether `is` states a result: `5 x 3 is 15`."""
  if at + 1 >= len(tokens) or tokens[at + 1][0] != 'number':
    return False
  if not any(
    kind in ('sign', 'times') or value in _OPERATORS for kind, value, _ in part
  ):
    return False
  if at + 2 < len(tokens):
    kind, value, _ = tokens[at + 2]
    if value in _COMPARE or kind in ('sign', 'times'):
      return False
  runs = _runs(part, True)
  return bool(runs) and len(runs[-1].items) > 1 and runs[-1].left() is not None


class _Run:
  """An expression while it is read (Dijkstra's shunting yard)."""

  def __init__(self, before: Sequence[str], first: bool):
    self.before = before
    self.first = first
    self.items: list[Any] = []
    self.signs: list[str] = []
    self.depth = 0
    self.units: list[str] = []
    self.operators = 0
    self.symbolic = False
    self.sure = True
    # Whether the last thing read was an operand; whether it was a bracket.
    self.full = False
    self.closed = False

  def operand(self, number: prose.Number | None) -> None:
    if number is None or len(self.items) > _MOST_ITEMS:
      self.symbolic = True
    else:
      self.items.append(number)
    self.units = []
    self.full = True
    self.closed = False

  def sign(self, sign: str) -> None:
    if not self.full:
      if sign != '-':
        self.symbolic = sign != '+' or self.symbolic
        return
      sign = 'neg'
    elif not _unit(self.units):
      self.sure = False
    while (
      self.signs
      and sign != 'neg'
      and self.signs[-1] != '('
      # Powers are taken from the right.
      and _RANK[self.signs[-1]] >= _RANK[sign] + (sign == '^')
    ):
      self.items.append(self.signs.pop())
    self.signs.append(sign)
    self.operators += 1
    self.full = False
    self.units = []

  def open(self) -> None:
    self.signs.append('(')
    self.depth += 1
    self.symbolic = self.symbolic or self.depth > _MOST_DEPTH
    self.full = False

  def close(self) -> None:
    while self.signs[-1] != '(':
      self.items.append(self.signs.pop())
    self.signs.pop()
    self.depth -= 1
    self.symbolic = self.symbolic or not self.full
    self.full = self.closed = True

  def side(self) -> Side | None:
    """Returns it as what stands behind an equals sign; None: no number."""
    if self.symbolic or not self.full or not self.items:
      return None
    if _CLOCK.intersection(self.units):
      return None
    rest = [sign for sign in reversed(self.signs) if sign != '(']
    sure = self.sure and not self.before
    if self.units and self.units[0] in _COMPARE:
      sure = False
    return Side((*self.items, *rest), tuple(self.units), sure)

  def left(self) -> Side | None:
    """Returns it as what stands before an equals sign."""
    if not _unit(self.units) or (self.before and not self.operators):
      return None
    if self.before and self.before[-1] in _CALCULATE:
      return None
    if not self.first and self.before == ['and']:
      return None
    side = self.side()
    if side is None:
      return None
    return Side(side.postfix, side.units, self.sure and not self.depth)


def _unit(words: Sequence[str]) -> bool:
  """Returns whether words behind a number can be its unit."""
  return len(words) <= 6 and _CLAUSE.isdisjoint(words)


def _runs(tokens: Sequence[prose.Token], start: bool) -> list[_Run]:
  """Returns the expressions of a stretch without equals signs.

  Args:
    tokens: the stretch.
    start: whether it starts a clause, where `- ` and `* ` are bullets.
  """
  runs: list[_Run] = []
  run: _Run | None = None
  words: list[str] = []
  ends, counted = _brackets(tokens)
  at = -1
  while at + 1 < len(tokens):
    at += 1
    kind, value, touches = tokens[at]
    if kind == 'word' and value in _OPERATORS and run and run.full:
      following = tokens[at + 1 : at + 2]
      if following and following[0][0] in ('number', 'open') and not run.units:
        kind = 'sign'
        if value == 'of' and len(run.items) and not _part(run.items[-1]):
          run.sure = run.operators > 0
        value = _OPERATORS[value]
    elif kind == 'times':
      kind, value = ('sign', '*') if run and run.full else ('word', 'x')
    if kind == 'number':
      before = tokens[at - 1][0] if touches else ''
      if before in ('word', 'symbol') or (
        before == 'times' and (run is None or run.full)
      ):
        # A part of a name, as in x2.
        if run and run.full:
          run.symbolic = True
        continue
      if run and run.full:
        number, skip = _mixed(run, tokens, at)
        if number:
          run.items[-1] = number
          at += skip
          continue
        if run.closed and not run.units:
          run.sign('*')
          run.sure = False
        else:
          run, words = None, run.units
      if run is None:
        run = _Run(words, not runs)
        runs.append(run)
        words = []
      if _divisor(run, tokens, at):
        value = prose.Number(value.value / tokens[at + 2][1].value, 0, False)
        at += 2
      run.operand(value)
    elif kind == 'open':
      if not counted[at]:
        if ends[at] is not None:
          at = ends[at]
        continue
      if run and run.full:
        if run.units and ends[at] is not None:
          # A remark with a number in it: maybe the number that is meant.
          run.sure = False
          at = ends[at]
          continue
        run.sign('*')
        run.operators -= 1
      if run is None:
        run = _Run(words, not runs)
        runs.append(run)
        words = []
      run.open()
    elif kind == 'close':
      if run and run.depth:
        run.close()
      elif run:
        run, words = None, ['']
    elif kind == 'sign':
      if run is None:
        if not words and start and not (value == '-' and _glued(tokens, at)):
          continue
        run = _Run([], not runs)
        runs.append(run)
        if words:
          run.operand(None)
          words = []
      elif run.full and value == '/' and _worded(tokens, at):
        continue
      run.sign(value)
    elif run is None:
      words.append(str(value))
    elif not run.full:
      run.operand(None)
    elif kind == 'symbol':
      run.symbolic = run.symbolic or value not in ('', '#', "'", '|', '&')
    else:
      if len(value) == 1 and (touches or value not in _LETTERS):
        run.symbolic = True
      run.units.append(value)
  if run is None and words and runs:
    # Words behind a bracket that was never opened: a clause of their own.
    runs.append(_Run(words, False))
  return runs


def _brackets(tokens) -> tuple[dict[int, int | None], dict[int, bool]]:
  """Returns of each opening bracket its end, and whether it holds a number."""
  ends: dict[int, int | None] = {}
  counted: dict[int, bool] = {}
  opened: list[int] = []
  numbers = 0
  before: dict[int, int] = {}
  for at, (kind, _, _) in enumerate(tokens):
    if kind == 'open':
      opened.append(at)
      before[at] = numbers
      ends[at] = None
    elif kind == 'close' and opened:
      first = opened.pop()
      ends[first] = at
      counted[first] = numbers > before[first]
    numbers += kind == 'number'
  for first in opened:
    counted[first] = numbers > before[first]
  return ends, counted


def _mixed(run: _Run, tokens, at: int) -> tuple[prose.Number | None, int]:
  """Returns a mixed number (`1 3/4`) that ends a run, and how many tokens."""
  whole = run.items[-1] if run.items else None
  if run.units or not isinstance(whole, prose.Number):
    return None, 0
  if tokens[at - 1][0] != 'number' or at + 2 >= len(tokens):
    return None, 0
  if tokens[at + 1][1] != '/' or tokens[at + 2][0] != 'number':
    return None, 0
  above, below = tokens[at][1], tokens[at + 2][1]
  if whole.decimals or above.decimals or below.decimals:
    return None, 0
  if not 0 < above.value < below.value:
    return None, 0
  return prose.Number(
    whole.value + above.value / below.value, 0, below.percent
  ), 2


def _divisor(run: _Run, tokens, at: int) -> bool:
  """Returns whether a divisor is a fraction, as in `8/3 ÷ 1/3`."""
  if run.signs[-1:] != ['/'] or tokens[at][2] or at + 2 >= len(tokens):
    return False
  (kind, _, _), (_, sign, before), (last, below, after) = tokens[at : at + 3]
  return (
    kind == last == 'number'
    and sign == '/'
    and before
    and after
    and below.value != 0
  )


def _part(item: Any) -> bool:
  """Returns whether `of` behind an item says `times`: a share of something."""
  return not isinstance(item, prose.Number) or item.percent or item.value < 1


def _glued(tokens, at: int) -> bool:
  following = tokens[at + 1 : at + 2]
  return bool(following) and following[0][2] and following[0][0] == 'number'


def _worded(tokens, at: int) -> bool:
  """Returns whether a slash stands before a word: `miles/hour`."""
  following = tokens[at + 1 : at + 2]
  return bool(following) and following[0][0] == 'word'
