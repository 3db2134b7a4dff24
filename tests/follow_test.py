"""Sampling that follows a plan, and goes on with it."""

import dataclasses
import json
import shutil

import pytest

from wcse_jax import errors, follow, records, shardfiles, tasks
from wcse_jax.sampler import inputs, settings
from wcse_jax.tasks import base


_STAGES = [
  {'model': 'weak', 'samples': 3, 'round': 1},
  {'model': 'strong', 'samples': 2, 'round': 2},
]
_PARTS = [
  {'level': '', 'share': 0.75, 'until': 1, 'stages': _STAGES},
  {'level': '', 'share': 0.25, 'until': 0, 'stages': _STAGES[:1]},
]


def write(folder, parts=_PARTS, *, money=1e9, checkpoint='', **more):
  """Writes a plan.json of two models; returns its path."""
  plan = {
    'currency': 'tokens',
    'models': {
      'weak': {'cost': 1.0, 'checkpoint': checkpoint},
      'strong': {'cost': 3.0, 'checkpoint': ''},
    },
    'allocation': {'budget': money, 'parts': parts},
    **more,
  }
  folder.mkdir(exist_ok=True)
  path = folder / 'plan.json'
  path.write_text(json.dumps(plan))
  return str(path)


@pytest.fixture(scope='module')
def models(tiny, tmp_path_factory):
  """The weak and the strong model: one model in two folders."""
  folder = tmp_path_factory.mktemp('models')
  found = {}
  for name in ('weak', 'strong'):
    found[name] = str(shutil.copytree(tiny, folder / name))
  return found


@pytest.fixture(scope='module')
def config(models, tmp_path_factory):
  return inputs.SampleConfig(
    plan=write(
      tmp_path_factory.mktemp('plan') / 'x', checkpoint=models['weak']
    ),
    plan_models=(f'strong={models["strong"]}',),
    limit=16,
    dtype='float32',
    sampler=settings.SamplerConfig(
      max_new_tokens=6, slots=8, prefill_batch=8, temperature=1.0
    ),
  )


@pytest.fixture(scope='module')
def done(config, tmp_path_factory):
  """(folder, what came of it) of an undisturbed run; do not change it."""
  folder = tmp_path_factory.mktemp('followed') / 'run'
  return folder, follow.follow(config, str(folder))


def _rows(folder, kind, cls):
  found = {}
  for path in sorted((folder / kind).iterdir()):
    rows = shardfiles.ShardFolder(str(path)).rows(cls)
    found[path.name] = {(row.problem_id, row.index): row for row in rows}
  return found


def test_problems_get_what_their_part_says(config, done):
  folder, result = done
  grades = _rows(folder, 'grades', records.Grade)
  samples = _rows(folder, 'samples', records.Sample)
  assert {k: set(v) for k, v in grades.items()} == {
    k: set(v) for k, v in samples.items()
  }
  task = tasks.load('arith', '')
  ids = [p.id for _, p in base.select(task, 'train', limit=16)]
  whole = 0
  for one in ids:
    weak = [grades['weak'].get((one, i)) for i in range(3)]
    drawn = [row for row in weak if row is not None]
    strong = [grades['strong'].get((one, i)) for i in range(2)]
    first = next((i for i, row in enumerate(drawn) if row.correct), None)
    if len(drawn) == 3 and not any(strong):
      # Drawn in full whatever comes; or solved by the last sample.
      whole += 1
      continue
    if first is not None:
      assert len(drawn) == first + 1
      assert not any(strong)
    else:
      assert len(drawn) == 3
      assert all(strong)
  # A quarter of sixteen problems is not stopped.
  assert whole >= 4
  assert result['problems'] == 16
  right = {
    row.problem_id for m in grades.values() for row in m.values() if row.correct
  }
  assert result['solved'] == len(right)
  assert result['samples'] == {k: len(v) for k, v in samples.items()}
  assert result['cost'] == sum(
    row.output_tokens for m in samples.values() for row in m.values()
  )
  assert json.loads((folder / 'followed.json').read_text()) == result
  stages = [
    json.loads(line)['stage']
    for line in (folder / 'ledger.jsonl').read_text().splitlines()
  ]
  assert sorted(stages) == ['grade', 'grade', 'sample', 'sample']


def test_a_stopped_run_ends_with_the_same_samples(
  config, done, tmp_path, monkeypatch
):
  folder = tmp_path / 'run'
  grade, seen = follow.grade.grade_missing, []

  def dying(*rest, **more):
    if len(seen) in (1, 3):
      seen.append(None)
      raise KeyboardInterrupt
    seen.append(None)
    return grade(*rest, **more)

  monkeypatch.setattr(follow.grade, 'grade_missing', dying)
  for _ in range(2):
    with pytest.raises(KeyboardInterrupt):
      follow.follow(config, str(folder))
    assert not (folder / 'followed.json').exists()
  assert follow.follow(config, str(folder)) == done[1]
  assert _rows(folder, 'samples', records.Sample) == _rows(
    done[0], 'samples', records.Sample
  )
  # Once more: nothing is drawn.
  assert follow.follow(config, str(folder)) == done[1]


def test_the_last_rounds_are_left_when_the_money_is_spent(
  config, done, models, tmp_path
):
  money = 0.6 * done[1]['cost'] / 16
  plan = write(tmp_path / 'plan', money=money, checkpoint=models['weak'])
  poor = dataclasses.replace(config, plan=plan)
  found = follow.follow(poor, str(tmp_path / 'run'))
  assert found['budget'] == pytest.approx(0.6 * done[1]['cost'])
  # One sample is at most so much dearer than those before it.
  assert found['cost'] <= found['budget'] + 16 * 6
  assert found['cost'] > 0.7 * found['budget']
  assert sum(found['samples'].values()) < sum(done[1]['samples'].values())
  assert follow.follow(poor, str(tmp_path / 'run')) == found


