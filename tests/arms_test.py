"""Which samples an arm trains on, under rules."""

import pytest

from wcse_jax import arms, errors, records, selection, tasks
from wcse_jax.metrics import measure


TASK = tasks.load('arith')
PROBLEMS = TASK.problems('train')[:4]
POOLS = {'wc': range(4, 10), 'se': range(4, 6)}


@pytest.fixture(scope='module')
def graded():
  """Samples 0 to 9 of each problem: even ones sound, odd ones lucky."""
  samples, grades = [], []
  for problem in PROBLEMS:
    for index in range(10):
      lucky = f'The answer is {problem.answer}.'
      text = lucky if index % 2 else problem.solution
      samples.append(
        records.Sample(
          problem_id=problem.id,
          index=index,
          text=text,
          tokens=(1,),
          finish_reason='stop',
          prompt_tokens=1,
          shared_prompt_tokens=0,
          output_tokens=1,
          logprob=0.0,
        )
      )
      grades.append(TASK.grade(problem, index, text))
  table = measure.Table.from_rows(PROBLEMS, samples, grades, TASK.chain)
  one = arms.Graded(samples, grades, table)
  return {'wc': one, 'se': one}


def _choose(arm, graded, **rules):
  rules = selection.Selection(**rules) if rules else None
  return arms.choose(arm, TASK, PROBLEMS, graded, POOLS, rules)


def test_without_rules_every_right_sample_of_the_pool(graded):
  rows, counts = _choose('wc', graded)
  assert len(rows) == counts['rows'] == 4 * 6
  assert {row.sample.index for row in rows} == set(POOLS['wc'])
  matched, _ = _choose('wc_number_matched', graded)
  assert {row.sample.index for row in matched} == set(POOLS['se'])


def test_rules_hold_inside_the_pool(graded):
  rows, counts = _choose('wc', graded, sound=True, per_problem=2)
  assert {row.sample.index for row in rows} == {4, 6}
  assert (counts['sound'], counts['per_problem']) == (12, 4)
  # The task's own chain: all sound texts of a problem are one.
  rows, counts = _choose('wc', graded, distinct=True)
  assert counts['distinct'] == 4 * 4
  rules = selection.Selection(sound=True, per_problem=1)
  found = arms.examples('se', TASK, PROBLEMS, graded, POOLS, rules)
  assert len(found) == 4


def test_nothing_to_train_on_says_what_dropped_it(graded):
  lucky = {'se': range(5, 6), 'wc': range(5, 6)}
  rules = selection.Selection(sound=True)
  with pytest.raises(errors.InputError, match='sound 4') as caught:
    arms.examples('se', TASK, PROBLEMS, graded, lucky, rules)
  assert '\n' not in str(caught.value)
