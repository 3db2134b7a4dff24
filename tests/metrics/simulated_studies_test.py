import json

import numpy as np
import pytest

from wcse_jax.metrics import (
  candidates,
  populations,
  simulated_data,
  simulated_studies,
)


CHOSEN = tuple(f'chosen, {arms} arms pooled' for arms in (2, 3, 4))


@pytest.mark.parametrize('deviation', [0.0, 0.02])
def test_the_intervals_hold_the_truth_in_studies_of_the_quickstarts_size(
  deviation,
):
  one = simulated_studies.setup(accuracy=0.48, run_deviation=deviation)
  (row,) = simulated_studies.students(one, 600)
  for name in CHOSEN:
    # The share's own error is 0.9 points.
    assert 0.93 <= row['intervals'][name]['coverage'] <= 0.975
    assert row['intervals'][name]['apart'] <= 0.07
  widths = [row['intervals'][name]['width'] for name in CHOSEN]
  assert widths == sorted(widths, reverse=True)


def test_what_a_study_cannot_see_is_not_in_the_interval():
  shown, hidden = (
    simulated_studies.setup(
      accuracy=0.48, run_deviation=0.03, replicates=(10,), fixed=fixed
    )
    for fixed in (0.0, 0.9)
  )
  held = [
    simulated_studies.students(one, 200)[0]['intervals'][CHOSEN[2]]['coverage']
    for one in (shown, hidden)
  ]
  assert held[0] > 0.9
  assert held[1] < 0.7


def test_intervals_of_data_hold_the_truth():
  rows = simulated_data.rows('GSM8K', 0.5, 200)
  for row in rows:
    (now,) = [v for k, v in row['intervals'].items() if k.startswith('now')]
    # The share's own error is 1.5 points.
    assert now['coverage'] >= (0.88 if '0.02' in row['quantity'] else 0.905)
  (near,) = [row for row in rows if row['quantity'] == 'coverage@15, weak']
  assert near['truth'] == pytest.approx(0.956, abs=0.001)
  found = near['intervals']
  assert (
    found['now (Wilson)']['coverage']
    > found['percentile bootstrap']['coverage']
  )


def test_scored_counts_truths_in_the_interval():
  low, high = np.array([0.0, 0.1, -0.2, 0.2]), np.array([0.2, 0.3, -0.1, 0.3])
  got = candidates.scored((low, high), 0.1)
  assert got['studies'] == 4
  assert got['coverage'] == 0.5
  assert got['coverage_error'] == 0.25
  assert got['width'] == pytest.approx(0.15)
  assert got['apart'] == 0.75


def test_truths_are_what_setups_say():
  one = simulated_studies.setup(
    accuracy=0.95, effect=0.1, run_deviation=0.04, kind='alike', problems=400
  )
  assert one.effect == pytest.approx(-0.1)
  arms = one.students.draw(300, np.random.default_rng(0))
  assert arms[0].mean() == pytest.approx(0.85, abs=0.01)
  assert arms[1].mean() == pytest.approx(0.95, abs=0.01)
  # Of a run's accuracy; the rest is noise of 400 problems.
  between = arms[1].mean(2).std(axis=1, ddof=1)
  assert 0.03 < np.sqrt(np.mean(between**2)) < 0.05


def test_resampled_are_of_the_first_studies_only():
  one = simulated_studies.setup(accuracy=0.25, problems=40, replicates=(2, 3))
  rows = simulated_studies.students(one, 9, resampled=4)
  assert [row['replicates'] for row in rows] == [2, 3]
  for row in rows:
    for name, found in row['intervals'].items():
      assert found['studies'] == (4 if 'bootstrap' in name else 9)
      assert found['width'] > 0


def test_of_one_replicate_there_is_one_interval():
  one = simulated_studies.setup(accuracy=0.5, problems=30, replicates=(1,))
  (row,) = simulated_studies.students(one, 3)
  assert list(row['intervals']) == ['chosen, over problems alone']


@pytest.mark.parametrize('cells', ['quickstart', 'grid', 'limits'])
def test_every_cell_can_be_drawn(cells):
  setups = simulated_studies.setups(cells)
  for one in setups:
    assert 0 <= one.students.across <= one.students.same < 1
    assert all(0 < mean < 1 for mean in one.students.accuracies)
  names = [json.dumps(one.names, sort_keys=True) for one in setups]
  assert len(set(names)) == len(names)
  if cells == 'grid':
    assert len(setups) == 4 * 3 * 5 * 3 * 3


def test_command_prints_rows_then_means(monkeypatch, capsys):
  small = [
    simulated_studies.setup(accuracy=accuracy, problems=20)
    for accuracy in (0.3, 0.6)
  ]
  monkeypatch.setattr(simulated_studies, 'setups', lambda cells: small)
  assert simulated_studies.main(['--part=students', '--studies=8']) == 0
  rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
  cells = [row for row in rows if 'part' in row]
  assert [row['accuracy'] for row in cells] == [0.3, 0.6]
  held = [row['intervals'][CHOSEN[0]]['coverage'] for row in cells]
  (mean,) = [
    row
    for row in rows
    if row.get('over') == 'all' and row['interval'] == CHOSEN[0]
  ]
  assert mean['cells'] == 2
  assert mean['coverage'] == pytest.approx(np.mean(held))
  assert (mean['lowest'], mean['highest']) == (min(held), max(held))
  # Again, in other blocks: the same cells by another seed would differ.
  assert list(simulated_studies.run('students', 8, '', 0, 1)) == cells


@pytest.mark.parametrize('flag', ['--studies=0', '--part=x', '--workers=0'])
def test_command_refuses_what_cannot_be(flag, capsys):
  with pytest.raises(SystemExit, match='2'):
    simulated_studies.main(['--part=data', flag])
  assert flag.split('=')[0] in capsys.readouterr().err


def test_both_solve_as_often_as_drawn_numbers_say():
  random = np.random.default_rng(1)
  z = random.standard_normal((3, 200_000))
  for correlation in (0.0, 0.5, 0.95):
    x, y = (
      np.sqrt(correlation) * z[0] + np.sqrt(1 - correlation) * z[at]
      for at in (1, 2)
    )
    # 0.3 and 0.7 of the numbers are below these.
    want = np.mean((x < -0.524401) & (y < 0.524401))
    got = populations.both(0.3, 0.7, correlation)
    assert got == pytest.approx(want, abs=0.004)
    assert populations.correlation(0.3, 0.7, got) == pytest.approx(
      correlation, abs=1e-6
    )
