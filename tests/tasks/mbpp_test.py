import json

import pytest

from wcse_jax import errors, records
from wcse_jax.grading import sandbox
from wcse_jax.tasks import base, mbpp


_WHY = sandbox.check()
_needs_sandbox = pytest.mark.skipif(bool(_WHY), reason=f'no sandbox: {_WHY}')

_ROW = {
  'task_id': 11,
  'text': 'Write a function to add one.',
  'code': 'def add(x):\r\n\treturn x + 1',
  'test_setup_code': '',
  'test_list': ['assert add(1) == 2', 'assert add(-1) == 0'],
  'challenge_test_list': [],
}


def _write(path, *rows):
  path.write_text('\n'.join(json.dumps(row) for row in rows) + '\n')
  return str(path)


@pytest.fixture
def task(tmp_path):
  task = mbpp.Mbpp(_write(tmp_path / 'mbpp.jsonl', _ROW))
  yield task
  task.close()


def test_a_row_of_mbpp_becomes_a_problem(task):
  (problem,) = task.problems('test')
  assert problem.id == 'mbpp/11'
  assert problem.question == (
    'Write a function to add one. Your code should pass these tests:\n\n'
    'assert add(1) == 2\nassert add(-1) == 0'
  )
  assert problem.solution == problem.answer == 'def add(x):\n\treturn x + 1'
  assert problem.meta['names'] == ['add']
  # It is one line of JSON, as every problem is.
  assert records.Problem.from_json(problem.to_json()) == problem


def test_the_splits_of_mbpp_go_by_number(tmp_path):
  numbers = (1, 10, 11, 510, 511, 600, 601, 974)
  path = _write(
    tmp_path / 'mbpp.jsonl', *({**_ROW, 'task_id': n} for n in numbers)
  )
  found = [
    [p.id for p in mbpp.Mbpp(path).problems(split)]
    for split in ('prompt', 'test', 'validation', 'train')
  ]
  want = [[1, 10], [11, 510], [511, 600], [601, 974]]
  assert found == [[f'mbpp/{n}' for n in pair] for pair in want]


def test_the_prompt_of_mbpp(task):
  (problem,) = task.problems('test')
  shot = base.Shot('Do it. Your code should pass these tests:\n\nx', 'y = 1')
  assert task.prompt(problem.question, [shot]) == (
    'You are an expert Python programmer, and here is your task: Do it. Your '
    'code should pass these tests:\n\nx\n[BEGIN]\ny = 1\n[DONE]\n\n'
    'You are an expert Python programmer, and here is your task: Write a '
    'function to add one. Your code should pass these tests:\n\n'
    'assert add(1) == 2\nassert add(-1) == 0\n[BEGIN]\n'
  )
  assert task.completion(problem.solution) == 'def add(x):\n\treturn x + 1\n'
  assert '```python' in task.ask(problem.question)


def test_the_shots_of_mbpp(tmp_path):
  rows = [{**_ROW, 'task_id': n, 'text': f'Task {n}.'} for n in range(1, 6)]
  folder = tmp_path / 'mbpp'
  folder.mkdir()
  _write(folder / 'mbpp.jsonl', *rows)
  # Without a file of shots: those of the paper, out of the split for prompts.
  shots = mbpp.Mbpp(str(folder)).shots(3)
  assert [s.question[:7] for s in shots] == ['Task 2.', 'Task 3.', 'Task 4.']
  with pytest.raises(errors.InputError, match='wanted 9'):
    mbpp.Mbpp(str(folder)).shots(9)
  (tmp_path / 'prompts').mkdir()
  path = _write(tmp_path / 'prompts' / 'mbpp_3shot.jsonl', *rows[:1])
  task = mbpp.Mbpp(str(folder))
  assert task.default_prompts().endswith('prompts/mbpp_3shot.jsonl')
  (shot,) = task.shots(1)
  assert shot.question.startswith('Task 1. Your code should pass')
  assert shot.target == 'def add(x):\n\treturn x + 1'
  own = _write(tmp_path / 'own.jsonl', {'question': 'q', 'target': 't'})
  assert mbpp.Mbpp(str(folder), own).shots(1) == [base.Shot('q', 't')]
  bad = _write(tmp_path / 'bad.jsonl', {'test_list': [], 'task_id': 1})
  with pytest.raises(errors.InputError, match=r'bad\.jsonl: row 1: '):
    mbpp.Mbpp(str(folder), bad).shots(1)
  assert path


@pytest.mark.parametrize(
  ('change', 'named'),
  [
    ({'task_id': '11'}, '"task_id"'),
    ({'task_id': 975}, 'from 1 to 974'),
    ({'text': ''}, '"text"'),
    ({'code': 3}, '"code"'),
    ({'code': 'def f(:'}, 'wanted Python'),
    ({'test_list': []}, '"test_list"'),
    ({'test_list': 'assert'}, '"test_list"'),
    ({'test_list': ['assert (']}, 'wanted Python'),
    ({'test_list': ['assert 1']}, 'names nothing of it'),
    ({'test_setup_code': 1}, '"test_setup_code"'),
    ({'test_imports': 1}, '"test_imports"'),
    ({'id': 3}, '"id"'),
    ({'code': 'x = ' + '-' * 200_000 + '1'}, 'wanted Python'),
  ],
)
def test_a_bad_row_of_mbpp_is_named(tmp_path, change, named):
  path = _write(
    tmp_path / 'a.jsonl', {**_ROW, 'task_id': 12}, {**_ROW, **change}
  )
  with pytest.raises(errors.InputError) as caught:
    mbpp.Mbpp(path).problems('test')
  message = str(caught.value)
  assert message.startswith(f'{path}: row 2: ')
  assert named in message
  assert 'got .' not in message
  assert '\n' not in message


@pytest.mark.parametrize('line', ['{"task_id": 11', '[1]', '[' * 99_999, 'NaN'])
def test_a_line_that_is_no_row_is_named(tmp_path, line):
  path = tmp_path / 'a.jsonl'
  path.write_text(f'{json.dumps(_ROW)}\n\n{line}\n')
  with pytest.raises(errors.InputError, match='row 3: wanted'):
    mbpp.Mbpp(str(path)).problems('test')


@_needs_sandbox
@pytest.mark.parametrize(
  ('text', 'verdict'),
  [
    ('def add(x):\n  return x + 1', 'right'),
    ('def add(x):\n  return x + 1\n[DONE]\nYou are an expert', 'right'),
    (' def add(x):\n  return x + 1', 'right'),
    ('    def add(x):\n      return x + 1', 'right'),
    ('Here:\n```python\ndef add(x):\n  return x + 1\n```\nIt adds.', 'right'),
    ('```python\ndef add(x):\n  return x + 1', 'right'),
    ('def add(x):\n  return x', 'wrong'),
    ('def sub(x):\n  return x + 1', 'wrong'),
    ('I cannot do it.', 'unparsed'),
    ('', 'unparsed'),
    ('```python\n```', 'unparsed'),
  ],
)
def test_grades_of_mbpp(task, text, verdict):
  (problem,) = task.problems('test')
  grade = task.grade(problem, 3, text)
  assert grade.verdict == verdict, grade
  assert (grade.problem_id, grade.index) == ('mbpp/11', 3)
  assert bool(grade.why) == (verdict != 'right')


def test_a_split_without_rows_is_refused(task):
  with pytest.raises(errors.InputError, match='there are none among 1 rows'):
    task.problems('train')
