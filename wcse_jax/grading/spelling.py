r"""Answers in LaTeX in one spelling, and the numbers that they state."""

import fractions
import re
import unicodedata
from collections.abc import Callable


Near = Callable[[str, str], bool]


_SIGNS = str.maketrans(
  {
    '−': '-', '–': '-', '‐': '-', '‑': '-', '－': '-', '×': r'\times ',
    '·': r'\cdot ', '⋅': r'\cdot ', '÷': '/', 'π': r'\pi ', '∞': r'\infty ',
    '°': r'^\circ', '≤': r'\leq ', '≥': r'\geq ', '≠': r'\neq ', '∪': r'\cup ',
    '∈': r'\in ', '±': r'\pm ', '∅': r'\emptyset ', '⁄': '/', '∕': '/',
    '\u00a0': ' ', '\u2009': ' ', '\u202f': ' ', '，': ',', '（': '(',
    '）': ')', '％': '%', '∩': r'\cap ', '≈': r'\approx ', 'θ': r'\theta ',
    '€': '', '£': '', '¥': '', '₹': '', '¢': '', '√': r'\sqrt ',
  }
)  # fmt: skip
# Raised and lowered digits, in order, and fractions of one sign.
_RAISED, _LOWERED = '⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ', '₀₁₂₃₄₅₆₇₈₉₊₋ₙ'
_SHIFTED = re.compile(rf'([{_RAISED}]+)|[{_LOWERED}]+')
_LEVEL = str.maketrans(_RAISED + _LOWERED, 2 * '0123456789+-n')
_VULGAR = re.compile('[¼-¾⅐-⅞]')
_WRAPPED = re.compile(
  r'\s*(?:\$\$(.+)\$\$|\$([^$]+)\$|\\\[(.+)\\\]|\\\((.+)\\\)'
  r'|\\f?boxed\s?\{(.+)\})[\s.,;]*',
  re.DOTALL,
)
_UNIT = (
  r'(?:\\(?:text(?:bf|rm|it|normal)?|mbox|mathrm|rm|hbox|operatorname)\s?)'
)
_DEGREES = (
  r'(\d+(?:\.\d+)?)\s*(?:\^\s?\{?\s?\\circ\s?\}?|\\degree|\\deg(?![a-z]))\s*'
)
_RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
  (re.compile(pattern), plain)
  for pattern, plain in (
    (r'\\\{\s*\\\}', r'\\emptyset '),
    (r'\{:\}|\\colon(?![a-z])', ':'),
    (r'(\A|\\in)\s*\\mathbb\s?\{?\s?R\s?\}?\s*\Z', r'\1 (-\\infty,\\infty)'),
    (r'\\[lc]?dots[bc]?(?![a-z])', r'\\ldots '),
    (r'\\langle(?![a-z])', '('),
    (r'\\rangle(?![a-z])', ')'),
    (r'(?<=\d),\s?\\!\s*(?=\d{3})|(?<=\d)\s?\{,\s*\}\s?(?=\d{3})', ','),
    (r'(?<=\d)\\[, ](?=\d{3}(?!\d))', ''),
    (r'\\(?:left|right|[bB]igg?[lrm]?)(?![a-zA-Z])\s?\.?', ''),
    (r'\\(?:displaystyle|textstyle|limits|nolimits|mathstrut)(?![a-zA-Z])', ''),
    (r'\\q?quad(?![a-zA-Z])', ' '),
    (r'\\quad|\\qquad', ' '),
    (r'\\!', ''),
    (r'(?<!\\)\\[,;: >]|~', ' '),
    (r'\\\$|\$', ''),
    (r'\\[dtc]frac(?![a-zA-Z])', r'\\frac'),
    (r'\\lt(?![a-zA-Z])', '<'),
    (r'\\gt(?![a-zA-Z])', '>'),
    (r'\\(?:leqslant|le)(?![a-zA-Z])|<=|=<', r'\\leq '),
    (r'\\(?:geqslant|ge)(?![a-zA-Z])|>=', r'\\geq '),
    (r'\\ne(?![a-zA-Z])|!=|\\not\s?=', r'\\neq '),
    (r'\\(?:rightarrow|to)(?![a-zA-Z])', r'\\to '),
    (r'\\?(sin|cos|tan|cot|sec|csc)\s*(?:\(\s*' + _DEGREES + r'\)|\{\s*'
     + _DEGREES + r'\}|' + _DEGREES + ')', r'\\\1(\\frac{\2\3\4\\pi }{180})'),
    (r'\^\s?\{?\s?\\circ\s?\}?|\\degree(?![a-z])|\\deg(?![a-z])', ' '),
    (r'\\(?:overline|bar)\s*\{?\s*(\d+)\s*\}?', r'\\overline{\1}'),
    (r'(?<=[\w)}\]])\s?\*\*(?=\s*[\w({\\-])', '^'),
    (r'\\%|(?<=[\d}$ ])\s*(?:percentage|percent|per cent|pct)(?![a-z])', '%'),
    (r'\\(?:times|ast)(?![a-zA-Z])', r'\\cdot '),
    (r'\\(?:math(?:bf|it|sf|bb)|bm|bf|boldsymbol|underline)\s?\{([^{}]*)\}',
     r'\1'),
    (r'\\[dt]binom(?![a-zA-Z])', r'\\binom'),
    (r'\\(frac|binom)\s*([^\s{}\\])\s*([^\s{}\\])', r'\\\1{\2}{\3}'),
    (r'\\(frac|binom)\s*([^\s{}\\])\s*\{', r'\\\1{\2}{'),
    (r'(\\(?:frac|binom)\s*\{[^{}]*\})\s*([^\s{}\\])', r'\1{\2}'),
    (r'\\frac\s*(\\[a-zA-Z]+)\s*([^\s{}\\])', r'\\frac{\1}{\2}'),
    (r'(?<![a-zA-Z])\\?sqrt\s*\(((?:[^()]|\([^()]*\))*)\)', r'\\sqrt{\1}'),
    (r'(?<![\\a-zA-Z])sqrt\s?(\d+)', r'\\sqrt{\1}'),
    (r'\\sqrt\s*([^\s{}\\\[])', r'\\sqrt{\1}'),
    (r'\\sqrt\s*(\[[^\[\]]*\])\s*([^\s{}\\])', r'\\sqrt\1{\2}'),
    (r'\\sqrt\s*(\\[a-zA-Z]+)', r'\\sqrt{\1}'),
    (r'(?<![\\a-zA-Z{])(arcsin|arccos|arctan|sin|cos|tan|cot|sec|csc|log|ln|pi)'
     r'(?![a-z])', r'\\\1 '),
    (r'\\log\s*_\s*\{?\s*e\s*\}?', r'\\ln '),
    (r'\(\s*\\?mod\s+(\w+)\s*\)|\\p?mod\s*\{?\s*(\w+)\s*\}?\s*\Z',
     r'\\pmod{\1\2}'),
    (r'\\varnothing|\\O(?![a-z])', r'\\emptyset '),
    (r'\\begin\{(?:bmatrix|array|smallmatrix|matrix)\}(?:\s*\{[lcr| ]*\})?',
     r'\\begin{pmatrix}'),
    (r'\\end\{(?:bmatrix|array|smallmatrix|matrix)\}', r'\\end{pmatrix}'),
    (r'[(\[]\s*(?=\\begin\{pmatrix\})', ''),
    (r'(?<=\\end\{pmatrix\})\s*[)\]]', ''),
  )
)  # fmt: skip
_AND = re.compile(
  rf'{_UNIT}\{{\s*,?\s*(?:and|or)\s*,?\s*\}}|(?<![\\a-zA-Z])(?:and|or)(?![a-z])'
  r'|(?<=[)\]\d}])\s*or\s*(?=[\d(\[{\\-])'
)
_TEXT = re.compile(rf'{_UNIT}\{{([^{{}}]*)\}}')
_FRACTION_OF_UNITS = rf'\{{\s*{_UNIT}\s?\{{[^{{}}]*\}}(?:\^\{{?\d\}}?)?\s*\}}'
_TRAILING_UNIT = re.compile(
  rf'(?<=[\d}}a-z)%. ])\s*(?:{_UNIT}\s*\{{\s*+(?![apAP]\.?\s?[mM]\b|[ie]\s*\}})'
  r'[^{}]*\}(?:\s?\^\s?\{?\d\}?|/\w+)*'
  rf'|\\frac\s?{_FRACTION_OF_UNITS}\s?{_FRACTION_OF_UNITS})\s*\Z'
)
# What counts by the thousand is a part of the number.
_SCALED = re.compile(
  rf'(-?\d[\d.,]*?)\s*(?:{_UNIT}\{{\s*)?(thousand|million|billion|trillion)\b'
  r'[a-zA-Z .]*\}?'
)
_SCALES = {'thousand': 3, 'million': 6, 'billion': 9, 'trillion': 12}
_PLAIN_UNIT = re.compile(
  r'(?P<number>-?[\d.,/ ]*\d|-?(?:\d+\s?)?\\frac\{\d+\}\{\d+\})%?\s*'
  r'(?!(?:and|or|mod|sin|cos|tan|log|ln|pi|th|st|nd|rd)\b|in\s|[apAP]\.?\s?[mM]\b)'
  r'(?:[a-zA-Z]{2,}[a-zA-Z .]*|[a-zA-Z]{1,6}\s?/\s?[a-zA-Z]{1,6})'
  r'(?:\^\s?\{?[23]\}?)?'
)
_ALL_REALS = re.compile(
  r'(?:the set of )?all real(?:s| numbers)', re.IGNORECASE
)
_SPACED = re.compile(r'-?\d{1,3}(?: \d{3})+(?:\.\d+)?')
_TO = re.compile(rf'(\d+) ?(?:{_UNIT}\{{\s*to\s*\}}|to|out of) ?(?=\d+\Z)')
_BUILT = re.compile(
  r'\\\{\s*([a-zA-Z])\s*(?:\\mid|\\vert|\||:)\s*([^|:{}]*(?:\{[^{}]*\}[^|:{}]*)*)'
  r'\\\}'
)

