r"""The parts of an answer in LaTeX: items, names, brackets, cells.

All work on answers as `spelling.clean` writes them.
"""

import re
from collections.abc import Sequence

from wcse_jax.grading import spelling


RELATION = re.compile(r'<|>|\\leq|\\geq|\\neq|=|\\in(?![a-z])|\\approx|\\equiv')
_ORDER = re.compile(r'<|>|\\leq|\\geq')
_MEMBER = re.compile(r'\A\\?[a-zA-Z]\s*\\(?:in|equiv)(?![a-z])\s*')
_MODULUS = re.compile(r'\s*\\pmod\{\w+\}\Z')
_TRANSLATE = str.maketrans('', '', ' ')
_FLIPPED = {'<': '>', '>': '<', r'\leq': r'\geq', r'\geq': r'\leq'}


def key(text: str) -> str:
  text = text.translate(_TRANSLATE).replace(r'\cdot', '*')
  text = re.sub(r'([_^])\{([^{}])\}', r'\1\2', text)
  text = re.sub(r'_\{(\w+)\}', r'_\1', text)
  return text.replace(r'+\infty', r'\infty')


def said(text: str) -> str:
  words = re.findall(r'[a-z0-9]+', text.lower())
  if len(words) > 1 and words[0] in ('a', 'an', 'the'):
    del words[0]
  return ' '.join(words)


def _split(text: str, signs: str) -> list[str]:
  """Returns the parts between the signs that stand in no brackets."""
  depth, parts, start = 0, [], 0
  at = 0
  while at < len(text):
    sign = text[at]
    if text.startswith(('\\begin{', '\\end{'), at):
      depth += 1 if text[at + 1] == 'b' else -1
      at = text.find('}', at)
      if at < 0:
        break
    elif sign in '([{':
      depth += 1
    elif sign in ')]}':
      depth -= 1
    elif depth == 0 and sign in signs:
      parts.append(text[start:at])
      start = at + 1
    at += 1
  return [part.strip() for part in (*parts, text[start:]) if part.strip()]


def items(text: str) -> list[str]:
  """Returns the items of a list or set; the text alone if it is none."""
  for opening, closing in ((r'\{', r'\}'), ('{', '}')):
    if text.startswith(opening) and text.endswith(closing):
      inside = text[len(opening) : -len(closing)].strip()
      if spelling.balanced(inside) and inside:
        text = inside
        break
  if spelling.number(text) is not None:
    return [text]
  parts = _split(text, ',;')
  return [one for part in parts for one in _signs(part)] or [text]


def _signs(text: str) -> list[str]:
  r"""Returns both readings of a part with one `\pm`."""
  if text.count(r'\pm') + text.count(r'\mp') != 1:
    return [text]
  before, _, after = re.split(r'(\\pm|\\mp)', text)
  plus = before + '+' + after if before.strip() else after
  if re.search(r'[=(,{\[]\s*\Z', before):
    plus = before + after
  return [plus.strip(), (before + '-' + after.lstrip()).strip()]


def distinct(parts: Sequence[str]) -> list[str]:
  found = {}
  for part in parts:
    found.setdefault(key(part), part)
  return list(found.values())


def _assigned(text: str) -> tuple[str, str] | None:
  """Returns (name, value) of `x = 1`; None if it is no assignment."""
  parts = _split(text, '=')
  if len(parts) < 2:
    return None
  name = parts[0].strip()
  value = parts[-1].strip()
  if not _is_name(name) or _ORDER.search(value):
    return None
  return name, value


def _is_name(text: str) -> bool:
  """Returns whether a text names a quantity, as `x`, `f(x)`, `AB`, `|AB|`."""
  bare = re.sub(r'\\(?:angle|triangle|overline|frac|text)(?![a-z])', '', text)
  return bool(
    re.fullmatch(
      r"\|?[\\]?[a-zA-Z]{1,8}'?(?:_\{?\w+\}?)?(?:\([\w, ]{1,9}\))?\|?"
      r'|\((?:\s*\\?[a-zA-Z]{1,6}(?:_\{?\w\}?)?\s*,?)+\)'
      r'|[A-Za-z{}_ ]+:[A-Za-z{}_0-9 ]+|V_\{?\d\}?:V_\{?\d\}?'
      r'|\{[A-Z]+\}\{[A-Z]+\}',
      bare.strip(),
    )
  )


