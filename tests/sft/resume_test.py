"""Runs that are killed, stopped or damaged, and go on."""

import dataclasses
import json
import shutil
import signal
import subprocess
import time

import jobs
import numpy as np
import pytest
import safetensors.numpy
import sft_runs

from wcse_jax.sft import train


def _flip(folder):
  """Flips a bit of the largest file of a checkpoint: array data."""
  files = (path for path in folder.rglob('*') if path.is_file())
  path = max(files, key=lambda path: path.stat().st_size)
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)


@pytest.mark.parametrize(
  ('step', 'behind'), [(3, False), (9, False), (12, True)]
)
def test_a_resumed_run_ends_with_the_same_bits(
  config, done, tmp_path, monkeypatch, step, behind
):
  folder = tmp_path / 'run'
  sft_runs.killed(config, folder, monkeypatch, step, behind=behind)
  assert not (folder / 'training.json').exists()
  sft_runs.same(folder, train.run(config, str(folder)), done)


def test_a_damaged_checkpoint_is_passed_over(
  config, done, tmp_path, monkeypatch, caplog
):
  folder = tmp_path / 'run'
  sft_runs.killed(config, folder, monkeypatch, 9, behind=True)
  _flip(folder / 'checkpoints' / '00000009')
  result = train.run(config, str(folder))
  assert '00000009: damaged or unfinished' in caplog.text
  sft_runs.same(folder, result, done)


def test_a_damaged_best_checkpoint_is_made_again(
  config, done, tmp_path, monkeypatch, caplog
):
  folder = tmp_path / 'run'
  sft_runs.killed(config, folder, monkeypatch, 12, behind=True)
  best = f'{done[1]["best_step"]:08d}'
  _flip(folder / 'checkpoints' / best)
  result = train.run(config, str(folder))
  assert f'{best}: damaged or unfinished' in caplog.text
  sft_runs.same(folder, result, done)


