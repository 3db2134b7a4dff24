"""Studies to start from: each fits together, and asks what it says."""

import importlib.util
import pathlib

import pytest

from wcse_jax import errors
from wcse_jax.study import design, recipes, settings, stages


CONFIGS = pathlib.Path(__file__).parents[2] / 'configs'
ADDED = {
  'coverage_diversity': ('wc_one', 'se_one'),
  'data_size': ('wc_0.25', 'se_0.25', 'wc_0.5', 'se_0.5'),
  'equal_epoch': (),
  'mixing': ('mix_0.4', 'mix_0.6', 'mix_0.8'),
  'no_reference': ('wc_majority', 'se_majority'),
  'number_matched': ('wc_number_matched',),
  'planned': ('planned',),
  'prompts': ('wc_prompt', 'se_prompt'),
  'rounds': ('round2', 'round3'),
  'temperature': ('se_hot',),
}


def config(name, *base):
  spec = importlib.util.spec_from_file_location(name, CONFIGS / f'{name}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config(*base)


@pytest.mark.parametrize('name', [*ADDED, 'quickstart', 'tiny_full'])
def test_a_ready_study_fits_together(name):
  found = stages.Stages(design.Study(config(name), 'unused'))
  keys = [stage.key for stage in found.all]
  assert len(set(keys)) == len(keys)
  for arm in ADDED.get(name, ()):
    assert f'train-student-high-{arm}-r0' in keys


@pytest.mark.parametrize('name', ADDED)
@pytest.mark.parametrize('base', ['math', 'gsm8k'])
def test_the_same_is_added_to_the_papers_studies(name, base):
  if name == 'planned':
    # A pilot is of the samples for brute force, which the paper has none of.
    with pytest.raises(errors.InputError, match='pilot_samples'):
      config(name, base).validate()
    return
  found = config(name, base)
  found.validate()
  for arm in ADDED[name]:
    assert arm in found.setups['student_high'].arms
    if arm != 'wc_number_matched':
      assert arm not in found.setups['student_low'].arms


def test_the_papers_counts_steps_and_rates():
  found = config('paper_math')
  assert found.budgets == {'low': 1, 'high': 10}
  high, low = found.setups['se_high'].sft, found.setups['student_low'].sft
  assert (high.batch_size, high.steps) == (32, 6000)
  assert (low.batch_size, low.steps) == (8, 2400)
  assert high.learning_rates == (1e-7, 5e-7, 1e-6)
  assert (found.sampler.temperature, found.sampler.top_k) == (0.7, 3)
  assert config('paper_gsm8k').shots == 8


def test_equal_epochs_count_no_steps():
  found = recipes.equal_epochs(recipes.tiny(), epochs=2)
  own = found.setups['student_epochs']
  assert (own.sft.steps, own.sft.epochs) == (0, 2)
  assert own.arms == own.primary == ('wc', 'se')
  assert found.setups['student'].sft is None


def test_more_arms_train_no_other_setup():
  found = config('tiny_full')
  assert found.setups['student_epochs'].arms == ('wc', 'se')
  assert found.setups['wc'].arms == ('wc', 'se')
  assert len(found.setups['student'].arms) == 16


def test_arms_of_a_kind_are_compared_with_each_other():
  tiny = recipes.tiny()
  arms = recipes.no_reference(recipes.data_size(tiny, (0.5,))).arms
  assert arms['wc_0.5'].against == 'se_0.5'
  assert arms['wc_majority'].against == 'se_majority'
  assert arms['se_majority'].against == ''
  assert recipes.rounds(tiny, 3).arms['round3'].against == 'round2'


def test_a_base_that_is_not_known_is_refused():
  with pytest.raises(errors.InputError, match=r"tiny, math, gsm8k.*'huge'"):
    config('mixing', 'huge')


def test_what_is_added_leaves_the_study_as_it_was():
  before = recipes.tiny()
  recipes.rounds(recipes.mixing(before))
  assert before == recipes.tiny()
  assert list(before.models) == list(settings.pair_of_models())
