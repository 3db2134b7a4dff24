"""Samples of other engines: good rows, bad rows, shards."""

import json

import pytest

from wcse_jax import errors, outside, shardfiles


IDS = ('a', 'b')
# What is wrong with a row, in words of the report; the row.
BAD = [
  ('wanted JSON', 'nonsense'),
  ('wanted JSON', '{"problem_id": "a", "index": 1, "text": "x"'),
  ('wanted a JSON object', '[1]'),
  ('"text"; got nothing', '{"problem_id": "a", "index": 1}'),
  ('"index"; got nothing', '{"problem_id": "a", "text": "x"}'),
  ('"problem_id"; got nothing', '{"index": 1, "text": "x"}'),
  ('"index"; got "1"', '{"problem_id": "a", "index": "1", "text": "x"}'),
  ('"index"; got true', '{"problem_id": "a", "index": true, "text": "x"}'),
  ('"index"; got -1', '{"problem_id": "a", "index": -1, "text": "x"}'),
  (
    '"index"; got 2147483648',
    '{"problem_id": "a", "index": 2147483648, "text": ""}',
  ),
  ('"index"; got 1.0', '{"problem_id": "a", "index": 1.0, "text": "x"}'),
  ('"text"; got null', '{"problem_id": "a", "index": 1, "text": null}'),
  ('NaN', '{"problem_id": "a", "index": 1, "text": "x", "logprob": NaN}'),
  ('NUL', '{"problem_id": "a", "index": 1, "text": "x\\u0000"}'),
  (
    'a problem of the split; got "c"',
    '{"problem_id": "c", "index": 1, "text": ""}',
  ),
  ('comes twice', '{"problem_id": "a", "index": 0, "text": "again"}'),
  ('twice', '{"problem_id": "a", "index": 1, "index": 2, "text": ""}'),
  ('UTF-8', b'{"problem_id": "a", "index": 1, "text": "\xff"}'),
  ('bytes; got', '{"problem_id": "a", "index": 1, "text": "' + 'x' * 5_000_000),
]


def _file(tmp_path, lines):
  path = tmp_path / 'engine.jsonl'
  path.write_bytes(
    b''.join(
      (line if isinstance(line, bytes) else line.encode()) + b'\n'
      for line in lines
    )
  )
  return str(path)


def _row(problem_id, index, text='t'):
  return json.dumps(
    {'problem_id': problem_id, 'index': index, 'text': text, 'more': [1]}
  )


@pytest.mark.parametrize(('wanted', 'line'), BAD, ids=lambda v: str(v)[:40])
def test_a_bad_row_is_named_or_passed_over(tmp_path, wanted, line):
  path = _file(tmp_path, [_row('a', 0), '', line, _row('b', 0)])
  with pytest.raises(errors.InputError) as caught:
    outside.Source(path, IDS)
  said = str(caught.value)
  assert said.startswith(f'{path}: row 3: ')
  assert wanted in said
  assert said.endswith('Bad: 1 of 3 rows (3).')
  assert '\n' not in said
  assert len(said) < 400
  source = outside.Source(path, IDS, skip=True)
  assert source.counts() == {'read': 3, 'graded': 2, 'bad': 1}
  assert [(t.problem_id, t.index) for t in source.texts()] == [
    ('a', 0),
    ('b', 0),
  ]
  source.quarantine(str(tmp_path))
  (line,) = (tmp_path / 'quarantine' / 'engine.jsonl').read_text().splitlines()
  assert json.loads(line) == {'row': 3, 'why': source.bad[3]}


def test_all_bad_rows_are_counted(tmp_path):
  lines = [_row('a', i) for i in range(5)] + [line for _, line in BAD]
  path = _file(tmp_path, lines)
  # The one that doubles a sample does here, too; so does its index 1.
  source = outside.Source(path, IDS, skip=True)
  assert source.counts() == {
    'read': 5 + len(BAD),
    'graded': 5,
    'bad': len(BAD),
  }
  assert list(source.bad) == list(range(6, 6 + len(BAD)))
  with pytest.raises(
    errors.InputError, match=rf'Bad: {len(BAD)} of .*, \.\.\.\)'
  ):
    outside.Source(path, IDS)


def test_rows_that_are_all_bad_are_refused_in_any_case(tmp_path):
  path = _file(tmp_path, ['x', 'y'])
  with pytest.raises(errors.InputError, match='Bad: 2 of 2 rows'):
    outside.Source(path, IDS, skip=True)
  with pytest.raises(errors.InputError, match='it is empty'):
    outside.Source(_file(tmp_path, ['']), IDS)
  with pytest.raises(errors.InputError, match='there is no such file'):
    outside.Source(str(tmp_path / 'none.jsonl'), IDS)


def test_shards_are_blocks_of_rows(tmp_path, monkeypatch):
  monkeypatch.setattr(outside, 'SHARD', 3)
  lines = [_row('a', 0), 'bad', _row('b', 7), _row('a', 1), '', 'bad', 'bad']
  path = _file(tmp_path, [*lines, 'bad', 'bad', _row('b', 2)])
  source = outside.Source(path, IDS, skip=True)
  found = list(source.shards())
  # Rows 1 to 3, 4 to 6, and 10 to 12; of 7 to 9 none is good.
  assert [shard for shard, _ in found] == [
    shardfiles.Shard(0, 2, 0, 7),
    shardfiles.Shard(3, 5, 0, 1),
    shardfiles.Shard(9, 11, 0, 2),
  ]
  assert [[row[:2] for row in rows] for _, rows in found] == [
    [('a', 0), ('b', 7)],
    [('a', 1)],
    [('b', 2)],
  ]
  have = {found[0][0], found[2][0]}
  assert list(source.shards(have)) == [found[1]]
