import json
import pathlib

import pytest

from wcse_jax import errors
from wcse_jax.grading import numeric
from wcse_jax.tasks import base, gsm8k


_SHARED = pathlib.Path(__file__).parents[2].parent / 'shared' / 'data'
_needs_shared = pytest.mark.skipif(
  not _SHARED.is_dir(), reason='needs the shared data'
)
_ROW = {
  'question': ' How many?  ',
  'answer': 'It is 2*3=$<<2*3=6>>6 a day.\n\nThat is <<6*7=42>>42.\n#### 1,042',
}


def _write(path, rows):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text('\n'.join(json.dumps(row) for row in rows) + '\n')
  return str(path)


def test_a_row_becomes_a_problem(tmp_path):
  _write(
    tmp_path / 'train.jsonl', [_ROW, {**_ROW, 'id': 'mine', 'final': '1042'}]
  )
  first, second = gsm8k.Gsm8k(str(tmp_path)).problems('train')
  assert first.id == 'gsm8k/train/0'
  assert second.id == 'mine'
  assert first.task == 'gsm8k'
  assert first.question == 'How many?'
  assert first.answer == second.answer == '1042'
  assert first.level == '2'
  assert first.solution == (
    'It is 2*3=$6 a day.\nThat is 42.\nThe answer is 1042.'
  )


def test_final_alone_is_enough(tmp_path):
  row = {'question': 'q', 'answer': 'one\ntwo', 'final': '-3'}
  path = _write(tmp_path / 'rows.jsonl', [row])
  (problem,) = gsm8k.Gsm8k(path).problems('test')
  assert problem.answer == '-3'
  assert problem.solution == 'one\ntwo\nThe answer is -3.'


def test_a_file_serves_the_split_that_is_asked_for(tmp_path):
  path = _write(tmp_path / 'any.jsonl', [_ROW])
  task = gsm8k.Gsm8k(path)
  assert task.problems('train')[0].id == 'gsm8k/train/0'
  assert task.problems('test')[0].id == 'gsm8k/test/0'


def test_a_folder_serves_its_own_splits(tmp_path):
  _write(tmp_path / 'train.jsonl', [_ROW])
  task = gsm8k.Gsm8k(str(tmp_path))
  assert len(task.problems('train')) == 1
  with pytest.raises(errors.InputError, match=r'test\.jsonl'):
    task.problems('test')
  with pytest.raises(errors.InputError, match='wanted one of train, test'):
    task.problems('dev')


def test_line_separators_inside_a_text_do_not_end_a_row(tmp_path):
  path = tmp_path / 'a.jsonl'
  row = {'question': 'a\u2028b\x85c', 'answer': '#### 1'}
  path.write_text(json.dumps(row, ensure_ascii=False) + '\n', encoding='utf-8')
  (problem,) = gsm8k.Gsm8k(str(path)).problems('test')
  assert problem.question == 'a\u2028b\x85c'


@pytest.mark.parametrize(
  ('bad', 'named'),
  [
    ('{"question": "q"', 'wanted JSON'),
    ('[1]', 'wanted a JSON object; got [1]'),
    ('{"question": "q"}', 'field "answer"'),
    ('{"answer": "#### 1"}', 'field "question"'),
    ('{"question": 3, "answer": "#### 1"}', 'field "question"'),
    ('{"question": " ", "answer": "#### 1"}', 'field "question"'),
    ('{"id": 7, "question": "q", "answer": "#### 1"}', 'field "id"'),
    ('{"question": "q", "answer": "no mark"}', 'after ####'),
    ('{"question": "q", "answer": "#### many"}', 'after ####'),
    ('{"question": "q", "answer": "#### 1", "final": 1}', '"final"'),
    ('{"question": "q", "answer": "#### 1", "final": "2"}', 'same number'),
    ('{"question": "q", "answer": "#### 1", "final": null}', '"final"'),
    ('[' * 100_000, 'wanted JSON'),
  ],
  ids=lambda text: text[:24],
)
def test_a_bad_row_is_named_by_its_number(tmp_path, bad, named):
  path = tmp_path / 'test.jsonl'
  path.write_text(f'{json.dumps(_ROW)}\n\n{bad}\n')
  with pytest.raises(errors.InputError) as caught:
    gsm8k.Gsm8k(str(path)).problems('test')
  message = str(caught.value)
  assert message.startswith(f'{path}: row 3: ')
  assert named in message
  assert '\n' not in message


def test_refuses_equal_ids_and_empty_files(tmp_path):
  path = _write(tmp_path / 'a.jsonl', [{**_ROW, 'id': 'x'}] * 2)
  with pytest.raises(errors.InputError, match='"x" comes twice'):
    gsm8k.Gsm8k(path).problems('test')
  (tmp_path / 'b.jsonl').write_text('\n')
  with pytest.raises(errors.InputError, match='empty'):
    gsm8k.Gsm8k(str(tmp_path / 'b.jsonl')).problems('test')


