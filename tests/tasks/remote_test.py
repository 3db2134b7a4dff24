"""Sets of the hub, by a stand-in of the package and by the package itself."""

import json
import sys
import types

import pytest

from wcse_jax import errors, tasks
from wcse_jax.tasks import functional_math, remote


_HUB = remote.Hub('org/set', ('main',), 'abc')
_REFERENCE = 'def add(x):\n  return x + 1'
# Rows as the hub has them.
_WORD = {'question': 'How many?', 'answer': 'It is 2.\n#### 2'}
_SVAMP = {
  'ID': 'chal-1',
  'Body': 'He has 2 cats.',
  'Question': 'How many eyes?',
  'Answer': '4.0',
  'Equation': '( 2.0 * 2.0 )',
  'Type': 'Multiplication',
}
_PLUS = {
  'question': 'How many?',
  'solution': 'One.\n#### 1',
  'answer': '1',
  'perturbation_type': 'digit expansion',
  'seed_question': 'q',
  'seed_solution': 'a\n#### 1',
  'seed_answer': '1',
}
_MATH = {
  'problem': 'What is $x$?',
  'level': 'Level 3',
  'type': 'Algebra',
  'solution': r'It is $\boxed{2}$.',
}
_MATH500 = {
  'problem': 'What is $x$?',
  'solution': r'It is $\boxed{2}$.',
  'answer': '2',
  'subject': 'Algebra',
  'level': 2,
  'unique_id': 'test/a.json',
}
_MBPP = {
  'task_id': 601,
  'text': 'Add one.',
  'code': _REFERENCE,
  'test_list': ['assert add(1) == 2'],
  'test_setup_code': '',
  'challenge_test_list': [],
}
_HUMAN = {
  'task_id': 'HumanEval/0',
  'prompt': 'def add(x):\n    """Adds one."""\n',
  'canonical_solution': '    return x + 1\n',
  'test': 'def check(candidate):\n    assert candidate(1) == 2\n',
  'entry_point': 'add',
}
_SUBJECTS = (
  'algebra',
  'counting_and_probability',
  'geometry',
  'intermediate_algebra',
  'number_theory',
  'prealgebra',
  'precalculus',
)
# Task, split, a row, where its set lies, configurations, revision.
_SETS = [
  (
    'gsm8k',
    'train',
    _WORD,
    'openai/gsm8k',
    ('main',),
    '740312add88f781978c0658806c59bc2815b9866',
  ),
  (
    'svamp',
    'test',
    _SVAMP,
    'ChilleD/SVAMP',
    (None,),
    '5e0bf1e5e7c0e9c4bc39180d224f41f3f801b7ef',
  ),
  (
    'gsm_plus',
    'testmini',
    _PLUS,
    'qintongli/GSM-Plus',
    (None,),
    '3b708db57b96a16e8e3368ed2956990c0809440e',
  ),
  (
    'math',
    'train',
    _MATH,
    'EleutherAI/hendrycks_math',
    _SUBJECTS,
    '21a5633873b6a120296cce3e2df9d5550074f4a3',
  ),
  (
    'math500',
    'test',
    _MATH500,
    'HuggingFaceH4/MATH-500',
    (None,),
    'ff5b20257d8185524591543f8ff5993951537bb8',
  ),
  ('functional_math', 'Oct-2023', _MATH500, '', (None,), ''),
  (
    'mbpp',
    'train',
    _MBPP,
    'google-research-datasets/mbpp',
    ('full',),
    '4bb6404fdc6cacfda99d4ac4205087b89d32030c',
  ),
  (
    'humaneval',
    'test',
    _HUMAN,
    'openai/openai_humaneval',
    ('openai_humaneval',),
    '7dce6050a7d6d172f3cc5c32aa97f52fa1a2e544',
  ),
]
_by_task = pytest.mark.parametrize(
  ('name', 'split', 'row', 'path', 'configs', 'revision'),
  _SETS,
  ids=[one[0] for one in _SETS],
)


