import json
import subprocess
import sys

import pytest

from wcse_jax import errors
from wcse_jax.metrics import soundness


def _row(steps, label, right, **more):
  return {
    'steps': steps,
    'label': label,
    'final_answer_correct': right,
    **more,
  }


@pytest.fixture
def path(tmp_path):
  rows = [
    *[_row(['1 + 1 = 2', 'The answer is 2.'], -1, True)] * 6,
    *[_row(['1 + 1 = 3', 'The answer is 2.'], 0, True)] * 2,
    *[_row(['1 + 1 = 2', 'The answer is 2.'], 1, True)] * 2,
    _row(['2 + 2 = 5', 'The answer is 5.'], 0, False),
    _row(['It is 5.'], 0, False, set='other'),
  ]
  file = tmp_path / 'rows.jsonl'
  file.write_text('\n'.join(json.dumps({'set': 's', **r}) for r in rows))
  return str(file)


def test_the_table(path):
  found = soundness.table(soundness.read(path, 's'), audit=5, repeats=20)
  right = {name: found[f'right answers: {name}'] for name in ('precision',)}
  assert right['precision']['value'] == 1.0
  assert found['right answers: recall']['value'] == 0.5
  assert found['right answers: unsound by people']['value'] == 0.4
  assert found['right answers: unsound by the checker']['value'] == 0.2
  assert found['wrong answers: recall'] == {
    'value': 1.0,
    'low': None,
    'high': None,
    'n': 1,
  }
  assert found['corrected rate, 5 audited, seed 0']['n'] == 5
  assert 0.2 < found['corrected rate, mean of 20 audits'] < 0.6


def test_a_subset_or_all(path):
  assert len(soundness.read(path)) == 12
  assert len(soundness.read(path, 'other')) == 1
  with pytest.raises(errors.InputError, match='there are none'):
    soundness.read(path, 'none')


def test_refuses_other_rows(tmp_path):
  file = tmp_path / 'a.jsonl'
  file.write_text(json.dumps({'steps': 'x', 'label': 0}))
  with pytest.raises(errors.InputError, match='row 1: wanted "steps"'):
    soundness.read(str(file))


def test_the_command(path, tmp_path):
  command = [sys.executable, '-m', 'wcse_jax.metrics.soundness', '--set=s']
  done = subprocess.run(
    [*command, f'--data={path}', '--audit=5', '--repeats=3'],
    capture_output=True,
    text=True,
    check=True,
  )
  assert 'right answers: recall' in done.stdout
  done = subprocess.run(
    [*command, f'--data={tmp_path}/none'], capture_output=True, text=True
  )
  assert done.returncode == 2
  assert done.stderr.count('\n') == 1
