"""Problems, splits, solutions and grades of `arith`."""

import itertools
import random

import pytest

from wcse_jax.grading import steps
from wcse_jax.tasks import arith


TASK = arith.Arith()


@pytest.fixture(scope='module')
def splits():
  return {split: TASK.problems(split) for split in TASK.splits}


def test_splits_have_their_fixed_sizes(splits):
  assert {k: len(v) for k, v in splits.items()} == {
    'train': 8192,
    'test': 1024,
    'hard': 512,
  }


def test_splits_and_stream_share_no_question(splits):
  stream = itertools.islice(arith.stream('another seed'), 4000)
  easy = itertools.islice(arith.stream('easy', levels=(1, 2, 3, 4)), 4000)
  hard = {p.question for p in splits['hard']}
  assert len(hard) == 512
  assert not hard & {p.question for p in easy}
  questions = [
    {p.question for p in splits['train']},
    {p.question for p in splits['test']},
    {p.question for p in stream},
  ]
  assert not hard & (questions[0] | questions[1])
  for a, b in itertools.combinations(questions, 2):
    assert not a & b
  assert len(questions[0]) == 8192
  assert len(questions[1]) == 1024


def test_a_split_is_the_same_in_every_process(splits):
  # Written down once: a change here changes what every stored result means.
  assert splits['test'][0].question == (
    'Gia has 26 eggs. Gia gets 29 from a friend. How many eggs are there now?'
  )
  assert splits['train'][8191].solution == (
    'First 29+4=33. Next 33+5=38. The answer is 38.'
  )


def test_streams_depend_on_their_seed():
  a, b, c = (
    [p.question for p in itertools.islice(arith.stream(seed), 5)]
    for seed in (1, 1, 2)
  )
  assert a == b != c


def test_levels_come_in_turn_and_count_operations(splits):
  for problem in splits['test'][:300]:
    operations = sum(
      1 + (event['kind'] == 'groups') for event in problem.meta['events']
    )
    assert operations == int(problem.level)
  assert [p.level for p in splits['test'][:7]] == list('1234561')


def test_answers_lie_in_small_ranges(splits):
  answers = [int(p.answer) for p in splits['test']]
  assert min(answers) >= 0
  assert max(answers) <= 99
  assert sum(a < 10 for a in answers) > len(answers) / 3


def test_solutions_come_in_several_orders_and_are_all_sound(splits):
  rng = random.Random(0)
  several = 0
  for problem in splits['train'][:600]:
    texts = {arith.solution(problem, rng) for _ in range(12)}
    chains = {TASK.chain(text) for text in texts}
    several += len(chains) > 1
    for text in texts:
      grade = TASK.grade(problem, 0, text)
      assert grade.verdict == 'right', text
      assert grade.sound, (text, grade.why)
  assert several > 200


def test_story_tells_every_number(splits):
  for problem in splits['test'][:200]:
    for event in problem.meta['events']:
      told = {2: 'doubles', 3: 'triples'}.get(event['x'], '')
      if event['kind'] != 'times':
        told = str(event['x'])
      assert told in problem.question


def test_grade_tells_unparsed_from_wrong(splits):
  problem = splits['test'][0]
  wrong = str(int(problem.answer) + 1)
  assert TASK.grade(problem, 3, 'no idea').verdict == 'unparsed'
  grade = TASK.grade(problem, 3, f'The answer is {wrong}.')
  assert (grade.verdict, grade.correct, grade.sound) == ('wrong', False, None)
  assert grade.index == 3


def test_a_guess_is_right_but_not_sound(splits):
  problem = splits['test'][0]
  grade = TASK.grade(problem, 0, f'The answer is {problem.answer}.')
  assert (grade.correct, grade.sound) == (True, False)


def test_corrupted_solutions_are_never_sound(splits):
  """One operand or result moved: the answer may survive, soundness may not."""
  rng = random.Random(1)
  survived = 0
  for problem in splits['train'][:400]:
    text = problem.solution
    equations = steps.equations(text)
    a, op, b, c, _ = rng.choice(equations)
    new = text.replace(f'{a}{op}{b}={c}', f'{a}{op}{b}={c + 1}', 1)
    assert new != text
    grade = TASK.grade(problem, 0, new)
    survived += bool(grade.correct)
    if grade.correct:
      assert grade.sound is False, new
  assert survived > 100
