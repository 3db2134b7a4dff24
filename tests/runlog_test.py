import errno
import json
import math
import os
import pathlib
import re
import shutil
import subprocess
import sys
import uuid

import numpy as np
import pytest

from wcse_jax import errors, runlog, storage


_ROW = {
  'stage': 'sample',
  'model': 'tiny-wc',
  'chips': 1,
  'chip_seconds': 2.5,
  'prefill_tokens': 10,
  'decode_tokens': 20,
  'flops': 10**25,
  'usd': None,
}


@pytest.fixture(params=['local', 'memory'])
def root(request, tmp_path):
  if request.param == 'local':
    return str(tmp_path / 'run')
  return f'memory://{uuid.uuid4().hex}'


def _lines(path):
  return [json.loads(line) for line in storage.read_text(path).splitlines()]


def test_open_run_keeps_the_first_start(root):
  runlog.open_run(root, {'seed': 0, 'sampler': {'top_k': 3}}, devices=['cpu:0'])
  first = storage.read_json(f'{root}/provenance.json')
  assert storage.read_json(f'{root}/config.json') == {
    'seed': 0,
    'sampler': {'top_k': 3},
  }
  assert first['devices'] == ['cpu:0']
  assert first['argv'] == sys.argv
  assert first['versions']['numpy'] == np.__version__
  assert set(first['versions']) == {
    'jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'transformers',
    'numpy', 'wcse-jax',
  }  # fmt: skip
  assert first['python'].split('.') == [str(n) for n in sys.version_info[:3]]
  assert first['resumes'] == []
  for count in (1, 2):
    runlog.open_run(root, {'seed': 1}, devices=['cpu:1'])
    again = storage.read_json(f'{root}/provenance.json')
    resumes = again.pop('resumes')
    assert again == {k: v for k, v in first.items() if k != 'resumes'}
    assert [start['devices'] for start in resumes] == [['cpu:1']] * count
  assert storage.read_json(f'{root}/config.json') == {'seed': 1}


@pytest.mark.parametrize('body', ['{', '[]', '{"resumes": 1}'])
def test_a_corrupt_provenance_is_refused(root, body):
  path = f'{root}/provenance.json'
  storage.publish(path, body)
  with pytest.raises(errors.InputError, match=re.escape(path)):
    runlog.open_run(root, {})
  assert storage.names(root) == ['provenance.json']


def test_commit_is_that_of_the_package_and_says_dirty(tmp_path):
  package = tmp_path / 'wcse_jax'
  package.mkdir()
  for name in ('__init__.py', 'errors.py', 'storage.py', 'runlog.py'):
    shutil.copy(pathlib.Path(runlog.__file__).parent / name, package)

  def git(*arguments):
    done = subprocess.run(
      [
        'git',
        '-c',
        'user.name=n',
        '-c',
        'user.email=e@example.org',
        *arguments,
      ],
      cwd=tmp_path,
      check=True,
      capture_output=True,
      text=True,
    )
    return done.stdout.strip()

  def commit():
    code = 'from wcse_jax import runlog; print(runlog.provenance()["commit"])'
    done = subprocess.run(
      [sys.executable, '-c', code],
      cwd=tmp_path,
      check=True,
      capture_output=True,
      text=True,
    )
    return done.stdout.strip()

  git('init', '--quiet')
  # Inside a checkout of something else: its commit says nothing.
  git('commit', '--quiet', '--allow-empty', '-m', 'other')
  assert commit() == 'None'
  git('add', 'wcse_jax/runlog.py')
  git('commit', '--quiet', '-m', 'package')
  assert commit() == git('rev-parse', 'HEAD')
  with open(package / 'runlog.py', 'a') as file:
    file.write('\n')
  assert commit() == git('rev-parse', 'HEAD') + '-dirty'


def test_metrics_are_merged_by_name_and_step(root):
  path = f'{root}/metrics.jsonl'
  with runlog.Metrics(root, 'sft') as metrics:
    metrics.write(10, loss=0.5, tokens=7)
    metrics.write(2, loss=np.float32(0.25))
    assert not storage.exists(path)
  with runlog.Metrics(root, 'evaluate') as metrics:
    metrics.write(0, score=1)
  assert _lines(path) == [
    {'name': 'evaluate', 'step': 0, 'score': 1},
    {'name': 'sft', 'step': 2, 'loss': 0.25},
    {'name': 'sft', 'step': 10, 'loss': 0.5, 'tokens': 7},
  ]
  assert storage.names(f'{root}/parts') == []
  before = storage.read_bytes(path)
  runlog.Metrics(root, 'sft').close()
  assert storage.read_bytes(path) == before


