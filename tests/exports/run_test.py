"""Exports of run folders: what they take, refuse, and write again."""

import json
import os
import pathlib
import subprocess
import sys

import jobs
import pytest
from pyarrow import parquet

from wcse_jax import errors, exports, selection, shardfiles, storage, tasks
from wcse_jax.exports import run as runs
from wcse_jax.sft import data


TASK = tasks.load('arith')


def _export(train, workdir, **fields):
  return runs.export(runs.ExportConfig(train=train, **fields), str(workdir))


def _table(workdir):
  return parquet.read_table(workdir / 'dataset' / 'data').to_pylist()


def _card(workdir):
  return (workdir / 'dataset' / 'README.md').read_text()


def _stamps(folder):
  return {
    str(path): (path.stat().st_mtime_ns, path.read_bytes())
    for path in sorted(pathlib.Path(folder).rglob('*'))
    if path.is_file()
  }


@pytest.fixture
def out(tmp_path):
  return tmp_path / 'out'


def test_what_a_student_would_train_on(run, out):
  train = run()
  rules = selection.Selection(sound=True)
  manifest = _export(train, out, selection=rules)
  want, counts = data.read(train, 'arith', rules=rules)
  assert data.read(str(out / 'dataset' / 'train.jsonl')) == (want, None)
  assert manifest['selection'] == counts
  assert manifest['rows'] == len(want) == 6
  assert [row['sample_index'] for row in _table(out)] == [0] * 6
  card = _card(out)
  for part in (
    '| `wc` | a checkpoint that is not published as such | 18 | 6 | 6 |',
    '| `right` | the verdict is right | 6 |',
    '| `sound` | the reasoning is sound; what is not judged is dropped | 6 |',
    "| `wc` | the task's own check | 12 | 50.0%",
    'Q: {question}',
    'problems of the test split',
    'version 3',
  ):
    assert part in card, part
  # The run folder has what is not to be passed on.
  held = {path.name for path in (out / 'dataset').iterdir()}
  assert held == {'README.md', 'data', 'manifest.json', 'train.jsonl'}
  assert (out / 'provenance.json').exists()


def test_a_finished_export_stays_as_it_is(run, out):
  train = run()
  first = _export(train, out)
  before = _stamps(out)
  assert _export(train, out) == first
  assert _stamps(out) == before
  # What was changed since is made again.
  (out / 'dataset' / 'train.jsonl').write_text('')
  assert _export(train, out) == first
  after = _stamps(out / 'dataset')
  assert {k: v[1] for k, v in after.items()} == {
    k: v[1] for k, v in before.items() if k in after
  }


def test_a_killed_export_is_made_again(run, out, monkeypatch):
  train = run()
  with monkeypatch.context() as patch:
    patch.setattr(exports.card, 'render', None)
    with pytest.raises(TypeError):
      _export(train, out)
  assert not exports.whole(str(out / 'dataset'))
  assert _export(train, out)['rows'] == 12


def test_another_export_is_refused(run, out):
  train = run()
  _export(train, out)
  before = _stamps(out)
  for fields, name in (
    ({'selection': selection.Selection(per_problem=1)}, 'per_problem'),
    ({'chat': True}, 'chat'),
    ({'title': 'x'}, 'title'),
  ):
    with pytest.raises(errors.InputError, match=rf'another export: .*{name}'):
      _export(train, out, **fields)
  assert _stamps(out) == before


def test_a_folder_of_something_else_is_refused(run, out):
  train = run()
  shardfiles.claim(str(out), {'study': 1})
  with pytest.raises(errors.InputError, match=r'holds another export: .*study'):
    _export(train, out)
  other = out.parent / 'other'
  storage.publish(str(other / 'dataset' / 'mine.txt'), 'x')
  with pytest.raises(errors.InputError, match=r'empty folder; it holds mine'):
    _export(train, other)
  assert not (other / 'manifest.json').exists()


def test_one_of_several_models_is_named(run, out):
  run('wc', chat='off')
  train = run('se')
  with pytest.raises(errors.InputError, match=r'^model: wanted one of se, wc,'):
    _export(train, out)
  with pytest.raises(errors.InputError, match=r"or all; got 'no'"):
    _export(train, out, model='no')
  assert not out.exists()
  assert _export(train, out, model='wc')['rows'] == 12
  assert {row['model'] for row in _table(out)} == {'wc'}
  both = out.parent / 'both'
  assert _export(train, both, model='all')['rows'] == 24
  assert [row['model'] for row in _table(both)] == ['se'] * 12 + ['wc'] * 12
  assert '`wc`: asked by the plain prompt' in _card(both)


