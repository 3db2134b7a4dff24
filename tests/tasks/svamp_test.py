import json
import pathlib

import pytest

import wcse_jax
from wcse_jax import errors
from wcse_jax.tasks import svamp


_SHARED = pathlib.Path(wcse_jax.__file__).parents[2] / 'shared' / 'data'
_ROW = {
  'id': 'svamp/a',
  'question': 'How many?',
  'answer': 145.0,
  'equation': '( ( 290.0 / 2.0 ) - 1.0 )',
  'type': 'Subtraction',
}


def _problems(tmp_path, *found):
  path = tmp_path / 'test.jsonl'
  path.write_text('\n'.join(json.dumps(row) for row in found))
  return svamp.Svamp(str(path)).problems('test')


def test_a_row_becomes_a_problem(tmp_path):
  (problem,) = _problems(tmp_path, _ROW)
  assert problem.id == 'svamp/a'
  assert problem.task == 'svamp'
  assert problem.answer == '145'
  assert problem.level == '2'
  assert problem.subject == 'Subtraction'
  assert problem.meta == {'equation': _ROW['equation']}
  assert problem.solution == ''


def test_a_row_as_on_the_hub(tmp_path):
  row = {
    'ID': 'chal-1',
    'Body': 'He has 2 cats',
    'Question': 'How many eyes?',
    'Answer': '4.0',
    'Equation': '( 2.0 * 2.0 )',
    'Type': 'Multiplication',
  }
  (problem,) = _problems(tmp_path, row)
  assert problem.id == 'chal-1'
  assert problem.question == 'He has 2 cats. How many eyes?'
  assert (problem.answer, problem.level) == ('4', '1')


def test_answers_keep_their_fraction(tmp_path):
  found = _problems(
    tmp_path,
    {'question': 'a', 'answer': 2.5},
    {'question': 'b', 'answer': '1,000'},
    {'question': 'c', 'answer': -3},
  )
  assert [p.answer for p in found] == ['2.5', '1000', '-3']
  assert [p.level for p in found] == ['', '', '']


@pytest.mark.parametrize(
  'change',
  [
    {'answer': None},
    {'answer': True},
    {'answer': 'many'},
    {'question': ''},
    {'id': 3},
    {'type': 3},
    {'equation': ['x']},
  ],
)
def test_refuses_bad_rows(tmp_path, change):
  with pytest.raises(errors.InputError, match=r'row 1: wanted .*1 of 1 rows'):
    _problems(tmp_path, {**_ROW, **change})


def test_grades_a_text(tmp_path):
  (problem,) = _problems(tmp_path, _ROW)
  task = svamp.Svamp()
  grade = task.grade(problem, 0, '290 / 2 = 145. The answer is 145.')
  assert (grade.verdict, grade.sound) == ('right', True)
  grade = task.grade(problem, 0, '290 / 3 = 145. The answer is 145.')
  assert (grade.verdict, grade.sound) == ('right', False)
  assert task.grade(problem, 0, 'The answer is 144.').verdict == 'wrong'


@pytest.mark.skipif(not _SHARED.is_dir(), reason='needs the shared data')
def test_reads_the_real_set():
  task = svamp.Svamp(str(_SHARED / 'svamp'))
  problems = task.problems('test')
  assert len(problems) == 1000
  assert {p.level for p in problems} <= {'', '1', '2'}
  assert len(task.shots(8)) == 8
  for problem in problems:
    text = f'The answer is {problem.answer}.'
    assert task.grade(problem, 0, text).verdict == 'right'
