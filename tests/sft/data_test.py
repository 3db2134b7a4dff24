import json

import pytest

from wcse_jax import errors, records, selection, shardfiles, tasks
from wcse_jax.sft import data


def _write(path, rows):
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return str(path)


def test_what_is_written_is_read_back(tmp_path):
  examples = [data.Example('Q: é\u2028\nA:', ' "1"'), data.Example('', ' 2')]
  path = str(tmp_path / 'rows.jsonl')
  data.write(path, examples)
  assert data.read(path) == (examples, None)


def test_blank_lines_are_no_rows(tmp_path):
  path = tmp_path / 'rows.jsonl'
  path.write_text('\n{"prompt": "a", "completion": "b"}\n\n')
  assert data.read(str(path))[0] == [data.Example('a', 'b')]


@pytest.mark.parametrize(
  'line', ['{"prompt": "a"}', '[1]', '"a"', '7', 'null', '{"prompt": ']
)
def test_a_malformed_row_is_named(tmp_path, line):
  path = tmp_path / 'rows.jsonl'
  path.write_text(f'{{"prompt": "a", "completion": "b"}}\n\n{line}\n')
  with pytest.raises(errors.InputError) as caught:
    data.read(str(path))
  assert str(caught.value).startswith(f'{path}: row 3: wanted an object')
  assert '\n' not in str(caught.value)


def test_a_row_that_is_no_text_is_named(tmp_path):
  path = _write(tmp_path / 'rows.jsonl', [{'prompt': 'a', 'completion': 1}])
  with pytest.raises(errors.InputError, match=r'row 1: .* got str and int'):
    data.read(path)


def test_a_missing_file_is_named(tmp_path):
  with pytest.raises(errors.InputError, match=r'^train: wanted a JSONL file'):
    data.read(str(tmp_path / 'none.jsonl'))


def test_of_a_run_folder_the_right_samples_are_taken(tmp_path):
  path = _write(
    tmp_path / 'rows.jsonl',
    [
      {'question': f'{i} + 1?', 'answer': f'#### {i + 1}', 'id': f'p{i}'}
      for i in range(3)
    ],
  )
  samples, grades = [], []
  for i in range(3):
    for index in range(2):
      right = (i + index) % 2 == 0
      text = f' so #### {i + 1}' if right else ' so #### 99'
      samples.append(
        records.Sample(
          problem_id=f'p{i}',
          index=index,
          text=text,
          tokens=(1,),
          finish_reason='stop',
          prompt_tokens=3,
          shared_prompt_tokens=1,
          output_tokens=1,
          logprob=-1.0,
        )
      )
      grades.append(
        records.Grade(
          problem_id=f'p{i}',
          index=index,
          answer='1',
          correct=right,
          verdict='right' if right else 'wrong',
          sound=None,
          why='',
        )
      )
  shard = shardfiles.Shard(0, 2, 0, 1)
  for kind, rows in (('samples', samples), ('grades', grades)):
    shardfiles.ShardFolder(str(tmp_path / 'run' / kind / 'tiny'), {}).write(
      shard, rows
    )
  task = tasks.load('gsm8k', path)
  want = [
    data.Example(task.prompt(f'{i} + 1?'), f' so #### {i + 1}')
    for i in range(3)
  ]
  run = str(tmp_path / 'run')
  found, counts = data.read(run, 'gsm8k', path)
  assert found == want
  assert (counts['rows'], counts['right'], counts['chosen']) == (6, 3, 3)
  # Without the rule, all of them; with a cap, one a problem.
  rules = selection.Selection(right=False, per_problem=1)
  found, counts = data.read(run, 'gsm8k', path, rules)
  assert len(found) == counts['per_problem'] == 3
  rules = selection.Selection(sound=True)
  with pytest.raises(
    errors.InputError, match=r'right 3, sound 3, .* of 6 rows'
  ):
    data.read(run, 'gsm8k', path, rules)


def _graded(root, *, of=None, task='gsm8k', problem='p'):
  """Writes a run folder with one right sample; `of`: what was graded."""
  sample = records.Sample(
    problem_id=problem,
    index=0,
    text='so #### 1',
    tokens=(1, 2),
    finish_reason='stop',
    prompt_tokens=3,
    shared_prompt_tokens=1,
    output_tokens=2,
    logprob=-1.0,
  )
  grade = records.Grade(
    problem_id=problem,
    index=0,
    answer='1',
    correct=True,
    verdict='right',
    sound=None,
    why='',
  )
  shard = shardfiles.Shard(0, 0, 0, 0)
  shardfiles.ShardFolder(str(root / 'samples' / 'm'), {'a': 1}).write(
    shard, [sample]
  )
  shardfiles.ShardFolder(
    str(root / 'grades' / 'm'), {'samples': of or {'a': 1}, 'task': task}
  ).write(shard, [grade])
  return str(root)