def test_a_redone_step_replaces_and_what_a_kill_left_is_kept(root):
  killed = runlog.Metrics(root, 'sft')
  for step in range(4):
    killed.write(step, loss=1.0, run=0)
    killed.flush()
  killed.write(4, loss=1.0, run=0)  # Never published.
  other = runlog.Metrics(root, 'sft-2')
  other.write(0, loss=3.0)
  other.flush()
  with runlog.Metrics(root, 'sft') as resumed:
    resumed.write(3, loss=2.0)
    resumed.flush()
    resumed.write(3, loss=2.5)
  rows = _lines(f'{root}/metrics.jsonl')
  assert [(row['step'], row['loss']) for row in rows] == [
    (0, 1.0),
    (1, 1.0),
    (2, 1.0),
    (3, 2.5),
  ]
  assert 'run' not in rows[3]
  # The parts of the other name are still its own to merge.
  assert storage.names(f'{root}/parts') == ['sft-2-000000.jsonl']


def test_parts_go_out_by_number_of_rows_and_by_age(root, monkeypatch):
  monkeypatch.setattr(runlog, '_PART_ROWS', 3)
  metrics = runlog.Metrics(root, 'sft')
  for step in range(7):
    metrics.write(step, x=step)
  assert storage.names(f'{root}/parts') == [
    'sft-000000.jsonl',
    'sft-000001.jsonl',
  ]
  monkeypatch.setattr(runlog, '_PART_S', 0.0)
  metrics.write(7, x=7)
  assert len(_lines(f'{root}/parts/sft-000002.jsonl')) == 2


def test_metric_values(root):
  with runlog.Metrics(root, 'a') as metrics:
    metrics.write(
      0, i=np.int64(2**60), f=np.asarray(0.5), nan=math.nan, inf=-np.inf
    )
    for bad in ('1', None, True, np.True_, [1.0], np.zeros(1), 1j, object()):
      with pytest.raises(ValueError, match=r'^x: wanted one number'):
        metrics.write(1, x=bad)
    with pytest.raises(ValueError, match=r'^name: '):
      metrics.write(1, name=1)
  assert _lines(f'{root}/metrics.jsonl') == [
    {'name': 'a', 'step': 0, 'i': 2**60, 'f': 0.5, 'nan': None, 'inf': None}
  ]
  for name in ('', 'a/b', '../a', 'a b', '.a'):
    with pytest.raises(ValueError, match=r'^name: '):
      runlog.Metrics(root, name)


@pytest.mark.parametrize('body', ['{', '[]', '{"step": 1}', 'null'])
def test_corrupt_metrics_are_refused_by_row(root, body):
  path = f'{root}/metrics.jsonl'
  storage.publish(path, '{"name": "a", "step": 0}\n' + body + '\n')
  metrics = runlog.Metrics(root, 'a')
  metrics.write(1, x=1)
  with pytest.raises(errors.InputError, match=re.escape(path) + ': row 2'):
    metrics.close()
  assert storage.names(f'{root}/parts') == ['a-000000.jsonl']


def test_the_ledger_is_by_key_and_never_doubled(root):
  runlog.book(root, 'sample-b', _ROW)
  runlog.book(root, 'sample-a', dict(reversed({**_ROW, 'usd': 1}.items())))
  runlog.book(root, 'sample-a-2', _ROW)
  runlog.book(root, 'sample-b', {**_ROW, 'flops': 1})
  for _ in range(2):
    rows = runlog.merge_ledger(root)
    assert rows == [{**_ROW, 'usd': 1}, _ROW, {**_ROW, 'flops': 1}]
    assert _lines(f'{root}/ledger.jsonl') == rows
    assert [list(row) for row in _lines(f'{root}/ledger.jsonl')] == [
      list(runlog.LEDGER_FIELDS)
    ] * 3


def test_an_empty_ledger(root):
  assert runlog.merge_ledger(root) == []
  assert storage.read_bytes(f'{root}/ledger.jsonl') == b''


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'flops': 1.0}, 'flops: wanted an integer'),
    ({'chips': -1}, 'chips: wanted an integer'),
    ({'chips': True}, 'chips: wanted an integer'),
    ({'chip_seconds': None}, 'chip_seconds: wanted a finite number'),
    ({'chip_seconds': math.nan}, 'chip_seconds: wanted a finite number'),
    ({'usd': math.inf}, 'usd: wanted a finite number'),
    ({'model': None}, 'model: wanted a string'),
    ({'seconds': 1}, 'wanted the fields'),
  ],
)
def test_a_wrong_ledger_row_is_refused(root, change, message):
  with pytest.raises(ValueError, match=f'^k: {message}'):
    runlog.book(root, 'k', {**_ROW, **change})
  with pytest.raises(ValueError, match=r'^k: wanted the fields'):
    runlog.book(root, 'k', {k: v for k, v in _ROW.items() if k != 'usd'})
  with pytest.raises(ValueError, match=r'^key: '):
    runlog.book(root, 'a/b', _ROW)
  assert not storage.exists(root)
  if change != {'chip_seconds': math.nan}:
    path = f'{root}/ledger/k.json'
    storage.publish(path, json.dumps({**_ROW, **change}))
    with pytest.raises(errors.InputError, match=re.escape(path)):
      runlog.merge_ledger(root)


