"""What was spent, part by part."""

import pytest

from wcse_jax.report import costs


def _row(stage, flops=0, seconds=1.0, usd=0.5):
  return {
    'stage': stage,
    'model': 'm',
    'flops': flops,
    'chip_seconds': seconds,
    'usd': usd,
  }


def _ledger(*rows):
  return {'ledger': {'rows': list(rows)}}


def test_stages_go_into_four_parts_the_plan_and_the_rest():
  found = costs.by_part(
    _ledger(
      _row('evaluate', 7),
      _row('sample', 1),
      _row('sample', 2),
      _row('train', 4),
      _row('grade'),
      _row('judge', 5),
      _row('planned sample', 8),
      _row('planned grade'),
      _row('score', 9),
    )
  )
  assert {part: row['flops'] for part, row in found.items()} == {
    'Sampling': 3,
    'Grading': 5,
    'Training': 4,
    'Evaluation': 7,
    'Following the plan': 8,
    'Other': 9,
  }
  assert list(found)[:4] == ['Sampling', 'Grading', 'Training', 'Evaluation']
  assert found['Sampling']['usd'] == 1
  assert found['Grading']['chip_seconds'] == 2


def test_money_is_unknown_where_one_row_has_no_price():
  found = costs.by_part(
    _ledger(_row('sample'), _row('sample', usd=None), _row('train'))
  )
  assert found['Sampling']['usd'] is None
  assert found['Training']['usd'] == 0.5
  # What took no time costs nothing.
  free = costs.by_part(_ledger(_row('grade', seconds=0, usd=None)))
  assert free['Grading']['usd'] == 0


def test_a_part_without_a_price_has_no_chart_of_money():
  results = _ledger(_row('sample', 3), _row('train', 1, usd=None))
  page = costs.cost(results)
  assert [c.name for c in page.charts] == ['cost-flops', 'cost-chip-seconds']
  assert 'no price' in page
  assert '3 FLOP (75.0%)' in page
  page = costs.cost(_ledger(_row('sample', 3), _row('train', 1)))
  assert page.charts[-1].rows == [['Sampling', 0.5], ['Training', 0.5]]
  assert page.charts[-1].columns == ['name', 'US dollars']


def test_where_only_stages_are_known_they_are_taken():
  results = {'ledger': {'by_stage': [_row('train', 4, usd=None)], 'rows': None}}
  assert costs.by_part(results)['Training']['flops'] == 4


@pytest.mark.parametrize('ledger', [None, {}, {'rows': [], 'by_stage': None}])
def test_nothing_spent_has_not_run(ledger):
  assert 'has not run yet' in costs.cost({'ledger': ledger})
