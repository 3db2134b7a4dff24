import json
import pathlib

import pytest

import wcse_jax
from wcse_jax import errors
from wcse_jax.grading import sandbox
from wcse_jax.tasks import humaneval


_SHARED = pathlib.Path(wcse_jax.__file__).parents[2] / 'shared' / 'data'
_WHY = sandbox.check()
_needs_sandbox = pytest.mark.skipif(bool(_WHY), reason=f'no sandbox: {_WHY}')
_needs_shared = pytest.mark.skipif(
  not _SHARED.is_dir(), reason='needs the shared data'
)

_ROW = {
  'task_id': 'HumanEval/900',
  'prompt': (
    'from typing import List\n\n\ndef twice(x):\n    return 2 * x\n\n\n'
    'def add(xs: List[int]) -> int:\n    """ Adds all, twice.\n    """\n'
  ),
  'entry_point': 'add',
  'canonical_solution': '    return sum(twice(x) for x in xs)\n',
  'test': (
    'def check(candidate):\n    assert candidate([1, 2]) == 6\n'
    '    assert twice(candidate([])) == 0\n'
  ),
}


def _write(path, *rows):
  path.write_text('\n'.join(json.dumps(row) for row in rows) + '\n')
  return str(path)


@pytest.fixture
def task(tmp_path):
  task = humaneval.HumanEval(_write(tmp_path / 'HumanEval.jsonl', _ROW))
  yield task
  task.close()


@pytest.mark.parametrize(
  ('change', 'named'),
  [
    ({'task_id': 1}, '"task_id"'),
    ({'prompt': None}, '"prompt"'),
    ({'prompt': 'def add(:'}, '"prompt"'),
    ({'entry_point': 'sub'}, '"entry_point"'),
    ({'test': 'def check('}, '"test"'),
    ({'canonical_solution': ''}, '"canonical_solution"'),
    ({'task_id': 'x'}, 'comes twice'),
    ({'test': 'x = ' + '-' * 200_000 + '1'}, 'wanted Python'),
  ],
)
def test_a_bad_row_of_humaneval_is_named(tmp_path, change, named):
  path = _write(
    tmp_path / 'a.jsonl', {**_ROW, 'task_id': 'x'}, {**_ROW, **change}
  )
  with pytest.raises(errors.InputError) as caught:
    humaneval.HumanEval(path).problems('test')
  message = str(caught.value)
  assert message.startswith(f'{path}: row 2: ')
  assert named in message
  assert 'got .' not in message
  assert '\n' not in message


@_needs_sandbox
@pytest.mark.parametrize(
  ('text', 'verdict'),
  [
    ('    return sum(twice(x) for x in xs)\n', 'right'),
    # As an engine gives it that strips the first indent.
    ('t = 0\n    for x in xs:\n        t += twice(x)\n    return t', 'right'),
    ('    return 2 * sum(xs)\n\n\ndef other(:\n', 'right'),
    ('    return 2 * sum(xs)\nprint(add([1])', 'right'),
    (
      '```python\ndef add(xs: List[int]):\n    return 2 * sum(xs)\n```',
      'right',
    ),
    ('def add(xs):\n    return twice(sum(xs))', 'right'),
    ('```python\n    return 2 * sum(xs)\n```', 'right'),
    ('    return sum(xs)\n', 'wrong'),
    ('    pass\n', 'wrong'),
    # The helper of the tests is their own, whatever the program makes of it.
    ('def twice(x): return 0\ndef add(xs): return 6 if xs else 1', 'wrong'),
    ('    return (', 'unparsed'),
    ('', 'unparsed'),
  ],
)
def test_grades_of_humaneval(task, text, verdict):
  (problem,) = task.problems('test')
  grade = task.grade(problem, 0, text)
  assert grade.verdict == verdict, grade


def test_the_prompts_of_humaneval(task):
  (problem,) = task.problems('test')
  assert task.prompt(problem.question) == _ROW['prompt']
  assert task.completion(problem.solution) == _ROW['canonical_solution']
  assert _ROW['prompt'].strip() in task.ask(problem.question)
  assert task.answer('```python\nx = 1\n```') == 'x = 1'
  assert task.answer('\n') is None


@_needs_shared
@_needs_sandbox
@pytest.mark.parametrize('position', [0, 10, 32, 33, 38, 50, 151])
def test_references_with_helpers_pass(position):
  task = humaneval.HumanEval(str(_SHARED / 'humaneval'))
  try:
    problem = task.problems('test')[position]
    assert task.grade(problem, 0, problem.solution).verdict == 'right'
  finally:
    task.close()


def test_it_has_one_split_and_no_examples(task):
  with pytest.raises(errors.InputError, match='wanted one of test'):
    task.problems('train')
  with pytest.raises(errors.InputError, match='no worked examples'):
    task.shots(1)
  assert task.shots(0) == []