def test_models_of_several_splits_are_refused(run, out):
  run('wc')
  train = run('se', split='test')
  with pytest.raises(errors.InputError, match='wanted models of one split'):
    _export(train, out, model='all')


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'train': ''}, r'^train: wanted a run folder; got nothing'),
    ({'train': 'none'}, r'^train: .* has no samples'),
    ({'task': 'svamp'}, r"^task: wanted 'arith', as .* got 'svamp'"),
    ({'decontaminate': 1.5}, r'^decontaminate: wanted a share'),
    ({'selection': selection.Selection(share=2)}, r'^share: wanted'),
  ],
)
def test_what_does_not_fit_is_refused(run, out, fields, message):
  train = run()
  with pytest.raises(errors.InputError, match=message):
    _export(**{'train': train, 'workdir': out} | fields)
  assert not out.exists()


def test_without_grades_it_is_refused(run, out):
  train = run()
  storage.remove_folder(storage.join(train, 'grades'))
  with pytest.raises(errors.InputError, match=r'launch/grade.py'):
    _export(train, out)


def test_another_set_is_refused(run, out):
  train = run(data_sha256='d' * 64)
  with pytest.raises(
    errors.InputError, match=r'^data: wanted the set that was'
  ):
    _export(train, out)


def test_where_nothing_is_chosen_it_is_refused(run, out, tmp_path):
  train = run()
  rules = selection.Selection(verifier='majority', share=1.0)
  with pytest.raises(errors.InputError, match=r'right 18, .* of 18 rows'):
    _export(train, out, selection=rules)
  assert not out.exists()


def test_prompts_of_others_are_refused(run, out, tmp_path):
  train = run()
  shots = TASK.shots(2)
  own = tmp_path / 'own.jsonl'
  own.write_text(
    ''.join(
      json.dumps({'question': s.question, 'target': s.target}) + '\n'
      for s in shots
    )
  )
  other = tmp_path / 'other.jsonl'
  other.write_text('{"question": "1?", "target": "1"}\n' * 2)
  with pytest.raises(errors.InputError, match=r'^prompts: wanted the worked'):
    _export(train, out, prompts=str(other))
  _export(train, out, prompts=str(own))
  assert shots[1].question in _card(out)


def test_problems_near_the_test_are_left_out(run, out):
  train = run()
  whole = _export(train, out)
  clean = out.parent / 'clean'
  found = _export(train, clean, decontaminate=0.25)
  assert 0 < found['rows'] < whole['rows']
  assert found['selection']['rows'] < whole['selection']['rows']
  assert 'share of 25% or more' in _card(clean)
  assert '| 25% or more | 0 | 0 |' in _card(clean)


def test_rates_of_other_samples_are_not_told(run, out):
  train = run()
  path = storage.join(train, 'measures.json')
  measures = storage.read_json(path)
  measures['wc']['samples'] += 1
  storage.publish_json(path, measures)
  _export(train, out)
  assert 'was not measured' in _card(out)


def test_a_user_of_a_chat_model_asks(run, out):
  _export(run(), out, chat=True)
  row = _table(out)[0]
  assert row['prompt'] == TASK.ask(row['question'])
  assert '--config.chat=on' in _card(out)


def test_by_command(run, out):
  train = run()

  def command(*arguments):
    return subprocess.run(
      [sys.executable, 'launch/export.py', f'--workdir={out}', *arguments],
      cwd=jobs.ROOT,
      env=os.environ | {'PYTHONPATH': str(jobs.ROOT)},
      capture_output=True,
      text=True,
    )

  done = command(
    f'--config.train={train}',
    '--config.task=arith',
    '--config.selection.distinct=true',
  )
  assert (done.returncode, done.stderr) == (0, '')
  assert done.stdout.startswith('12 rows of 6 problems: ')
  refused = command(f'--config.train={train}')
  assert (refused.returncode, refused.stdout) == (2, '')
  assert refused.stderr.count('\n') == 1