_OR = re.compile(rf',?\s*(?:{_UNIT}\{{\s*or\s*\}}|(?<![\\a-zA-Z])or(?![a-z]))')
_INEQUALITY = re.compile(r'<|>|\\[lg]eq')
_CLOCK = re.compile(r'(?<=\d)\s*([aApP])\.?\s?[mM]\.?\Z')
_SPACE = re.compile(r'\s+')
_INTEGER = r'\d{1,3}(?:,\d{3})+(?!\d)|\d+'
_NUMBER = re.compile(
  rf"""(?P<sign>[-+]?)\s*(?:
    (?:(?P<whole>\d+)\s*)?\\frac\s?\{{\s*(?P<s>-?)\s*(?P<top>\d+)\s*\}}
      \s?\{{\s*(?P<below>\d+)\s*\}}
    | (?:(?P<whole2>\d+)\s+)?(?P<top2>\d+)\s*/\s*(?P<below2>\d+)
    | (?P<start>\d*\.\d*)\\overline\{{(?P<again>\d{{1,99}})\}}
    | (?P<plain>(?:{_INTEGER})(?:\.\d*)?|\.\d+)
      (?:\s*(?:\\cdot|\*)\s*10\s*\^\s*(?:\{{\s*(?P<power>-?\d{{1,3}})\s*\}}
      |(?P<digit>\d)(?!\d))|[eE](?P<e>[-+]?\d{{1,2}}))?
  )\s*(?P<percent>%?)""",
  re.VERBOSE,
)


