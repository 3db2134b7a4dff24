import pathlib

import pytest

from wcse_jax import tasks
from wcse_jax.estimates import shares


ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize('row', shares.TABLE, ids=str)
def test_rows_are_shares_with_a_source(row):
  assert 0 < row.share < 1
  assert row.phase in shares.PHASES
  if row.source.startswith('docs/'):
    assert (ROOT / row.source).exists()
  else:
    assert row.source in (shares.GUESS, 'quickstart on 2 CPU cores')


def test_between_rows_a_share_is_between():
  low, _ = shares.of('gpu', 'decode', 'bfloat16', 268_000_000)
  high, source = shares.of('gpu', 'decode', 'bfloat16', 2_600_000_000)
  middle, _ = shares.of('gpu', 'decode', 'bfloat16', 835_000_000)
  assert (low, high) == (0.19, 0.52)
  assert middle == pytest.approx((low + high) / 2, abs=0.01)
  assert source == 'docs/results/gpu.md'


def test_beyond_the_rows_it_is_that_of_the_nearest():
  assert shares.of('cpu', 'decode', 'float32', 1000)[0] == 0.07
  assert shares.of('cpu', 'decode', 'float32', 10**11)[0] == 0.53
  assert shares.of('cpu', 'decode', 'bfloat16', 10**11)[0] == 0.40


def test_what_was_not_measured_is_said_to_be_a_guess():
  assert shares.of('tpu', 'train', 'bfloat16', 10**9)[1] == shares.GUESS


def test_every_platform_has_every_phase():
  for platform in ('cpu', 'gpu', 'tpu'):
    for phase in shares.PHASES:
      for dtype in ('float32', 'bfloat16'):
        assert 0 < shares.of(platform, phase, dtype, 10**9)[0] < 1


def test_every_task_is_graded_in_some_time():
  assert {*shares._GRADING} == {*tasks.TASKS}
  assert shares.grading('one of my own') == shares.grading('math')
