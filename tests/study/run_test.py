"""The whole study, small: what it writes, resumes and refuses."""

import dataclasses
import importlib.util
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from wcse_jax import arms, errors, exports, selection, storage
from wcse_jax.sft import settings as sft_settings
from wcse_jax.study import design, outcome, run, settings, stages


ROOT = pathlib.Path(__file__).parents[2]
SMALL = ROOT / 'tests' / 'goldens' / 'small_study.py'
LONGER = ROOT / 'tests' / 'goldens' / 'longer_study.py'

_SPEC = importlib.util.spec_from_file_location('small_study', SMALL)
small_study = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(small_study)


def small(**changes):
  return dataclasses.replace(small_study.get_config(), **changes)


def without_times(value):
  """Returns results without what a clock says."""
  if isinstance(value, dict):
    if value.get('currency') == 'chip_seconds':
      return None
    return {
      k: without_times(v)
      for k, v in value.items()
      if k not in ('chip_seconds', 'provenance')
    }
  if isinstance(value, list):
    return [without_times(v) for v in value]
  return value


def launch(config, workdir, **popen):
  """Starts launch/study.py as a user does: on the machine's own devices."""
  return subprocess.Popen(
    [
      sys.executable,
      str(ROOT / 'launch' / 'study.py'),
      f'--config={config}',
      f'--workdir={workdir}',
    ],
    cwd=ROOT,
    env=os.environ | {'XLA_FLAGS': ''},
    text=True,
    **popen,
  )


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """Returns (run folder, results) of a finished small study."""
  workdir = str(tmp_path_factory.mktemp('study'))
  process = launch(SMALL, workdir, stdout=subprocess.PIPE)
  out, _ = process.communicate()
  assert process.returncode == 0
  assert out.splitlines()[-1].split()[-1] == f'{workdir}/report/index.html'
  return workdir, storage.read_json(storage.join(workdir, 'results.json'))


def test_counts_are_matched_and_rounding_is_shown(finished):
  _, results = finished
  low, high = results['budgets']
  assert (low['se'], high['se']) == (1, 2)
  assert low['wc'] == int(low['ratio'])
  assert high['wc'] == int(2 * high['ratio'])
  assert low['rounding']


def test_every_number_has_n_and_interval(finished):
  _, results = finished
  for budget in ('low', 'high'):
    for role in ('wc', 'se', 'wc_number_matched'):
      measured = results['quality'][budget][role]
      row = measured['coverage'][-1]
      assert row['k'] == measured['samples_per_problem']
      assert row['low'] <= row['value'] <= row['high']
      assert row['n'] == 24
  (setup,) = results['training']['setups']
  assert [arm['arm'] for arm in setup['arms']] == list(
    small().setups['student'].arms
  )
  for arm in setup['arms']:
    assert {'value', 'low', 'high', 'n'} <= set(arm['pass@1'])
    assert len(arm['replicates']) == 1


def test_truth_is_brute_force_over_other_samples(finished):
  _, results = finished
  s = design.Study(small(), 'unused')
  assert s.pool('wc', 'high', 0).start == 8
  assert results['truth']['samples_per_problem'] == 8
  assert {row['model'] for row in results['truth']['checks']} == {'wc', 'se'}
  ratios = [r['ratio'] for r in results['ratios'] if r['budget'] == 'low']
  assert ratios == sorted(ratios)
  assert sum(r['actual'] for r in results['ratios']) == 2


def test_rules_choose_what_is_trained_on(finished):
  workdir, results = finished
  for row in results['selection']:
    counts = row['counts']
    dropped = sum(counts[rule] for rule in selection.RULES)
    assert counts['rows'] == dropped + counts['chosen']
    assert counts['chosen_right'] == counts['chosen']
  config = small(
    selection=selection.Selection(sound=True, per_problem=1), decontaminate=0.2
  )
  s = design.Study(config, workdir)
  assert 0 < len(s.trained) < len(s.problems) == 24
  staged = stages.Stages(s)
  for arm in ('wc', 'se'):
    rows, counts = staged.rows('high', arm, 0)
    assert rows
    ids = [row.problem.id for row in rows]
    assert len(ids) == len(set(ids)) == counts['problems_chosen']
    assert set(ids) <= {problem.id for problem in s.trained}
    assert all(row.grade.sound for row in rows)


def test_overlap_of_the_sets_is_reported(finished):
  _, results = finished
  found = results['contamination']
  assert (found['train'], found['test'], found['dropped']) == (24, 24, 0)
  config = small(decontaminate=0.2)
  s = design.Study(config, 'unused')
  far = [p.id for p in s.problems if s.overlap.shares.get(p.id, 0) < 0.2]
  assert [problem.id for problem in s.trained] == far


