r"""Final answers that are numbers, as in GSM8K.

Texts are written by models, so they may be anything: only the last characters
of a text are read, every pattern takes linear time, and numbers of absurd
length or with exponents are not numbers here.
"""

import collections
import fractions
import re


# The final answer stands at the end; a longer text is cut from the front.
MAX_TEXT = 100_000
MAX_DIGITS = 1_000
TOLERANCE = fractions.Fraction(1, 10**6)

_MINUS = str.maketrans({'−': '-', '–': '-', '‐': '-', '‑': '-', '－': '-'})
_CURRENCY = '$€£¥₹'
# An unsigned number: 1,234.5 or 1234.5 or .5, then maybe a fraction bar and a
# denominator; or a whole number before a fraction.  Possessive (`++`): no
# backtracking.
_UNSIGNED = r"""
  (?: (?P<whole>\d++)\ (?=\d++/\d) )?+
  (?P<digits> (?: \d{1,3}(?:,\d{3})++(?!\d) | \d++ )(?:\.\d++)?+ | \.\d++ )
  (?: \ ?/\ ?(?P<below>\d++)(?![.,]?\d) )?+
"""
_SIGNED = rf'(?P<sign>-)?\ ?[{_CURRENCY}]?\ ?{_UNSIGNED}'
_WHOLE_TEXT = re.compile(
  rf'\s*[{_CURRENCY}]?\s*{_SIGNED}(?P<rest>[^\d^]*+)', re.VERBOSE
)
# Within a text: not inside another number, an exponent or a clock time.  A
# minus is a sign where it touches the number, follows no number and touches no
# letter; else it is a subtraction, a hyphen or a bullet (but not in `= - 4`).
_IN_TEXT = re.compile(
  rf"""
  (?:
    (?<![\w)\]%}}])(?<![\d)\]%}}]\ )
    (?P<sign>-)(?:(?<==\ -)\ )?[{_CURRENCY}]?
  )?+
  (?<![\d^])(?<!\d[.,:^])(?<!\d[eE])(?<!\d[eE][-+])(?<!\^-)(?<!\^{{)
  {_UNSIGNED}
  (?! \ ?\^ | [eE][-+]?\d )
  """,
  re.VERBOSE,
)
_MARK = re.compile(
  r"""
  \#{4}
  | \\boxed\s{0,4}\{
  | \banswer\b (?:\s{1,4}\w{1,30}){0,6}? \**+ \s{0,4} (?: \bis\b | [:=] )
  """,
  re.VERBOSE | re.IGNORECASE,
)
_LATEX = (
  (re.compile(r'\\[dt]?frac\s?\{(\d++)\}\s?\{(\d++)\}'), r' \1/\2'),
  (re.compile(r'\{,\}|,\\!'), ','),
  (re.compile(r'\\\$'), '$'),
  (re.compile(r'\\[,!;:]'), ''),
)
_SENTENCE_END = re.compile(r'[.!?](?=\s|$)|\n')


def parse(text: str) -> fractions.Fraction | None:
  """Returns the number that `text` states, or None if it does not state one.

  Read are thousands commas, a currency sign before, decimals, fractions (3/4)
  and mixed numbers (1 3/4), any minus sign, and words or signs without digits
  after: `$1,234.50`, `-3/4`, `25%` (25), `18 apples.`.  Not numbers: exponents,
  a denominator of 0, more than `MAX_DIGITS` digits.
  """
  if len(text) > 4 * MAX_DIGITS:
    return None
  found = _WHOLE_TEXT.fullmatch(_latex(text))
  return _value(found) if found else None


def extract(text: str) -> str | None:
  r"""Returns the final answer of a worked solution, in plain digits.

  It is the number after the last `The answer is`, `Answer:`, `####` or in the
  last `\boxed{}`: of that sentence the first number, or the first after its
  last `=`.  Without such a mark it is the last number of the text.  A last
  mark without a number (`The answer is unknown`) is an answer that is no
  number: None, rather than a number that was not given as the answer.

  Only the last `MAX_TEXT` characters are read.
  """
  said = stated(text)
  if said is None:
    found = _last(_IN_TEXT, _latex(text[-MAX_TEXT:]))
    return _plain(found) if found else None
  found = _IN_TEXT.search(said, said.rfind('=') + 1) or _IN_TEXT.search(said)
  return _plain(found) if found else None


def stated(text: str) -> str | None:
  """Returns what the last mark of an answer states; None without a mark.

  Marks, and how much is read, are those of `extract`.
  """
  text = _latex(text[-MAX_TEXT:])
  last = _last(_MARK, text)
  return None if last is None else _statement(text, last)


def equal(a: str, b: str) -> bool:
  """Returns whether two strings state the same number.

  Exactly the same, but where either is written with a decimal point: then
  within a relative `TOLERANCE`.
  """
  first, second = parse(a), parse(b)
  if first is None or second is None:
    return False
  if first == second:
    return True
  if '.' not in a.strip().rstrip('.') and '.' not in b.strip().rstrip('.'):
    return False
  return abs(first - second) <= TOLERANCE * max(abs(first), abs(second))


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
  last = collections.deque(pattern.finditer(text), maxlen=1)
  return last[0] if last else None


def _latex(text: str) -> str:
  text = text.translate(_MINUS)
  if '\\' in text or '{,}' in text:
    for pattern, plain in _LATEX:
      text = pattern.sub(plain, text)
  return text


def _statement(text: str, mark: re.Match[str]) -> str:
  """Returns what a mark states: the box, or the first sentence after it."""
  start = mark.end()
  if text[start - 1] == '{':
    depth = 1
    for at in range(start, len(text)):
      depth += (text[at] == '{') - (text[at] == '}')
      if not depth:
        return text[start:at]
    return text[start:]
  said = text[start:].lstrip(' \t\r\n:*=')
  end = _SENTENCE_END.search(said)
  return said[: end.start()] if end else said


def _value(found: re.Match[str]) -> fractions.Fraction | None:
  whole, below = found['whole'], found['below']
  digits = found['digits'].replace(',', '')
  if len(digits) + len(whole or '') + len(below or '') > MAX_DIGITS:
    return None
  value = fractions.Fraction(digits if digits[0] != '.' else '0' + digits)
  if below is not None:
    if not int(below):
      return None
    value /= int(below)
  if whole is not None:
    value += int(whole)
  return -value if found['sign'] else value


def _plain(found: re.Match[str]) -> str | None:
  """Returns a number without commas, signs and needless zeros."""
  value = _value(found)
  if value is None:
    return None
  if value.denominator == 1 or found['below'] is not None:
    return str(value)
  whole, _, decimals = found['digits'].replace(',', '').partition('.')
  sign = '-' if value < 0 else ''
  return f'{sign}{whole.lstrip("0") or "0"}.{decimals.rstrip("0")}'
