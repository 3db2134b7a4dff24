"""A dry run: the work of a study is that of its stages, told beforehand."""

import dataclasses

import pytest

from wcse_jax import storage
from wcse_jax.estimates import here, jobs
from wcse_jax.study import design, dry, recipes, run, settings, stages


RATES = here.Rates(
  chip='cpu', platform='cpu', devices=1, matrix=5e10, memory=2e10, free=None
)


@pytest.fixture(autouse=True)
def same_machine(monkeypatch):
  """No machine is measured."""
  monkeypatch.setattr(here, 'rates', lambda dtype: RATES)


def study(config=None):
  return design.Study(config or recipes.tiny(), 'unused', dry=True)


def test_the_work_is_that_of_the_stages():
  s = study()
  work = {job.stage: job for job in dry.work(s)}
  for name in s.sources():
    job = work[f'sample {name}']
    assert job.samples == 192 * s.drawn(name)
    assert work[f'grade {name}'].samples == job.samples
  # 4 arms x 3 replicates x 80 steps, of 16 sequences.
  assert work['train student'].runs == 12
  assert work['train student'].steps == 80
  # Two checkpoints of 64 validation problems, then once greedily and 4 votes.
  assert work['evaluate student'].samples == 12 * (2 * 64 + 5 * 256)
  assert work['untuned wc'].samples == 5 * 256
  kinds = {stage.key.split('-')[0] for stage in stages.Stages(s).all}
  kinds -= {'data', 'plan', 'export'}
  assert kinds == {'follow', *(stage.split(' ')[0] for stage in work)}


def test_lengths_are_those_of_the_prompts():
  s = study(dataclasses.replace(recipes.tiny(), shots=2))
  job = next(iter(dry.work(s)))
  assert isinstance(job, jobs.Sampling)
  # Two worked examples are shared; the question is each problem's own.
  assert job.shared_prompt_tokens > 60
  assert 5 < job.prompt_tokens - job.shared_prompt_tokens < 80
  assert job.longest_prompt >= job.prompt_tokens


def test_epochs_are_counted_from_what_is_right():
  config = recipes.equal_epochs(recipes.tiny(), epochs=3)
  work = [
    job
    for job in dry.work(study(config))
    if job.stage.startswith('train student_epochs')
  ]
  # WC has 15 samples of 192 problems, SE 5; half of them are right.
  assert {job.sequences for job in work} == {
    3 * 192 * 15 // 2,
    3 * 192 * 5 // 2,
  }
  assert all(job.runs == 3 for job in work)


def test_cost_and_power_are_told_and_nothing_is_written(tmp_path):
  config = dataclasses.replace(
    recipes.tiny(),
    power=settings.Power(accuracy=0.25, disagreement=0.2, wanted=0.01),
  )
  folder = tmp_path / 'run'
  shown = run.dry_run(config, str(folder))
  assert not folder.exists()
  for words in ('sample wc', 'train student', 'total', 'gap in coverage'):
    assert words in shown
  assert 'Underpowered: differences of 1 points' in shown
  found = dry.foretell(study(config))
  assert found['total']['flops'] == sum(row['flops'] for row in found['stages'])
  students = found['students']
  assert [row['setup'] for row in students] == ['student', 'wc', 'se']
  assert all(0.02 < row['detectable'] < 0.2 for row in students)
  # More replicates find less.
  many = dataclasses.replace(config, replicates=10)
  finer = dry.foretell(study(many))['students']
  assert finer[0]['detectable'] < students[0]['detectable']


def test_one_replicate_tells_nothing_of_the_noise_of_training():
  config = dataclasses.replace(recipes.tiny(), replicates=1)
  assert 'none can be told' in dry.text(dry.foretell(study(config)))


def test_the_papers_study_needs_no_checkpoint(tmp_path):
  rows = '\n'.join(
    f'{{"question": "What is {i} and {i}?", "answer": "#### {2 * i}"}}'
    for i in range(40)
  )
  for split in ('train', 'test'):
    storage.publish(str(tmp_path / f'{split}.jsonl'), rows)
  config = dataclasses.replace(
    recipes.gsm8k(),
    data=str(tmp_path),
    transfer={},
    validation_size=10,
    shots=2,
  )
  work = {job.stage: job for job in dry.work(study(config))}
  assert work['sample wc'].name == 'gemma2-9b'
  assert work['sample wc'].samples == 30 * 30 * 3
  # 3 rates, 3 replicates; WC, SE and human data.
  assert work['train se_high'].runs == 27
  assert work['train se_high'].steps == 6000