@pytest.mark.slow
def test_a_process_killed_with_signal_9_is_resumed(config, done, tmp_path):
  folder = tmp_path / 'run'
  process = sft_runs.alone(
    sft_runs.command(config, folder),
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  while (
    process.poll() is None
    and not (folder / 'checkpoints' / '00000003.json').exists()
  ):
    time.sleep(0.005)
  process.kill()
  assert process.wait() == -signal.SIGKILL
  assert not (folder / 'training.json').exists()
  sft_runs.same(folder, train.run(config, str(folder)), done)


def test_a_stop_saves_and_exits_75(config, done, tmp_path):
  folder = tmp_path / 'run'
  process = sft_runs.alone(
    sft_runs.command(config, folder), stderr=subprocess.PIPE, text=True
  )
  while not (folder / 'checkpoints' / '00000003.json').exists():
    assert process.poll() is None
    time.sleep(0.005)
  began = time.monotonic()
  process.send_signal(signal.SIGTERM)
  said = process.communicate()[1]
  assert process.returncode == 75, said
  assert time.monotonic() - began < 10
  assert 'which was saved; run it again to go on.' in said
  step = int(said.rsplit('after step ', 1)[1].split(',')[0])
  assert (folder / 'checkpoints' / f'{step:08d}.json').exists()
  sft_runs.same(folder, train.run(config, str(folder)), done)


@pytest.mark.slow
def test_twenty_kills_lose_no_good_checkpoint(config, done, tmp_path):
  """kill -9 at random moments: what was good stays good, and goes on."""
  folder = tmp_path / 'run'
  random = np.random.default_rng(0)
  newest, kills = 0, 0
  began = time.monotonic()
  assert (
    sft_runs.alone(sft_runs.command(config, tmp_path / 'whole')).wait() == 0
  )
  whole = time.monotonic() - began
  while kills < 20:
    process = sft_runs.alone(
      sft_runs.command(config, folder),
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    )
    time.sleep(float(random.uniform(0.2, 1.0)) * whole)
    if process.poll() is not None:
      # It was done before it could be killed: another run.
      assert process.returncode == 0
      sft_runs.same(
        folder, json.loads((folder / 'training.json').read_text()), done
      )
      shutil.rmtree(folder)
      newest = 0
      continue
    process.kill()
    process.wait()
    kills += 1
    if (folder / 'checkpoints').exists() and not (
      folder / 'training.json'
    ).exists():
      manifests = sorted((folder / 'checkpoints').glob('*.json'))
      at = int(manifests[-1].stem) if manifests else 0
      assert at >= newest
      newest = at
  sft_runs.same(folder, train.run(config, str(folder)), done)


@pytest.mark.slow
def test_a_run_goes_on_from_every_step(config, tmp_path, monkeypatch):
  """On the same mesh bit for bit, on another one but for rounding."""
  steps = 30
  long = dataclasses.replace(
    config,
    validation='',
    steps=steps,
    checkpoints=steps,
    optimizer=dataclasses.replace(config.optimizer, learning_rate=1e-2),
  )
  calm = tmp_path / 'calm'
  done = calm, train.run(long, str(calm))
  meshes = ('data=8', 'data=2,fsdp=2,tensor=2', 'fsdp=8')
  for step in range(1, steps):
    folder = tmp_path / f'{step}'
    sft_runs.killed(long, folder, monkeypatch, step, behind=True)
    assert (folder / 'checkpoints' / f'{step:08d}.json').exists()
    other = tmp_path / f'{step}-other'
    shutil.copytree(folder, other)
    sft_runs.same(folder, train.run(long, str(folder)), done)
    moved = dataclasses.replace(long, mesh=meshes[step % 3])
    train.run(moved, str(other))
    for row, want in zip(
      sft_runs.metrics(other), sft_runs.metrics(calm), strict=True
    ):
      assert row['loss'] == pytest.approx(want['loss'], abs=2e-3)
    assert sft_runs.metrics(other)[:step] == sft_runs.metrics(calm)[:step]
    shutil.rmtree(folder)
    shutil.rmtree(other)


@pytest.mark.slow
def test_a_run_goes_on_on_another_mesh(config, done, tmp_path, monkeypatch):
  folder = tmp_path / 'run'
  sft_runs.killed(config, folder, monkeypatch, 6, behind=True)
  moved = dataclasses.replace(config, mesh='data=2,fsdp=2,tensor=2')
  train.run(moved, str(folder))
  for row, want in zip(
    sft_runs.metrics(folder), sft_runs.metrics(done[0]), strict=True
  ):
    assert row['loss'] == pytest.approx(want['loss'], abs=1e-2)


@pytest.mark.parametrize(
  'mesh',
  [
    'fsdp=2',
    pytest.param('data=2', marks=pytest.mark.slow),
    pytest.param('tensor=2', marks=pytest.mark.slow),
  ],
)
def test_two_processes_train_as_one(config, done, tmp_path, mesh):
  folder = tmp_path / 'run'
  jobs.Job(sft_runs.command(config, folder, mesh=mesh), 2).succeeds()
  rows = zip(sft_runs.metrics(folder), sft_runs.metrics(done[0]), strict=True)
  for row, want in rows:
    # What rounding leaves grows from step to step.
    limit = 1e-3 if row['step'] <= 6 else 1e-2
    assert row['loss'] == pytest.approx(want['loss'], abs=limit)
  result = json.loads((folder / 'training.json').read_text())
  assert result['best_step'] == done[1]['best_step']
  found, wanted = (
    safetensors.numpy.load_file(path / 'model' / 'model.safetensors')
    for path in (folder, done[0])
  )
  for name, value in wanted.items():
    np.testing.assert_allclose(found[name], value, atol=2e-2, err_msg=name)


@pytest.mark.slow
def test_two_processes_are_stopped_at_one_step_and_go_on_as_one(
  config, done, tmp_path
):
  folder = tmp_path / 'run'
  job = jobs.Job(sft_runs.command(config, folder, mesh='data=2'), 2)
  while not (folder / 'checkpoints' / '00000003.json').exists():
    assert job.members[0].poll() is None
    time.sleep(0.005)
  # The second one alone is told.
  job.members[1].send_signal(signal.SIGTERM)
  found = job.ends()
  assert [status for status, _, _ in found] == [75, 75], found
  steps = {error.rsplit('after step ', 1)[1] for _, _, error in found}
  assert len(steps) == 1
  result = train.run(config, str(folder))
  assert result['steps'] == sft_runs.STEPS
  for row, want in zip(
    sft_runs.metrics(folder), sft_runs.metrics(done[0]), strict=True
  ):
    assert row['loss'] == pytest.approx(want['loss'], abs=1e-2)


@pytest.mark.slow
def test_a_stop_has_time_to_save(config, done, tmp_path):
  """A checkpoint that takes longer than other stops are given."""
  folder = tmp_path / 'run'
  slow = (
    'import runpy, sys, time; from wcse_jax.sft import store; '
    'real = store.Store._finish; '
    'store.Store._finish = lambda self, step, *rest: '
    '(time.sleep(0 if step < 4 else 10), real(self, step, *rest)); '
    'sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name="__main__")'
  )
  process = sft_runs.alone(['-c', slow, *sft_runs.command(config, folder)])
  while not (folder / 'checkpoints' / '00000003.json').exists():
    assert process.poll() is None
    time.sleep(0.005)
  process.send_signal(signal.SIGTERM)
  assert process.wait() == 75
  steps = [int(p.stem) for p in (folder / 'checkpoints').glob('*.json')]
  assert max(steps) > 3
