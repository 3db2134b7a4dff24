"""Weights & Biases: the same numbers, one run a folder, never in the way."""

import dataclasses
import json
import sys
import types

import pytest
import sft_runs

from wcse_jax import errors
from wcse_jax.sft import settings, tracking, train


class _Run:
  def __init__(self, asked):
    self.asked = asked
    self.defined, self.logged, self.finished = [], [], []
    self.broken = ''

  def define_metric(self, name, step_metric):
    self.defined.append((name, step_metric))

  def log(self, values):
    if self.broken:
      raise RuntimeError(self.broken)
    self.logged.append(values)

  def finish(self, exit_code):
    self.finished.append(exit_code)


@pytest.fixture
def wandb(monkeypatch):
  """A package in the place of `wandb`, which keeps what it is told."""
  fake = types.ModuleType('wandb')
  fake.runs = []
  fake.Settings = lambda **fields: fields

  def init(**asked):
    fake.runs.append(_Run(asked))
    return fake.runs[-1]

  fake.init = init
  monkeypatch.setitem(sys.modules, 'wandb', fake)
  return fake


def _asked(config, **fields):
  place = settings.WandbConfig(**({'project': 'weaker'} | fields))
  return dataclasses.replace(config, wandb=place)


def _rows(folder):
  lines = (folder / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]


def test_the_numbers_of_each_step_are_sent(config, done, wandb, tmp_path):
  folder = tmp_path / 'runs' / 'tuned'
  result = train.run(_asked(config, mode='offline'), str(folder))
  # Who looks on changes nothing.
  sft_runs.same(folder, result, done)
  [run] = wandb.runs
  assert run.defined == [('*', 'step')]
  rows = [
    {key: value for key, value in row.items() if key != 'name'}
    for row in _rows(folder)
  ]
  assert run.logged == rows
  assert all(
    type(v) in (int, float) for row in run.logged for v in row.values()
  )
  assert run.finished == [0]
  asked = run.asked
  assert (asked['project'], asked['entity']) == ('weaker', None)
  assert (asked['mode'], asked['resume']) == ('offline', 'allow')
  assert asked['name'].endswith('/runs/tuned')
  assert asked['dir'] == str(folder)
  assert asked['config']['batch_size'] == 8
  assert json.loads((folder / 'wandb.json').read_text()) == {
    'id': asked['id'],
    'project': 'weaker',
    'entity': '',
  }


def test_a_resumed_run_goes_on_with_its_own(
  config, done, wandb, tmp_path, monkeypatch
):
  folder = tmp_path / 'run'
  asked = _asked(config)
  sft_runs.killed(asked, folder, monkeypatch, 6, behind=True)
  result = train.run(asked, str(folder))
  sft_runs.same(folder, result, done)
  first, second = wandb.runs
  assert first.asked['id'] == second.asked['id']
  assert first.finished == [1]
  assert [row['step'] for row in first.logged] == list(range(1, 7))
  assert [row['step'] for row in second.logged] == list(range(7, 13))


def test_asking_for_it_makes_no_other_run(config, done, wandb):
  folder, result = done
  assert train.run(_asked(config), str(folder)) == result
  assert wandb.runs == []


def test_another_project_gets_another_run(wandb, tmp_path):
  ids = []
  for project in ('a', 'a', 'b'):
    place = settings.WandbConfig(project=project)
    tracking.Tracker(place, str(tmp_path), {}).close(failed=False)
    ids.append(wandb.runs[-1].asked['id'])
  assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize('kept', ['[]', '{"project": "x"}', '{"id": "a"}'])
def test_what_is_kept_of_others_is_not_taken(wandb, tmp_path, kept):
  (tmp_path / 'wandb.json').write_text(kept)
  tracking.Tracker(settings.WandbConfig(project='p'), str(tmp_path), {})
  assert len(wandb.runs[0].asked['id']) == 16


def test_a_failure_on_the_way_is_told_once(config, wandb, tmp_path, caplog):
  tracker = tracking.Tracker(
    settings.WandbConfig(project='p'), str(tmp_path), {}
  )
  [run] = wandb.runs
  tracker.write(1, {'loss': 2.0})
  run.broken = 'no\nnetwork'
  tracker.write(2, {'loss': 1.0})
  tracker.write(3, {'loss': 0.5})
  tracker.close(failed=False)
  assert [row['step'] for row in run.logged] == [1]
  assert run.finished == []
  assert caplog.text.count('log failed, and nothing more is sent: no net') == 1


def test_a_run_that_cannot_be_opened_is_one_line(wandb, tmp_path):
  def refuse(**_):
    raise ConnectionError('no\nway')

  wandb.init = refuse
  with pytest.raises(errors.InputError) as told:
    tracking.Tracker(settings.WandbConfig(project='p'), str(tmp_path), {})
  assert str(told.value) == "wandb: wanted a run of project 'p'; got no way"


@pytest.mark.parametrize(
  ('there', 'why'),
  [
    (None, 'import of wandb halted; None in sys.modules'),
    (types.ModuleType('wandb'), 'a folder of that name'),
  ],
)
def test_a_missing_package_is_one_line_before_anything_is_done(
  config, tmp_path, monkeypatch, there, why
):
  """A folder `wandb` where the command runs is no package either."""
  monkeypatch.setitem(sys.modules, 'wandb', there)
  with pytest.raises(errors.InputError) as told:
    train.run(_asked(config), str(tmp_path / 'run'))
  assert str(told.value) == (
    f'wandb: wanted the package `wandb`; got {why}; pip install wcse_jax[wandb]'
  )
  assert not (tmp_path / 'run').exists()


def test_in_a_bucket_its_own_files_lie_elsewhere(wandb, tmp_path, monkeypatch):
  monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
  tracker = tracking.Tracker(
    settings.WandbConfig(project='p'), 'memory://bucket/tracked', {}
  )
  tracker.close(failed=False)
  assert wandb.runs[0].asked['dir'] == str(tmp_path)
  assert wandb.runs[0].asked['name'].endswith('bucket/tracked')


@pytest.mark.parametrize(
  ('fields', 'said'),
  [
    ({'mode': 'on', 'project': 'p'}, 'wandb.mode: wanted one of nothing, onl'),
    ({'mode': 'offline'}, 'wandb.mode: wanted a wandb.project with it'),
    ({'entity': 'team'}, 'wandb.entity: wanted a wandb.project with it'),
  ],
)
def test_bad_settings(config, fields, said):
  with pytest.raises(errors.InputError, match=said):
    dataclasses.replace(config, wandb=settings.WandbConfig(**fields)).validate()