def test_another_plan_in_the_folder_is_refused(config, done, models, tmp_path):
  folder = shutil.copytree(done[0], tmp_path / 'run')
  plan = write(tmp_path / 'plan', money=5.0, checkpoint=models['weak'])
  with pytest.raises(errors.InputError, match='plan: wanted'):
    follow.follow(dataclasses.replace(config, plan=plan), str(folder))


def test_levels_are_dealt_out_by_share(config, tmp_path):
  parts = [
    {'level': '1,2', 'share': 0.25, 'until': 0, 'stages': []},
    {'level': '1,2', 'share': 0.75, 'until': 0, 'stages': _STAGES[:1]},
    {'level': '3', 'share': 1.0, 'until': 2, 'stages': _STAGES},
  ]
  plan = follow.Plan(
    dataclasses.replace(
      config, plan=write(tmp_path / 'plan', parts, checkpoint='tiny-wc')
    )
  )
  problems = [
    (
      i,
      records.Problem(
        id=f'p{i}', task='t', question='', answer='', level=str(1 + i % 3)
      ),
    )
    for i in range(60)
  ]
  rounds = plan.rounds(problems, seed=0)
  assert [(r.model, r.first_index, r.last_index, r.until) for r in rounds] == [
    ('weak', 0, 0, 0),
    ('weak', 0, 0, 2),
    ('weak', 1, 1, 0),
    ('weak', 1, 1, 2),
    ('weak', 2, 2, 0),
    ('weak', 2, 2, 2),
    ('strong', 0, 1, 2),
  ]
  assert len(rounds[0].positions) == 30
  assert all(position % 3 == 2 for position in rounds[1].positions)
  assert len(rounds[1].positions) == 20
  # Another seed leaves out others.
  assert plan.rounds(problems, seed=1)[0].positions != rounds[0].positions
  with pytest.raises(errors.InputError, match='is of level'):
    plan.rounds([(0, dataclasses.replace(problems[0][1], level='9'))], 0)


@pytest.mark.parametrize(
  ('change', 'said'),
  [
    ({'plan_models': ()}, 'plan_models: wanted strong=CHECKPOINT'),
    ({'plan_models': ('odd=x',)}, 'plan_models: wanted NAME=CHECKPOINT'),
    ({'plan_models': ('strong=nowhere',)}, 'checkpoint: wanted'),
    ({'plan': 'nowhere.json'}, 'nowhere.json'),
  ],
)
def test_what_does_not_fit_is_refused(config, tmp_path, change, said):
  with pytest.raises(errors.InputError) as caught:
    follow.follow(dataclasses.replace(config, **change), str(tmp_path / 'run'))
  assert said in str(caught.value)
  assert '\n' not in str(caught.value)
  assert not (tmp_path / 'run').exists()


def test_a_file_that_is_no_plan_is_refused(config, tmp_path):
  path = tmp_path / 'x.json'
  path.write_text('{"a": 1}')
  with pytest.raises(errors.InputError, match=r'wanted a plan\.json'):
    follow.Plan(dataclasses.replace(config, plan=str(path)))


@pytest.mark.parametrize(
  ('parts', 'said'),
  [
    (
      [{'level': '', 'share': 1.0, 'until': 1, 'stages': _STAGES[::-1]}],
      'the cheapest first; got strong, weak',
    ),
    (
      [{'level': '', 'share': 1.0, 'until': 1, 'stages': _STAGES[:1] * 2}],
      'wanted stages of different models',
    ),
    (
      [{'share': 1.0, 'until': 1, 'stages': _STAGES}],
      'wanted a plan.json',
    ),
    (
      [
        {
          'level': '',
          'share': 1.0,
          'until': 1,
          'stages': [{'model': 'odd', 'samples': 1, 'round': 1}],
        }
      ],
      'wanted a plan.json',
    ),
  ],
)
def test_plans_that_cannot_be_followed_are_refused(
  config, tmp_path, parts, said
):
  path = write(tmp_path / 'plan', parts, checkpoint='tiny-wc')
  with pytest.raises(errors.InputError) as caught:
    follow.Plan(dataclasses.replace(config, plan=path))
  assert said in str(caught.value)


def test_one_name_for_two_models_is_refused(config, models):
  asked = dataclasses.replace(config, plan_models=(f'strong={models["weak"]}',))
  with pytest.raises(errors.InputError, match='different names'):
    follow.Plan(asked)


def test_a_cap_beside_a_plan_is_refused(config, tmp_path):
  with pytest.raises(errors.InputError, match='cap: wanted 0'):
    follow.follow(dataclasses.replace(config, cap=5.0), str(tmp_path / 'x'))


def test_more_problems_in_the_folder_are_refused(config, done, tmp_path):
  folder = shutil.copytree(done[0], tmp_path / 'run')
  with pytest.raises(errors.InputError, match='planned_problems: wanted'):
    follow.follow(dataclasses.replace(config, limit=20), str(folder))


def test_given_costs_are_spent_as_given(config, models, tmp_path):
  plan = write(
    tmp_path / 'plan', money=3.0, checkpoint=models['weak'], costs_given=True
  )
  found = follow.follow(
    dataclasses.replace(config, plan=plan), str(tmp_path / 'run')
  )
  samples = found['samples']
  assert found['cost'] == samples['weak'] + 3 * samples['strong']
  assert found['cost'] <= found['budget'] == 48
