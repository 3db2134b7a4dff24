import json
import pathlib

import pytest

import wcse_jax
from wcse_jax import errors, records
from wcse_jax.grading import sandbox
from wcse_jax.tasks import code


_SHARED = pathlib.Path(wcse_jax.__file__).parents[2] / 'shared' / 'data'
_WHY = sandbox.check()
_needs_sandbox = pytest.mark.skipif(bool(_WHY), reason=f'no sandbox: {_WHY}')
_needs_shared = pytest.mark.skipif(
  not _SHARED.is_dir(), reason='needs the shared data'
)

_MBPP = {
  'task_id': 11,
  'text': 'Write a function to add one.',
  'code': 'def add(x):\r\n\treturn x + 1',
  'test_setup_code': '',
  'test_list': ['assert add(1) == 2', 'assert add(-1) == 0'],
  'challenge_test_list': [],
}
_HUMAN = {
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
def mbpp(tmp_path):
  task = code.Mbpp(_write(tmp_path / 'mbpp.jsonl', _MBPP))
  yield task
  task.close()


@pytest.fixture
def human(tmp_path):
  task = code.HumanEval(_write(tmp_path / 'HumanEval.jsonl', _HUMAN))
  yield task
  task.close()


def test_a_row_of_mbpp_becomes_a_problem(mbpp):
  (problem,) = mbpp.problems('test')
  assert problem.id == 'mbpp/11'
  assert problem.question == (
    'Write a function to add one. Your code should pass these tests:\n\n'
    'assert add(1) == 2\nassert add(-1) == 0'
  )
  assert problem.solution == problem.answer == 'def add(x):\n\treturn x + 1'
  assert problem.meta['names'] == ['add']
  # It is one line of JSON, as every problem is.
  assert records.Problem.from_json(problem.to_json()) == problem


def test_the_splits_of_mbpp_go_by_number(tmp_path):
  numbers = (1, 10, 11, 510, 511, 600, 601, 974)
  path = _write(
    tmp_path / 'mbpp.jsonl', *({**_MBPP, 'task_id': n} for n in numbers)
  )
  found = [
    [p.id for p in code.Mbpp(path).problems(split)]
    for split in ('prompt', 'test', 'validation', 'train')
  ]
  want = [[1, 10], [11, 510], [511, 600], [601, 974]]
  assert found == [[f'mbpp/{n}' for n in pair] for pair in want]


def test_the_prompt_of_mbpp(mbpp):
  (problem,) = mbpp.problems('test')
  shot = code.base.Shot(
    'Do it. Your code should pass these tests:\n\nx', 'y = 1'
  )
  assert mbpp.prompt(problem.question, [shot]) == (
    'You are an expert Python programmer, and here is your task: Do it. Your '
    'code should pass these tests:\n\nx\n[BEGIN]\ny = 1\n[DONE]\n\n'
    'You are an expert Python programmer, and here is your task: Write a '
    'function to add one. Your code should pass these tests:\n\n'
    'assert add(1) == 2\nassert add(-1) == 0\n[BEGIN]\n'
  )
  assert mbpp.completion(problem.solution) == 'def add(x):\n\treturn x + 1\n'
  assert '```python' in mbpp.ask(problem.question)


def test_the_shots_of_mbpp(tmp_path):
  rows = [{**_MBPP, 'task_id': n, 'text': f'Task {n}.'} for n in range(1, 6)]
  folder = tmp_path / 'mbpp'
  folder.mkdir()
  _write(folder / 'mbpp.jsonl', *rows)
  # Without a file of shots: those of the paper, out of the split for prompts.
  shots = code.Mbpp(str(folder)).shots(3)
  assert [s.question[:7] for s in shots] == ['Task 2.', 'Task 3.', 'Task 4.']
  with pytest.raises(errors.InputError, match='wanted 9'):
    code.Mbpp(str(folder)).shots(9)
  (tmp_path / 'prompts').mkdir()
  path = _write(tmp_path / 'prompts' / 'mbpp_3shot.jsonl', *rows[:1])
  task = code.Mbpp(str(folder))
  assert task.default_prompts().endswith('prompts/mbpp_3shot.jsonl')
  (shot,) = task.shots(1)
  assert shot.question.startswith('Task 1. Your code should pass')
  assert shot.target == 'def add(x):\n\treturn x + 1'
  own = _write(tmp_path / 'own.jsonl', {'question': 'q', 'target': 't'})
  assert code.Mbpp(str(folder), own).shots(1) == [code.base.Shot('q', 't')]
  bad = _write(tmp_path / 'bad.jsonl', {'test_list': [], 'task_id': 1})
  with pytest.raises(errors.InputError, match=r'bad\.jsonl: row 1: '):
    code.Mbpp(str(folder), bad).shots(1)
  assert path


@pytest.mark.parametrize(
  ('change', 'named'),
  [
    ({'task_id': '11'}, '"task_id"'),
    ({'task_id': 975}, 'from 1 to 974'),
    ({'text': ''}, '"text"'),
    ({'code': 3}, '"code"'),
    ({'code': 'def f(:'}, 'wanted Python'),
    ({'test_list': []}, '"test_list"'),
    ({'test_list': 'assert'}, '"test_list"'),
    ({'test_list': ['assert (']}, 'wanted Python'),
    ({'test_list': ['assert 1']}, 'names nothing of it'),
    ({'test_setup_code': 1}, '"test_setup_code"'),
    ({'test_imports': 1}, '"test_imports"'),
    ({'id': 3}, '"id"'),
  ],
)
def test_a_bad_row_of_mbpp_is_named(tmp_path, change, named):
  path = _write(
    tmp_path / 'a.jsonl', {**_MBPP, 'task_id': 12}, {**_MBPP, **change}
  )
  with pytest.raises(errors.InputError) as caught:
    code.Mbpp(path).problems('test')
  message = str(caught.value)
  assert message.startswith(f'{path}: row 2: ')
  assert named in message
  assert '\n' not in message


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
  ],
)
def test_a_bad_row_of_humaneval_is_named(tmp_path, change, named):
  path = _write(
    tmp_path / 'a.jsonl', {**_HUMAN, 'task_id': 'x'}, {**_HUMAN, **change}
  )
  with pytest.raises(errors.InputError) as caught:
    code.HumanEval(path).problems('test')
  message = str(caught.value)
  assert message.startswith(f'{path}: row 2: ')
  assert named in message
  assert '\n' not in message


