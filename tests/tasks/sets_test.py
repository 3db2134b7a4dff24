"""Bad rows of every set: named by number, or left out and counted."""

import json
import logging
import random

import pytest

from wcse_jax import errors, records, tasks
from wcse_jax.grading import numeric
from wcse_jax.tasks import base, rows, sets


_MATH = {
  'problem': 'What is $x$?',
  'answer': r'\frac{1}{2}',
  'solution': r'It is $\boxed{\frac{1}{2}}$.',
  'level': 'Level 3',
  'subject': 'Algebra',
}
# Task -> a split, and a good row without its id.
_GOOD = {
  'gsm8k': (
    'train',
    {
      'question': 'How many?',
      'answer': 'It is 2*3=$<<2*3=6>>6 a day.\n#### 1,042',
      'final': '1042',
    },
  ),
  'svamp': (
    'test',
    {
      'question': 'How many?',
      'answer': 145.0,
      'equation': '( ( 290.0 / 2.0 ) - 1.0 )',
      'type': 'Subtraction',
    },
  ),
  'gsm_plus': (
    'testmini',
    {
      'question': 'How many?',
      'solution': '2 * 3 = 6\n#### 6',
      'answer': '6',
      'perturbation_type': 'adding operation',
      'seed_solution': 'one\ntwo\n#### 5',
    },
  ),
  'math': ('test', _MATH),
  'math500': ('test', _MATH),
  'functional_math': ('test', {**_MATH, 'snapshot': 'Dec-2023'}),
  'mbpp': (
    'test',
    {
      'task_id': 11,
      'text': 'Write a function to add one.',
      'code': 'def add(x):\r\n\treturn x + 1',
      'test_setup_code': '',
      'test_list': ['assert add(1) == 2', 'assert add(-1) == 0'],
      'test_imports': ['import math'],
    },
  ),
  'humaneval': (
    'test',
    {
      'prompt': 'def add(x):\n    """Adds one."""\n',
      'entry_point': 'add',
      'canonical_solution': '    return x + 1\n',
      'test': 'def check(candidate):\n    assert candidate(1) == 2\n',
    },
  ),
}
_LINES = {
  'cut': b'{"question": "a',
  'two objects': b'{} {}',
  'empty object': b'{}',
  'comma': b'{"question": "a",}',
  'single quotes': b"{'question': 'a'}",
  'list': b'[1]',
  'text': b'"a"',
  'number': b'7',
  'null': b'null',
  'word': b'hello',
  'nan': b'{"x": NaN}',
  'infinity': b'{"x": -Infinity}',
  'overflow': b'{"x": 1e999}',
  'nul': b'{"x": "a\x00b"}',
  'nul escaped': b'{"x": "a\\u0000b"}',
  'nul alone': b'\x00\x00\x00',
  'surrogate': b'{"x": "\\udc00"}',
  'not utf-8': b'{"x": "\xff"}',
  'utf-16': '{"x": 1}'.encode('utf-16'),
  'byte order mark': b'\xef\xbb\xbf{"x": 1}',
  'field twice': b'{"x": 1, "x": 1}',
  'deep lists': b'[' * 100_000,
  'deep objects': b'{"x":' * 100_000,
  'levels': b'{"x": ' + b'[' * 500 + b']' * 500 + b'}',
  'long number': b'{"x": ' + b'9' * 10_000 + b'}',
  'too long': b'{"x": "' + b'a' * rows.MOST_LINE + b'"}',
}
_MISSING = object()
_VALUES = (_MISSING, None, True, [1], {'a': 1}, ' ', 'a\0b')
# What must be there; the answer of MATH may be blank, and is then counted.
_NEEDED = {
  'gsm8k': ('id', 'question', 'answer', 'final'),
  'svamp': ('id', 'question', 'answer'),
  'gsm_plus': ('id', 'question', 'answer'),
  'math': ('id', 'problem'),
  'math500': ('id', 'problem'),
  'functional_math': ('id', 'problem'),
  'mbpp': ('id', 'task_id', 'text', 'code', 'test_list'),
  'humaneval': (
    'task_id',
    'prompt',
    'entry_point',
    'canonical_solution',
    'test',
  ),
}
# What may be there, but as a text or, for the last, a list of texts.
_OPTIONAL = {
  'svamp': ('equation', 'type'),
  'gsm_plus': ('solution', 'perturbation_type', 'seed_solution'),
  'math': ('solution', 'subject', 'level'),
  'math500': ('solution', 'subject', 'level'),
  'functional_math': ('solution', 'subject', 'level', 'snapshot'),
  'mbpp': ('test_setup_code', 'test_imports'),
}
# Wrong alone: `id` and `final` have defaults.
_FREE = ('id', 'final')


