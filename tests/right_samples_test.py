"""The right samples of a model, in the order in which they are judged."""

import pytest

from wcse_jax import errors, grade, records, right_samples, shardfiles, tasks
from wcse_jax.metrics import judged


PROBLEMS = {p.id: p for p in tasks.load('arith').problems('test')[:6]}
SHARD = shardfiles.Shard(0, 5, 0, 1)


@pytest.fixture
def folder(tmp_path):
  """Returns a run folder: index 0 is right, index 1 is not."""
  rows = [
    records.Sample(
      problem_id=p.id,
      index=index,
      text='none' if index else p.solution,
      tokens=(1,),
      finish_reason='stop',
      prompt_tokens=3,
      shared_prompt_tokens=0,
      output_tokens=1,
      logprob=-1.0,
    )
    for p in PROBLEMS.values()
    for index in range(2)
  ]
  samples = shardfiles.ShardFolder(str(tmp_path / 'samples' / 'm'), {'a': 1})
  samples.write(SHARD, rows)
  grade.grade(grade.GradeConfig(split='test'), str(tmp_path))
  return tmp_path


def test_right_ones_in_order(folder):
  assert right_samples.models(str(folder)) == ['m']
  order = judged.order(
    [((p.id, 0), p.level) for p in PROBLEMS.values()], seed=3
  )
  found = right_samples.choose(str(folder), 'm', 'arith', PROBLEMS, seed=3)
  assert list(found.texts) == order
  assert all(t == PROBLEMS[key[0]].solution for key, t in found.texts.items())
  assert (found.right, found.fingerprint) == (6, {'a': 1})
  few = right_samples.choose(
    str(folder), 'm', 'arith', PROBLEMS, seed=3, count=2
  )
  assert list(few.texts) == order[:2]
  assert few.right == 6


def test_what_does_not_belong_together(folder, tmp_path):
  def choose(task='arith', problems=PROBLEMS):
    return right_samples.choose(str(folder), 'm', task, problems)

  with pytest.raises(errors.InputError, match="task: wanted 'arith'"):
    choose(task='gsm8k')
  with pytest.raises(errors.InputError, match='not in the split'):
    choose(problems={})
  manifest = folder / 'samples' / 'm' / 'manifest.json'
  before = manifest.read_text()
  manifest.write_text(before.replace('"a": 1', '"a": 2'))
  with pytest.raises(errors.InputError, match='the grades of the samples'):
    choose()
  empty = shardfiles.ShardFolder(str(tmp_path / 'samples' / 'n'), {'a': 1})
  empty.write(SHARD, [])
  manifest.write_text((tmp_path / 'samples/n/manifest.json').read_text())
  (manifest.parent / SHARD.name).write_text('')
  with pytest.raises(errors.InputError, match='samples that were graded'):
    choose()


def test_nothing_graded(tmp_path):
  (tmp_path / 'grades' / 'outside').mkdir(parents=True)
  with pytest.raises(errors.InputError, match='there are none'):
    right_samples.models(str(tmp_path))
