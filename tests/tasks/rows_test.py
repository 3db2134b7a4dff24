import tracemalloc

import pytest

from wcse_jax import errors, records
from wcse_jax.tasks import remote, rows


_HUB = remote.Hub('org/set', ('main',), 'abc')


def _make(row, default_id):
  return records.Problem(
    id=row.get('id', default_id),
    task='t',
    question=rows.text(row, 'question'),
    answer='1',
  )


def _read(path, split='test', **options):
  return rows.read(str(path), split, name='t', hub=_HUB, make=_make, **options)


def _problems(path, split='test'):
  report = _read(path, split)
  report.check()
  return report.problems


def _whole(report):
  """Returns the sum of what became of the rows."""
  return (
    len(report.good)
    + len(report.bad)
    + len(report.without_answer)
    + report.passed_over
  )


def test_a_row_keeps_its_number_and_its_id(tmp_path):
  path = tmp_path / 'test.jsonl'
  path.write_text('{"question":"a"}\n\n{"question":"b"}')
  assert [p.id for p in _problems(tmp_path)] == ['t/test/0', 't/test/1']
  assert [number for number, _ in _read(path).good] == [1, 3]


def test_a_bad_row_does_not_rename_those_behind_it(tmp_path):
  path = tmp_path / 'test.jsonl'
  path.write_text('{"question":"a"}\nbad\n{"question":3}\n{"question":"b"}')
  report = _read(path)
  assert [p.id for p in report.problems] == ['t/test/0', 't/test/3']
  assert [number for number, _ in report.bad] == [2, 3]


def test_every_row_is_counted_once(tmp_path):
  path = tmp_path / 'test.jsonl'
  lines = ['{"question":"a","of":"x"}', '{"question":"b","answer":""}']
  lines += ['{"question":"c"}', '', 'bad', '{"question":"d","id":"t/test/1"}']
  path.write_text('\n'.join(lines))

  def make(row, default_id):
    if row.get('of'):
      return None
    return records.Problem(
      id=row.get('id', default_id),
      task='t',
      question=row['question'],
      answer=row.get('answer', '1'),
    )

  report = rows.read(
    str(path), 'test', name='t', hub=_HUB, make=make, needs_answer=True
  )
  assert report.rows == _whole(report) == 5
  assert report.passed_over == 1
  # Positions leave out what is of another split.
  assert [(n, p.id) for n, p in report.without_answer] == [(2, 't/test/0')]
  assert [(n, p.id) for n, p in report.good] == [(3, 't/test/1')]
  assert report.bad[0][0] == 5
  assert report.bad[1] == (6, 'wanted each id once; "t/test/1" comes twice.')
  assert report.fault().endswith(' Bad: 2 of 5 rows (5, 6).')
  for only in ('{"question":"a","of":"x"}', '{"question":"b","answer":""}'):
    path.write_text(only)
    with pytest.raises(errors.InputError, match='there are none among 1 rows'):
      rows.read(
        str(path), 'test', name='t', hub=_HUB, make=make, needs_answer=True
      )


def test_the_file_of_a_split_may_have_several_names(tmp_path):
  with pytest.raises(
    errors.InputError, match=r'x\.jsonl or .*/y\.jsonl; there'
  ):
    _read(tmp_path, files=('x.jsonl', 'y.jsonl'))
  (tmp_path / 'y.jsonl').write_text('{"question":"y"}')
  assert _read(tmp_path, files=('x.jsonl', 'y.jsonl')).rows == 1
  (tmp_path / 'x.jsonl').write_text('{"question":"x"}')
  (problem,) = _read(tmp_path, files=('x.jsonl', 'y.jsonl')).problems
  assert problem.question == 'x'


_BAD = {
  'not json': b'{"question": ',
  'no object': b'[1]',
  'no field': b'{"other": 1}',
  'wrong type': b'{"question": 7}',
  'blank': b'{"question": " "}',
  'nan': b'{"question": "q", "x": NaN}',
  'infinity': b'{"question": "q", "x": -Infinity}',
  'overflow': b'{"question": "q", "x": 1e999}',
  'nul escaped': b'{"question": "a\\u0000b"}',
  'nul': b'{"question": "a\x00b"}',
  'surrogate': b'{"question": "a\\ud800b"}',
  'not utf-8': b'{"question": "a\xffb"}',
  'field twice': b'{"question": "a", "question": "b"}',
  'nul within': b'{"question": "a", "x": [{"y": "\\u0000"}]}',
  'nul in a name': b'{"question": "a", "\\u0000": 1}',
  'nul in a name within': b'{"question": "a", "x": {"\\u0000": 1}}',
  'levels': b'{"question": "a", "x": ' + b'[' * 100 + b']' * 100 + b'}',
  'more levels': b'{"question": ' + b'{"a":' * 900 + b'1' + b'}' * 901,
  'deep': b'[' * 100_000,
  'deep object': b'{"a":' * 100_000,
  'doubled id': b'{"question": "q", "id": "x"}',
  'long number': b'{"question": ' + b'9' * 10_000 + b'}',
  'too long': b'{"question": "' + b'a' * rows.MOST_LINE + b'"}',
  'cut': b'{"question": "a',
  'text': b'hello',
}


