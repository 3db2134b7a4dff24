"""The step checker of `arith`: is a right answer rightly reasoned?

A derivation is sound when every equation in it is true, every operand is a
number of the story or an earlier result, and the whole computes the answer for
*other* numbers too: the equations are replayed as a program on stories in which
each number was replaced by a random one.  So a lucky slip, two errors that
cancel, and a right remainder of a wrong total are all unsound, while any valid
order of the steps is sound.
"""

import itertools
import random
import re
from collections.abc import Mapping, Sequence


# Reading stops here; no sound derivation of eight steps comes near.
_MOST_TEXT = 2_000
_MOST_STEPS = 40
# Readings of one number that are followed; a number can stand for several.
_MOST_READINGS = 2_000
_WORLDS = 2

_EQUATION = re.compile(
  r'(?<![\d+\-*/=.])(\d{1,6})([+\-*/])(\d{1,6})=(\d{1,6})(?: r(\d{1,6}))?'
  r'(?![\d+\-*/=])'
)
_ANSWER = re.compile(r'The answer is (\d{1,6})\.')

# A number's value in each of the random worlds; empty where it has none.
World = tuple[int, ...]


def final_answer(text: str) -> str | None:
  """Returns the last stated answer as digits; None if none is stated."""
  found = _ANSWER.findall(text[-_MOST_TEXT:])
  return str(int(found[-1])) if found else None


def equations(text: str) -> list[tuple[int, str, int, int, int | None]]:
  """Returns (left, operator, right, result, remainder) of each equation."""
  return [
    (int(a), op, int(b), int(c), int(r) if r else None)
    for a, op, b, c, r in _EQUATION.findall(text[:_MOST_TEXT])
  ]


def chain(text: str) -> str:
  """Returns the equations in order, operands of + and * sorted."""
  found = []
  for a, op, b, c, r in equations(text):
    if op in '+*':
      a, b = sorted((a, b))
    found.append(f'{a}{op}{b}={c}' + ('' if r is None else f'r{r}'))
  return ' '.join([*found, f'-> {final_answer(text)}'])


def check(
  start: int, events: Sequence[Mapping[str, int | str]], text: str
) -> tuple[bool | None, str]:
  """Returns (is the derivation sound, the first thing wrong with it).

  None where the numbers can be read in more ways than are followed.

  Args:
    start: the count at the start of the story.
    events: its events, as `tasks.arith.Event` fields.
    text: the worked solution.
  """
  found = equations(text)
  if len(found) > _MOST_STEPS:
    return False, f'more than {_MOST_STEPS} equations'
  if text.count('=') != len(found):
    return False, 'an equation that cannot be read'
  readings, target = _worlds(start, events)
  crowded = False
  for a, op, b, c, r in found:
    shown = f'{a}{op}{b}={c}' + ('' if r is None else f' r{r}')
    if not _holds(a, op, b, c, r):
      return False, f'{shown} is false'
    for operand in (a, b):
      if operand not in readings:
        return False, f'{shown} uses {operand}, which nothing gives'
    worlds = list(
      itertools.islice(
        itertools.product(readings[a], readings[b]), _MOST_READINGS
      )
    )
    crowded = crowded or len(worlds) == _MOST_READINGS
    results = {c: op} if r is None else {c: '/', r: '%'}
    if r == c:
      results = {c: '/%'}
    for value, ops in results.items():
      made = {_apply(o, x, y) for x, y in worlds for o in ops}
      readings.setdefault(value, set()).update(made - {()})
  answer = final_answer(text)
  if answer is None:
    return False, 'no final answer'
  if target not in readings.get(int(answer), ()):
    if crowded:
      return None, 'the numbers can be read in too many ways'
    return False, f'the steps do not derive {answer} from the story'
  return True, ''


def _holds(a: int, op: str, b: int, c: int, r: int | None) -> bool:
  if op == '/':
    return b > 0 and a == b * c + (r or 0) and 0 <= (r or 0) < b
  if r is not None:
    return False
  return c == {'+': a + b, '-': a - b, '*': a * b}[op]


def _worlds(
  start: int, events: Sequence[Mapping[str, int | str]]
) -> tuple[dict[int, set[World]], World]:
  """Returns the readings of each number of the story, and the answer's."""
  rng = random.Random(f'worlds {start} {len(events)}')
  readings: dict[int, set[World]] = {}

  def draw(value: int, low: int, high: int) -> World:
    drawn = tuple(rng.randint(low, high) for _ in range(_WORLDS))
    readings.setdefault(value, set()).add(drawn)
    return drawn

  # Large starts and small divisors keep every quotient and remainder telling.
  count = draw(start, 10**11, 10**12)
  for event in events:
    x = draw(int(event['x']), 10**5, 10**6)
    match event['kind']:
      case 'gain':
        count = _apply('+', count, x)
      case 'loss':
        count = _apply('-', count, x)
      case 'times':
        count = _apply('*', count, x)
      case 'groups':
        m = draw(int(event['m']), 10**5, 10**6)
        count = _apply('+', count, _apply('*', m, x))
      case 'left':
        count = _apply('%', count, x)
      case 'each':
        count = _apply('/', count, x)
      case kind:
        raise ValueError(f'kind: unknown event {kind!r}.')
  return readings, count


def _apply(op: str, x: World, y: World) -> World:
  match op:
    case '+':
      return tuple(a + b for a, b in zip(x, y, strict=True))
    case '-':
      return tuple(a - b for a, b in zip(x, y, strict=True))
    case '*':
      return tuple(a * b for a, b in zip(x, y, strict=True))
  if not all(y):
    return ()
  if op == '/':
    return tuple(a // b for a, b in zip(x, y, strict=True))
  return tuple(a % b for a, b in zip(x, y, strict=True))