@pytest.fixture
def package(monkeypatch):
  """A stand-in of `datasets`: what it is asked for, and what it gives."""
  found = types.SimpleNamespace(asked=[], rows=[], error=None)

  def load_dataset(path, name=None, *, split, revision):
    found.asked.append((path, name, split, revision))
    if found.error is not None:
      raise found.error
    return found.rows

  module = types.ModuleType('datasets')
  module.load_dataset = load_dataset
  monkeypatch.setitem(sys.modules, 'datasets', module)
  return found


def test_every_task_with_a_set_is_here():
  assert {one[0] for one in _SETS} == set(tasks.TASKS) - {'arith'}


@_by_task
def test_the_own_place_of_a_task(
  package, name, split, row, path, configs, revision
):
  package.rows = [row]
  task = tasks.load(name)
  if not path:
    with pytest.raises(errors.InputError, match='the set is not on the hub'):
      task.problems(split)
    assert package.asked == []
    return
  if name in ('mbpp', 'humaneval'):
    assert [p.answer for p in task.problems(split)]
  else:
    assert len(task.problems(split)) == len(configs)
  assert package.asked == [(path, each, split, revision) for each in configs]


@_by_task
@pytest.mark.parametrize(
  ('data', 'tag'), [('hub:org/own@v1.0', 'v1.0'), ('hub:org/own', None)]
)
def test_another_place(
  package, data, tag, name, split, row, path, configs, revision
):
  package.rows = [row]
  task = tasks.load(name, data)
  problems = task.problems(split)
  assert len({p.id for p in problems}) == len(problems) == len(configs)
  read = 'test' if name == 'functional_math' else split
  assert package.asked == [('org/own', each, read, tag) for each in configs]
  # What lies beside a folder cannot lie beside a set of the hub.
  assert task.default_prompts() == ''


def test_shots_come_from_the_same_place(package):
  package.rows = [_WORD] * 3
  assert len(tasks.load('gsm8k', 'hub:org/own@v1').shots(2)) == 2
  package.rows = [{**_MBPP, 'task_id': n} for n in (2, 3, 4)]
  assert len(tasks.load('mbpp', 'hub:org/own@v1').shots(3)) == 3
  assert package.asked == [
    ('org/own', 'main', 'train', 'v1'),
    ('org/own', 'full', 'prompt', 'v1'),
  ]


def test_subjects_follow_one_another(package):
  package.rows = [_MATH, {**_MATH, 'solution': r'$\boxed{}$'}]
  task = tasks.load('math')
  ids = [problem.id for problem in task.problems('test')]
  assert ids == [f'math/test/{2 * i}' for i in range(7)]
  assert task.without_answer['test'][6] == 'math/test/13'


_BAD = [
  3,
  {**_WORD, 'question': None},
  {**_WORD, 'question': 'a\0b'},
  {**_WORD, 'more': float('nan')},
  {**_WORD, 'more': {'deep': [1.0, float('inf')]}},
  {**_WORD, 'more': {'a\0': 1}},
]


@pytest.mark.parametrize('bad', _BAD, ids=repr)
def test_a_bad_row_of_the_hub(package, bad):
  package.rows = [_WORD, bad, _WORD]
  wanted = r'org/own@v1: row 2: wanted .* Bad: 1 of 3 rows \(2\)\.$'
  with pytest.raises(errors.InputError, match=wanted):
    tasks.load('gsm8k', 'hub:org/own@v1').problems('test')
  task = tasks.load('gsm8k', 'hub:org/own@v1', bad_rows='skip')
  found = [problem.id for problem in task.problems('test')]
  assert found == ['gsm8k/test/0', 'gsm8k/test/2']
  assert [number for number, _ in task.bad['test']] == [2]


class _BuildError(Exception):
  __module__ = 'datasets.exceptions'