def test_the_plan_is_followed_and_shown_beside_its_outcome(finished):
  folder, results = pathlib.Path(finished[0]), finished[1]
  plan = results['plan']
  assert (plan['pilot_problems'], plan['pilot_samples']) == (16, 4)
  pair = plan['pair']
  assert pair['k_strong'] == 2
  found = json.loads((folder / 'plan' / 'plan.json').read_text())
  assert found['pairs'] == [pair]
  assert found['problems'] == 24
  # The gap by brute force is of the same counts.
  many = results['truth']
  gap = contrast_of(many, pair['k_weak'], pair['k_strong'])
  assert plan['gap']['value'] == pytest.approx(gap)
  followed = plan['followed']
  assert followed['problems'] == 24
  assert followed['covered']['value'] == followed['solved'] / 24
  assert followed['cost'] <= 1.3 * followed['budget']
  rows = [
    row for row in results['ledger']['rows'] if row['stage'] == 'planned sample'
  ]
  assert sum(row['flops'] for row in rows) == pytest.approx(
    followed['cost'], rel=0.01
  )
  page = (folder / 'report' / 'index.html').read_text()
  assert 'What would a pilot have said?' in page
  assert 'Coverage of the plan' in page


def contrast_of(truth, k_weak, k_strong):
  """Returns coverage of wc at a k less that of se at another, brute force."""
  at = {
    role: {row['k']: row['value'] for row in truth[role]}
    for role in ('wc', 'se')
  }
  return at['wc'][k_weak] - at['se'][k_strong]


def test_replicates_never_share_a_sample():
  s = design.Study(small(replicates=3), 'unused')
  for role in ('wc', 'se'):
    pools = [s.pool(role, 'high', r) for r in range(3)]
    seen = [i for pool in pools for i in pool]
    assert len(set(seen)) == len(seen)
    assert min(seen) == 8


def test_ledger_books_every_stage(finished):
  workdir, results = finished
  stages = [row['stage'] for row in results['ledger']['rows']]
  assert stages.count('sample') == 2
  assert stages.count('train') == 4
  assert stages.count('evaluate') == 5
  assert stages.count('grade') == 2
  for row in results['ledger']['rows']:
    assert row['chip_seconds'] > 0
    assert (row['flops'] > 0) == (not row['stage'].endswith('grade'))
  shares = [row['share_of_flops'] for row in results['ledger']['by_stage']]
  assert sum(shares) == pytest.approx(1)
  assert storage.exists(storage.join(workdir, 'ledger.jsonl'))


def test_report_is_written(finished):
  workdir, results = finished
  page = storage.read_text(storage.join(workdir, 'report', 'index.html'))
  assert results['answer']['sentence'][:40] in page
  assert results['status'] == 'finished'


def test_second_run_does_nothing_and_says_the_same(finished):
  workdir, results = finished
  shards = {
    p: p.stat().st_mtime_ns
    for p in pathlib.Path(workdir).rglob('*')
    if p.name.startswith(('shard-', 'model', 'training', 'evaluation'))
  }
  assert launch(SMALL, workdir).wait() == 0
  again = storage.read_json(storage.join(workdir, 'results.json'))
  assert without_times(again) == without_times(results)
  assert all(p.stat().st_mtime_ns == t for p, t in shards.items())


def test_report_is_rebuilt_from_files(finished):
  workdir, results = finished
  rebuilt = run.rebuild(small(), workdir)
  assert without_times(rebuilt) == without_times(results)


def test_what_a_study_is_called_is_not_what_it_is(finished):
  workdir, _ = finished
  power = settings.Power(wanted=0.05)
  design.Study(small(title='another', power=power), workdir).check()
  # Nor who looks on while its students train.
  sft = dataclasses.replace(
    small().sft, wandb=sft_settings.WandbConfig(project='p')
  )
  design.Study(small(sft=sft), workdir).check()