def test_shots_lie_beside_the_data(tmp_path):
  path = _write(tmp_path / 'gsm8k' / 'test.jsonl', [_ROW])
  folder = str(tmp_path / 'gsm8k')
  assert gsm8k.Gsm8k(folder).default_prompts() == ''
  shot = {'question': 'a', 'target': 'The answer is 1.'}
  _write(tmp_path / 'prompts' / 'gsm8k_cot_8shot.jsonl', [shot] * 8)
  for data in (folder, folder + '/', path):
    task = gsm8k.Gsm8k(data)
    assert task.default_prompts().endswith('prompts/gsm8k_cot_8shot.jsonl')
    assert task.shots(8)[7].target == 'The answer is 1.'
  assert gsm8k.Gsm8k().default_prompts() == ''


def test_shots_lie_beside_the_data_in_the_working_folder(tmp_path, monkeypatch):
  _write(tmp_path / 'gsm8k' / 'test.jsonl', [_ROW])
  _write(tmp_path / 'prompts' / 'gsm8k_cot_8shot.jsonl', [_ROW])
  monkeypatch.chdir(tmp_path)
  assert gsm8k.Gsm8k('gsm8k').default_prompts()
  monkeypatch.chdir(tmp_path / 'gsm8k')
  assert gsm8k.Gsm8k('test.jsonl').default_prompts()
  assert gsm8k.Gsm8k('.').default_prompts()


@pytest.mark.parametrize(
  ('text', 'verdict'),
  [
    ('So 6 * 7 = 42. The answer is 1,042.', 'right'),
    ('#### 1042.0', 'right'),
    ('The answer is 42.', 'wrong'),
    ('I do not know.', 'unparsed'),
  ],
)
def test_grades_a_text(tmp_path, text, verdict):
  task = gsm8k.Gsm8k(_write(tmp_path / 'a.jsonl', [_ROW]))
  (problem,) = task.problems('test')
  assert task.grade(problem, 3, text).verdict == verdict


def test_stops_before_the_next_question():
  task = gsm8k.Gsm8k()
  assert '\nQ:' in task.prompt('two?', [base.Shot('one?', 'a')])
  assert task.stop == ('\nQ:',)


@pytest.mark.parametrize(
  ('text', 'want'),
  [
    ('He has 3 + 4 = 7 cats.\nThat is 7 x $2 = $14.00.', '3+4=7;7*2=14'),
    ('First 3+4=<<3+4=7>>7; then 7×2.00=14', '3+4=7;7*2=14'),
    ('3+4=7 7*2=14', '3+4=7;7*2=14'),
    ('(3 + 4) * 1,000 = 7 * 1,000 = 7,000', '(3+4)*1000=7*1000=7000'),
    ('It was 5. 3+4=7', '3+4=7'),
    ('4 ÷ 2 = 2', '4/2=2'),
    ('-3 + 5 = 2', '-3+5=2'),
    ('No  equation\n here', 'No equation here'),
    ('a = b', 'a = b'),
  ],
)
def test_chain_is_the_equations_in_one_spelling(text, want):
  assert gsm8k.Gsm8k().chain(text) == want


def test_a_right_answer_is_judged_by_its_equations(tmp_path):
  task = gsm8k.Gsm8k(_write(tmp_path / 'a.jsonl', [_ROW]))
  (problem,) = task.problems('test')
  for text, sound in (
    ('It is 1,040 + 2 = 1,042. The answer is 1042.', True),
    ('It is 1,040 + 3 = 1,042. The answer is 1042.', False),
    ('It is 40 + 2 = 42. The answer is 1042.', None),
    ('The answer is 1042.', None),
  ):
    grade = task.grade(problem, 0, text)
    assert (grade.verdict, grade.sound) == ('right', sound)
  assert task.grade(problem, 0, '2 + 2 = 5. The answer is 5.').sound is None


def test_chain_keeps_other_calculations_apart():
  chain = gsm8k.Gsm8k().chain
  assert chain('2 + 3 = 5') != chain('3 + 2 = 5')
  assert chain('2 + 3 = 5. 5 + 1 = 6') != chain('5 + 1 = 6. 2 + 3 = 5')
  assert chain('2 + 3 = 5') != chain('2 + 3 = 6')


@_needs_shared
@pytest.mark.parametrize(('split', 'rows'), [('train', 7473), ('test', 1319)])
def test_reads_the_real_set(split, rows):
  task = gsm8k.Gsm8k(str(_SHARED / 'gsm8k'))
  problems = task.problems(split)
  assert len(problems) == rows
  for problem in problems:
    assert '<<' not in problem.solution
    assert problem.solution.endswith(f'\nThe answer is {problem.answer}.')
    assert task.equal(task.answer(problem.solution), problem.answer)
    assert 1 <= int(problem.level) <= 12
    assert numeric.parse(problem.answer) is not None
  assert len(task.shots(8)) == 8