def stripped(a: str, b: str) -> tuple[str, str]:
  """Returns two answers without names that only one of them bears."""
  a, b = _MEMBER.sub('', a), _MEMBER.sub('', b)
  if (r'\pmod' in a) != (r'\pmod' in b):
    # What a residue is taken by is in the question.
    a, b = _MODULUS.sub('', a), _MODULUS.sub('', b)
  a, b = _spread(a, b), _spread(b, a)
  first, second = items(a), items(b)
  if len(first) == len(second) == 1:
    x, y = _assigned(a), _assigned(b)
    if x and y:
      return (x[1], y[1]) if key(x[0]) == key(y[0]) else (a, b)
    if x and '=' not in b:
      return x[1], b
    if y and '=' not in a:
      return a, y[1]
    if not RELATION.search(b):
      inside = bracketed(a)
      if inside and len(inside[1]) == 1 and '=' in a:
        a = a[1:-1]
      # The value of 1/2 = 0.5; what it is about is not the answer.
      parts = _split(a, '=')
      if len(parts) == 2 and spelling.rounded(parts[1], parts[0]):
        return parts[0], b
      if len(parts) > 2 or (
        len(parts) == 2 and not re.search('[a-z]', parts[0])
      ):
        return parts[-1].strip(), b
    return a, b
  named_a, named_b = _named(first), _named(second)
  both = bool(named_a and named_b)
  ordered = _is_ordered(named_a or named_b) and not both
  return (
    _listed(a, first, named_a, ordered, both),
    _listed(b, second, named_b, ordered, both),
  )


def _spread(text: str, other: str) -> str:
  """Returns `(x,y) = (1,2)` as a list where the other one is a list."""
  named = _assigned(text)
  if not named or not _named(items(other)) or len(items(other)) < 2:
    return text
  names, values = bracketed(named[0]), bracketed(named[1])
  if not names or not values or len(names[1]) != len(values[1]):
    return text
  return ', '.join(f'{x}={y}' for x, y in zip(names[1], values[1]))


def _named(items: Sequence[str]) -> list[tuple[str, str]]:
  """Returns (name, value) of items that are all assignments, else nothing."""
  found = [_assigned(item) for item in items]
  return [] if None in found else found


def _is_ordered(named: Sequence[tuple[str, str]]) -> bool:
  """Returns whether the names tell apart which value is which.

  Those of `p=5, q=2` do; those of `x=1, x=2` and of `x_1=1, x_2=2` do not.
  """
  bases = {re.sub(r'_\{?\w+\}?\Z', '', name) for name, _ in named}
  return len(bases) > 1


def _listed(
  text: str,
  items: Sequence[str],
  named: Sequence[tuple[str, str]],
  ordered: bool,
  both: bool,
) -> str:
  """Returns a list with its names taken away where they do not matter."""
  if named:
    period = _period([name for name, _ in named])
    groups = [named[i : i + period] for i in range(0, len(named), period)]
    if period > 1 and len(groups) > 1:
      if both:
        groups = [sorted(group) for group in groups]
      return ', '.join(f'({_values(group)})' for group in groups)
    if both and len({name for name, _ in named}) > 1:
      return text
    return f'({_values(named)})' if ordered else _values(named)
  if ordered and len(items) > 1 and not any(bracketed(one) for one in items):
    return f'({", ".join(map(_value, items))})'
  return ', '.join(map(_value, items))


def _values(named: Sequence[tuple[str, str]]) -> str:
  return ', '.join(value for _, value in named)


def _period(names: Sequence[str]) -> int:
  """Returns after how many names they come again in the same order."""
  for period in range(1, len(names)):
    if len(names) % period == 0 and all(
      name == names[at % period] for at, name in enumerate(names)
    ):
      return period
  return len(names)


