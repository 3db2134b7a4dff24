"""Settings of a study: what is refused, in one line that names the field."""

import dataclasses

import pytest

from wcse_jax import errors, selection
from wcse_jax.study import settings


def study(**changes):
  return dataclasses.replace(settings.StudyConfig(), **changes)


def with_arm(**fields):
  arm = settings.Arm(label='x', **fields)
  return {'arms': settings.usual_arms() | {'x': arm}}


def with_setup(**fields):
  setup = settings.Setup(**{'model': 'student', 'title': 'x'} | fields)
  return {'setups': {'x': setup}}


def test_the_defaults_are_the_papers_arms_and_setups():
  config = study()
  config.validate()
  assert list(config.setups) == ['student', 'wc', 'se']
  assert config.setups['wc'].model == 'wc'
  assert all(s.primary == ('wc', 'se') for s in config.setups.values())


@pytest.mark.parametrize(
  ('changes', 'wanted'),
  [
    ({'models': {'wc': settings.Model(checkpoint='a')}}, "the pair; got 'se'"),
    ({'models': settings.pair_of_models() | {'a/b': None}}, 'models: .*a/b'),
    (with_arm(), r'arms\.x: wanted one of samples, human and plan; got 0'),
    (with_arm(human=True, samples={'wc': 1.0}), r'arms\.x: .*got 2'),
    (with_arm(samples={'nobody': 1.0}), r"arms\.x\.samples: .*'nobody'"),
    (with_arm(samples={'wc': 0.7, 'se': 0.7}), r'arms\.x\.samples: .*sum'),
    (with_arm(samples={'wc': 0.0}), r'arms\.x\.samples: .*above 0'),
    (with_arm(samples={'wc': 1.0}, as_many_as='y'), r'as_many_as: .*wc, se'),
    (with_arm(samples={'wc': 1.0}, against='y'), r'arms\.x\.against: .*wc, se'),
    (with_arm(samples={'wc': 1.0}, problems=1.5), r'arms\.x\.problems'),
    (with_arm(plan=True), r'arms\.x\.plan: wanted pilot_problems'),
    (
      with_arm(
        samples={'wc': 1.0}, selection=selection.Selection(verifier='me')
      ),
      'verifier',
    ),
    (with_setup(model='nobody'), r'setups\.x\.model'),
    (with_setup(arms=('wc', 'xx')), r"setups\.x\.arms: .*human; got 'xx'"),
    (with_setup(budgets=('mid',)), r'setups\.x\.budgets: .*low, high'),
    (with_setup(primary=('wc', 'xx')), r'setups\.x\.primary'),
    ({'budgets': {}}, 'budgets: wanted counts >= 1'),
    ({'budgets': {'a': 2, 'b': 2}}, 'budgets: wanted rising counts'),
    ({'currency': 'francs'}, 'currency: wanted one of params, usd'),
    ({'replicates': 0}, 'replicates'),
    ({'pass_samples': -1}, 'pass_samples'),
    ({'decontaminate': 2.0}, 'decontaminate'),
    ({'pilot_problems': 9, 'pilot_samples': 200}, 'pilot_samples'),
    ({'cost_ratios': (50.0,)}, 'cost_ratios'),
  ],
)
def test_what_does_not_fit_is_refused(changes, wanted):
  with pytest.raises(errors.InputError, match=wanted) as found:
    study(**changes).validate()
  assert '\n' not in str(found.value)