def clean(text: str) -> str:
  """Returns an answer without wrapping, in one of many spellings of it."""
  text = text.strip()
  if not text.isascii() or '\x0c' in text:
    text = _ascii(text)
  while (found := _WRAPPED.fullmatch(text)) and _whole(found):
    text = next(g for g in found.groups() if g is not None).strip()
  if '\\\\' in text and not re.search(r'(?<!\\)\\(?:\\\\)*[a-zA-Z{}]', text):
    # Escaped once too often: not one command has a single backslash.
    text = text.replace('\\\\', '\\')
  text = layout(text)
  if _INEQUALITY.search(text):
    text = _OR.sub(r' \\cup ', text)
  text = _AND.sub(' , ', text)
  text = _SPACE.sub(' ', text).strip()
  text = re.sub(r'(?:,\s*)+,', ',', text).strip(' ,;:')
  text = text.rstrip('\\ ').removesuffix('.').strip()
  if _SPACED.fullmatch(text):
    return text.replace(' ', '')
  text = _TO.sub(lambda m: m[1] + ('/' if 'out' in m[0] else ':'), text)
  built = _BUILT.fullmatch(text)
  if built and _INEQUALITY.search(built[2]) and built[1] in built[2]:
    text = built[2].strip()
  scaled = _SCALED.fullmatch(text)
  if scaled:
    return rf'{scaled[1]} \cdot 10^{{{_SCALES[scaled[2]]}}}'
  shorter = _TRAILING_UNIT.sub('', text).strip()
  text = shorter or text
  while (found := _TEXT.search(text)) is not None:
    text = text[: found.start()] + found[1] + text[found.end() :]
  found = _PLAIN_UNIT.fullmatch(text)
  if found and '%' not in text:
    text = found['number'].strip()
  if _ALL_REALS.fullmatch(text.strip()):
    return r'(-\infty,\infty)'
  text = _CLOCK.sub(lambda m: m[1].lower() + 'm', text.strip())
  return text.removesuffix('.').strip()


