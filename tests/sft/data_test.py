import json

import numpy as np
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
  (row,) = data.encode([example], tokenizer, 64)
  prompt = tokenizer.prompts([example.prompt])[0]
  want = (*prompt, *tokenizer.encode(' 3.'), tokenizer.end_id)
  assert row == data.Encoded(want, len(prompt))
  assert want[0] == tokenizer.start_ids[0]


def test_long_and_empty_rows_are_dropped_and_counted(loaded, caplog):
  examples = [
    data.Example('Q:', ' 1.'),
    data.Example('Q:', ''),
    data.Example('Q:', ' 1' * 50),
    data.Example('Q:' * 50, ' 1.'),
  ]
  (short,) = data.encode(examples[:1], loaded[1], 64)
  assert not caplog.records
  # As long as allowed, and one token more.
  length = len(short.tokens)
  assert data.encode(examples, loaded[1], length) == [short]
  assert '3 of 4 examples dropped' in caplog.text
  assert f'max_length={length}' in caplog.text
  with pytest.raises(errors.InputError) as caught:
    data.encode(examples, loaded[1], length - 1)
  assert str(caught.value).startswith('train: none of 4 examples')
  assert '\n' not in str(caught.value)


def _rows(count):
  """Returns rows of which the first token tells which it is."""
  return [data.Encoded((i, 7, 8, 9)[: 2 + i % 3], 1) for i in range(count)]


def _order(rows, steps, seed, batch_size=4):
  batches = data.batches(rows, batch_size=batch_size, max_length=6, seed=seed)
  return [int(t[0]) for s in range(steps) for t in batches[s]['tokens_BT']]


def test_a_batch_is_padded_and_its_targets_are_the_completion():
  rows = [data.Encoded((2, 5, 6, 1), 2)]
  batch = data.batches(rows, batch_size=2, max_length=6, seed=0)[0]
  assert batch['tokens_BT'].dtype == np.int32
  assert batch['target_BT'].dtype == np.float32
  assert batch['tokens_BT'].tolist() == [[2, 5, 6, 1, 0, 0]] * 2
  assert batch['target_BT'].tolist() == [[0, 0, 1, 1, 0, 0]] * 2


def test_every_epoch_is_a_permutation_of_its_own():
  # 10 rows in batches of 4: epochs end inside a batch.
  order = _order(_rows(10), 10, seed=0)
  epochs = [order[i : i + 10] for i in range(0, 40, 10)]
  assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
  assert len({tuple(epoch) for epoch in epochs}) == 4


def test_a_batch_is_a_function_of_seed_and_step():
  rows = _rows(10)
  first = data.batches(rows, batch_size=4, max_length=6, seed=3)
  other = data.batches(rows, batch_size=4, max_length=6, seed=3)
  for step in (7, 2, 0, 7):  # In any order, at any step.
    for key, value in first[step].items():
      np.testing.assert_array_equal(other[step][key], value)
  assert _order(rows, 5, seed=3) != _order(rows, 5, seed=4)


def test_fewer_rows_than_a_batch_come_again():
  order = _order(_rows(3), 3, seed=0, batch_size=2)
  assert sorted(order[:3]) == sorted(order[3:]) == [0, 1, 2]
