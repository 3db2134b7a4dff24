import dataclasses
import json
import random
import re
import uuid

import pytest

from wcse_jax import errors, records, storage


_PROBLEM = records.Problem(
  id='p-0', task='arith', question='1 + 1?', answer='2', meta={'b': 1, 'a': []}
)


_SAMPLE = records.Sample(
  problem_id='p-0',
  index=3,
  text='één\u2028\n"two"\\',
  tokens=(5, 7, 1),
  finish_reason='stop',
  prompt_tokens=20,
  shared_prompt_tokens=12,
  output_tokens=3,
  logprob=-1.2345678901234567,
)


_GRADE = records.Grade(
  problem_id='p-0',
  index=3,
  answer='2',
  correct=True,
  verdict='right',
  sound=None,
  why='',
)


# As a server gives it, which tells no tokens.
_SERVED = dataclasses.replace(_SAMPLE, tokens=(), logprob=None)


_ROWS = [_PROBLEM, _SAMPLE, _SERVED, _GRADE]


@pytest.fixture(params=['local', 'memory'])
def root(request, tmp_path):
  if request.param == 'local':
    return str(tmp_path / 'run')
  return f'memory://{uuid.uuid4().hex}'


def _sample(problem, index):
  return records.Sample(
    problem_id=f'p-{problem}',
    index=index,
    text=f'text {problem}.{index}',
    tokens=(problem, index, 1),
    finish_reason='length',
    prompt_tokens=20,
    shared_prompt_tokens=12,
    output_tokens=3,
    logprob=-problem - index / 8,
  )


@pytest.mark.parametrize('row', _ROWS, ids=lambda row: type(row).__name__)
def test_a_row_is_one_line_and_comes_back(row):
  line = row.to_json()
  assert '\n' not in line
  assert type(row).from_json(line) == row
  assert type(row).from_json(line).to_json() == line
  shuffled = json.dumps(dict(reversed(json.loads(line).items())))
  assert type(row).from_json(shuffled).to_json() == line
  hash(row)


def test_the_fields_are_the_contract():
  assert list(json.loads(_PROBLEM.to_json())) == [
    'id', 'task', 'question', 'answer', 'solution', 'level', 'subject', 'meta',
  ]  # fmt: skip
  assert list(json.loads(_SAMPLE.to_json())) == [
    'problem_id', 'index', 'text', 'tokens', 'finish_reason', 'prompt_tokens',
    'shared_prompt_tokens', 'output_tokens', 'logprob',
  ]  # fmt: skip
  assert list(json.loads(_GRADE.to_json())) == [
    'problem_id', 'index', 'answer', 'correct', 'verdict', 'sound', 'why',
  ]  # fmt: skip
  assert 'één\u2028\\n' in _SAMPLE.to_json()


@pytest.mark.parametrize('row', _ROWS, ids=lambda row: type(row).__name__)
def test_a_missing_or_unknown_field_is_named(row):
  fields = json.loads(row.to_json())
  optional = {'solution', 'level', 'subject', 'meta'}
  for name in fields:
    line = json.dumps({k: v for k, v in fields.items() if k != name})
    if name in optional:
      type(row).from_json(line)
      continue
    message = f'^f.jsonl: row 7: missing field "{name}"'
    with pytest.raises(errors.InputError, match=message):
      type(row).from_json(line, 'f.jsonl: row 7')
  line = json.dumps({**fields, 'colour': 1})
  with pytest.raises(errors.InputError, match='row 7: unknown field "colour"'):
    type(row).from_json(line, 'f.jsonl: row 7')


@pytest.mark.parametrize(
  ('row', 'field', 'values'),
  [
    (_PROBLEM, 'id', [None, 1, ['p'], '\ud800']),
    (_PROBLEM, 'level', [3, None]),
    (_PROBLEM, 'meta', [None, [], '{}', {'x': float('inf')}]),
    (_SAMPLE, 'problem_id', [0, None]),
    (_SAMPLE, 'index', [-1, 1.0, True, '0', None]),
    (_SAMPLE, 'text', [None, 1]),
    (_SAMPLE, 'tokens', [None, 'abc', [1.0], [True], [-1], {'0': 1}]),
    (_SAMPLE, 'finish_reason', ['eos', '', None]),
    (_SAMPLE, 'output_tokens', [-1, 2.5]),
    (_SAMPLE, 'logprob', ['0', False, float('nan'), float('-inf')]),
    (_SAMPLE, 'logprob', [10**400]),
    (_GRADE, 'answer', [2, True]),
    (_GRADE, 'correct', [1, 'true', False, None]),
    (_GRADE, 'verdict', ['Right', 'timeout', 'wrong', None]),
    (_GRADE, 'sound', [0, 'yes']),
    (_GRADE, 'why', [None]),
  ],
)
def test_a_wrong_value_is_named(row, field, values):
  fields = json.loads(row.to_json())
  for value in values:
    line = json.dumps({**fields, field: value})
    with pytest.raises(errors.InputError, match=r'^f: row 7: ') as error:
      type(row).from_json(line, 'f: row 7')
    message = str(error.value)
    assert '\n' not in message
    assert len(message) < 300
    if 'wanted JSON' not in message:
      assert f'"{field}"' in message or '"correct"' in message


