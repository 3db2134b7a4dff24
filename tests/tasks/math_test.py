import json
import logging
import pathlib

import pytest

from wcse_jax import errors
from wcse_jax.tasks import math


_SHARED = pathlib.Path(__file__).parents[3] / 'shared' / 'data'
_needs_shared = pytest.mark.skipif(
  not _SHARED.is_dir(), reason='needs the shared data'
)
_ROW = {
  'problem': ' What is $x$? ',
  'answer': r'\frac{1}{2}',
  'solution': r'It is $\boxed{\frac{1}{2}}$.',
  'level': 'Level 3',
  'subject': 'Algebra',
}


def _write(path, rows):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text('\n'.join(json.dumps(row) for row in rows) + '\n')
  return str(path)


def test_a_row_becomes_a_problem(tmp_path):
  rows = [
    _ROW,
    {**_ROW, 'id': 'mine', 'level': 5},
    {**_ROW, 'level': 'Level ?'},
  ]
  _write(tmp_path / 'train.jsonl', rows)
  first, second, third = math.Math(str(tmp_path)).problems('train')
  assert first.id == 'math/train/0'
  assert first.question == 'What is $x$?'
  assert first.answer == r'\frac{1}{2}'
  assert (first.level, first.subject) == ('3', 'Algebra')
  assert (second.id, second.level) == ('mine', '5')
  assert third.level == ''


def test_the_box_of_a_solution_is_the_answer(tmp_path):
  row = {k: v for k, v in _ROW.items() if k not in ('answer', 'subject')}
  path = _write(tmp_path / 'a.jsonl', [{**row, 'type': 'Geometry'}])
  (problem,) = math.Math(path).problems('test')
  assert problem.answer == r'\frac{1}{2}'
  assert problem.subject == 'Geometry'


def test_rows_without_an_answer_are_left_out_and_counted(tmp_path, caplog):
  rows = [_ROW, {**_ROW, 'answer': ''}, _ROW]
  task = math.Math(_write(tmp_path / 'a.jsonl', rows))
  with caplog.at_level(logging.WARNING):
    found = task.problems('train')
  assert [p.id for p in found] == ['math/train/0', 'math/train/2']
  assert task.without_answer == {'train': ['math/train/1']}
  assert 'left out 1 of 3' in caplog.text


@pytest.mark.parametrize(
  ('bad', 'named'),
  [
    ('{"problem": "q"', 'wanted JSON'),
    ('[1]', 'wanted a JSON object'),
    ('{"answer": "1"}', 'field "problem"'),
    ('{"problem": "q"}', 'field "answer"'),
    ('{"problem": "q", "answer": 1}', 'field "answer"'),
    ('{"problem": "q", "answer": NaN}', 'wanted JSON'),
    ('{"problem": "q", "answer": "1", "id": 7}', 'field "id"'),
    ('{"problem": "q", "answer": "1", "solution": 7}', 'field "solution"'),
    ('{"problem": "q", "answer": "1", "level": [5]}', 'field "level"'),
    ('{"problem": "q", "answer": "1", "subject": 7}', 'field "subject"'),
    ('{"problem": "q", "answer": "1", "type": 7}', 'field "type"'),
    ('{"problem": "q", "answer": "1", "id": "x"}', '"x" comes twice'),
  ],
)
def test_a_bad_row_is_named_by_its_number(tmp_path, bad, named):
  path = tmp_path / 'test.jsonl'
  path.write_text(f'{json.dumps({**_ROW, "id": "x"})}\n\n{bad}\n')
  with pytest.raises(errors.InputError) as caught:
    math.Math(str(path)).problems('test')
  message = str(caught.value)
  assert message.startswith(f'{path}: row 3: ')
  assert named in message
  assert '\n' not in message


def test_refuses_other_splits(tmp_path):
  path = _write(tmp_path / 'a.jsonl', [_ROW])
  with pytest.raises(errors.InputError, match='wanted one of test for task'):
    math.Math500(path).problems('train')