def test_what_is_chosen_of_a_model(tmp_path):
  row = {'question': '1?', 'answer': '#### 1', 'id': 'p'}
  task = tasks.load('gsm8k', _write(tmp_path / 'rows.jsonl', [row]))
  problems = {p.id: p for p in task.problems('train')}
  rules = selection.Selection()
  run = _graded(tmp_path / 'run')
  (found,), counts = data.chosen(run, 'm', task, problems, rules)
  assert found.problem is problems['p']
  assert found.sample.text == 'so #### 1'
  assert (found.grade.verdict, counts['rows']) == ('right', 1)
  none = data.chosen(run, 'm', task, problems, rules, without={'p'})
  assert (none[0], none[1]['rows']) == ([], 0)


@pytest.mark.parametrize(
  ('changed', 'message'),
  [
    ({'of': {'a': 2}}, r'wanted the grades of the samples in .*/samples/m'),
    ({'task': 'svamp'}, r"^task: wanted 'svamp', as .*; got 'gsm8k'"),
    ({'problem': 'q'}, r'problem "q" is not in the set of task gsm8k'),
  ],
)
def test_what_does_not_belong_together_is_refused(tmp_path, changed, message):
  row = {'question': '1?', 'answer': '#### 1', 'id': 'p'}
  path = _write(tmp_path / 'rows.jsonl', [row])
  run = _graded(tmp_path / 'run', **changed)
  with pytest.raises(errors.InputError, match=message):
    data.read(run, 'gsm8k', path)


def test_a_run_folder_without_a_right_sample_is_refused(tmp_path):
  path = _write(
    tmp_path / 'rows.jsonl', [{'question': '1?', 'answer': '#### 1'}]
  )
  (tmp_path / 'run' / 'samples').mkdir(parents=True)
  with pytest.raises(errors.InputError, match=r'holds no right sample'):
    data.read(str(tmp_path / 'run'), 'gsm8k', path)


def test_prompt_and_completion_are_joined_with_an_end_token(loaded):
  tokenizer = loaded[1]
  example = data.Example('Q: 1 + 2?\nA:', ' 3.')
  (row,), counts = data.encode([example], tokenizer, 64)
  assert not any(counts.values())
  prompt = tokenizer.prompts([example.prompt])[0]
  want = (*prompt, *tokenizer.encode(' 3.'), tokenizer.end_id)
  assert row == data.Encoded(want, len(prompt), 1)
  assert want[0] == tokenizer.start_ids[0]


def test_long_and_empty_rows_are_dropped_and_counted(loaded, caplog):
  examples = [
    data.Example('Q:', ' 1.'),
    data.Example('Q:', ''),
    data.Example('Q:', ' 1' * 50),
    data.Example('Q:' * 50, ' 1.'),
  ]
  (short,), _ = data.encode(examples[:1], loaded[1], 64)
  assert not caplog.records
  # As long as allowed, and one token more.
  length = len(short.tokens)
  rows, counts = data.encode(examples, loaded[1], length)
  assert rows == [short]
  assert counts == {'empty': 1, 'long': 2, 'truncated': 0}
  assert 'of 4 examples 1 dropped as empty and 2 as longer' in caplog.text
  assert f'max_length={length}' in caplog.text
  with pytest.raises(errors.InputError) as caught:
    data.encode(examples, loaded[1], length - 1)
  assert str(caught.value).startswith('train: none of 4 examples')
  assert '\n' not in str(caught.value)


def test_long_rows_are_cut_where_asked(loaded):
  examples = [
    data.Example('Q:', ' 1.'),
    data.Example('Q:', ' 1' * 50),
    data.Example('Q:' * 50, ' 1.'),
  ]
  rows, counts = data.encode(examples, loaded[1], 12, long='truncate')
  assert counts == {'empty': 0, 'long': 1, 'truncated': 1}
  assert [row.number for row in rows] == [1, 2]
  whole, _ = data.encode(examples[1:2], loaded[1], 200)
  assert rows[1].tokens == whole[0].tokens[:12]
  assert loaded[1].end_id not in rows[1].tokens


def test_a_validation_prompt_that_is_trained_on_is_refused():
  train = [data.Example(f'Q{i}', 'a') for i in range(5)]
  data.check_apart(train, ['Q7', 'Q8'], 'validation')
  with pytest.raises(errors.InputError) as caught:
    data.check_apart(train, ['Q7', 'Q3', 'Q4'], 'validation')
  assert str(caught.value) == (
    'validation: wanted prompts that are not trained on; 2 of 3 are, the first '
    'is example 2, as train example 4.'
  )


@pytest.mark.parametrize(
  ('prompt', 'completion', 'text'),
  [
    ('Q: 1?\nA:', '2.', ' 2.'),
    ('Q: 1?\nA:', ' 2. \n', ' 2.'),
    # Code: blanks mean something.
    ('def f(n):\n', '    return n\n', '    return n'),
    ('Write f.\n', 'def f(n):\n  return n\n', 'def f(n):\n  return n'),
  ],
)
def test_blanks_at_the_seam(prompt, completion, text):
  assert data._joined(data.Example(prompt, completion)) == text


def test_an_example_asks_as_the_evaluation_does(tmp_path):
  path = _write(
    tmp_path / 'rows.jsonl', [{'question': 'a?', 'answer': '#### 4'}]
  )
  task = tasks.load('gsm8k', path)
  (problem,) = task.problems('train')
  assert data.example(task, problem, 'x').prompt == task.prompt('a?')
  assert data.example(task, problem, 'x', chat=True).prompt == task.ask('a?')
