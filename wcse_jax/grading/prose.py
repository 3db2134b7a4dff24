r"""Cuts prose with sums in it into tokens.

LaTeX in light form, Unicode signs and currency signs are cleaned away first.
Every pattern takes linear time.
"""

import dataclasses
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any


_MOST_DIGITS = 24

# (kind, value, touches the token before).  Kinds: number, word, times (an x
# that may be one), equals, sign, open, close, symbol, break.
Token = tuple[str, Any, bool]

_ANNOTATION = re.compile(r'<<([^<>\n]*+)>>')
_SPACE = re.compile(r'\s++')
_SIGNS = str.maketrans(
  {'×': '*', '⋅': '*', '·': '*', '∙': '*', '∗': '*', '✕': '*', '÷': '/'}
  | {'⁄': '/', '∕': '/', '＝': '=', '≃': '≈', '≅': '≈', '²': '^2', '³': '^3'}
  | {'−': '-', '–': '-', '‐': '-', '‑': '-', '－': '-', '＋': '+', '％': '%'}
  | {'½': ' 1/2', '⅓': ' 1/3', '¼': ' 1/4', '¾': ' 3/4', '⅔': ' 2/3'}
  | dict.fromkeys('$€£¥₹`"', ''),
)
_LATEX = (
  (re.compile(r'\\(?:times|cdot|ast)(?![a-z])'), '*'),
  (re.compile(r'\\div(?![a-z])'), '/'),
  (re.compile(r'\\approx(?![a-z])'), '≈'),
  (re.compile(r'\\[\]\[\\]|\\(?:begin|end)\{[^{}\n]{0,20}+\}'), '\n'),
  (re.compile(r'\{,\}|,\\!'), ','),
  (re.compile(r'\\%'), '%'),
  (
    re.compile(
      r'\\(?:textbf|text|mathrm|mathbf|operatorname|boxed|left|right|quad'
      r'|qquad|displaystyle|[()$,;:!& ])'
    ),
    ' ',
  ),
)
_RATIO = re.compile(r'(?<=\d) : (?=\d)')
# Bold type of Markdown, not a power.
_BOLD = re.compile(r'(?<!\d)\*\*|\*\*(?!\d)')
_TOKEN = re.compile(
  r"""
  (?P<clock> \d++:\d\d(?!\d)(?::\d\d)?+ | \d++,\d{1,2}(?!\d) )
  | (?P<number>
      \d{1,3}(?:\ \d{3}(?!\d))++(?:\.\d++)?+
      | \d++(?:,\d{3}(?!\d))*+(?:\.\d++)?+
      | \.\d++
    )
  | (?P<frac> \\[dtc]?frac (?=\s?\{) )
  | (?P<times> [xX](?=\ ?[\d(.\\]) )
  | (?P<word> \\?[A-Za-z_¢][\w'¢]*+ )
  | (?P<break> \n | [.!?](?=\s|$) | [;:,?] | [<>≤≥≠!]=?+ | -> | => | → )
  | (?P<equals> ==?+ | ≈ | ~=?+ )
  | (?P<sign> [-+*/^] )
  | (?P<open> [(\[{] )
  | (?P<close> [)\]}] )
  | (?P<percent> % )
  | (?P<other> [^\s] )
  """,
  re.VERBOSE,
)


@dataclasses.dataclass(frozen=True, slots=True)
class Number:
  """A number as it is written.

  Attributes:
    value: its value, a percentage as its count of hundredths.
    decimals: digits after the point.
    percent: whether a percent sign follows.
  """

  value: Fraction
  decimals: int
  percent: bool


def lines(text: str, told: bool) -> Iterator[str]:
  """Yields the cleaned lines; what a calculator was told is a line too."""
  notes = _ANNOTATION.findall(text)
  if notes:
    text = _ANNOTATION.sub('', text)
  if '\\' in text:
    for pattern, plain in _LATEX:
      text = pattern.sub(plain, text)
  text = text.translate(_SIGNS)
  text = _SPACE.sub(lambda run: '\n' if '\n' in run[0] else ' ', text)
  text = (
    _RATIO.sub(' / ', _BOLD.sub(' ', text))
    .replace('\n=', ' =')
    .replace('=\n', '= ')
  )
  yield from text.split('\n')
  if told:
    yield from (note.translate(_SIGNS) for note in notes)


def segments(line: str) -> Iterator[list[tuple[str, Any, bool]]]:
  """Yields lists of (kind, value, touches the token before).

  Braces go, but those of a fraction become brackets.
  """
  tokens: list[tuple[str, Any, bool]] = []
  braces: list[str] = []
  fraction = ''
  end = -1
  for found in _TOKEN.finditer(line):
    kind, value = found.lastgroup, found[0]
    touches, end = found.start() == end, found.end()
    if fraction and value != '{':
      fraction = ''
      tokens.append(('symbol', '', False))
    if kind == 'number':
      value = _number(value)
      if value is None:
        kind = 'symbol'
    elif kind == 'percent':
      if tokens and tokens[-1][0] == 'number':
        number = tokens[-1][1]
        tokens[-1] = (
          'number',
          Number(number.value, number.decimals, True),
          tokens[-1][2],
        )
      continue
    elif kind == 'frac':
      fraction = 'above'
      continue
    elif value == '{':
      braces.append(fraction)
      if fraction:
        tokens += [('open', '(', touches)] * (1 + (fraction == 'above'))
      fraction = ''
      continue
    elif value == '}':
      place = braces.pop() if braces else ''
      if place == 'above':
        tokens += [('close', ')', False), ('sign', '/', False)]
        fraction = 'below'
      elif place == 'below':
        tokens += [('close', ')', False)] * 2
      continue
    elif kind == 'break' and not braces:
      yield tokens
      tokens = []
      continue
    elif kind in ('clock', 'other'):
      kind = 'symbol'
    tokens.append((kind, value, touches))
  yield tokens


def _number(text: str) -> Number | None:
  digits = text.replace(',', '').replace(' ', '')
  if len(digits) > _MOST_DIGITS:
    return None
  whole, _, decimals = digits.partition('.')
  value = Fraction(int(whole + decimals or '0'), 10 ** len(decimals))
  return Number(value, len(decimals), False)
