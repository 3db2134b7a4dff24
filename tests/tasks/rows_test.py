import json
import math
import sys
import tracemalloc

import pytest

from wcse_jax import errors, records
from wcse_jax.tasks import gsm8k, rows


_HUB = rows.Hub('org/set', 'main', 'abc')


def _make(row, default_id):
  return records.Problem(
    id=row.get('id', default_id),
    task='t',
    question=rows.text(row, 'question'),
    answer='1',
  )


def _problems(path, split='test'):
  return rows.problems(str(path), split, name='t', hub=_HUB, make=_make)


def test_a_row_keeps_its_number_and_its_id(tmp_path):
  path = tmp_path / 'test.jsonl'
  path.write_text('{"question":"a"}\n\n{"question":"b"}')
  assert [p.id for p in _problems(tmp_path)] == ['t/test/0', 't/test/1']
  report = rows.read(str(path), 'test', name='t', hub=_HUB)
  assert [number for number, _ in report.good] == [1, 3]


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


def test_all_bad_rows_at_once_and_counts_that_add_up(tmp_path):
  path = tmp_path / 'a.jsonl'
  lines = [b'{"question":"q"}'] * 10
  for at, bad in enumerate(_BAD.values()):
    lines.insert(at * 2, bad if b'"x"}' not in bad else b'nothing')
  path.write_bytes(b'\n'.join(lines))
  report = rows.read(str(path), 'test', name='t', hub=_HUB)
  assert len(report.good) + len(report.bad) == len(lines)
  with pytest.raises(errors.InputError, match=r'row 1: .*Bad: 20 of 30 rows'):
    _problems(path)
  with pytest.raises(errors.InputError, match=r'\(1, 3, 5, .*, \.\.\.\)'):
    _problems(path)


def test_a_huge_line_takes_bounded_memory(tmp_path):
  path = tmp_path / 'a.jsonl'
  with open(path, 'wb') as file:
    file.write(b'{"question":"a"}\n')
    for _ in range(50):
      file.write(b'a' * 1_000_000)
    file.write(b'\n{"question":"b"}\n')
  tracemalloc.start()
  report = rows.read(str(path), 'test', name='t', hub=_HUB)
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak < 20_000_000
  assert [number for number, _ in report.good] == [1, 3]
  assert report.bad == [
    (2, f'wanted at most {rows.MOST_LINE} bytes; got 50000001.')
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


def test_the_place_on_the_hub():
  parse = rows.Hub.parse
  assert parse('', _HUB) is _HUB
  assert parse('data/x', _HUB) is None
  assert parse('hub:a/b@c1', _HUB) == rows.Hub('a/b', 'main', 'c1')
  assert parse('hub:a/b', _HUB) == rows.Hub('a/b', 'main', '')
  assert str(_HUB) == 'org/set@abc'
  for bad in ('hub:', 'hub:@c', 'hub:a/b@'):
    with pytest.raises(errors.InputError, match='hub:ORG/NAME@REVISION'):
      parse(bad, _HUB)


def test_without_datasets_it_says_so(monkeypatch):
  monkeypatch.setitem(sys.modules, 'datasets', None)
  with pytest.raises(errors.InputError, match='is empty, and the package'):
    _problems('')
  with pytest.raises(errors.InputError, match='`datasets`'):
    _problems('hub:a/b@c')


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
  """A folder that `datasets` loads as it does a set of the hub."""
  monkeypatch.setenv('HF_HUB_OFFLINE', '1')
  monkeypatch.setenv('HF_HOME', str(tmp_path / 'home'))
  pytest.importorskip('datasets')
  folder = tmp_path / 'set'
  (folder / 'main').mkdir(parents=True)
  (folder / 'README.md').write_text(
    '---\nconfigs:\n- config_name: main\n  data_files:\n'
    '  - split: test\n    path: main/test.jsonl\n---\n'
  )
  found = [
    {'question': f'{i}?', 'answer': f'It is {i}.\n#### {i}'} for i in range(3)
  ]
  (folder / 'main' / 'test.jsonl').write_text(
    '\n'.join(json.dumps(row) for row in found)
  )
  return folder


@pytest.mark.filterwarnings('ignore')
def test_reads_what_the_hub_gives(stand_in):
  task = gsm8k.Gsm8k(f'hub:{stand_in}@v1')
  assert [p.answer for p in task.problems('test')] == ['0', '1', '2']
  assert task.problems('test')[1].id == 'gsm8k/test/1'
  with pytest.raises(errors.InputError, match='wanted split train of'):
    task.problems('train')
  with pytest.raises(errors.InputError, match='wanted split test of'):
    gsm8k.Gsm8k(f'hub:{stand_in}-none@v1').problems('test')


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
    report = rows.read(str(path), 'test', name='t', hub=_HUB)
    numbers = sorted(n for n, _ in [*report.good, *report.bad])
    assert numbers == [1, 2, 3, 4, 5]
    for _, row in report.good:
      json.dumps(row, allow_nan=False).encode()
      assert not any(isinstance(v, float) and math.isnan(v) for v in row)