def test_another_study_is_refused(finished):
  workdir, _ = finished
  with pytest.raises(errors.InputError, match='seed') as caught:
    run.run(small(seed=5), workdir)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
  ('change', 'wanted'),
  [
    ({'replicates': 0}, 'replicates'),
    ({'budgets': {'low': 3, 'high': 2}}, 'budgets'),
    ({'cost_ratios': (5.0,)}, 'cost_ratios'),
    (
      {'sft': dataclasses.replace(small().sft, batch_size=12)},
      'setups.student: batch_size: wanted a multiple',
    ),
    (
      {'sft': dataclasses.replace(small().sft, max_length=10**6)},
      'setups.student: max_length: wanted at most the',
    ),
    (
      {
        'models': settings.pair_of_models()
        | {'wc': settings.Model(checkpoint='tiny-nobody')}
      },
      'tiny-nobody',
    ),
  ],
)
def test_bad_configurations(change, wanted, tmp_path):
  with pytest.raises(errors.InputError, match=wanted):
    run.run(small(**change), str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('where', ['study', 'setup'])
def test_a_tracker_that_is_missing_is_told_of_before_anything_is_drawn(
  where, tmp_path, monkeypatch
):
  monkeypatch.setitem(sys.modules, 'wandb', None)
  config = small()
  asked = dataclasses.replace(
    config.sft, wandb=sft_settings.WandbConfig(project='weaker')
  )
  if where == 'study':
    config = dataclasses.replace(config, sft=asked)
  else:
    name, setup = next(iter(config.setups.items()))
    setup = dataclasses.replace(setup, sft=asked)
    config = dataclasses.replace(config, setups=config.setups | {name: setup})
  for act in (run.run, run.dry_run):
    with pytest.raises(errors.InputError, match='wandb: wanted the package'):
      act(config, str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()


def test_an_arm_takes_the_right_samples_of_its_pool_only(finished):
  workdir, _ = finished
  s = design.Study(small(), workdir)
  staged = stages.Stages(s)
  counts = {
    arm: len(staged.rows('high', arm, 0)[0])
    for arm in ('wc', 'se', 'wc_number_matched')
  }
  for role in ('wc', 'se'):
    pool = s.pool(role, 'high', 0)
    part = staged.graded(role).table.restrict(pool.start, len(pool))
    assert counts[role] == part.right_M.sum()
  assert counts['wc_number_matched'] < counts['wc']
  assert len(arms.human(s.problems, s.task)) == 24


def test_an_arm_without_data_ends_the_study_before_any_student(
  finished, tmp_path
):
  """Of one problem that nobody solved nothing is trained on."""
  workdir, _ = finished
  graded = stages.Stages(design.Study(small(), workdir)).graded('wc')
  s = design.Study(small(), workdir)
  first = s.pool('wc', 'high', 0)
  right_Q = graded.table.restrict(first.start, len(first)).right_Q
  unsolved = [p for p, n in zip(s.problems, right_Q, strict=True) if not n]
  assert unsolved
  s.trained = unsolved[:1]
  s.workdir = str(tmp_path)
  staged = stages.Stages(s)
  staged._graded = {'wc': graded}
  with pytest.raises(
    errors.InputError, match=r'arms\.wc: budget high, replicate 0: none of'
  ) as caught:
    staged.data('high', 'wc')
  assert '\n' not in str(caught.value)
  assert not (tmp_path / 'data').exists()


def test_an_answer_without_graded_samples_says_so(tmp_path):
  nothing = {'value': None, 'low': None, 'high': None, 'n': 0}
  study = design.Study(small(), str(tmp_path))
  found = outcome.answer(study, {'high': nothing}, {'setups': []})
  assert 'too few samples could be graded' in found['sentence']


def test_training_sets_are_exported(finished):
  workdir, results = finished
  found = {row['arm']: row for row in results['exports']}
  assert set(found) == {'wc', 'se', 'wc_number_matched'}
  counts = {row['arm']: row['counts'] for row in results['selection']}
  for arm, row in found.items():
    folder = storage.join(workdir, row['folder'])
    assert exports.whole(folder)
    lines = storage.read_text(storage.join(folder, 'train.jsonl'))
    rows = [json.loads(line) for line in lines.splitlines()]
    assert len(rows) == row['rows'] == counts[arm]['chosen']
    trained = storage.join(workdir, 'students/student', f'high-{arm}', 'r0')
    data = storage.read_text(storage.join(trained, 'train.jsonl'))
    assert [(r['prompt'], r['completion']) for r in rows] == [
      (r['prompt'], r['completion']) for r in map(json.loads, data.splitlines())
    ]


@pytest.mark.slow
def test_killed_five_times_the_results_are_the_same(tmp_path):
  """kill -9 of the real command at random moments, then once to the end."""
  began = time.monotonic()
  calm, killed = tmp_path / 'calm', tmp_path / 'killed'
  assert launch(LONGER, calm).wait() == 0
  whole = time.monotonic() - began
  rng = random.Random(0)
  for _ in range(5):
    process = launch(LONGER, killed)
    time.sleep(rng.uniform(0.1, 0.6) * whole)
    process.send_signal(signal.SIGKILL)
    process.wait()
  assert launch(LONGER, killed).wait() == 0
  results = [
    without_times(json.loads((folder / 'results.json').read_text()))
    for folder in (calm, killed)
  ]
  assert results[0] == results[1]
