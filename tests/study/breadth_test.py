"""The whole grid, small: every arm, a round, a plan, a transfer set."""

import dataclasses
import importlib.util
import pathlib

import pytest

from wcse_jax import storage
from wcse_jax.sft import settings as sft_settings
from wcse_jax.study import design, run, settings, stages


ROOT = pathlib.Path(__file__).parents[2]
_SPEC = importlib.util.spec_from_file_location(
  'tiny_full', ROOT / 'configs' / 'tiny_full.py'
)
tiny_full = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(tiny_full)

pytestmark = pytest.mark.slow


def config():
  whole = tiny_full.get_config()
  return dataclasses.replace(
    whole,
    problems=32,
    test=settings.TestSet(limit=24),
    transfer={'hard': settings.TestSet(task='arith', split='hard', limit=16)},
    validation_problems=8,
    truth_samples=16,
    cost_ratios=(1.5,),
    pilot_problems=16,
    replicates=2,
    majority=(2,),
    pass_samples=2,
    sampler=dataclasses.replace(whole.sampler, slots=64, prefill_batch=32),
    setups={
      name: dataclasses.replace(
        setup, sft=_few(setup.sft) if setup.sft else None
      )
      for name, setup in whole.setups.items()
      if name.startswith('student')
    },
    sft=_few(whole.sft),
  )


def _few(sft: sft_settings.SftConfig) -> sft_settings.SftConfig:
  return dataclasses.replace(
    sft,
    steps=4 if sft.steps else 0,
    epochs=0.5,
    batch_size=8,
    accumulate=1,
    checkpoints=1,
    optimizer=dataclasses.replace(sft.optimizer, warmup_steps=0),
  )


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """Returns (run folder, results) of the grid, run stage by stage."""
  workdir = str(tmp_path_factory.mktemp('grid'))
  for patterns in ('*-wc,*-se', 'plan,follow*', 'train-student-high-wc-*'):
    # What is drawn elsewhere is the same to the stages behind it.
    if patterns.startswith('train'):
      patterns = f'data-high-wc,{patterns}'
    run.run(config(), workdir, only=patterns)
  return workdir, run.run(config(), workdir)


def test_every_arm_of_every_setup_has_its_students(finished):
  _, results = finished
  assert results['status'] == 'finished'
  for setup in results['training']['setups']:
    own = config().setups[setup['setup']]
    assert [arm['arm'] for arm in setup['arms']] == list(own.arms)
    for arm in setup['arms']:
      assert len(arm['replicates']) == 2
      assert {'pass@1', 'maj@2', 'hard: pass@1'} <= set(arm)
      assert arm['hard: pass@1']['n'] == 16
    primary = [row for row in setup['contrasts'] if row['primary']]
    assert [(row['a'], row['b']) for row in primary] == [('wc', 'se')]
    pairs = {(row['a'], row['b']) for row in setup['contrasts']}
    assert len(pairs) == len(own.arms) - 1
    if 'wc_one' in own.arms:
      assert {('wc_one', 'se_one'), ('se_one', 'se')} <= pairs
      assert ('round2', 'wc') in pairs


def test_every_model_is_measured(finished):
  _, results = finished
  assert set(results['quality']['high']) == {
    'wc',
    'se',
    'se_hot',
    'wc_prompt',
    'se_prompt',
    'round2',
    'wc_number_matched',
  }
  pairs = {(row['budget'], row['model']) for row in results['gaps_of']}
  assert ('high', 'round2') in pairs
  assert ('low', 'se_hot') in pairs
  assert len(results['prompts']) == 6
  hashes = {row['model']: row['sha256'] for row in results['prompts']}
  assert hashes['wc'] == hashes['se'] != hashes['wc_prompt']


def test_arms_are_what_their_rules_say(finished):
  workdir, results = finished
  counts = {
    (row['budget'], row['arm']): row['counts'] for row in results['selection']
  }
  one = counts['high', 'wc_one']
  assert one['chosen'] == one['problems_chosen']
  assert one['problems_chosen'] == counts['high', 'wc']['problems_chosen']
  quarter = counts['high', 'wc_0.25']
  assert quarter['problems'] == 8
  assert counts['high', 'planned']['chosen'] > 0
  staged = stages.Stages(design.Study(config(), workdir))
  rows, _ = staged.rows('high', 'mix_0.5', 1)
  assert {row.source for row in rows} == {'tiny-wc', 'tiny-se'}
  first, second = (
    {row.sample.text for row in staged.rows('high', 'planned', r)[0]}
    for r in range(2)
  )
  assert first != second


def test_a_share_of_right_samples_is_pass_at_1(finished):
  workdir, _ = finished
  found = storage.read_json(
    storage.join(workdir, 'untuned', 'student', 'evaluation.json')
  )
  assert set(found['right']['pass@1']) <= {0, 0.5, 1}