def test_math500_finds_its_file(tmp_path):
  _write(tmp_path / 'test.jsonl', [_ROW])
  assert len(math.Math500(str(tmp_path)).problems('test')) == 1
  _write(tmp_path / 'math500.jsonl', [_ROW] * 2)
  found = math.Math500(str(tmp_path)).problems('test')
  assert [p.id for p in found] == ['math500/test/0', 'math500/test/1']


def test_the_prompt_is_that_of_minerva(tmp_path):
  path = _write(tmp_path / 'math' / 'test.jsonl', [_ROW])
  shot = {'problem': 'a', 'solution': ' The final answer is $1$.'}
  _write(tmp_path / 'prompts' / 'minerva_math_4shot.jsonl', [shot] * 4)
  task = math.Math(path)
  prompt = task.prompt('b?', task.shots(1))
  assert prompt == (
    'Problem:\na\n\nSolution: The final answer is $1$.\n\n'
    'Problem:\nb?\n\nSolution:'
  )
  assert any(prompt.endswith('Solution:') for _ in task.stop)
  assert task.stop[0] in prompt
  assert r'\boxed{}' in task.ask('b?')


def test_grades_alone_and_many_alike(tmp_path):
  row = {**_ROW, 'answer': '2x+2'}
  task = math.Math(_write(tmp_path / 'a.jsonl', [row]))
  (problem,) = task.problems('test')
  texts = {
    r'so \boxed{2x + 2}': 'right',
    r'so \boxed{2(x+1)}': 'right',
    r'so \boxed{2(x-1)}': 'wrong',
    r'so \boxed{5}': 'wrong',
    'I do not know what it is': 'unparsed',
    rf'\boxed{{{"x+" * 200}1}}': 'error',
  }
  rows = [(problem, i, text) for i, text in enumerate(texts)]
  try:
    many = list(task.grade_many(rows))
    alone = [task.grade(*row) for row in rows]
    assert [grade.verdict for grade in many] == list(texts.values())
    assert alone == many
    assert many[-1].correct is None
    assert [grade.index for grade in many] == list(range(len(texts)))
    assert task.equal('2(x+1)', '2x+2')
    assert not task.equal('2(x-1)', '2x+2')
  finally:
    task.close()
  # It can be used again.
  assert task.grade(problem, 0, r'\boxed{2x+2}').verdict == 'right'


def test_a_chain_forgets_layout():
  task = math.Math()
  first = task.chain(
    'So  $\\dfrac12$ is\n[asy]\ndraw();\n[/asy] \\left( 1 \\right)'
  )
  assert first == task.chain('so \\frac{1}{2} is ( 1 )')
  assert first != task.chain('so \\frac{1}{3} is ( 1 )')


@_needs_shared
def test_the_whole_set_loads():
  task = math.Math(str(_SHARED / 'math'))
  train, test = task.problems('train'), task.problems('test')
  assert (len(train), len(test)) == (7498, 5000)
  assert len(task.without_answer['train']) == 2
  assert {p.level for p in test} == set('12345')
  assert len(math.Math500(str(_SHARED / 'math')).problems('test')) == 500


@pytest.mark.slow
@_needs_shared
def test_references_equal_themselves_and_their_solutions():
  task = math.Math500(str(_SHARED / 'math'))
  rows = [(p, 0, p.solution) for p in task.problems('test')]
  try:
    wrong = [g for g in task.grade_many(rows) if g.verdict != 'right']
  finally:
    task.close()
  assert not wrong


def test_one_value_in_two_spellings_is_one_vote():
  task = math.Math()
  for spellings in (
    ['\\frac{1}{2}', '\\dfrac12', '1/2', '0.5', '$\\frac{1}{2}$'],
    ['10,000', '10000', '10{,}000'],
    ['x + 1', 'x+1'],
    ['\\text{(A)}', '(A)'],
  ):
    assert len({task.ballot(one) for one in spellings}) == 1, spellings
  assert task.ballot('2') != task.ballot('-2')
  assert task.ballot('(1,2)') != task.ballot('(12)')
  assert task.ballot('9' * 10**6) == '9' * 10**6
