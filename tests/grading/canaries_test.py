"""Canaries are what they are said to be, by graders that know."""

import collections
import dataclasses
import random
import re

import pytest

from wcse_jax import records, tasks
from wcse_jax.grading import canaries


ARITH = tasks.load('arith')
PROBLEMS = ARITH.problems('test')[:200]
RED = records.Problem(
  id='m/0',
  task='math',
  question='How many?',
  answer=r'\frac{3}{4}',
  solution=r'Half of it is $x = 1,250.5$, so $\boxed{\frac{3}{4}}$.',
)


def maker(problems=PROBLEMS, salt='s', grade=ARITH.grade):
  return canaries.Maker(problems, grade, salt)


def test_each_kind_is_what_it_says():
  """300 canaries by the step checker, which knows exactly."""
  made = [maker().make(i) for i in range(300)]
  assert [one.number for one in made] == list(range(300))
  kinds = collections.Counter(one.kind for one in made)
  assert kinds == {'reference': 100, 'planted': 100, 'hollow': 100}
  for one in made:
    grade = ARITH.grade(one.problem, 0, one.text)
    assert grade.verdict == 'right'
    assert grade.sound is canaries.KINDS[one.kind], one


def test_planted_texts_differ_in_one_number():
  for i in range(1, 300, 3):
    one = maker().make(i)
    before, after = one.problem.solution, one.text
    assert len(before) == len(after)
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 1
    assert before.rpartition('The')[2] == after.rpartition('The')[2]


def test_hollow_texts_have_no_reasoning():
  texts = {maker().make(i).text for i in range(2, 300, 3)}
  assert len(texts) > 50
  assert not any(re.search(r'[=+*/]', text) for text in texts)


def test_problems_are_not_repeated_before_they_must():
  for first, size in ((0, 100), (1, 100), (2, 100)):
    ids = [maker().make(i).problem.id for i in range(first, 300, 3)]
    assert len(set(ids)) >= 0.95 * size


def test_fixed_by_salt_and_number():
  assert maker().make(7) == maker().make(7)
  others = [maker(salt=str(i)).make(7).text for i in range(20)]
  assert len({*others}) > 15


def test_without_reference_solutions_all_are_hollow():
  bare = [dataclasses.replace(p, solution='') for p in PROBLEMS[:5]]
  assert {maker(bare).make(i).kind for i in range(9)} == {'hollow'}


def test_what_a_checker_refutes_is_not_used():
  """A reference that the checker calls unsound, a change it does not see."""
  wrong = [dataclasses.replace(PROBLEMS[0], solution='1=1. The answer is 0.')]
  assert {maker(wrong).make(i).kind for i in range(6)} == {'hollow'}

  def blind(problem, index, text):
    return dataclasses.replace(ARITH.grade(problem, index, text), sound=True)

  made = maker(grade=blind)
  assert [made.make(i).kind for i in range(3)] == [
    'reference',
    'hollow',
    'hollow',
  ]


def test_latex():
  made = canaries.plant(RED, random.Random(0))
  assert made != RED.solution
  assert re.fullmatch(
    r'Half of it is \$x = \d,\d{3}\.\d\$, so \$\\boxed\{\\frac\{3\}\{4\}\}\$\.',
    made,
  )
  text = canaries.hollow(RED, random.Random(0))
  assert text.endswith(r'The answer is $\boxed{\frac{3}{4}}$.')
  math = tasks.load('math')
  assert math.grade(RED, 0, text).verdict == 'right'
  assert math.grade(RED, 0, made).verdict == 'right'
  math.close()


@pytest.mark.parametrize('solution', ['', 'No equation.', 'x = y', 'a = .5'])
def test_nothing_to_plant(solution):
  problem = dataclasses.replace(RED, solution=solution)
  assert canaries.plant(problem, random.Random(0)) is None


@pytest.mark.parametrize(
  ('judged', 'share', 'count'),
  [(0, 0.1, 0), (1, 0.1, 6), (60, 0.1, 6), (61, 0.1, 7), (64, 0, 6)],
)
def test_count(judged, share, count):
  assert canaries.count(judged, share) == count
  assert canaries.count(1000, 0.1) == 100
  assert canaries.count(30, 0.3) == 9


def test_no_problems():
  with pytest.raises(ValueError, match='at least one'):
    maker([])
