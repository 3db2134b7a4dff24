import collections
import json
import pathlib

import pytest

import wcse_jax
from wcse_jax import errors
from wcse_jax.tasks import gsm_plus


_SHARED = pathlib.Path(wcse_jax.__file__).parents[2] / 'shared' / 'data'
_ROW = {
  'id': 'a',
  'question': 'How many?',
  'solution': '2 * 3 = 6\n#### 6',
  'answer': '6',
  'perturbation_type': 'adding operation',
  'seed_solution': 'one\ntwo\n#### 5',
}
_NONE = {
  **_ROW,
  'id': 'b',
  'solution': "We don't know it.\n#### None",
  'answer': 'None',
  'perturbation_type': 'critical thinking',
}


def _problems(tmp_path, *found):
  path = tmp_path / 'rows.jsonl'
  path.write_text('\n'.join(json.dumps(row) for row in found))
  return gsm_plus.GsmPlus(str(path)).problems('testmini')


def test_a_row_becomes_a_problem(tmp_path):
  first, second = _problems(tmp_path, _ROW, _NONE)
  assert first.answer == '6'
  assert first.level == '2'
  assert first.subject == 'adding operation'
  assert first.solution == '2 * 3 = 6\nThe answer is 6.'
  assert second.answer == ''
  assert second.subject == 'critical thinking'
  assert second.solution == "We don't know it.\nThe answer is unknown."


@pytest.mark.parametrize(
  ('text', 'first', 'second'),
  [
    ('2 * 3 = 6. The answer is 6.', 'right', 'wrong'),
    ('The answer is 7.', 'wrong', 'wrong'),
    ('The answer is unknown.', 'wrong', 'right'),
    ('#### None', 'wrong', 'right'),
    (r'\boxed{\text{cannot be determined}}', 'wrong', 'right'),
    ('He has 5 cats. We cannot determine how many.', 'wrong', 'right'),
    ('The problem does not say how many 3 are.', 'wrong', 'right'),
    ("We can't find the total cost of Mr. Lee.", 'wrong', 'right'),
    ('There is not enough information.', 'wrong', 'right'),
    # What is missing may be assumed: then the number is the answer.
    ('It is not specified. Say 3. Then 2 * 3 = 6', 'right', 'wrong'),
    ('It does not say.\nThe answer is 6.', 'right', 'wrong'),
    ('The answer is banana.', 'unparsed', 'unparsed'),
    ('', 'unparsed', 'unparsed'),
  ],
)
def test_what_a_text_answers(tmp_path, text, first, second):
  task = gsm_plus.GsmPlus()
  problems = _problems(tmp_path, _ROW, _NONE)
  verdicts = [task.grade(problem, 0, text).verdict for problem in problems]
  assert verdicts == [first, second]


def test_soundness_is_of_answers_alone(tmp_path):
  first, second = _problems(tmp_path, _ROW, _NONE)
  task = gsm_plus.GsmPlus()
  assert task.grade(first, 0, '2*3=6. The answer is 6.').sound is True
  assert task.grade(first, 0, '2*4=6. The answer is 6.').sound is False
  grade = task.grade(second, 0, '2*4=6. The answer is unknown.')
  assert (grade.verdict, grade.sound) == ('right', None)


@pytest.mark.parametrize(
  'change',
  [{'answer': None}, {'answer': 'many'}, {'answer': 6}, {'solution': 3}],
)
def test_refuses_bad_rows(tmp_path, change):
  with pytest.raises(errors.InputError, match=r'row 1: wanted .*1 of 1 rows'):
    _problems(tmp_path, {**_ROW, **change})


@pytest.mark.skipif(not _SHARED.is_dir(), reason='needs the shared data')
def test_reads_the_real_set():
  task = gsm_plus.GsmPlus(str(_SHARED / 'gsm_plus'))
  problems = task.problems('testmini')
  assert len(problems) == 2400
  assert set(collections.Counter(p.subject for p in problems).values()) == {300}
  none = [problem for problem in problems if not problem.answer]
  assert len(none) == 300
  assert {problem.subject for problem in none} == {'critical thinking'}
  for problem in problems:
    assert task.grade(problem, 0, problem.solution).verdict == 'right'
  # The reference's own words say it, too.
  words = [p.solution.rpartition('\n')[0] for p in none]
  right = sum(task.grade(p, 0, w).correct for p, w in zip(none, words))
  assert right >= 298
  assert len(task.shots(8)) == 8