def _row(name, number):
  """Returns a good row with an id of its own."""
  row = dict(_GOOD[name][1])
  row['task_id' if name == 'humaneval' else 'id'] = f'row/{number}'
  if name == 'mbpp':
    row['task_id'] = 11 + number % 500
  return row


def _line(name, number):
  return json.dumps(_row(name, number)).encode()


def _fixtures():
  for name in _GOOD:
    for kind, line in _LINES.items():
      yield pytest.param(name, line, id=f'{name}-{kind}')
    yield pytest.param(name, _line(name, 0), id=f'{name}-doubled id')
    for field in (*_NEEDED[name], *_OPTIONAL.get(name, ())):
      for value in _VALUES:
        row = _row(name, 2)
        optional = field not in _NEEDED[name]
        if value is _MISSING:
          if optional or field in _FREE:
            continue
          del row[field]
        elif optional and (value is None or value == ' '):
          continue
        else:
          row[field] = value
        shown = 'missing' if value is _MISSING else json.dumps(value)
        yield pytest.param(
          name, json.dumps(row).encode(), id=f'{name}-{field}-{shown}'
        )


def _write(path, lines):
  path.write_bytes(b'\n'.join(lines))
  return str(path)


def _check(report):
  """Asserts that each row is counted once."""
  assert report.rows == (
    len(report.good)
    + len(report.bad)
    + len(report.without_answer)
    + report.passed_over
  )


@pytest.mark.parametrize(('name', 'line'), list(_fixtures()))
def test_a_bad_row_is_named_or_left_out(tmp_path, name, line):
  split = _GOOD[name][0]
  lines = [_line(name, 0), b'', line, _line(name, 1)]
  path = _write(tmp_path / 'a.jsonl', lines)
  with pytest.raises(errors.InputError) as caught:
    tasks.load(name, path).problems(split)
  message = str(caught.value)
  assert message.startswith(f'{path}: row 3: ')
  assert message.endswith(' Bad: 1 of 3 rows (3).')
  assert '\n' not in message
  assert len(message) < 400 + len(path)
  task = tasks.load(name, path, bad_rows='skip')
  assert len(task.problems(split)) == 2
  ((number, why),) = task.bad[split]
  assert message == f'{path}: row {number}: {why} Bad: 1 of 3 rows (3).'
  report = task.read(split)
  _check(report)
  assert [number for number, _ in report.good] == [1, 4]


@pytest.mark.parametrize('name', _GOOD)
def test_a_good_row_is_good(tmp_path, name):
  split = _GOOD[name][0]
  path = _write(tmp_path / 'a.jsonl', [_line(name, i) for i in range(5)])
  for bad_rows in base.BAD_ROWS:
    task = tasks.load(name, path, bad_rows=bad_rows)
    assert len(task.problems(split)) == 5
    assert task.bad == {split: []}


@pytest.mark.parametrize('name', _GOOD)
def test_where_all_are_bad_nothing_is_skipped(tmp_path, name):
  path = _write(tmp_path / 'a.jsonl', [b'{}', b'[]'])
  task = tasks.load(name, path, bad_rows='skip')
  with pytest.raises(errors.InputError, match=r'Bad: 2 of 2 rows \(1, 2\)'):
    task.problems(_GOOD[name][0])


