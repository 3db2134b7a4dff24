"""Texts of anybody's in a Markdown file: none of them acts as markup.

Names, settings and model output go through these functions, so that whatever
they hold, they change neither the headings, tables and links of a file nor its
front matter.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence


# Characters of one line.
_MOST = 300
# What begins a construct inside a line.
_SIGNS = re.compile(r'([\\`*_\[\]<>#|~&$!])')
# Where an address would become a link, or a name a mention: a joiner, which is
# not seen, keeps its parts apart.
_ADDRESS = re.compile(
  r'(?<=:)(?=//)|(?<=www)(?=\.)|(?<=mailto:)|(?<=xmpp:)'
  r'|(?<=[^\w]@)(?=\w)|(?<=^@)(?=\w)|(?<=@)(?=[\w-]+\.\w)',
  re.IGNORECASE,
)
_JOINER = '\u2060'
# What begins a list or underlines a heading, at the beginning of a line.
_START = re.compile(r'^(\d*)([-+=.)])(?=\s|$|[-=])')
# A bar, escaped or not.
_BAR = re.compile(r'\\?\|')
# Controls, marks of direction, halves of pairs, and other ends of lines.
_UNSEEN = frozenset({'Cc', 'Cf', 'Cs', 'Zl', 'Zp'})


def plain(text: str) -> str:
  """Returns one line of bounded length, without control characters or HTML.

  Other signs of Markdown stay: it is for front matter, and for `code`.
  """
  shown = ''.join(c if c.isprintable() else ' ' for c in text[: 4 * _MOST])
  shown = shown.replace('<', '(').replace('>', ')')
  return ' '.join(shown.split())[:_MOST]


def code(text: str) -> str:
  """Returns one line as inline code."""
  shown = plain(text).replace('`', '')
  return f'`{shown}`' if shown.strip() else '(nothing)'


def escaped(text: str, *, most: int = _MOST) -> str:
  """Returns one line as it is read, its signs escaped.

  It becomes no link either, where it holds an address.

  Args:
    text: anybody's.
    most: characters that are kept.
  """
  shown = ''.join(c if c.isprintable() else ' ' for c in text[: 4 * most])
  shown = ' '.join(shown.split())[:most]
  shown = _JOINER.join(
    _SIGNS.sub(r'\\\1', part) for part in _ADDRESS.split(shown)
  )
  return _START.sub(r'\1\\\2', shown)


def fence(text: str, language: str = '') -> list[str]:
  """Returns the lines of a code block, whose fence no line of it can be.

  Characters that are not seen are shown as U+FFFD.
  """
  text = text.replace('\r\n', '\n').replace('\r', '\n')
  shown = ''.join(
    '\ufffd' if c not in '\n\t' and unicodedata.category(c) in _UNSEEN else c
    for c in text
  )
  longest = max(map(len, re.findall('`+', shown)), default=0)
  mark = '`' * max(3, longest + 1)
  return [mark + language, *shown.split('\n'), mark]


def table(
  head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: int = 0
) -> list[str]:
  """Returns the lines of a table.

  Args:
    head: its cells, as Markdown of one line each.
    rows: likewise, with as many cells each.
    numbers: how many of the last columns are set to the right.
  """
  left = len(head) - numbers
  lines = [head, ['---'] * left + ['---:'] * numbers]
  lines += [list(row) for row in rows]
  # A bar ends a cell even in inline code, and not all readers know its escape.
  return [
    f'| {" | ".join(_BAR.sub("¦", cell) for cell in line)} |' for line in lines
  ]


def fold(title: str, lines: Sequence[str]) -> list[str]:
  """Returns lines that are shown when their title, a plain word, is pressed.

  Args:
    title: what is always seen; not escaped.
    lines: blocks of Markdown.
  """
  return [
    '<details>',
    f'<summary>{title}</summary>',
    '',
    *lines,
    '',
    '</details>',
  ]


def number(value: float) -> str:
  """Returns a number as it is read: thousands apart, one digit at most."""
  if isinstance(value, float) and not value.is_integer():
    return f'{value:,.1f}'
  return f'{int(value):,}'


def count(many: int, name: str) -> str:
  """Returns a count of things, whose name takes an s."""
  return f'{number(many)} {name}{"" if many == 1 else "s"}'
