"""Splits, held-out problems, prompts and shots."""

import hashlib
import json
import pathlib

import pytest

import wcse_jax
from wcse_jax import errors, records, tasks
from wcse_jax.tasks import base


TASK = tasks.load('arith')


def test_validation_is_the_problems_of_smallest_hash():
  whole = TASK.problems('train')
  order = sorted(whole, key=lambda p: hashlib.sha256(p.id.encode()).hexdigest())
  found = {p.id for _, p in base.select(TASK, 'validation')}
  assert found == {p.id for p in order[:500]}


def test_training_leaves_validation_out_and_counts_the_whole_split():
  whole = TASK.problems('train')
  held = {p.id for _, p in base.select(TASK, 'validation')}
  chosen = base.select(TASK, 'train', limit=100)
  assert len(chosen) == 100
  assert not {p.id for _, p in chosen} & held
  assert all(whole[position].id == problem.id for position, problem in chosen)
  positions = [position for position, _ in chosen]
  assert positions == sorted(positions)
  assert positions[-1] > 99


def test_test_split_is_whole():
  assert len(base.select(TASK, 'test')) == 1024


def test_unknown_split_and_task():
  with pytest.raises(errors.InputError, match="got 'dev'"):
    base.select(TASK, 'dev')
  with pytest.raises(errors.InputError, match="got 'arit'"):
    tasks.load('arit')


def test_prompt_layout():
  shots = [base.Shot('One?', 'It is 1. '), base.Shot('Two?', '2')]
  assert TASK.prompt('Three?', shots) == (
    'Q: One?\nA: It is 1.\n\nQ: Two?\nA: 2\n\nQ: Three?\nA:'
  )
  assert TASK.prompt('Three?') == 'Q: Three?\nA:'
  assert TASK.completion(' 3.\n') == ' 3.'


def test_shots_come_from_the_training_rows_or_a_file(tmp_path):
  first = TASK.problems('train')[0]
  assert TASK.shots(1) == [base.Shot(first.question, first.solution)]
  assert TASK.shots(0) == []
  path = tmp_path / 'shots.jsonl'
  rows = [
    {'question': 'a\u2028b', 'target': 'c'},
    {'problem': 'd', 'solution': 'e', 'more': 1},
  ]
  path.write_text(
    '\n'.join(json.dumps(row, ensure_ascii=False) for row in rows) + '\n'
  )
  task = tasks.load('arith', prompts=str(path))
  assert task.shots(2) == [base.Shot('a\u2028b', 'c'), base.Shot('d', 'e')]
  with pytest.raises(errors.InputError, match='wanted 3'):
    task.shots(3)


@pytest.mark.parametrize('line', ['nonsense', '{"question": "a"}', '[1]'])
def test_bad_shots_are_named_by_row(tmp_path, line):
  path = tmp_path / 'shots.jsonl'
  path.write_text('{"question": "a", "target": "b"}\n' + line + '\n')
  with pytest.raises(errors.InputError, match='row 2'):
    tasks.load('arith', prompts=str(path)).shots(2)


def test_bad_rows_are_refused_unless_one_asks():
  assert tasks.load('gsm8k').bad_rows == 'refuse'
  assert tasks.load('arith', bad_rows='skip').bad_rows == 'skip'
  # Of this task alone.
  assert tasks.load('arith').bad_rows == 'refuse'
  with pytest.raises(errors.InputError) as caught:
    tasks.load('gsm8k', bad_rows='drop')
  assert str(caught.value) == "bad_rows: wanted refuse or skip; got 'drop'."


@pytest.mark.parametrize('name', ['gsm_plus', 'math500', 'functional_math'])
def test_shots_of_a_set_without_a_training_split(name):
  task = tasks.load(name, 'hub:org/set@v1')
  assert task.default_prompts() == ''
  with pytest.raises(errors.InputError, match='has no training split: name a'):
    task.shots(4)


def test_the_task_of_the_readme_works(tmp_path, monkeypatch):
  readme = pathlib.Path(wcse_jax.__file__).parents[1] / 'README.md'
  section = readme.read_text().partition('## Your own task')[2]
  code = section.partition('```python\n')[2].partition('```')[0]
  names = {}
  imports = (
    'import json\n'
    'from wcse_jax import records, storage\n'
    'from wcse_jax.grading import numeric\n'
    'from wcse_jax.tasks import base\n'
  )
  exec(imports + code, names)
  monkeypatch.setitem(tasks.TASKS, 'sums', names['Sums'])
  path = tmp_path / 'sums.json'
  row = {'q': 'What is 1 + 1?', 'a': '2'}
  path.write_text(json.dumps({'train': [row] * 3, 'test': [row]}))
  # It knows nothing of bad rows, and need not.
  for bad_rows in base.BAD_ROWS:
    task = tasks.load('sums', str(path), bad_rows=bad_rows)
    ((position, problem),) = base.select(task, 'test')
    assert (position, problem.id) == (0, 'sums/test/0')
    assert task.grade(problem, 0, 'It is 2.').verdict == 'right'
    assert task.grade(problem, 0, 'It is 3.').verdict == 'wrong'
    assert task.bad == {}


def test_without_a_reference_nothing_is_wrong():
  task = tasks.load('gsm8k')
  problem = records.Problem(id='p', task='gsm8k', question='q', answer='')
  found = task.grade(problem, 0, 'The answer is 7.')
  assert (found.verdict, found.correct, found.answer) == ('error', None, '7')
  assert found.why == 'no reference answer'
  assert task.grade(problem, 0, 'who knows').verdict == 'unparsed'