@pytest.mark.parametrize(
  'error',
  [
    FileNotFoundError('no such set\nnor another'),
    ValueError('unknown split'),
    ConnectionError('no network'),
    _BuildError('cannot be built'),
  ],
  ids=lambda error: type(error).__name__,
)
def test_what_the_hub_refuses_is_bad_input(package, error):
  package.error = error
  with pytest.raises(errors.InputError) as caught:
    tasks.load('math', 'hub:org/own@v1').problems('test')
  assert str(caught.value) == (
    'data: wanted split test of org/own@v1, configuration algebra, from the '
    f'hub; got {type(error).__name__}: {str(error).splitlines()[0]}'
  )


def test_a_defect_is_not_bad_input(package):
  package.error = ZeroDivisionError('a defect')
  with pytest.raises(ZeroDivisionError):
    tasks.load('math').problems('test')


def test_an_empty_set(package):
  with pytest.raises(errors.InputError, match=r'wanted rows of math500; it is'):
    tasks.load('math500').problems('test')


@_by_task
def test_without_the_package_it_says_so(
  monkeypatch, name, split, row, path, configs, revision
):
  monkeypatch.setitem(sys.modules, 'datasets', None)
  wanted = r'folder or file, as the package `datasets` .* fetch org/own@v1 from'
  with pytest.raises(errors.InputError, match=wanted):
    tasks.load(name, 'hub:org/own@v1').problems(split)
  with pytest.raises(errors.InputError, match='data: wanted a folder'):
    tasks.load(name).problems(split)


def test_what_data_names():
  assert _HUB.named('') is _HUB
  assert _HUB.named('data/x') is None
  assert _HUB.named('hub:a/b@c1') == remote.Hub('a/b', ('main',), 'c1')
  assert _HUB.named('hub:a/b') == remote.Hub('a/b', ('main',), '')
  assert str(_HUB) == 'org/set@abc'
  for bad in ('hub:', 'hub:@c', 'hub:a/b@'):
    with pytest.raises(errors.InputError, match='hub:ORG/NAME@REVISION'):
      _HUB.named(bad)


def test_a_split_of_the_hub_that_serves_all(package):
  package.rows = [
    {**_MATH500, 'snapshot': name} for name in functional_math.SNAPSHOTS
  ]
  task = tasks.load('functional_math', 'hub:org/own@v1')
  for split in task.splits:
    report = task.read(split)
    assert (report.rows, len(report.good), report.passed_over) == (3, 1, 2)
  assert {asked[2] for asked in package.asked} == {'test'}


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
  """A folder that `datasets` loads as it does a set of the hub."""
  monkeypatch.setenv('HF_HUB_OFFLINE', '1')
  monkeypatch.setenv('HF_HOME', str(tmp_path / 'home'))
  pytest.importorskip('datasets')
  folder = tmp_path / 'set'
  (folder / 'main').mkdir(parents=True)
  (folder / 'README.md').write_text(
    '---\nconfigs:\n- config_name: main\n  data_files:\n'
    '  - split: test\n    path: main/test.jsonl\n---\n'
  )
  found = [
    {'question': f'{i}?', 'answer': f'It is {i}.\n#### {i}'} for i in range(3)
  ]
  (folder / 'main' / 'test.jsonl').write_text(
    '\n'.join(json.dumps(row) for row in found)
  )
  return folder


@pytest.mark.filterwarnings('ignore')
def test_reads_what_the_package_gives(stand_in):
  task = tasks.load('gsm8k', f'hub:{stand_in}@v1')
  assert [p.answer for p in task.problems('test')] == ['0', '1', '2']
  assert task.problems('test')[1].id == 'gsm8k/test/1'
  with pytest.raises(errors.InputError, match='wanted split train of'):
    task.problems('train')
  with pytest.raises(errors.InputError, match='wanted split test of'):
    tasks.load('gsm8k', f'hub:{stand_in}-none@v1').problems('test')
