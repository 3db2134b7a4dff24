import json

import pytest

from wcse_jax.estimates import __main__ as command
from wcse_jax.estimates import figures, jobs, paper, tpu


def _by_stage(task='math', **options):
  return {job.stage: job for job in paper.study(task, **options)}


def test_the_papers_numbers():
  found = _by_stage()
  assert found['sample wc'].samples == 225_000
  assert found['sample se'].samples == 75_000
  assert found['train student, high'].steps == 24_000
  assert found['train se, low'].steps == 600
  # Two sources of data, three learning rates.
  assert found['train wc, high'].runs == 6
  assert found['train wc, high'].sft.batch_size == 32
  names = {job.name for job in found.values()}
  assert names == {'gemma-7b', 'gemma2-9b', 'gemma2-27b', 'math'}


def test_both_sources_cost_about_the_same():
  """As the paper matches them, by parameters; prompts come on top."""
  for task in paper.TASKS:
    found = _by_stage(task)
    ratio = found['sample wc'].flops() / found['sample se'].flops()
    assert ratio == pytest.approx(1.0, abs=0.1)


def test_training_takes_more_than_sampling():
  found = _by_stage('gsm8k', rates=1)
  one = found['train wc, high'].flops() / 2
  assert 1 < one / found['sample wc'].flops() < 13


def test_an_evaluation_draws_for_every_set():
  found = _by_stage('math', rates=1, replicates=2)['evaluate wc']
  # Five arms of two replicates: ten checkpoints each; once greedily and 16
  # times for the vote on both sets.
  assert found.samples == 10 * (10 * 500 + 17 * 2245)
  assert found.rounds == 10 * (10 + 2 * 2)
  assert found.reads == found.prompts == 10 * (10 * 500 + 2 * 2245)


def test_long_questions_take_places():
  whole = _by_stage()['sample wc']
  short = _by_stage(most_question=512)['sample wc']
  assert whole.places > 2 * short.places - 1024
  assert short.places == 512 + 1024
  assert _by_stage(most_question=512)['evaluate wc'].places == 512 + 1024


def _fake(job, topologies, **_):
  if isinstance(job, jobs.Grading):
    return figures.graded(job)
  return figures.of(
    job,
    chip='v5e',
    chips=16,
    seconds=3600.0,
    compile_seconds=1.0,
    how=f'compiled for {topologies[0]}',
  )


def test_the_command(monkeypatch, capsys):
  monkeypatch.setattr(tpu, 'on_first', _fake)
  monkeypatch.setattr('sys.argv', ['x', '--task=gsm8k', '--cores=10'])
  command.main()
  out = capsys.readouterr().out
  assert out.splitlines()[1].startswith('sample wc')
  assert 'grade wc; grade se: 0.0014 s a sample, 10 cores' in out
  monkeypatch.setattr('sys.argv', ['x', '--json'])
  command.main()
  found = json.loads(capsys.readouterr().out)
  assert len(found['stages']) == 2 + 2 + 9 + 3


def test_the_command_refuses_in_one_line(monkeypatch, capsys):
  monkeypatch.setattr('sys.argv', ['x', '--topologies=h100:8'])
  with pytest.raises(SystemExit) as caught:
    command.main()
  assert caught.value.code == 2
  said = capsys.readouterr().err.splitlines()[-1]
  assert 'topology: wanted CHIP:SIDES' in said
