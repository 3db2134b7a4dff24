import os
import signal

import numpy as np
import pytest

from wcse_jax import budget, errors, machine
from wcse_jax.models import hf_config
from wcse_jax.sft import data, watch


def test_a_loss_that_stands_out_is_a_spike():
  losses = watch.Losses()
  random = np.random.default_rng(0)
  steady = [losses.spike(2.0 + 0.1 * x) for x in random.normal(size=200)]
  assert not any(steady)
  assert losses.spike(4.0)
  assert not losses.spike(2.2)


def test_the_first_losses_are_no_spikes():
  losses = watch.Losses()
  assert not any(losses.spike(x) for x in (9.0, 3.0, 8.0, 2.0, 11.0))


@pytest.mark.parametrize(
  ('values', 'said'),
  [
    ({'loss': 1.0, 'gradient_norm': 2.0}, None),
    ({'loss': np.nan, 'gradient_norm': 2.0}, 'loss nan at step 7'),
    ({'loss': 1.0, 'gradient_norm': np.inf}, 'gradient_norm inf at step 7'),
  ],
)
def test_what_is_not_finite_names_its_batch(values, said):
  found = watch.nonfinite(values, 7, list(range(1, 31)), 1e-3)
  if said is None:
    assert found is None
    return
  assert f'training diverged: {said} (train examples 1, 2, ' in found
  assert '16 and 14 more); lower optimizer.learning_rate=0.001.' in found


def test_speed_counts_what_the_tokens_need(hf_rows, monkeypatch):
  config = hf_config.from_hf(hf_rows['gemma2'])
  monkeypatch.setattr(machine, 'peak_rate', lambda dtype: 1e9)
  speed = watch.Speed(config, dtype='float32', devices=2, adapters=0)
  rows = [data.Encoded(tuple(range(9)), 4), data.Encoded(tuple(range(5)), 0)]
  want = budget.training_flops(config, 9, logits=5)
  want += budget.training_flops(config, 5, logits=4)
  assert speed.flops(rows) == want
  clock = iter((100.0, 100.5, 101.0))
  monkeypatch.setattr(watch.time, 'perf_counter', lambda: next(clock))
  speed.restart()
  found = speed.step(rows, timed=True)
  assert found['tokens_per_second'] == pytest.approx(28)
  assert found['mfu'] == pytest.approx(want / 0.5 / 2e9)
  assert found['memory_bytes'] > 1 << 20
  assert set(speed.step(rows, timed=False)) == {'memory_bytes'}


def test_a_stop_is_noticed_and_obeyed_later():
  before = signal.getsignal(signal.SIGTERM)
  with watch.Stops() as stop:
    assert not stop.asked
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.asked
    with pytest.raises(errors.Stopped, match='after step 5'):
      stop.obey(5)
  assert signal.getsignal(signal.SIGTERM) is before
