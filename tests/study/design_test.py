"""What follows from a study's settings: counts, pools, students, refusals."""

import dataclasses
import math

import pytest

from wcse_jax import errors
from wcse_jax.study import design, recipes, settings


def study(**changes):
  config = settings.StudyConfig(
    problems=24,
    test=settings.TestSet(limit=24),
    budgets={'low': 1, 'mid': 3, 'high': 5},
    truth_samples=8,
    cost_ratios=(),
    replicates=2,
  )
  return dataclasses.replace(config, **changes)


def made(config):
  return design.Study(config, 'unused')


def test_no_sample_serves_two_replicates_or_purposes():
  config = recipes.hotter(recipes.mixing(study(), (0.5,)))
  s = made(config)
  for name in s.sources():
    seen = set(range(8 if name in settings.PAIR else 0))
    for replicate in range(2):
      own = set(s.pool(name, 'high', replicate))
      for arm in s.used_arms():
        for model, pool in s.parts(arm, 'high', replicate):
          if model == name:
            own |= set(pool)
      assert not own & seen
      seen |= own
    assert max(seen) < s.drawn(name)
  # A smaller budget takes the first samples of a larger one.
  low, high = s.pool('wc', 'low', 1), s.pool('wc', 'high', 1)
  assert set(low) < set(high)
  assert low.start == high.start


def test_counts_follow_costs():
  models = settings.pair_of_models()
  for name, cost in (('wc', 0.3), ('se', 10.5)):
    models[name] = dataclasses.replace(models[name], cost=cost)
  s = made(study(models=models))
  assert [s.count('wc', b) for b in ('low', 'mid', 'high')] == [35, 105, 175]
  assert s.matches['low'].ratio == 35


def test_shares_of_a_budget_are_rounded_down():
  s = made(recipes.mixing(study(), (0.25, 0.5)))
  for share in (0.25, 0.5):
    (_, weak), (_, strong) = s.parts(f'mix_{share:g}', 'high', 0)
    assert len(weak) == math.floor(share * s.exact('wc', 'high'))
    assert len(strong) == math.floor((1 - share) * 5)
  matched = s.parts('wc_number_matched', 'high', 0)
  assert [(name, len(pool)) for name, pool in matched] == [('wc', 5)]


def test_a_share_that_buys_nothing_is_refused():
  config = recipes.mixing(study(budgets={'only': 1}), (0.5,))
  with pytest.raises(errors.InputError, match=r'arms\.mix_0\.5: .*se.* 0\.5'):
    made(config)


def test_parts_of_the_problems_lie_within_each_other():
  s = made(recipes.data_size(study(), (0.25, 0.5)))
  found = [
    {problem.id for problem in s.problems_of(arm)}
    for arm in ('wc_0.25', 'wc_0.5', 'wc')
  ]
  assert list(map(len, found)) == [6, 12, 24]
  assert found[0] < found[1] < found[2]
  same = {problem.id for problem in s.problems_of('se_0.25')}
  assert same == found[0]


def test_models_that_share_a_checkpoint_have_folders_of_their_own():
  s = made(recipes.prompts(recipes.hotter(study()), shots=1))
  stems = {name: s.stem(name) for name in s.sources()}
  assert stems['wc'] == 'tiny-wc'
  assert stems['se_hot'] == 'tiny-se-se_hot'
  assert len(set(stems.values())) == len(stems)
  assert s.sampling('se_hot').sampler.temperature == 1.0
  assert s.sampling('se').sampler.temperature == 0.7
  assert s.sampling('wc_prompt').shots == 1
  assert s.sampling('wc').shots == 0


def test_a_student_samples_the_next_round():
  s = made(recipes.rounds(study(shots=2), 3))
  assert s.models['round3'] == s.models['student']
  run = s.student_run('round2')
  assert (run.setup, run.arm, run.replicate) == ('student', 'wc', 0)
  assert s.checkpoint('round2') == f'{s.folder(run)}/model'
  # It is asked as it was trained, without worked examples.
  assert s.sampling('round2').shots == 0


def test_students_that_are_not_there_are_refused():
  models = settings.pair_of_models()
  models['next'] = settings.Model(checkpoint='student:student-high-xx-r0')
  with pytest.raises(errors.InputError, match='student-high-wc-r0'):
    made(study(models=models))


def test_a_student_of_itself_is_refused():
  models = settings.pair_of_models()
  models['student'] = settings.Model(checkpoint='student:student-high-wc-r0')
  with pytest.raises(errors.InputError, match='does not come from itself'):
    made(study(models=models))


def test_human_solutions_train_one_student_whatever_the_budget():
  setups = settings.usual_setups()
  setups = {
    'student': dataclasses.replace(
      setups['student'], budgets=('low', 'high'), arms=('wc', 'se', 'human')
    )
  }
  s = made(study(setups=setups))
  keys = [run.key for run in s.runs() if run.replicate == 0]
  assert keys == [
    'student-low-wc-r0',
    'student-low-se-r0',
    'student-low-human-r0',
    'student-high-wc-r0',
    'student-high-se-r0',
  ]


def test_a_transfer_set_that_is_trained_on_is_refused():
  same = settings.TestSet(task='arith', split='train', limit=600)
  with pytest.raises(
    errors.InputError, match=r'transfer\.same: .*first arith/train/'
  ) as found:
    made(study(transfer={'same': same}))
  assert '\n' not in str(found.value)
  hard = settings.TestSet(task='arith', split='hard', limit=24)
  assert list(made(study(transfer={'hard': hard})).tests()) == ['', 'hard']


def test_a_dry_study_goes_by_the_named_architecture():
  config = dataclasses.replace(
    recipes.math(), task='arith', transfer={}, test=settings.TestSet()
  )
  s = design.Study(config, 'unused', dry=True)
  assert s.models['wc'].parameters() == 9_241_705_984
  # The counts of the paper.
  assert [s.count('wc', b) for b in ('low', 'high')] == [3, 30]
  models = config.models | {
    'wc': dataclasses.replace(config.models['wc'], architecture='gemma-x')
  }
  config = dataclasses.replace(config, models=models)
  with pytest.raises(errors.InputError, match=r'models\.wc\.architecture'):
    design.Study(config, 'unused', dry=True)