def _value(text: str) -> str:
  found = _assigned(text)
  return found[1] if found else text


def union(text: str) -> list[str]:
  r"""Returns the parts of a union, inequalities written as intervals."""
  parts = [part.strip() for part in re.split(r'\\cup(?![a-z])', text)]
  found = [relation(part) for part in parts]
  names = {one[0] for one in found if one}
  if len(names) > 1:
    return parts
  if len(parts) > 1:
    found = [one or _single(part) for one, part in zip(found, parts)]
  return [one[1] if one else part for one, part in zip(found, parts)]


def _single(text: str) -> tuple[str, str] | None:
  named = _assigned(text)
  return (named[0], rf'\{{{named[1]}\}}') if named else None


def as_range(text: str, other: str) -> str:
  """Returns a list of inequalities of one name as the other answer has it.

  That is as a union where the other is one, and as what lies between two where
  the other is an interval; any other text as it is.
  """
  listed = [relation(item) for item in items(text)]
  if len(listed) < 2 or None in listed or len({x for x, _ in listed}) > 1:
    return text
  parts = union(other)
  if len(parts) > 1:
    return r' \cup '.join(items(text))
  if len(listed) > 2 or not is_interval(parts[0]):
    return text
  below, above = sorted(held for _, held in listed)
  if not below.startswith(r'(-\infty,'):
    below, above = above, below
  if not (below.startswith(r'(-\infty,') and above.endswith(r',\infty)')):
    return text
  named = relation(other)
  if named and named[0] != listed[0][0]:
    return text
  low = above[: -len(r'\infty)')]
  return low + below[len(r'(-\infty,') :]


def relation(text: str) -> tuple[str, str] | None:
  """Returns (name, interval) of an inequality of one name, else None."""
  parts = re.split(r'(<|>|\\leq|\\geq)', text)
  sides = [part.strip() for part in parts[::2]]
  signs = parts[1::2]
  if len(signs) == 1:
    if _is_name(sides[0]):
      high = sides[1]
    elif _is_name(sides[1]):
      sides, signs = sides[::-1], [_FLIPPED[signs[0]]]
      high = sides[1]
    else:
      return None
    if signs[0] in ('>', r'\geq'):
      held = ('[' if signs[0] != '>' else '(') + high + r',\infty)'
    else:
      held = r'(-\infty,' + high + (']' if signs[0] != '<' else ')')
    return sides[0], held
  if len(signs) == 2 and _is_name(sides[1]):
    low, _, high = sides
    if all(sign in ('>', r'\geq') for sign in signs):
      low, high, signs = high, low, [_FLIPPED[sign] for sign in signs[::-1]]
    if all(sign in ('<', r'\leq') for sign in signs):
      opening = '(' if signs[0] == '<' else '['
      closing = ')' if signs[1] == '<' else ']'
      return sides[1], f'{opening}{low},{high}{closing}'
  return None


def is_interval(text: str) -> bool:
  found = bracketed(text)
  return found is not None and len(found[1]) == 2


def bracketed(text: str) -> tuple[str, list[str]] | None:
  """Returns (the two brackets, the parts) of `(1, 2]`; None if it is none."""
  if len(text) < 2 or text[0] not in '([' or text[-1] not in ')]':
    return None
  depth = 0
  for at, sign in enumerate(text):
    depth += (sign in '([{') - (sign in ')]}')
    if not depth and at < len(text) - 1:
      return None
  inside = text[1:-1]
  parts = _split(inside, ';') if ';' in inside else _split(inside, ',')
  return text[0] + text[-1], parts


def rows(text: str) -> list[list[str]] | None:
  """Returns the cells of a matrix; None if the text is not one matrix."""
  opening, closing = r'\begin{pmatrix}', r'\end{pmatrix}'
  if not text.startswith(opening) or text.count(opening) != 1:
    return None
  if not text.endswith(closing):
    return None
  inside = text[len(opening) : -len(closing)]
  rows = [row for row in re.split(r'\\\\', inside) if row.strip()]
  return [[cell.strip() for cell in row.split('&')] for row in rows]