@pytest.mark.parametrize('line', ['{"task_id": 11', '[1]', '[' * 99_999, 'NaN'])
def test_a_line_that_is_no_row_is_named(tmp_path, line):
  path = tmp_path / 'a.jsonl'
  path.write_text(f'{json.dumps(_MBPP)}\n\n{line}\n')
  with pytest.raises(errors.InputError, match='row 3: wanted'):
    code.Mbpp(str(path)).problems('test')


def test_a_split_without_rows_is_refused(mbpp, human):
  with pytest.raises(errors.InputError, match='there are none'):
    mbpp.problems('train')
  with pytest.raises(errors.InputError, match='wanted one of test'):
    human.problems('train')
  with pytest.raises(errors.InputError, match='no worked examples'):
    human.shots(1)
  assert human.shots(0) == []


def test_without_data_and_without_datasets_it_says_so(monkeypatch):
  monkeypatch.setitem(__import__('sys').modules, 'datasets', None)
  for task in (code.Mbpp(), code.HumanEval()):
    with pytest.raises(errors.InputError, match='`datasets`'):
      task.problems('test')


def test_without_a_sandbox_grading_does_not_begin(mbpp, monkeypatch, tmp_path):
  (problem,) = mbpp.problems('test')
  monkeypatch.setenv('PATH', str(tmp_path))
  with pytest.raises(errors.InputError, match='apt-get install bubblewrap'):
    mbpp.grade(problem, 0, problem.solution)


@_needs_sandbox
@pytest.mark.parametrize(
  ('text', 'verdict'),
  [
    ('def add(x):\n  return x + 1', 'right'),
    ('def add(x):\n  return x + 1\n[DONE]\nYou are an expert', 'right'),
    (' def add(x):\n  return x + 1', 'right'),
    ('    def add(x):\n      return x + 1', 'right'),
    ('Here:\n```python\ndef add(x):\n  return x + 1\n```\nIt adds.', 'right'),
    ('```python\ndef add(x):\n  return x + 1', 'right'),
    ('def add(x):\n  return x', 'wrong'),
    ('def sub(x):\n  return x + 1', 'wrong'),
    ('I cannot do it.', 'unparsed'),
    ('', 'unparsed'),
    ('```python\n```', 'unparsed'),
  ],
)
def test_grades_of_mbpp(mbpp, text, verdict):
  (problem,) = mbpp.problems('test')
  grade = mbpp.grade(problem, 3, text)
  assert grade.verdict == verdict, grade
  assert (grade.problem_id, grade.index) == ('mbpp/11', 3)
  assert bool(grade.why) == (verdict != 'right')


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
def test_grades_of_humaneval(human, text, verdict):
  (problem,) = human.problems('test')
  grade = human.grade(problem, 0, text)
  assert grade.verdict == verdict, grade


@_needs_sandbox
def test_many_are_graded_in_order_and_lazily(mbpp):
  (problem,) = mbpp.problems('test')
  taken = []

  def rows():
    for index in range(40):
      taken.append(index)
      yield problem, index, f'def add(x): return x + {index % 2}'

  found = mbpp.grade_many(rows())
  first = next(found)
  assert len(taken) < 40
  rest = list(found)
  assert [g.index for g in [first, *rest]] == list(range(40))
  assert [g.correct for g in [first, *rest]] == [False, True] * 20


def test_the_prompts_of_humaneval(human):
  (problem,) = human.problems('test')
  assert human.prompt(problem.question) == _HUMAN['prompt']
  assert human.completion(problem.solution) == _HUMAN['canonical_solution']
  assert _HUMAN['prompt'].strip() in human.ask(problem.question)
  assert human.answer('```python\nx = 1\n```') == 'x = 1'
  assert human.answer('\n') is None


def test_chains_tell_programs_apart(mbpp):
  one = 'def add(x):\n  return x + 1  # why\n[DONE]'
  assert mbpp.chain(one) == mbpp.chain('```\ndef add(n): return (n + 1)\n```')
  assert mbpp.chain(one) != mbpp.chain('def add(n): return 1 + n')
  assert mbpp.chain('not  a program') == 'not a program'
  assert mbpp.equal('def f(a): return a', 'def f(b): return b')


@_needs_shared
@_needs_sandbox
@pytest.mark.parametrize('position', [0, 10, 32, 33, 38, 50, 151])
def test_references_with_helpers_pass(position):
  task = code.HumanEval(str(_SHARED / 'humaneval'))
  try:
    problem = task.problems('test')[position]
    assert task.grade(problem, 0, problem.solution).verdict == 'right'
  finally:
    task.close()


@pytest.mark.slow
@_needs_shared
@_needs_sandbox
@pytest.mark.parametrize(
  ('cls', 'path', 'count'),
  [
    (code.HumanEval, 'humaneval', 164),
    (code.Mbpp, 'mbpp', 974),
    (code.Mbpp, 'mbpp/sanitized.jsonl', 427),
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
  assert len(bad) <= (cls is code.Mbpp)
  assert all(g.verdict == 'timeout' for g in bad)
