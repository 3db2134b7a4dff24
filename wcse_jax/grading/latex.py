r"""Final answers in LaTeX: where a text states one, and whether two are equal.

`extract` finds the answer of a text.  `quick` decides the equality of most
pairs without computer algebra: equal spelling, exact arithmetic of numbers and
fractions, words, and lists, sets, tuples, intervals and matrices part by part.
`equal` asks math-verify about the parts that are left.  Math-verify reads bare
LaTeX wrongly unless it stands in dollars, takes some lists for sets of another
order and may not return at all: so it gets one part at a time, in dollars and
behind `check`, and `equal` belongs into a `workers.Pool`, by way of `judge`.

Source: https://github.com/huggingface/Math-Verify, version 0.9.
"""

import functools
import json
import re
from collections.abc import Callable

from wcse_jax.grading import latex_text, shapes, spelling


# What an answer may have before anything is computed with it.
MAX_ANSWER = 300
MAX_DIGITS = 1_000
MAX_DEPTH = 50

extract = latex_text.extract
# What a `workers.Pool` runs.
WORKER = 'wcse_jax.grading.latex_worker:judge'

_NESTED = re.compile(r'[({\[]|\\begin\b|(?P<close>[)}\]]|\\end\b)')
_TOWER = re.compile(
  r"""
  # A power of a number to a power; any power of a power of a power.
  \d [\s)}]* (?:\^|\*\*) [\s({]* -?\d++ [\s)}]* (?:\^|\*\*)
  | (?: (?:\^|\*\*) [\s({]* [\w\\]{1,8}+ [\s)}]* ){2} (?:\^|\*\*)
  # Exponents and factorials that are too large, and factorials of factorials.
  | (?:\^|\*\*) [\s({]* -?\d{5}
  | (?:\^|\*\*) [\s({]* \d++ [\s)}]* !
  | \d{5}[\s)}]*! | ![\s)}]*!
  | \d\s*+![\s)}]*+\^(?!\s*\{?\s*\d(?![\d.^!]))
  """,
  re.VERBOSE,
)

_TIMES = re.compile(r'\s*\\cdot(?![a-z])\s*')
_MIXED = re.compile(r'(?<![\d.}])(\d+)\s?(\\frac\{\d+\}\{\d+\})')
# Two numbers are one if they agree in `_SURE` of `_DIGITS` digits.
_DIGITS, _SURE = 120, 100
_DECIMAL = re.compile(r'(?<![\d.,])(\d{0,30})\.(\d{1,30})(?![\d.])')


class Refused(ValueError):
  """An answer that is not compared; the message says why."""


def check(answer: str) -> None:
  """Raises Refused for what a comparison might take for ever on.

  That is: over `MAX_ANSWER` characters, a run of over `MAX_DIGITS` digits,
  brackets nested over `MAX_DEPTH` deep, towers of exponents and factorials of
  large numbers.
  """
  if len(answer) > 4 * MAX_DIGITS or (
    len(answer) > MAX_ANSWER and not answer.strip().lstrip('-').isdigit()
  ):
    raise Refused(f'an answer of {len(answer):,} characters')
  if re.search(rf'\d{{{MAX_DIGITS + 1}}}', answer):
    raise Refused(f'a number of over {MAX_DIGITS:,} digits')
  depth = deepest = 0
  for found in _NESTED.finditer(answer):
    depth += -1 if found['close'] else 1
    deepest = max(deepest, depth)
  if deepest > MAX_DEPTH:
    raise Refused(f'brackets {deepest} deep')


def quick(
  answer: str, reference: str, near: spelling.Near | None = None
) -> bool | None:
  """Returns whether two answers are equal; None if that takes algebra.

  Args:
    answer: what a text states, with or without dollars or a box.
    reference: the reference answer, likewise; a text with a box will do.
    near: decides the equality of two plain numbers; None for exactly, but for
      decimals that are the other number rounded to six places or more.

  Raises:
    Refused: see `check`.
  """
  return _compare(answer, reference, near, lambda a, b: None)


def equal(
  answer: str, reference: str, near: spelling.Near | None = None
) -> bool:
  """Returns whether two answers are equal; may take for ever.

  With `near`, a closed expression may also be near a number: the square root of
  two near 1.414.

  Raises:
    Refused: see `check`.
  """

  def slow(a: str, b: str) -> bool:
    if _verify(a, b):
      return True
    decimal = _decimal(a) if near and spelling.number(b) is not None else None
    return decimal is not None and near(decimal, b)

  return bool(_compare(answer, reference, near, slow))


def judge(line: str) -> str:
  """Returns the verdict on a text, for a worker: JSON to JSON.

  From `[text, reference, answer, rounded]` to `[verdict, answer, why]`: the
  answer is looked for in the text where it is null, and `rounded` says whether
  decimals may be rounded ones.
  """
  text, reference, answer, rounded = json.loads(line)
  near = spelling.rounded if rounded else None
  return json.dumps(
    verdict(text, reference, answer, lambda a, b: equal(a, b, near))
  )


