import json

import pytest
import sft_runs

from wcse_jax import tasks
from wcse_jax.sft import data, settings, train


@pytest.fixture(scope='session')
def sums(tmp_path_factory):
  """A JSONL file of twelve sums with their results."""
  path = tmp_path_factory.mktemp('data') / 'train.jsonl'
  rows = [
    {'prompt': f'Q: {i} + {i % 5}?\nA:', 'completion': f' {i + i % 5}.'}
    for i in range(12)
  ]
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return str(path)


@pytest.fixture(scope='session')
def questions(tmp_path_factory):
  """A file of eight GSM8K rows whose answer is 4."""
  path = tmp_path_factory.mktemp('data') / 'questions.jsonl'
  path.write_text(
    ''.join(
      json.dumps({'question': f'{i} and {i}?', 'answer': '#### 4'}) + '\n'
      for i in range(8)
    )
  )
  return str(path)


@pytest.fixture(scope='session')
def examples(questions, tmp_path_factory):
  """answer -> JSONL of the questions with that answer for all of them."""
  task = tasks.load('gsm8k', questions)
  folder = tmp_path_factory.mktemp('examples')

  def path(answer):
    rows = [
      data.example(task, problem, f'The answer is {answer}.')
      for problem in task.problems('train')
    ]
    file = str(folder / f'{answer}.jsonl')
    data.write(file, rows)
    return file

  return path


@pytest.fixture(scope='session')
def validation(examples):
  """A JSONL of eleven rows: a whole batch and a part of one."""
  rows = [
    data.Example(row.prompt.replace(' and ', ' or '), row.completion)
    for row in data.read(examples(7))[0]
  ]
  path = f'{examples(7)}.more'
  data.write(path, rows + [data.Example('1?', f' {i}.') for i in range(3)])
  return path


@pytest.fixture(scope='session')
def config(tiny, examples, validation):
  return settings.SftConfig(
    checkpoint=tiny,
    train=examples(4),
    validation=validation,
    steps=sft_runs.STEPS,
    batch_size=8,
    max_length=24,
    checkpoints=len(sft_runs.SAVES),
    optimizer=settings.OptimizerConfig(learning_rate=4e-2, schedule='constant'),
  )


@pytest.fixture(scope='session')
def done(config, tmp_path_factory):
  """(folder, result) of an undisturbed run; do not change it."""
  folder = tmp_path_factory.mktemp('undisturbed') / 'run'
  return folder, train.run(config, str(folder))
