"""The benchmark's figures: what must hold whatever the machine's speed."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import pytest

from wcse_jax import bench, budget, checkpoints, errors
from wcse_jax.sampler import settings


ROOT = pathlib.Path(__file__).parents[1]
SMALL = bench.BenchConfig(
  limit=6,
  samples_per_problem=3,
  repeats=1,
  dtype='float32',
  end_tokens=False,
  mesh='data=8',
  sampler=settings.SamplerConfig(max_new_tokens=8, slots=8, prefill_batch=8),
)


@pytest.fixture(scope='module')
def figures():
  return bench.bench(SMALL)


def test_the_work_is_all_done(figures):
  assert figures['requests'] == 18
  whole = figures['whole']
  assert whole['tokens'] == 18 * 8
  assert whole['tokens_per_second'] == pytest.approx(
    whole['tokens'] / whole['seconds']
  )
  assert 0 < whole['busy'] <= 1
  assert figures['compile_seconds'].keys() == {'cold', 'persistent'}
  assert min(figures['compile_seconds'].values()) > 0
  assert figures['peak_host_bytes'] > 10**8


def test_shares_are_of_the_machine_measured(figures):
  rate = figures['machine']['matrix']
  for name in ('prefix', 'prefill'):
    part = figures[name]
    want = part['flops'] / part['seconds'] / rate
    assert part['share'] == pytest.approx(want)
    assert 0 < part['share'] < 1
  decode = figures['decode']
  floor = max(decode['matrix_seconds'], decode['memory_seconds'])
  assert decode['share'] == pytest.approx(floor / decode['seconds'])
  assert 0 < decode['share'] < 1
  weights = decode['bytes']['weights']
  cfg = checkpoints.read_config(SMALL.checkpoint)
  # Tied, in float32: each parameter is read once.
  assert weights == 4 * cfg.parameters()
  assert decode['flops'] % SMALL.sampler.slots == 0
  least = budget.forward_flops(cfg, 1, figures['prefix_tokens'])
  assert decode['flops'] > SMALL.sampler.slots * least


def test_the_command_writes_a_trace(tmp_path):
  done = subprocess.run(
    [
      sys.executable,
      'launch/bench.py',
      '--config.limit=2',
      '--config.samples_per_problem=2',
      '--config.repeats=1',
      '--config.sampler.max_new_tokens=4',
      '--config.sampler.slots=4',
      f'--profile={tmp_path}',
    ],
    cwd=ROOT,
    env=os.environ | {'XLA_FLAGS': '', 'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
    check=True,
  )
  assert json.loads(done.stdout)['requests'] == 4
  assert any(tmp_path.rglob('*.xplane.pb'))


def test_no_repeat_is_refused():
  with pytest.raises(errors.InputError, match='repeats: wanted a count >= 1'):
    bench.bench(dataclasses.replace(SMALL, repeats=0))
  with pytest.raises(errors.InputError, match='server: wanted none'):
    bench.bench(
      dataclasses.replace(
        SMALL,
        server='http://localhost/v1',
        model='m',
        dtype='bfloat16',
        mesh='',
      )
    )


def test_a_trace_beside_a_library_without_its_tpu_is_refused(monkeypatch):
  pytest.importorskip('libtpu')
  monkeypatch.delenv('JAX_PLATFORMS')
  with pytest.raises(errors.InputError, match='wanted JAX_PLATFORMS=cpu'):
    dataclasses.replace(SMALL, profile='folder').validate()
