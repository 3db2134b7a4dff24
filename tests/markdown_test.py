"""Texts of anybody's in Markdown: what they hold does not act.

Some tests read it with two engines, where they are installed; the second is
GitHub's own.
"""

import html
import re

import hostile
import pytest

from wcse_jax import markdown


SIGNS = [
  'a|b',
  '`a`',
  '```\n# out\n```',
  '[x](https://example.org)',
  '# no heading',
  '---\nlicense: mit\n---',
  'a\\|b\\',
  '\x00\x1b[31m\x85\u2028',
  '',
]


@pytest.mark.parametrize('text', [*hostile.TEXTS, *SIGNS])
def test_inline_code_is_one_span(text):
  found = markdown.code(text)
  assert len(found.splitlines()) == 1
  assert found == '(nothing)' or re.fullmatch('`[^`<>]+`', found)


@pytest.mark.parametrize('text', [*hostile.TEXTS, *SIGNS])
def test_escaped_text_has_no_live_sign(text):
  found = markdown.escaped(text)
  assert len(found.splitlines()) <= 1
  live = re.sub(r'\\[-+=.)\\`*_\[\]<>#|~&$!]', '', found)
  assert not set(live) & set('\\`*_[]<>#|~&$!')


def test_escaped_text_reads_as_it_was():
  assert markdown.escaped('a_b *c* <d>') == r'a\_b \*c\* \<d\>'
  assert markdown.escaped('1. no list') == r'1\. no list'
  assert markdown.escaped('- nor this - one') == r'\- nor this - one'
  assert markdown.escaped('=== 2') == r'\=== 2'
  assert len(markdown.escaped('x' * 10_000)) == 300
  assert len(markdown.plain('x' * 10_000)) == 300


@pytest.mark.parametrize('text', [*hostile.TEXTS, *SIGNS, '````', 'a `` b'])
def test_no_line_ends_a_fence_early(text):
  first, *body, last = markdown.fence(text, 'text')
  assert first == f'{last}text'
  assert all(last not in line for line in body)
  assert not any(re.search('[\r\x00\u2028\u202e]', line) for line in body)


def test_a_fence_keeps_what_is_seen():
  text = 'Q: é\t1\n\n  A: `2`'
  assert markdown.fence(text) == ['```', 'Q: é\t1', '', '  A: `2`', '```']


def test_a_table_has_as_many_cells_as_its_head():
  rows = [[markdown.code(text), '1'] for text in [*hostile.TEXTS, *SIGNS]]
  lines = markdown.table(['name', 'n'], rows, numbers=1)
  assert lines[:2] == ['| name | n |', '| --- | ---: |']
  assert len(lines) == len(rows) + 2
  assert {line.count('|') for line in lines} == {3}


def test_a_fold_leaves_room_for_markdown():
  assert markdown.fold('More', ['a']) == [
    '<details>',
    '<summary>More</summary>',
    '',
    'a',
    '',
    '</details>',
  ]


@pytest.mark.parametrize(
  ('value', 'text'),
  [(0, '0'), (1234567, '1,234,567'), (2.0, '2'), (1234.56, '1,234.6')],
)
def test_numbers_are_read_easily(value, text):
  assert markdown.number(value) == text


def test_counts():
  assert markdown.count(1, 'row') == '1 row'
  assert markdown.count(1000, 'row') == '1,000 rows'


_READ = [
  *hostile.TEXTS,
  'user @someone and @another, mailto:a@b.example, xmpp:a@b.example',
  'HTTPS://EXAMPLE.ORG ftp://example.org WWW.EXAMPLE.ORG (www.example.org)',
  'http://[::1]/ a.b+c@example.co.uk @a.b',
  '+ a', '- [ ] a task', '=== ', '--- ', '10) ten', '7.5 points', '    code',
  '\ta\tb', '***', '* * *', '~~~', 'a\\', '\\', '|', '||', '`', '$$x$$',
  '[^1]: a note', '[!WARNING]', '<!-- x', '\u2028a', 'a\0b\x1b',
]  # fmt: skip
_JOINER = '\u2060'


def _commonmark(source):
  engine = pytest.importorskip('markdown_it')
  return engine.MarkdownIt('commonmark').enable('table').render(source)


def _github(source):
  engine = pytest.importorskip('cmarkgfm')
  return engine.github_flavored_markdown_to_html(source)


_ENGINES = pytest.mark.parametrize('engine', [_commonmark, _github])


def _plain(page):
  """Returns the text of a page, and its tags without attributes."""
  tags = re.findall(r'<(\w+)', page)
  words = html.unescape(re.sub(r'<[^>]*>', '', page)).replace(_JOINER, '')
  return words, tags


def _want(value):
  """Returns a text on one line, without what is not seen."""
  shown = ''.join(c if c.isprintable() else ' ' for c in value)
  return ' '.join(shown.split())


@_ENGINES
@pytest.mark.parametrize('value', _READ)
def test_escaped_text_is_text_in_every_place(engine, value):
  made = markdown.escaped(value)
  for line, tags in (
    (made, ['p']),
    (f'## {made}', ['h2']),
    (f'- {made}', ['ul', 'li']),
    (f'> {made}', ['blockquote', 'p']),
  ):
    words, found = _plain(engine(line))
    assert words.strip() == _want(value)
    assert found == tags


@_ENGINES
def test_escaped_text_stays_in_its_cell(engine):
  rows = [[markdown.escaped(value)] * 2 for value in _READ]
  page = engine('\n'.join(markdown.table(['a', 'b'], rows, numbers=1)))
  _, tags = _plain(page)
  assert set(tags) == {'table', 'thead', 'tbody', 'tr', 'th', 'td'}
  found = re.findall(r'<tr>\s*(.*?)\s*</tr>', page, re.DOTALL)
  assert len(found) == 1 + len(_READ)
  for row, value in zip(found[1:], _READ, strict=True):
    cells = re.findall(r'<td[^>]*>(.*?)</td>', row, re.DOTALL)
    want = _want(value).replace('|', '¦')
    assert [_plain(cell)[0] for cell in cells] == [want] * 2


def test_addresses_are_taken_apart_and_measures_are_not():
  assert markdown.escaped('pass@1 v maj@4: +5.7') == 'pass@1 v maj@4: +5.7'
  for address in ('https://a.example', 'www.a.example', 'a@b.example', '@a'):
    assert markdown.escaped(address).count(_JOINER) == 1
