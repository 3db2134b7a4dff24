"""Which samples an arm trains on, under rules."""

import pytest

from wcse_jax import arms, errors, records, selection, shardfiles, tasks


TASK = tasks.load('arith')
PROBLEMS = TASK.problems('train')[:4]
POOL = range(4, 10)


@pytest.fixture(scope='module')
def graded(tmp_path_factory):
  """Samples 0 to 9 of each problem: even ones sound, odd ones lucky."""
  root = tmp_path_factory.mktemp('graded')
  folders = [
    shardfiles.ShardFolder(str(root / kind), {'of': kind})
    for kind in ('samples', 'grades')
  ]
  for first, last in ((0, 7), (8, 9)):
    samples = [
      _sample(problem, index)
      for problem in PROBLEMS
      for index in range(first, last + 1)
    ]
    where = {problem.id: problem for problem in PROBLEMS}
    grades = [
      TASK.grade(where[row.problem_id], row.index, row.text) for row in samples
    ]
    shard = shardfiles.Shard(0, 3, first, last)
    for folder, rows in zip(folders, (samples, grades), strict=True):
      folder.write(shard, rows)
  return arms.Graded.read('m', TASK, PROBLEMS, *folders)


def _sample(problem, index):
  lucky = f'The answer is {problem.answer}.'
  return records.Sample(
    problem_id=problem.id,
    index=index,
    text=lucky if index % 2 else problem.solution,
    tokens=(1,),
    finish_reason='stop',
    prompt_tokens=1,
    shared_prompt_tokens=0,
    output_tokens=1,
    logprob=0.0,
  )


def _choose(graded, pool=POOL, **rules):
  rules = selection.Selection(**rules) if rules else None
  return arms.choose([(graded, pool)], TASK, PROBLEMS, rules)


def test_without_rules_every_right_sample_of_the_pool(graded):
  rows, counts = _choose(graded)
  assert len(rows) == counts['rows'] == 4 * 6
  assert {row.sample.index for row in rows} == set(POOL)
  assert {row.source for row in rows} == {'m'}
  few, _ = _choose(graded, range(4, 6))
  assert {row.sample.index for row in few} == {4, 5}


def test_one_problem_is_read_from_its_own_shards(graded):
  whole = {problem.id: problem for problem in PROBLEMS}
  one = {PROBLEMS[2].id: PROBLEMS[2]}
  found = list(graded.rows(POOL, one, 2))
  assert found == [r for r in graded.rows(POOL, whole) if r.problem.id in one]
  assert len(found) == 6
  assert list(graded.rows(POOL, one, 99)) == []


def test_samples_of_two_models_are_chosen_together(graded):
  parts = [(graded, range(4, 6)), (graded, range(8, 10))]
  rows, counts = arms.choose(parts, TASK, PROBLEMS)
  assert counts['rows'] == len(rows) == 4 * 4
  assert {row.sample.index for row in rows} == {4, 5, 8, 9}


def test_rules_hold_inside_the_pool(graded):
  rows, counts = _choose(graded, sound=True, per_problem=2)
  assert {row.sample.index for row in rows} == {4, 6}
  assert (counts['sound'], counts['per_problem']) == (12, 4)
  # The task's own chain: all sound texts of a problem are one.
  rows, counts = _choose(graded, distinct=True)
  assert counts['distinct'] == 4 * 4
  chosen, _ = _choose(graded, range(4, 6), sound=True, per_problem=1)
  found = arms.examples(chosen, TASK)
  assert len(found) == 4
  assert found[0].completion == f' {PROBLEMS[0].solution}'
  people = arms.human(PROBLEMS, TASK)
  assert [one.completion for one in people] == [one.completion for one in found]


def test_nothing_to_train_on_says_what_dropped_it(graded):
  _, counts = _choose(graded, range(5, 6), sound=True)
  with pytest.raises(errors.InputError, match=r'arms\.se: .*sound 4') as caught:
    arms.check('arms.se', counts)
  assert '\n' not in str(caught.value)
