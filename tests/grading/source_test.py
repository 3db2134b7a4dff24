import time

import pytest

from wcse_jax.grading import source


_F = 'def f(x):\n    return x'


@pytest.mark.parametrize(
  ('text', 'want'),
  [
    (_F, _F),
    (f'Sure!\n```python\n{_F}\n```\nDone.', _F),
    (f'Sure!\n```\n{_F}\n```', _F),
    (f'~~~py\n{_F}\n~~~', _F),
    (f'```Python\n{_F}', _F),
    (f'````python\n{_F}\n```\n````', f'{_F}\n```'),
    ('1. So:\n   ```python\n   def f(x):\n       return x\n   ```', _F),
    (f'```python\n{_F}\n```\nUse:\n```python\nprint(f(1))\n```', _F),
    (
      f'```python\nold = 1\ndef f(x): 1\n```\nBetter:\n```python\n{_F}\n```',
      _F,
    ),
    (f'```bash\npip install x\n```\n```python\n{_F}\n```', _F),
    ('```python\na = 1\n```\nand\n```python\nb = 2\n```', 'a = 1\nb = 2'),
    (f'```python\r\n{_F}\r\n```'.replace('\n', '\n'), _F),
    ('no code ``` here', 'no code ``` here'),
    ('```text\nout\n```', '```text\nout\n```'),
  ],
)
def test_the_program_of_a_text(text, want):
  assert source.extract(text, ('f',)) == want


@pytest.mark.parametrize(
  ('program', 'name', 'want'),
  [
    ('def f(x): pass', 'f', True),
    ('async def f(x): pass', 'f', True),
    ('class f: pass', 'f', True),
    ('f = lambda x: x', 'f', True),
    ('f: int = 3', 'f', True),
    ('f == 3', 'f', False),
    ('  def f(x): pass', 'f', False),
    ('def ff(x): pass', 'f', False),
    ('f(3)', 'f', False),
  ],
)
def test_what_a_program_defines(program, name, want):
  assert source.defines(program, name) is want


def test_cut():
  assert source.cut('a\ndef b\n#', ('\n#', '\ndef')) == 'a'
  assert source.cut('a', ('b',)) == 'a'


def test_a_chain_is_the_program_without_its_names():
  one = (
    'def f(xs):\n  """Doc."""\n  # why\n  t = 0\n  for x in xs: t += x\n'
    '  return t'
  )
  two = (
    'def f(v: list) -> int:\n\n  s=0\n  for a in v:\n    s += a\n  return (s)'
  )
  other = 'def f(xs):\n  t = 0\n  for x in xs: t -= x\n  return t'
  assert source.chain(one) == source.chain(two)
  assert source.chain(one) != source.chain(other)
  assert source.chain('def f(a, b): return a - b') != source.chain(
    'def f(a, b): return b - a'
  )
  # Names that are not the program's stay.
  assert source.chain('x = sum(y)') != source.chain('x = max(y)')
  assert source.chain('    return x + 1') is not None
  assert source.chain('no program') is None
  assert source.chain("re.match('\\d', x)") == source.chain("re.match('\\d',x)")


@pytest.mark.parametrize(
  'text',
  ['(' * 20_000, '-' * 20_000 + '1', '```\n' * 20_000, 'x.' * 9_000 + 'x',
   'not ' * 5_000 + 'x', '+'.join('x' * 9_000), '`' * 100_000,
   'f: ' * 20_000, ' ' * 100_000 + '```', '```' + ' ' * 100_000 + '`', '\x00'],
  ids=lambda text: f'{text[:8]!r}',
)  # fmt: skip
def test_hostile_texts_take_little_time(text):
  began = time.process_time()
  source.chain(source.extract(text, ('f',)))
  source.defines(text, 'f')
  assert time.process_time() - began < 10


def test_what_tests_ask_for():
  assert source.asked(
    'def f(): 1\nclass N: 1\nk = 2', '', 'assert f(N(1))'
  ) == (
    ['N', 'f'],
    [],
  )
  assert source.asked('def sum(a): 1', '', 'assert sum(1) == len([1])') == (
    ['sum'],
    [],
  )
  # What nothing defines is the program's, unless it is a module.
  assert source.asked('g = 1', 'import math', 'x = f(math.pi, sys.path)') == (
    ['f'],
    ['sys'],
  )
  assert source.asked('def f(): 1', '', 'all(f(x) for x in [1])')[0] == ['f']
