"""Which figure of the data tells the better student."""

import dataclasses

import numpy as np
import pytest

from wcse_jax import errors, proxies
from wcse_jax.plan import picks
from wcse_jax.sampler import settings as sampler_settings
from wcse_jax.sft import settings as sft_settings


_CELLS = [(1, 2.0, 2), (4, 2.0, 8)]
_FORETOLD = {('wc', 2): 0.4, ('se', 1): 0.5, ('wc', 8): 0.7, ('se', 4): 0.6}


def _students(replicates, rule):
  """Students whose accuracy is a rule of their data, and a little noise."""
  random = np.random.default_rng(0)
  found = {}
  for r in range(replicates):
    for role, samples in _FORETOLD:
      row = {
        'role': role,
        'coverage': _FORETOLD[role, samples] + 0.01 * random.random(),
        'right': 10 * samples * (1 if role == 'wc' else 3),
        'distinct': samples,
        'student loss': 1.0 if role == 'wc' else 0.5,
      }
      noise = 0.001 * random.random()
      found[role, samples, r] = row | {'accuracy': rule(row) + noise}
  return found


def _judged(rule):
  students = _students(5, rule)
  found = picks.judge(_CELLS, students, _FORETOLD, 5)
  return {row['proxy']: row for row in found['proxies']}, found


def test_the_proxy_that_decides_is_found():
  rows, found = _judged(lambda row: row['coverage'])
  assert rows['coverage']['picks']['value'] == 1
  assert rows['coverage']['regret']['value'] == 0
  assert rows['planner']['picks']['value'] == 1
  # Strong is better at one sample, weak at the higher budget.
  for name in ('always weak', 'always strong'):
    assert rows[name]['picks']['value'] == 0.5
    assert rows[name]['regret']['value'] == pytest.approx(0.05, abs=0.01)
  assert found['proxies'][0]['regret']['value'] == 0
  assert found['students'] == 20
  row = found['cells'][1]
  assert (row['data_verdict'], row['student_verdict']) == ('weak', 'weak')
  assert found['cells'][0]['student_verdict'] == 'strong'
  gap = row['gap']
  assert gap['low'] < gap['value'] < gap['high']
  assert gap['value'] == pytest.approx(0.1, abs=0.01)
  assert 'coverage' in picks.table(found)


def test_less_loss_is_better():
  rows, _ = _judged(lambda row: -row['student loss'])
  assert rows['student loss']['picks']['value'] == 1
  assert rows['always strong']['picks']['value'] == 1
  assert rows['always weak']['picks']['value'] == 0


def test_what_is_picked_is_measured_on_other_replicates():
  """Accuracy that is noise alone: no proxy gains, whatever it goes by."""
  random = np.random.default_rng(1)
  students = {
    arm: row | {'accuracy': random.random(), 'coverage': row['right']}
    for arm, row in _students(40, lambda row: 0.0).items()
  }
  # A figure that knows the noise of its own replicate.
  for row in students.values():
    row['distinct'] = row['accuracy']
  found = picks.judge(_CELLS, students, _FORETOLD, 40)
  row = next(one for one in found['proxies'] if one['proxy'] == 'distinct')
  assert row['picks']['value'] < 0.75
  assert row['picks']['low'] < 0.5 < row['picks']['high'] < 1


@pytest.mark.parametrize(
  ('change', 'said'),
  [
    ({'replicates': 1}, 'replicates: wanted a count >= 2'),
    ({'budgets': ()}, 'budgets: wanted numbers >= 1'),
    ({'ratios': (0.5,)}, 'ratios: wanted numbers >= 1'),
    ({'pilot_samples': 1}, 'pilot_samples: wanted a count >= 2'),
    ({'pilot_problems': 0}, 'pilot_problems: wanted a count >= 2'),
    ({'wc': 'nowhere'}, 'checkpoint: wanted'),
  ],
)
def test_what_does_not_fit_is_refused(tmp_path, change, said):
  config = dataclasses.replace(proxies.ProxiesConfig(), **change)
  with pytest.raises(errors.InputError) as caught:
    proxies.run(config, str(tmp_path / 'run'))
  assert said in str(caught.value)
  assert not (tmp_path / 'run').exists()


@pytest.mark.slow
def test_students_are_trained_once_each(tmp_path, monkeypatch):
  config = proxies.ProxiesConfig(
    problems=24,
    test_problems=24,
    budgets=(1,),
    ratios=(2.0,),
    replicates=2,
    pilot_problems=24,
    pilot_samples=4,
    sampler=sampler_settings.SamplerConfig(
      top_k=3, max_new_tokens=64, slots=64, prefill_batch=32
    ),
    sft=sft_settings.SftConfig(
      steps=3, batch_size=8, max_length=128, checkpoints=1
    ),
  )
  folder = str(tmp_path / 'run')
  study = proxies.Proxies(config, folder)
  pools = [study.pool(arm) for arm in study.arms()]
  assert min(pool.start for pool in pools) == 4
  wc = [study.pool(arm) for arm in study.arms() if arm.role == 'wc']
  assert not set(wc[0]) & set(wc[1])
  found = proxies.run(config, folder)
  assert found['students'] == 4
  monkeypatch.setattr(proxies.train, 'run', None)
  assert proxies.run(config, folder) == found
  with pytest.raises(errors.InputError, match='holds another study'):
    proxies.run(dataclasses.replace(config, seed=1), folder)
