"""Rows of a data set, and a run folder that they may come from."""

import pytest

from wcse_jax import grade, records, selection, shardfiles, tasks
from wcse_jax.exports import facts
from wcse_jax.sft import data
from wcse_jax.tasks import base


TASK = tasks.load('arith')
PROBLEMS = TASK.problems('train')[:6]


def sample(problem, index, text):
  return records.Sample(
    problem_id=problem.id,
    index=index,
    text=text,
    tokens=(1, 2),
    finish_reason='stop',
    prompt_tokens=3,
    shared_prompt_tokens=0,
    output_tokens=2,
    logprob=-1.0,
  )


@pytest.fixture
def rows():
  """Returns right rows: a sound one and a lucky one of each problem."""
  return [
    selection.Row(problem, sample(problem, index, text), graded)
    for problem in PROBLEMS
    for index, text in enumerate(
      (problem.solution, f'The answer is {problem.answer}.')
    )
    for graded in [TASK.grade(problem, index, text)]
  ]


@pytest.fixture
def examples(rows):
  return [data.example(TASK, row.problem, row.sample.text) for row in rows]


@pytest.fixture
def known():
  """Returns facts of one model."""
  return facts.Facts(
    problems=facts.of_problems(TASK, 'train', 'f' * 64),
    models=[facts.Model(name='wc')],
    rules=selection.Selection(),
  )


def fingerprint(**changed):
  """Returns what a sampling run of `arith` writes into its manifest."""
  shots = TASK.shots(2)
  whole = base.select(TASK, 'train')
  return {
    'weights': 'a' * 64,
    'tokenizer': 'b' * 64,
    'task': 'arith',
    'split': 'train',
    'validation_size': 500,
    'data_sha256': base.data_sha256(problem for _, problem in whole),
    'shots': 2,
    'shots_sha256': base.shots_sha256(shots),
    'prompt_sha256': base.prompt_sha256(TASK),
    'chat': '',
    'sampler': {'temperature': 0.7},
    'versions': {'jax': '0.10'},
  } | changed


@pytest.fixture
def run(tmp_path):
  """Returns what writes a graded run folder: (model, fingerprint) -> path.

  Of each problem index 0 is right and sound, 1 lucky, 2 wrong.
  """

  def write(model='wc', **changed):
    folder = shardfiles.ShardFolder(
      str(tmp_path / 'run' / 'samples' / model), fingerprint(**changed)
    )
    folder.write(
      shardfiles.Shard(0, 5, 0, 2),
      [
        sample(problem, index, text)
        for problem in PROBLEMS
        for index, text in enumerate(
          (
            problem.solution,
            f'The answer is {problem.answer}.',
            f'The answer is {int(problem.answer) + 1}.',
          )
        )
      ],
      {'decode_tokens': 36, 'flops': 1e6, 'chip_seconds': 0.25},
    )
    grade.grade(grade.GradeConfig(), str(tmp_path / 'run'))
    return str(tmp_path / 'run')

  return write
