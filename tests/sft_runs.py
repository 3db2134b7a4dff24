"""Small fine-tuning runs: begun, killed, and compared."""

import dataclasses
import json
import os
import subprocess
import sys

import jobs
import pytest

from wcse_jax.sft import store as stores
from wcse_jax.sft import train


STEPS, SAVES = 12, (3, 6, 9, 12)
# What of a step's numbers is not decided by the run.
TIMED = ('step_seconds', 'tokens_per_second', 'mfu', 'memory_bytes')


class _KilledError(Exception):
  pass


def killed(config, folder, monkeypatch, step, *, behind):
  """Runs until the checkpoint of `step`, and ends before or behind it."""
  save = stores.Store.save

  def dying(self, at, *rest):
    if at != step or behind:
      save(self, at, *rest)
      self.wait()
    if at == step:
      raise _KilledError

  with monkeypatch.context() as patch:
    patch.setattr(stores.Store, 'save', dying)
    with pytest.raises(_KilledError):
      train.run(config, str(folder))


def _weights(folder):
  return (folder / 'model' / 'model.safetensors').read_bytes()


def metrics(folder):
  lines = (folder / 'metrics.jsonl').read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  return [{k: v for k, v in row.items() if k not in TIMED} for row in rows]


def _without_time(result):
  return {k: v for k, v in result.items() if k != 'chip_seconds'}


def same(folder, result, done):
  assert _weights(folder) == _weights(done[0])
  assert _without_time(result) == _without_time(done[1])
  assert metrics(folder) == metrics(done[0])
  assert not (folder / 'checkpoints').exists()


def command(config, folder, **more):
  """Returns the command of a run."""
  fields = dataclasses.asdict(config)
  optimizer = fields.pop('optimizer')
  for name in ('sampler', 'selection', 'lora', 'wandb'):
    del fields[name]
  fields |= {f'optimizer.{name}': v for name, v in optimizer.items()} | more
  flags = [f'--config.{name}={value}' for name, value in fields.items()]
  return ['launch/sft.py', f'--workdir={folder}', *flags]


def alone(arguments, **popen):
  return subprocess.Popen(
    [sys.executable, *arguments],
    cwd=jobs.ROOT,
    env=os.environ | {'PYTHONPATH': str(jobs.ROOT)},
    **popen,
  )
