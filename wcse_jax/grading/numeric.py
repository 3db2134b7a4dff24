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
_QUESTION = re.compile(r'\n\s{0,4}\W{0,4}(?:Question|Problem).{0,9}?:')
_NEXT = re.compile(r'\n\s{0,4}Q:')
_RESULT = re.compile(r'=\s?(?=[-$€£¥₹]{0,2}\s?[.\d])')
_SAYS = re.compile(
  r'\b(?:is|are|was|were|has|have|had|plus|minus|times|equals?|makes?|gets?'
  r'|leaves?|left|gives?)\b|\band\s+[$€]?\d|[-+*/=×÷]'
)
_ONES = """
  zero one two three four five six seven eight nine ten eleven twelve thirteen
  fourteen fifteen sixteen seventeen eighteen nineteen
"""
_TENS = 'twenty thirty forty fifty sixty seventy eighty ninety'
_SPELT = {name: at for at, name in enumerate(_ONES.split())}
_SPELT |= {name: 10 * at for at, name in enumerate(_TENS.split(), 2)}
_SCALES = {'thousand': 10**3, 'million': 10**6, 'billion': 10**9}
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
  last `=`, or one in words.  Without such a mark it is the last number of the
  text, or the last result of an equation where the last sentence states that
  too: 64 in `8*8 = 64. He pays $64 for 8 glasses.`  What follows a further
  question behind a mark or behind `Q:` does not count.  A last
  mark without a number (`The answer is unknown`) is an answer that is no
  number: None, rather than a number that was not given as the answer.

  Only the last `MAX_TEXT` characters are read.
  """
  said = stated(text)
  if said is None:
    found = _unmarked(_before_next(_latex(text[-MAX_TEXT:])))
    return _plain(found) if found else None
  found = _IN_TEXT.search(said, said.rfind('=') + 1) or _IN_TEXT.search(said)
  if found is None:
    value = spelt(said)
    return None if value is None else str(value)
  return _plain(found)


def stated(text: str) -> str | None:
  """Returns what the last mark of an answer states; None without a mark.

  Marks, and how much is read, are those of `extract`.
  """
  text = _before_next(_latex(text[-MAX_TEXT:]))
  last = _last(_MARK, text)
  return None if last is None else _statement(text, last)


def spelt(text: str, *, whole: bool = False) -> int | None:
  """Returns the number whose name a text starts with, as `two hundred and six`.

  `one of them` and `two and a half` are none; with `whole`, a text that goes on
  is none.
  """
  total = part = 0
  found = None
  for word in re.findall(r'[a-z]+', text[:200].lower()):
    if word in _SPELT:
      part += _SPELT[word]
    elif found is None:
      return None
    elif word == 'hundred':
      part *= 100
    elif word in _SCALES:
      total, part = total + _SCALES[word] * part, 0
    elif word == 'and':
      continue
    elif whole or word in ('of', 'a', 'half', 'point'):
      return None
    else:
      break
    found = total + part
  return found


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


def _before_next(text: str) -> str:
  """Returns what stands before a further question behind an answer."""
  starts = [
    question.start()
    for answer, next_one in ((_MARK, _QUESTION), (_IN_TEXT, _NEXT))
    if (found := answer.search(text))
    and (question := next_one.search(text, found.end()))
  ]
  return text[: min(starts)] if starts else text


def _unmarked(text: str) -> re.Match[str] | None:
  """Returns the final number of a text without a mark."""
  last = _last(_IN_TEXT, text)
  result = _last(_RESULT, text)
  if last is None or result is None or result.end() >= last.start():
    return last
  result = _IN_TEXT.match(text, result.end())
  if result is None:
    return last
  start = max(text.rfind(sign, 0, last.start()) for sign in ('\n', '. ', '\\]'))
  for found in _IN_TEXT.finditer(text, max(start, result.end())):
    if _value(found) == _value(result):
      # Nothing is said of the last number but what the result is for.
      plain = not _SAYS.search(text, found.end(), last.start())
      return found if start >= result.end() and plain else last
  return last


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
    # A text that ends in the box may end in a number.
    return text[start:] if re.search(r'[\n$]', text[start:]) else ''
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