@pytest.mark.parametrize('name', _BAD)
def test_a_bad_row_is_named_by_its_number(tmp_path, name):
  path = tmp_path / 'a.jsonl'
  good = b'{"question":"a","id":"x"}\n'
  path.write_bytes(good + _BAD[name] + b'\n{"question":"b"}\n')
  with pytest.raises(errors.InputError) as caught:
    _problems(path)
  message = str(caught.value)
  assert message.startswith(f'{path}: row 2: wanted ')
  assert message.endswith(' Bad: 1 of 3 rows (2).')
  assert '\n' not in message
  assert len(message) < 400 + len(str(path))


def test_what_looks_bad_and_is_not(tmp_path):
  path = tmp_path / 'a.jsonl'
  good = [
    b'{"question": "a\\\\u0000b"}',
    b'{"question": "' + b'{[' * 5000 + b'"}',
    b'{"question": "a", "x": ' + b'[' * 99 + b']' * 99 + b'}',
    b'\t {"question": "a", "x": 1e308} \r',
    '{"question": "a\u2028\x85b"}'.encode(),
    b'{"question": "' + b'a' * (rows.MOST_LINE - 16) + b'"}',
  ]
  path.write_bytes(b'\n'.join(good))
  report = _read(path)
  assert report.bad == []
  assert len(report.good) == len(good)


def test_all_bad_rows_at_once_and_counts_that_add_up(tmp_path):
  path = tmp_path / 'a.jsonl'
  lines = [b'{"question":"q"}'] * 10
  for at, bad in enumerate(_BAD.values()):
    lines.insert(at * 2, bad if b'"x"}' not in bad else b'nothing')
  path.write_bytes(b'\n'.join(lines))
  report = _read(path)
  assert report.rows == _whole(report) == len(lines)
  assert len(report.bad) == len(_BAD)
  wanted = (
    rf'row 1: .*Bad: {len(_BAD)} of {len(lines)} rows \(1, 3, 5, .*, \.\.\.\)'
  )
  with pytest.raises(errors.InputError, match=wanted):
    _problems(path)


def test_a_huge_line_takes_bounded_memory(tmp_path):
  path = tmp_path / 'a.jsonl'
  with open(path, 'wb') as file:
    file.write(b'{"question":"a"}\n')
    for _ in range(50):
      file.write(b'a' * 1_000_000)
    file.write(b'\n{"question":"b"}\n')
  tracemalloc.start()
  found = [(number, row, why) for number, row, why in rows.lines(str(path))]
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  # Of a line, no more is held than may be a row, twice while it is joined.
  assert peak < 3 * rows.MOST_LINE
  assert found == [
    (1, {'question': 'a'}, ''),
    (2, None, f'wanted at most {rows.MOST_LINE} bytes; got 50000001.'),
    (3, {'question': 'b'}, ''),
  ]


def test_missing_and_empty_sources(tmp_path):
  with pytest.raises(errors.InputError, match='no such file'):
    _problems(tmp_path / 'none.jsonl')
  with pytest.raises(errors.InputError, match=r'test\.jsonl.*no such file'):
    _problems(tmp_path)
  (tmp_path / 'empty.jsonl').write_text('\n \n')
  with pytest.raises(errors.InputError, match='wanted rows of t; it is empty'):
    _problems(tmp_path / 'empty.jsonl')


def test_a_bucket_is_read_as_a_folder(tmp_path):
  from wcse_jax import storage

  storage.publish('memory://rows/test.jsonl', '{"question":"a"}\n')
  assert [p.question for p in _problems('memory://rows')] == ['a']
  with pytest.raises(errors.InputError, match='no such file'):
    _problems('memory://rows', 'train')


def test_fields_of_a_row():
  row = {'a': 'x', 'b': ' ', 'c': None, 'd': 3, 'e': ['x', ''], 'f': ['x', 1]}
  assert rows.text(row, 'a') == 'x'
  for field in 'bcdefg':
    with pytest.raises(errors.InputError, match=f'text in field "{field}"'):
      rows.text(row, field)
  assert [rows.optional(row, field) for field in 'abcg'] == ['x', ' ', '', '']
  for field in 'de':
    with pytest.raises(errors.InputError, match=f'text in field "{field}"'):
      rows.optional(row, field)
  assert [rows.texts(row, field) for field in 'ceg'] == [[], ['x', ''], []]
  for field in 'adf':
    with pytest.raises(errors.InputError, match=f'texts in field "{field}"'):
      rows.texts(row, field)


def test_no_row_is_lost_whatever_the_bytes(tmp_path):
  import random

  rng = random.Random(0)
  path = tmp_path / 'a.jsonl'
  whole = b'{"question":"what is 1?","x":[1,2.5,null],"y":{"z":true}}'
  for _ in range(300):
    lines = []
    for _ in range(5):
      line = bytearray(whole)
      for _ in range(rng.randrange(3)):
        line[rng.randrange(len(line))] = rng.choice(b'{}[]",:0a\x00\xff\\\x7f')
      lines.append(bytes(line))
    path.write_bytes(b'\n'.join(lines))
    report = _read(path)
    numbers = sorted(n for n, _ in [*report.good, *report.bad])
    assert numbers == [1, 2, 3, 4, 5]
    assert report.rows == 5
    for _, problem in report.good:
      problem.to_json().encode()