def test_what_json_does_not_allow_is_refused():
  line = _GRADE.to_json()
  for bad in [
    '', 'null', '[]', '3', line[:-1], line + line, line[:-1] + ',"index":3}',
    line.replace('3', 'NaN'), line.replace('3', '1e999'), '[' * 100_000,
  ]:  # fmt: skip
    with pytest.raises(errors.InputError, match=r'^row: '):
      records.Grade.from_json(bad)
  with pytest.raises(ValueError, match='Out of range'):
    _sample(float('nan'), 0).to_json()


def test_correct_is_null_for_timeout_and_error_only():
  for verdict, want in records.VERDICTS.items():
    for correct in (True, False, None):
      fields = {**json.loads(_GRADE.to_json())}
      fields.update(verdict=verdict, correct=correct)
      if correct is want:
        assert records.Grade.from_json(json.dumps(fields)).correct is want
        continue
      with pytest.raises(ValueError, match=f'with verdict "{verdict}"'):
        records.Grade(**fields)


def test_damaged_rows_come_back_as_a_row_or_an_error():
  draw = random.Random(0)
  good = bad = 0
  for _ in range(5000):
    line = list(_SAMPLE.to_json())
    for _ in range(draw.randint(1, 3)):
      at = draw.randrange(len(line))
      line[at] = draw.choice(['', '"', '}', ',', '9', 'x', '\ud800', '\x00'])
    try:
      row = records.Sample.from_json(''.join(line))
    except errors.InputError:
      bad += 1
    else:
      assert records.Sample.from_json(row.to_json()) == row
      good += 1
  assert good + bad == 5000
  assert min(good, bad) > 100


def test_read_rows_counts_blank_lines_and_keeps_odd_separators(root):
  path = storage.join(root, 'x.jsonl')
  storage.publish(path, f'\n{_SAMPLE.to_json()}\r\n  \n{_SAMPLE.to_json()}')
  assert records.read_rows(path, records.Sample) == [_SAMPLE, _SAMPLE]
  storage.publish(path, f'\n{_SAMPLE.to_json()}\n{{}}\n')
  message = re.escape(f'{path}: row 3: missing field "problem_id"')
  with pytest.raises(errors.InputError, match=message):
    records.read_rows(path, records.Sample)


def test_own_rows_are_what_was_written():
  odd = dataclasses.replace(_SAMPLE, text='a\u2028b\x00"\\\n é𝄞', logprob=-3)
  data = f'{_SAMPLE.to_json()}\n{odd.to_json()}\n'.encode()
  found = records.own_rows(data, records.Sample, 'x')
  assert found == [_SAMPLE, odd]
  assert all(type(row.tokens) is tuple for row in found)
  drawn = records.own_rows(data, records.Drawn, 'x')
  names = [field.name for field in dataclasses.fields(records.Drawn)]
  for few, row in zip(drawn, found, strict=True):
    assert all(getattr(few, n) == getattr(row, n) for n in names)
  grades = [_GRADE, _GRADE]
  data = ''.join(f'{row.to_json()}\n' for row in grades).encode()
  assert records.own_rows(data, records.Grade, 'x') == grades


@pytest.mark.parametrize('cls', [records.Sample, records.Drawn])
@pytest.mark.parametrize(
  ('old', 'new', 'wanted'),
  [
    ('"index":', '"index":"', 'row 2: wanted JSON'),
    ('"text":', '"txt":', 'row 2: unknown field "txt"'),
    ('"index":', '"index":null,"i":', 'row 2: unknown field "i"'),
  ],
)
def test_what_is_wrong_with_own_rows_is_told(cls, old, new, wanted):
  line = _SAMPLE.to_json()
  data = f'{line}\n{line.replace(old, new, 1)}\n'.encode()
  with pytest.raises(errors.InputError, match=wanted):
    records.own_rows(data, cls, 'x')