def _ascii(text: str) -> str:
  """Returns a text with the signs of Unicode as LaTeX writes them."""
  text = text.translate(_SIGNS).replace('\x0c', r'\f')
  text = _SHIFTED.sub(
    lambda m: f'{"^" if m[1] else "_"}{{{m[0].translate(_LEVEL)}}}', text
  )
  return _VULGAR.sub(_fraction, text)


def _fraction(sign: re.Match[str]) -> str:
  # It is decomposed as: <fraction> 0031 2044 0032.
  top, below = unicodedata.normalize('NFKC', sign[0]).split('⁄')
  return rf'\frac{{{top}}}{{{below}}}'


def layout(text: str) -> str:
  """Returns LaTeX without layout, its synonyms in one spelling."""
  for pattern, plain in _RULES:
    text = pattern.sub(plain, text)
  return text


def _whole(found: re.Match[str]) -> bool:
  """Returns whether a wrapping is one: `$1$ and $2$`, `{1},{2}` are not."""
  held = next(g for g in found.groups() if g is not None)
  if found[5] is None:
    return '$$' not in held and '\\]' not in held and '\\)' not in held
  return balanced(held)


def balanced(text: str) -> bool:
  depth = 0
  for at, sign in enumerate(text):
    if sign in '{}' and (not at or text[at - 1] != '\\'):
      depth += 1 if sign == '{' else -1
      if depth < 0:
        return False
  return depth == 0


def number(text: str) -> fractions.Fraction | None:
  """Returns the number that a cleaned text states, percent as it is written."""
  found = _NUMBER.fullmatch(text.strip())
  if not found or len(text) > 1_100:
    return None
  if found['plain']:
    value = fractions.Fraction(found['plain'].replace(',', '').rstrip('.') or 0)
    power = found['power'] or found['digit'] or found['e']
    if power:
      value *= fractions.Fraction(10) ** int(power)
  elif found['again']:
    again = found['again']
    value = fractions.Fraction(int(again), 10 ** len(again) - 1)
    start = found['start']
    value /= 10 ** len(start.partition('.')[2])
    value += fractions.Fraction(f'0{start}0')
  else:
    below = int(found['below'] or found['below2'])
    if not below:
      return None
    value = fractions.Fraction(int(found['top'] or found['top2']), below)
    if found['s']:
      value = -value
    value += int(found['whole'] or found['whole2'] or 0)
  return -value if found['sign'] == '-' else value


def near(answer: str, reference: str) -> bool:
  """Returns whether two plain numbers are equal.

  Exactly; but a decimal of six places or more may be the other one rounded.
  """
  a, b = number(answer), number(reference)
  if a is None or b is None:
    return False
  if a == b:
    return True
  places = max(_places(answer), _places(reference))
  return places >= 6 and abs(a - b) <= max(
    min(fractions.Fraction(1, 2 * 10**places), abs(b) / 10**4),
    abs(b) / 10**6 if a.denominator != 1 and b.denominator != 1 else 0,
  )


def rounded(answer: str, reference: str) -> bool:
  """Returns whether two numbers agree as far as both are written out.

  Where one is a decimal they may differ by half a unit of the last place of the
  one with fewer places (two at least), or by a millionth of the reference.
  """
  a, b = number(answer), number(reference)
  if a is None or b is None:
    return False
  if a == b:
    return True
  places = [n for n in (_places(answer), _places(reference)) if n]
  if not places:
    return False
  half = fractions.Fraction(1, 2 * 10 ** min(places)) if min(places) > 1 else 0
  return abs(a - b) <= max(half, abs(b) / 10**6)


def _places(text: str) -> int:
  decimals = text.rstrip('% ').partition('.')[2]
  return len(decimals) if decimals.isdigit() else 0
