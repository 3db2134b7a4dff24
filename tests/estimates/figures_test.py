import json

import pytest

from wcse_jax import prices
from wcse_jax.estimates import figures, jobs


def _one(stage='sample wc', **fields):
  given = dict(
    name='m',
    work='10 samples',
    flops=10**15,
    chip='v5e',
    chips=16,
    seconds=1800.0,
    compile_seconds=60.0,
    how='compiled for v5e:4x4',
  )
  return figures.Estimate(stage=stage, **(given | fields))


def test_chips_and_time_give_hours_and_dollars():
  one = _one()
  assert one.chip_seconds == 16 * 1800
  assert one.usd == pytest.approx(8 * prices.table()['v5e'].usd)
  assert _one(chip='cpu', chips=1).usd is None
  assert _one(seconds=None).chip_seconds is None
  assert _one(seconds=None).usd is None


def test_a_sum_says_what_it_leaves_out():
  whole = figures.total(
    [
      _one(),
      _one('train', chips=32, seconds=3600.0),
      _one('too large', seconds=None, compile_seconds=None),
      _one('here', chip='cpu', chips=1),
    ]
  )
  assert whole.flops == 4 * 10**15
  assert whole.seconds == 1800 + 3600 + 1800
  assert whole.chip_seconds == 16 * 1800 + 32 * 3600 + 1800
  assert whole.usd == pytest.approx(40 * prices.table()['v5e'].usd)
  assert whole.compile_seconds == 180
  assert whole.unknown == ('too large',)
  assert whole.unpriced == ('here',)
  assert figures.total([_one(chip='cpu')]).usd is None


def test_grading_takes_the_host_alone():
  job = jobs.Grading(
    stage='grade wc', name='math', samples=1000, cpu_seconds=0.01, cores=4
  )
  one = figures.graded(job)
  assert one.seconds == pytest.approx(2.5)
  assert (one.chips, one.usd, one.flops) == (0, 0.0, 0)
  # What costs nothing is no unknown price.
  assert figures.total([one]).unpriced == ()


def test_rows_go_into_json():
  rows = [_one(settings={'slots': 3}, notes=('a',)), _one(seconds=None)]
  found = json.loads(json.dumps(figures.report(rows), allow_nan=False))
  first, second = found['stages']
  assert first['chip_seconds'] == 28_800
  assert first['usd'] == pytest.approx(_one().usd)
  assert first['settings'] == {'slots': 3}
  assert second['usd'] is None
  assert found['total']['unknown'] == ['sample wc']


def test_the_table():
  text = figures.text(
    [
      _one(),
      _one('train', seconds=None, notes=('does not fit: 20 GB',)),
      _one('grade', chip='', chips=0, seconds=3.0, flops=0, how='4 cores'),
    ]
  )
  lines = text.splitlines()
  assert lines[0].split() == [
    'stage',
    'model',
    'work',
    'FLOPs',
    'chips',
    'time',
    'chip-hours',
    '$',
  ]
  cells = ('sample wc', '10 samples', '1e+15', '16 v5e', '30 min', '8.00')
  assert all(cell in lines[1] for cell in cells)
  assert lines[2].split()[-3:] == ['-', '-', '-']
  assert 'host' in lines[3]
  assert lines[4].startswith('total')
  rest = '\n'.join(lines[5:])
  # What several stages have in common is said once.
  assert rest.count('compiled for v5e:4x4') == 1
  assert 'train: does not fit: 20 GB' in rest
  assert 'without a time, and not in the total: train' in rest
  assert len({len(line) for line in lines[:2]}) == 1


def test_what_all_stages_say_is_said_without_them():
  text = figures.text([_one(), _one('train')])
  assert text.endswith('\ncompiled for v5e:4x4')


@pytest.mark.parametrize(
  ('seconds', 'said'),
  [(0.012, '0.012 s'), (42.3, '42 s'), (600, '10 min'), (9000, '2.5 h')],
)
def test_durations(seconds, said):
  assert figures.duration(seconds) == said
