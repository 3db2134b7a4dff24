import json
import pathlib

import pytest

import wcse_jax
from wcse_jax import errors
from wcse_jax.grading import sandbox
from wcse_jax.tasks import humaneval, mbpp


_SHARED = pathlib.Path(wcse_jax.__file__).parents[2] / 'shared' / 'data'
_WHY = sandbox.check()
_needs_sandbox = pytest.mark.skipif(bool(_WHY), reason=f'no sandbox: {_WHY}')
_needs_shared = pytest.mark.skipif(
  not _SHARED.is_dir(), reason='needs the shared data'
)

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


def test_without_a_sandbox_grading_does_not_begin(task, monkeypatch, tmp_path):
  (problem,) = task.problems('test')
  monkeypatch.setenv('PATH', str(tmp_path))
  with pytest.raises(errors.InputError, match='apt-get install bubblewrap'):
    task.grade(problem, 0, problem.solution)


@_needs_sandbox
def test_many_are_graded_in_order_and_lazily(task):
  (problem,) = task.problems('test')
  taken = []

  def rows():
    for index in range(40):
      taken.append(index)
      yield problem, index, f'def add(x): return x + {index % 2}'

  found = task.grade_many(rows())
  first = next(found)
  assert len(taken) < 40
  rest = list(found)
  assert [g.index for g in [first, *rest]] == list(range(40))
  assert [g.correct for g in [first, *rest]] == [False, True] * 20


def test_chains_tell_programs_apart(task):
  one = 'def add(x):\n  return x + 1  # why\n[DONE]'
  assert task.chain(one) == task.chain('```\ndef add(n): return (n + 1)\n```')
  assert task.chain(one) != task.chain('def add(n): return 1 + n')
  assert task.chain('not  a program') == 'not a program'
  assert task.equal('def f(a): return a', 'def f(b): return b')


@pytest.mark.slow
@_needs_shared
@_needs_sandbox
@pytest.mark.parametrize(
  ('cls', 'path', 'count'),
  [
    (humaneval.HumanEval, 'humaneval', 164),
    (mbpp.Mbpp, 'mbpp', 974),
    (mbpp.Mbpp, 'mbpp/sanitized.jsonl', 427),
  ],
)
def test_every_reference_passes(cls, path, count):
  task = cls(str(_SHARED / path))
  try:
    problems = [p for split in task.splits for p in task.problems(split)]
    assert len(problems) == count
    grades = task.grade_many((p, 0, p.solution) for p in problems)
    bad = [g for g in grades if g.verdict != 'right']
  finally:
    task.close()
  # One of MBPP's is slow: it may miss the deadline on a busy machine.
  assert len(bad) <= (cls is mbpp.Mbpp)
  assert all(g.verdict == 'timeout' for g in bad)
