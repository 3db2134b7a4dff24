"""Grading on all cores."""

import pytest

from wcse_jax import records, tasks
from wcse_jax.tasks import base, parallel


TASK = tasks.load('arith')
PROBLEMS = TASK.problems('test')[:20]


def _rows(count):
  texts = [None, 'The answer is 7.', 'who knows']
  return [
    (problem, i, texts[i % 3] or problem.solution)
    for i in range(count // len(PROBLEMS))
    for problem in PROBLEMS
  ]


@pytest.mark.parametrize('few', [10, 60, 61])
def test_grades_are_those_of_the_task_in_order(few):
  rows = _rows(60)
  want = [TASK.grade(*row) for row in rows]
  assert len({grade.verdict for grade in want}) == 3
  found = parallel.grade_many(TASK, iter(rows), processes=2, few=few)
  assert list(found) == want


def test_few_rows_start_no_worker(monkeypatch):
  def refuse(*_, **__):
    raise AssertionError('a pool was made')

  monkeypatch.setattr(parallel.workers, 'Pool', refuse)
  assert len(list(parallel.grade_many(TASK, _rows(40), few=40))) == 40
  with pytest.raises(AssertionError, match='a pool was made'):
    list(parallel.grade_many(TASK, _rows(40), few=39))


class _Own(base.Task):
  """A task that no worker could find by its name."""

  name = 'arith'

  def answer(self, text):
    return text

  def equal(self, answer, reference):
    return len(answer) % 2 == 0


def test_a_task_of_ones_own_is_graded_here():
  rows = _rows(60)
  found = parallel.grade_many(_Own(), rows, few=1)
  assert [grade.correct for grade in found] == [
    len(text) % 2 == 0 for _, _, text in rows
  ]


def test_a_pool_of_the_tasks_own_is_used():
  task = tasks.load('math')
  called = []
  real = task.grade_many

  def grade_many(rows):
    called.append(True)
    return real(rows)

  task.grade_many = grade_many
  problem = records.Problem(id='p', task='math', question='q', answer='4')
  rows = [(problem, i, r'It is $\boxed{4}$.') for i in range(3)]
  found = list(parallel.grade_many(task, rows, few=1))
  task.close()
  assert [grade.verdict for grade in found] == ['right'] * 3
  assert called == [True]


def test_what_a_worker_cannot_grade_is_an_error_of_its_own(monkeypatch):
  # A reference that no grader reads: the worker says so, the others go on.
  bad = records.Problem(id='bad', task='arith', question='q', answer='x')
  rows = _rows(20)
  mixed = [*rows[:5], (bad, 3, 'The answer is 5.'), *rows[5:]]
  found = list(parallel.grade_many(TASK, mixed, processes=1, few=1))
  assert found[:5] + found[6:] == [TASK.grade(*row) for row in rows]
  assert (found[5].problem_id, found[5].index) == ('bad', 3)
  assert (found[5].verdict, found[5].correct) == ('error', None)