def verdict(
  text: str,
  reference: str,
  answer: str | None = None,
  compare: Callable[[str, str], bool | None] = equal,
) -> tuple[str | None, str | None, str]:
  """Returns (verdict, answer, why); a verdict of None if undecided.

  An answer of several boxes is right, too, if the last of them alone is: some
  references of MATH are the last of several boxes of their own solution.
  """
  answer = extract(text) if answer is None else answer
  if answer is None:
    return 'unparsed', None, 'no final answer found'
  try:
    same = compare(answer, reference)
    if same is False and text.count('boxed') > 1:
      last = latex_text.extract(text, joined=False)
      if last is not None and last != answer:
        same = compare(last, reference)
  except Refused as refused:
    # Not known to be wrong, so not called so.
    return 'error', answer[:MAX_ANSWER], f'not compared: {refused}'
  if same is None:
    return None, answer, ''
  return 'right' if same else 'wrong', answer, ''


def _compare(answer, reference, near, slow) -> bool | None:
  if answer.strip() == reference.strip():
    return bool(answer.strip())
  reference = _reference(reference)
  check(answer)
  if len(reference) > MAX_ANSWER:
    check(reference)
  return shapes.Comparison(near or spelling.near, slow).same(answer, reference)


@functools.lru_cache(maxsize=4_096)
def _reference(text: str) -> str:
  """Returns the answer alone of a reference that is a text."""
  if 'boxed' in text or len(text) > MAX_ANSWER:
    return extract(text) or text
  return text


@functools.lru_cache(maxsize=1)
def _math_verify():
  # Only workers need it: it loads sympy, which takes a second.
  import logging

  import math_verify

  # It warns that its own timeout is off; ours is not.
  logging.getLogger('math_verify').setLevel(logging.CRITICAL)
  return math_verify


@functools.lru_cache(maxsize=1)
def _config():
  """Returns its own way to read LaTeX, but that 5n+5m is not 5n+5 metres."""
  import latex2sympy2_extended

  return _math_verify().LatexExtractionConfig(
    boxed_match_priority=-1,
    normalization_config=latex2sympy2_extended.NormalizationConfig(
      basic_latex=True, malformed_operators=True, nits=True, boxed='all'
    ),
  )


@functools.lru_cache(maxsize=256)
def _parse(part: str) -> tuple:
  return tuple(
    _math_verify().parse(
      f'${part}$',
      [_config()],
      fallback_mode='no_fallback',
      parsing_timeout=None,
    )
  )


def _verify(answer: str, reference: str) -> bool:
  """Returns math-verify's word on two parts of answers."""
  for part in (answer, reference):
    if _TOWER.search(part):
      raise Refused('a tower of exponents or factorials')
  answer, reference = _readable(answer), _readable(reference)
  if _verified(_parse(answer), _parse(reference)):
    return True
  if '.' in answer or '.' in reference:
    # It takes decimals for approximate, and 0.5+0.5i for none of (1+i)/2.
    exact = [_DECIMAL.sub(_exact, part) for part in (answer, reference)]
    if exact != [answer, reference]:
      return _verified(*map(_parse, exact))
  return False


def _readable(part: str) -> str:
  r"""Returns a part as math-verify reads it rightly.

  It multiplies what stands before a fraction, where a mixed number adds it,
  and reads nothing where `\cdot c` stands.
  """
  return _TIMES.sub('*', _MIXED.sub(r'(\1+\2)', part))


def _verified(found: tuple, wanted: tuple) -> bool:
  if not found or not wanted:
    return False
  a, b = _value(found[0]), _value(wanted[0])
  numbers = a is not None and b is not None
  if not numbers and (_is_symbol(found[0]) or _is_symbol(wanted[0])):
    # It compares symbols and their products by their spelling.
    try:
      return bool((found[0] - wanted[0]).expand() == 0)
    except (AttributeError, TypeError):
      return False
  same = _math_verify().verify(list(wanted), list(found), timeout_seconds=None)
  if not numbers:
    return bool(same)
  # It takes two small ones for zero, as the reciprocals of two factorials, and
  # does not find (1+i)^2 to be 2i.
  largest = max(abs(a), abs(b))
  if same:
    return not (largest < 1e-6 and abs(a - b) > 1e-9 * largest)
  return bool(abs(a - b) * 10**_SURE < largest)


def _is_symbol(parsed) -> bool:
  """Returns whether an expression is a symbol or a product of symbols."""
  import sympy

  return isinstance(parsed, sympy.Symbol | sympy.Mul) and all(
    isinstance(part, sympy.Symbol | sympy.Mul)
    for part in sympy.preorder_traversal(parsed)
  )


def _value(parsed):
  """Returns a number, real or complex, to `_DIGITS`; None if it is none."""
  import sympy

  if not isinstance(parsed, sympy.Expr) or hasattr(parsed, 'shape'):
    return None
  if parsed.has(sympy.Sum, sympy.Product, sympy.Integral, sympy.Limit):
    # It may take for ever.
    return None
  names = parsed.free_symbols
  if any(name.name != 'i' for name in names):
    return None
  value = parsed.subs({name: sympy.I for name in names}).evalf(_DIGITS)
  return value if _finite(value) else None


def _finite(value) -> bool:
  return all(
    getattr(part, 'is_comparable', False) for part in value.as_real_imag()
  )


def _exact(decimal: re.Match[str]) -> str:
  whole, places = decimal.groups()
  return rf'{{\frac{{{int(whole + places)}}}{{{10 ** len(places)}}}}}'


def _decimal(part: str) -> str | None:
  """Returns a closed real expression as a decimal; None if it is none."""
  for parsed in _parse(part):
    value = getattr(parsed, 'evalf', lambda _: None)(20)
    if getattr(value, 'is_Float', False):
      return f'{value:.12f}'
  return None