def test_what_is_left_out_is_told_once(tmp_path, caplog):
  lines = [_line('math', 0), b'NaN', _line('math', 2), b'[]']
  lines.append(json.dumps({**_row('math', 4), 'answer': ''}).encode())
  path = _write(tmp_path / 'a.jsonl', lines)
  task = tasks.load('math', path, bad_rows='skip')
  with caplog.at_level(logging.WARNING):
    assert len(task.problems('train')) == 2
    again = tasks.load('math', path, bad_rows='skip')
    assert len(again.problems('train')) == 2
  bad, empty = (record.getMessage() for record in caplog.records)
  assert bad == (
    f'{path}: row 2: wanted JSON; got NaN, which is not JSON. Bad: 2 of 5 rows '
    '(2, 4). Left out.'
  )
  assert empty.startswith('math: left out 1 of 3 problems')
  assert task.bad == {
    'train': [
      (2, 'wanted JSON; got NaN, which is not JSON.'),
      (4, 'wanted a JSON object; got [].'),
    ]
  }
  assert task.without_answer == {'train': ['row/4']}
  _check(task.read('train'))


def test_rows_of_another_split_are_counted(tmp_path):
  numbers = (5, 11, 510, 600, 601, 975)
  found = [{**_row('mbpp', n), 'task_id': n} for n in numbers]
  path = _write(tmp_path / 'a.jsonl', [json.dumps(r).encode() for r in found])
  task = tasks.load('mbpp', path, bad_rows='skip')
  report = task.read('test')
  _check(report)
  assert (len(report.good), len(report.bad), report.passed_over) == (2, 1, 3)
  assert [len(task.problems(split)) for split in task.splits] == [1, 2, 1, 1]
  # Whose row a bad one is, cannot be known: it is one of each.
  assert {split: len(bad) for split, bad in task.bad.items()} == {
    split: 1 for split in task.splits
  }


def test_validation_is_held_out_of_what_is_left(tmp_path):
  lines = [_line('gsm8k', i) for i in range(20)]
  lines[3] = b'bad'
  path = _write(tmp_path / 'a.jsonl', lines)
  task = tasks.load('gsm8k', path, bad_rows='skip')
  train = base.select(task, 'train', validation_size=4)
  held = base.select(task, 'validation', validation_size=4)
  assert (len(train), len(held)) == (15, 4)
  assert not {p.id for _, p in train} & {p.id for _, p in held}


class Sums(sets.SetTask):
  """A user's own task on rows of JSON."""

  name = 'sums'
  splits = ('test',)
  stop = ('\nQ:',)

  def problem(self, row, default_id, split):
    return records.Problem(
      id=default_id,
      task=self.name,
      question=rows.text(row, 'q'),
      answer=rows.text(row, 'a'),
    )

  def answer(self, text):
    return numeric.extract(text)

  def equal(self, answer, reference):
    return numeric.equal(answer, reference)


def test_a_task_of_ones_own_has_it_all(tmp_path, monkeypatch):
  monkeypatch.setitem(tasks.TASKS, 'sums', Sums)
  good = b'{"q": "What is 1 + 1?", "a": "2"}'
  _write(tmp_path / 'test.jsonl', [good, b'{"q": "What?", "a": 2}', good])
  with pytest.raises(errors.InputError, match=r'row 2: .*"a"; got 2\. Bad: 1'):
    tasks.load('sums', str(tmp_path)).problems('test')
  task = tasks.load('sums', str(tmp_path), bad_rows='skip')
  assert [p.id for p in task.problems('test')] == ['sums/test/0', 'sums/test/2']
  assert [number for number, _ in task.bad['test']] == [2]
  with pytest.raises(errors.InputError, match='the set is not on the hub'):
    tasks.load('sums').problems('test')