def _run(path):
  with storage.lock(path):
    runlog.book(path, 'a', _ROW)
    with runlog.Metrics(path, 'sft') as metrics:
      for step in range(6):
        metrics.write(step, loss=1 / (step + 1))
        if step % 2:
          metrics.flush()
    runlog.merge_ledger(path)


def _content(path):
  return {
    str(file.relative_to(path)): file.read_bytes()
    for file in sorted(pathlib.Path(path).rglob('*'))
    if file.is_file()
  }


def test_a_run_survives_the_failure_of_every_call(tmp_path, monkeypatch):
  _run(tmp_path / 'clean')
  want = _content(tmp_path / 'clean')
  assert set(want) == {'ledger/a.json', 'ledger.jsonl', 'metrics.jsonl'}
  for nth in range(1, 200):
    path = tmp_path / str(nth)
    with monkeypatch.context() as patch:
      calls = _fail_nth(patch, nth)
      try:
        _run(path)
      except OSError:
        failed = True
      else:
        failed = False
    if len(calls) < nth:
      break
    assert failed
    _run(path)
    assert _content(path) == want
  # Six files at four calls; three parts removed; three folders and the lock.
  assert nth == 6 * 4 + 3 + 3 + 1 + 1


def _fail_nth(monkeypatch, nth):
  """Makes the nth write, fsync, rename or removal of a part fail."""
  calls = []

  def failing(name):
    real = getattr(os, name)

    def call(*arguments):
      if name == 'unlink' and '/parts/sft-' not in str(arguments[0]):
        return real(*arguments)
      calls.append(name)
      if len(calls) == nth:
        raise OSError(errno.EIO, os.strerror(errno.EIO))
      return real(*arguments)

    return call

  for name in ('write', 'fsync', 'rename', 'unlink'):
    monkeypatch.setattr(os, name, failing(name))
  return calls


def test_parts_left_by_a_kill_in_close_do_not_bring_old_rows_back(
  tmp_path, monkeypatch
):
  for nth in range(1, 4):
    path = str(tmp_path / str(nth))
    first = runlog.Metrics(path, 'sft')
    for loss in (1.0, 2.0, 3.0):
      first.write(0, loss=loss)
      first.flush()
    removed = []

    def remove(file, removed=removed, nth=nth, real=os.unlink):
      if '/parts/sft-' in file:
        removed.append(file)
        if len(removed) == nth:
          raise OSError(errno.EIO, os.strerror(errno.EIO))
      real(file)

    with monkeypatch.context() as patch:
      patch.setattr(os, 'unlink', remove)
      with pytest.raises(OSError, match='Input/output'):
        first.close()
    runlog.Metrics(path, 'sft').close()
    assert _lines(f'{path}/metrics.jsonl') == [
      {'name': 'sft', 'step': 0, 'loss': 3.0}
    ]
    assert storage.names(f'{path}/parts') == []


def test_parts_of_a_run_folder_are_held_one_by_one(tmp_path):
  folder = str(tmp_path)
  with runlog.part(folder, 'sample-wc', {'a': 1}, alone=False):
    # What runs inside finds the folder open.
    with runlog.writing(folder, {'b': 2}):
      runlog.book(folder, 'sample-wc', _ROW)
    assert not storage.exists(storage.join(folder, 'config.json'))
    other = subprocess.run(
      [
        sys.executable,
        '-c',
        'import sys; from wcse_jax import runlog\n'
        'with runlog.part(sys.argv[1], "sample-se", {}, alone=False): pass\n'
        'with runlog.part(sys.argv[1], "sample-wc", {}, alone=False): pass\n',
        folder,
      ],
      capture_output=True,
      text=True,
    )
    assert 'sample-wc: wanted to be the only writer' in other.stderr
    assert 'sample-se' not in other.stderr
  own = storage.read_json(storage.join(folder, 'stages/sample-wc/config.json'))
  assert own == {'a': 1}
  # It is closed again: the next writer opens it.
  with runlog.writing(folder, {'b': 2}):
    pass
  assert storage.read_json(storage.join(folder, 'config.json')) == {'b': 2}
