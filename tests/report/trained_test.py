"""Students: sets of problems, budgets, tests and their calibration."""

import re

import pytest

from wcse_jax.report import trained


def _text(results):
  return re.sub(r'<[^>]+>', ' ', trained.training(results))


def test_measures_go_by_their_set_in_order():
  setup = {
    'untuned': {'pass@1': {}, 'maj@16': {}, 'title': ''},
    'arms': [{'maj@4': {}, 'z: pass@1': {}, 'a: b: maj@4': {}, 'x@1': {}}],
  }
  found = trained.metrics(setup, [{'name': 'z'}, {'name': 'unused'}])
  assert found == {
    '': ['pass@1', 'maj@4', 'maj@16'],
    'z': ['z: pass@1'],
    'a: b': ['a: b: maj@4'],
  }
  assert list(found) == ['', 'z', 'a: b']
  assert trained.bare('a: b: maj@4') == 'maj@4'


def test_sets_of_transfer_have_charts_and_tables_of_their_own(results):
  page = trained.training(results)
  names = [chart.name for chart in page.charts]
  assert names[:3] == ['arms-0-0-pass-1', 'arms-0-0-maj-4', 'arms-0-1-pass-1']
  assert 'On problems it was not trained for: svamp' in page
  assert 'task svamp, 300 problems.' in page


def test_budgets_are_named_where_there_are_several(results):
  assert 'on the data of the high and low budgets' in _text(results)
  assert 'Weak-to-strong improvement, low budget' in _text(results)
  named = results['training']['setups'][0]
  named['title'] = 'Distillation, high budget'
  assert trained.title(results, named) == 'Distillation, high budget'
  for setup in results['training']['setups']:
    setup['budget'] = 'high'
  assert 'on the data of the high budget' in _text(results)
  assert 'improvement, high budget' not in _text(results)


def test_tests_are_shown_with_their_adjustment(results):
  page = _text(results)
  assert page.count('p: how often a difference') == 1
  assert re.search(r'0\.210\s+not adjusted', page)
  assert re.search(r'0\.105\s+0\.210', page)
  results['training']['setups'][0]['contrasts'][1]['p'] = 2e-5
  assert '&lt; 0.001' in _text(results)
  for setup in results['training']['setups']:
    for contrast in setup['contrasts']:
      contrast['p'] = None
  assert 'adjusted' not in _text(results)


@pytest.mark.parametrize(
  ('coverage', 'words'),
  [
    (0.948, '94.8%.'),
    (
      {'value': 0.948, 'low': 0.93, 'high': 0.96, 'n': 500},
      '94.8% (93.0 to 96.0, n = 500).',
    ),
  ],
)
def test_calibration_is_said(results, coverage, words):
  results['training']['calibration']['coverage'] = coverage
  assert (
    'In 500 simulated studies of this size (1,024 problems, 3 runs) the 95% '
    f'interval of a difference held the truth in {words}'
  ) in _text(results)


def test_a_setup_may_have_a_calibration_of_its_own(results):
  training = results['training']
  for at, setup in enumerate(training['setups'][:2]):
    setup['calibration'] = {
      **training['calibration'],
      'coverage': 0.9 + at / 50,
    }
  page = _text(results)
  assert page.count('simulated studies of this size') == 2
  assert 'held the truth in 90.0%.' in page
  assert 'held the truth in 92.0%.' in page