_ATOMS = (
  None,
  True,
  0,
  -1,
  2.5,
  1e300,
  10**400,
  '',
  ' ',
  'a\0b',
  '\u2028',
  '\ud800',
  '#### 7',
  r'\boxed{',
  r'\boxed{}',
  '_7',
  '((((',
  'def f(:',
  '9' * 5000,
  [],
  {},
  ['x', None],
  {'a': [{}]},
  float('nan'),
  float('-inf'),
)


def _mutated(rng, name, number):
  """Returns a row's line after up to three changes, of values or of bytes."""
  row = _row(name, number)
  for _ in range(rng.choice((0, 0, 1, 2))):
    field = rng.choice(list(row))
    match rng.randrange(4):
      case 0:
        del row[field]
      case 1:
        row[field] = rng.choice(_ATOMS)
      case 2:
        row[rng.choice(list(_GOOD['math'][1]))] = rng.choice(_ATOMS)
      case 3:
        # Of an earlier row, so that ids are doubled.
        row[field] = _row(name, rng.randrange(number + 1)).get(field)
    if not row:
      break
  line = bytearray(
    json.dumps(row, ensure_ascii=rng.random() < 0.9).encode(
      'utf-8', 'surrogatepass'
    )
  )
  for _ in range(rng.choice((0, 0, 0, 1, 2))):
    at = rng.randrange(len(line))
    match rng.randrange(4):
      case 0:
        line[at] = rng.randrange(256)
      case 1:
        line[at] = rng.choice(b'{}[]",:0a\x00\xff\\\n')
      case 2:
        del line[at : at + rng.randrange(1, 20)]
      case 3:
        line[at:at] = line[rng.randrange(at + 1) : at]
    if not line:
      break
  return bytes(line)


@pytest.mark.parametrize('name', _GOOD)
def test_no_row_is_lost_whatever_it_is(tmp_path, name):
  """1,250 lines of each of eight sets."""
  rng = random.Random(f'rows of {name}')
  lines = [_mutated(rng, name, number) for number in range(1250)]
  path = _write(tmp_path / 'a.jsonl', lines)
  written = (tmp_path / 'a.jsonl').read_bytes().split(b'\n')
  whole = [number for number, line in enumerate(written, 1) if line.strip()]
  for split in tasks.TASKS[name].splits:
    skipping = tasks.load(name, path, bad_rows='skip')
    report = skipping.read(split)
    _check(report)
    assert report.rows == len(whole)
    numbers = [n for n, _ in (*report.good, *report.bad)]
    numbers += [n for n, _ in report.without_answer]
    assert len(set(numbers)) == len(numbers) == report.rows - report.passed_over
    assert set(numbers) <= set(whole)
    assert report.bad
    for _, why in report.bad:
      assert why.endswith('.')
      assert '\n' not in why
      assert len(why) < 400
    with pytest.raises(errors.InputError) as caught:
      tasks.load(name, path).problems(split)
    assert str(caught.value) == report.fault()
    if report.good:
      assert skipping.problems(split) == report.problems
      assert skipping.bad == {split: report.bad}
    ids = [problem.id for problem in report.problems]
    assert len(set(ids)) == len(ids)
    for problem in report.problems:
      assert records.Problem.from_json(problem.to_json()) == problem
  # Most changes are bad, and many rows are as they were.
  assert len(skipping.read(_GOOD[name][0]).good) > 300


def test_where_problems_come_from(tmp_path):
  hub = 'openai/gsm8k@740312add88f781978c0658806c59bc2815b9866'
  assert tasks.load('gsm8k').origin() == base.Origin(hub, 'mit', hub, 'mit')
  # Whatever it holds, a copy elsewhere has not stated these terms.
  copy = tasks.load('gsm8k', 'hub:me/copy@v1').origin()
  assert copy == base.Origin('me/copy@v1', '', hub, 'mit')
  own = tasks.load('gsm8k', str(tmp_path)).origin()
  assert own == base.Origin('', '', hub, 'mit')
  made = tasks.load('arith').origin()
  assert made == base.Origin('made by wcse_jax', 'apache-2.0')
  assert tasks.load('functional_math', str(tmp_path)).origin() == base.Origin()
