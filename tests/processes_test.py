"""One command as several processes, on one machine, over gloo."""

import json
import pathlib
import re
import shutil
import signal
import time

import jobs
import pytest

from wcse_jax import errors, processes, shardfiles, storage


# All meshes below divide the slots.
_SAMPLE = (
  '--config.sampler.temperature=1.0',
  '--config.sampler.max_new_tokens=16',
  '--config.sampler.slots=8',
)


@pytest.mark.parametrize(
  ('flags', 'said'),
  [
    (('h:1', None, None), '--processes: wanted all of'),
    ((None, 2, 0), '--coordinator: wanted all of'),
    (('h:1', 2, None), '--process: wanted all of'),
    (('h', 2, 0), "--coordinator: wanted HOST:PORT of process 0; got 'h'"),
    (('h:0', 2, 0), '--coordinator: wanted HOST:PORT'),
    (('h:70000', 2, 0), '--coordinator: wanted HOST:PORT'),
    (('h:1', 0, 0), '--processes: wanted a count >= 1; got 0'),
    (('h:1', 2, 2), '--process: wanted 0 to 1, as --processes=2; got 2'),
    (('h:1', 2, -1), '--process: wanted 0 to 1'),
  ],
)
def test_flags_that_do_not_fit_are_refused(flags, said):
  with pytest.raises(errors.InputError) as caught:
    processes.check(*flags)
  assert str(caught.value).startswith(said)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize('flags', [(None, None, None), ('h:1', 2, 1)])
def test_flags_that_fit_pass(flags):
  processes.check(*flags)


def test_a_process_alone_waits_for_nobody(nothing_compiled):
  processes.start('127.0.0.1:1', 1, 0)
  assert (processes.index(), processes.count()) == (0, 1)
  assert processes.first()
  processes.meet('nobody')
  assert processes.tell('all', 'of it') == 'of it'
  with pytest.raises(ValueError, match='mine'):
    with processes.failing():
      raise ValueError('mine')


_MET = """
import os, time
from wcse_jax import errors, processes, sharding
processes.start()
index = int(os.environ['SLURM_PROCID'])
assert (processes.index(), processes.count()) == (index, 3)
for size in (1, 3):
  found = sharding.replica(f'fsdp={2 * size},tensor=1')
  held = [d.process_index for d in found.mesh.devices.flat]
  want = [index] * 2 if size == 1 else [0, 0, 1, 1, 2, 2]
  assert held == want, held
  assert (found.number, found.count) == ((index, 3), (0, 1))[size > 1]
  assert found.leads == (size == 1 or index == 0)
assert sharding.describe(sharding.replica().mesh) == 'data=2,fsdp=1,tensor=1'
try:
  sharding.replica('data=4')
except errors.InputError as error:
  print(error)
if index:
  time.sleep(0.5)
began = time.monotonic()
processes.meet('late')
waited = time.monotonic() - began
assert index or waited > 0.2, waited
for text in ('one', 'two'):
  assert processes.tell('said', text if index == 0 else 'mine') == text
try:
  with processes.failing():
    if index == 1:
      raise errors.InputError('what\\nis wrong')
    if index == 2:
      processes.meet('in vain')
    processes.tell('told', 'x') if index else processes.meet('in vain')
except errors.InputError as error:
  print(error)
"""


def test_processes_meet_and_an_error_of_one_ends_all():
  found = jobs.Job(['-c', _MET], 3, devices=2, slurm=True).succeeds()
  for index, (_, out, _) in enumerate(found):
    said, wrong = out.rstrip().split('.\n')
    assert said == (
      "mesh: 'data=4' wants 4 devices; each of 3 processes has 2, and sizes "
      'that multiply to 2 or 6 would fit'
    )
    assert wrong == ('what\nis wrong' if index == 1 else 'what is wrong')


@pytest.fixture(scope='module')
def work(tiny, tmp_path_factory):
  """(arguments of a run of eight shards, folder for its compiled programs)."""
  problems = tmp_path_factory.mktemp('data') / 'rows.jsonl'
  rows = [
    {'question': f'{i} + {i + 2} = ?', 'answer': f'#### {2 * i + 2}'}
    for i in range(5)
  ]
  problems.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  arguments = (
    'launch/sample.py',
    f'--config.checkpoint={tiny}',
    '--config.task=gsm8k',
    f'--config.data={problems}',
    '--config.split=test',
    '--config.samples_per_problem=60',
    *_SAMPLE,
  )
  return arguments, tmp_path_factory.mktemp('compiled')


def _job(work, folder, count, **more):
  arguments, cache = work
  command = [*arguments, f'--workdir={folder}']
  return jobs.Job(command, count, cache=cache, **more)


@pytest.fixture(scope='module')
def alone(work, tmp_path_factory):
  """The folder of one process of one device; do not change it."""
  folder = tmp_path_factory.mktemp('alone') / 'run'
  _job(work, folder, 1).succeeds()
  return folder


def _same(folder, want, model='tiny'):
  """Asserts that two runs have the same samples, and costs but for seconds."""
  samples, wanted = folder / 'samples' / model, want / 'samples' / model
  names = sorted(path.name for path in samples.iterdir())
  assert names == sorted(path.name for path in wanted.iterdir())
  assert len(names) > 2
  for name in names:
    if name != shardfiles.MANIFEST:
      assert (samples / name).read_bytes() == (wanted / name).read_bytes()
  found = []
  for path in (samples, wanted):
    manifest = json.loads((path / shardfiles.MANIFEST).read_text())
    for entry in manifest['files'].values():
      assert entry['cost'].pop('chip_seconds') >= 0
    found.append(manifest)
  assert found[0] == found[1]
  (row,), (other,) = (
    [json.loads(line) for line in (f / 'ledger.jsonl').read_text().splitlines()]
    for f in (folder, want)
  )
  seconds = shardfiles.ShardFolder(str(samples)).cost()['chip_seconds']
  assert row['chip_seconds'] == pytest.approx(seconds)
  for field in ('prefill_tokens', 'decode_tokens', 'flops'):
    assert row[field] == other[field]
  assert not [p for p in folder.rglob('*') if p.name == '.lock']
  return row['chips']


def test_two_processes_draw_what_one_draws(work, alone, tmp_path):
  found = _job(work, tmp_path / 'two', 2).succeeds()
  assert _same(tmp_path / 'two', alone) == 2
  # Each drew half of the shards; the first one says so of its own.
  assert ' 160/160 samples' in found[0][2]
  assert 'tokens drawn' in found[0][1]
  assert found[1][1] == ''
  assert 'samples' not in found[1][2]


def _inodes(folder):
  paths = (folder / 'samples').rglob('shard-*.jsonl')
  return {path.name: path.stat().st_ino for path in paths}


def _both_at_work(work, folder):
  """Starts two processes; returns them when both have written a shard."""
  samples = folder / 'samples' / 'tiny'
  job = _job(work, folder, 2)
  while True:
    parts = list(samples.glob('manifest-*.json'))
    held = [*parts, *samples.glob(shardfiles.MANIFEST)]
    texts = [path.read_text() for path in held]
    if len(texts) == 2 and all('shard-' in text for text in texts):
      return job
    assert job.members[0].poll() is None
    time.sleep(0.002)


def _killed(work, folder, who):
  """Starts two processes, and kills some when both have written a shard."""
  job = _both_at_work(work, folder)
  for index in who:
    job.members[index].send_signal(signal.SIGKILL)
  began = time.monotonic()
  statuses = [status for status, _, _ in job.ends()]
  # The other one does not wait for ever for one that is gone.
  assert time.monotonic() - began < 60
  assert all(statuses), statuses
  for index in who:
    assert statuses[index] == -signal.SIGKILL
  return folder / 'samples' / 'tiny'


@pytest.mark.slow
@pytest.mark.parametrize('who', [0, 1])
def test_a_stop_of_one_process_stops_both(work, tmp_path, who):
  work = [*work[0], '--config.samples_per_problem=4000'], work[1]
  job = _both_at_work(work, tmp_path / 'run')
  job.members[who].send_signal(signal.SIGTERM)
  # Before jax gives up waiting for the others.
  found = job.ends(18)
  assert [status for status, _, _ in found] == [75, 75]
  said = [error.splitlines()[-1] for _, _, error in found]
  assert said[who] == 'stopped: SIGTERM; run it again to go on.'
  assert said[1 - who] == (
    f'stopped: process {who}: SIGTERM; run it again to go on.'
  )
  assert not list((tmp_path / 'run').rglob('.lock'))


@pytest.fixture(scope='module')
def more(work):
  """The arguments of a run of 25 shards."""
  return [*work[0], '--config.samples_per_problem=200'], work[1]


@pytest.fixture(scope='module')
def whole(more, tmp_path_factory):
  """Its folder, of one process undisturbed; do not change it."""
  folder = tmp_path_factory.mktemp('whole') / 'run'
  _job(more, folder, 1).succeeds()
  return folder


@pytest.mark.slow
@pytest.mark.parametrize(
  ('who', 'count'), [((0,), 1), ((1,), 2), ((0, 1), 1), ((0, 1), 2)]
)
def test_killed_processes_leave_what_others_finish(
  more, whole, tmp_path, who, count
):
  samples = _killed(more, tmp_path / 'killed', who)
  # What both wrote is seen before it is merged, and is not made again.
  known = shardfiles.ShardFolder(str(samples)).shards
  parts = list(samples.glob('manifest-*.json'))
  assert len(parts) == 1
  before = _inodes(tmp_path / 'killed')
  assert 2 <= len(known) < 25
  shutil.copytree(tmp_path / 'killed', tmp_path / 'ignored')
  _job(more, tmp_path / 'killed', count).succeeds()
  _same(tmp_path / 'killed', whole)
  after = _inodes(tmp_path / 'killed')
  assert all(after[s.name] == before[s.name] for s in known)
  assert len(after) == 25

  # The inverse: without its part, what the other one wrote is made again.
  (part,) = (tmp_path / 'ignored').rglob('manifest-*.json')
  lost = json.loads(part.read_text())['files']
  part.unlink()
  before = _inodes(tmp_path / 'ignored')
  _job(more, tmp_path / 'ignored', 1).succeeds()
  _same(tmp_path / 'ignored', whole)
  after = _inodes(tmp_path / 'ignored')
  assert all(after[name] != before[name] for name in lost)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('mesh', 'devices'),
  [('tensor=2', 1), ('data=2', 1), ('data=2,tensor=2', 2), ('fsdp=4', 2)],
)
def test_a_mesh_over_two_processes_draws_what_one_process_draws(
  work, tmp_path, mesh, devices
):
  work = [*work[0], f'--config.mesh={mesh}'], work[1]
  one, two = tmp_path / 'one', tmp_path / 'two'
  _job(work, one, 1, devices=2 * devices).succeeds()
  found = _job(work, two, 2, devices=devices).succeeds()
  # Bit for bit: a sum of two parts has one order.
  assert _same(two, one) == 2 * devices
  assert ' 300/300 samples' in found[0][2]
  provenance = json.loads((two / 'provenance.json').read_text())
  assert len(provenance['devices']) == 2 * devices


@pytest.mark.slow
def test_two_replicas_of_two_processes(work, tmp_path):
  work = [*work[0], '--config.mesh=tensor=2'], work[1]
  one, four = tmp_path / 'one', tmp_path / 'four'
  _job(work, one, 1, devices=2).succeeds()
  found = _job(work, four, 4).succeeds()
  assert _same(four, one) == 4
  assert ' 160/160 samples' in found[0][2]


@pytest.mark.slow
def test_the_embedded_model_on_two_processes(tmp_path):
  arguments = (
    'launch/sample.py',
    '--config.checkpoint=tiny-wc',
    '--config.task=arith',
    '--config.limit=70',
    '--config.samples_per_problem=9',
  )
  work = arguments, tmp_path / 'compiled'
  one, two = tmp_path / 'one', tmp_path / 'two'
  _job(work, one, 1).succeeds()
  _job(work, two, 2).succeeds()
  _same(two, one, 'tiny-wc')
  # Grades and measures follow.
  for folder in (one, two):
    jobs.Job(['launch/grade.py', f'--workdir={folder}'], 1).succeeds()
  names = sorted(p.name for p in (one / 'grades' / 'tiny-wc').iterdir())
  assert len(names) > 2
  for name in names:
    path = pathlib.Path('grades') / 'tiny-wc' / name
    # What grading took is no result.
    told = [
      re.sub(rb'"chip_seconds": [\d.e-]+', b'', (folder / path).read_bytes())
      for folder in (one, two)
    ]
    assert told[0] == told[1]
  one, two = (json.loads((f / 'measures.json').read_text()) for f in (one, two))
  assert two == one


@pytest.mark.slow
def test_bad_input_of_the_first_process_ends_both(work, tmp_path):
  folder = tmp_path / 'held'
  with storage.lock(str(folder)):
    found = _job(work, folder, 2).ends(60)
  for status, _, error in found:
    assert status == 2
    (line,) = [x for x in error.splitlines() if 'wanted' in x]
    assert 'wanted to be the only writer; in use by process' in line
  assert not list(folder.iterdir())


def test_a_script_of_one_process_leaves_the_work_to_the_first(tmp_path):
  command = ['launch/grade.py', f'--workdir={tmp_path / "none"}']
  first, second = jobs.Job(command, 2).ends()
  assert first[0] == 2
  assert 'samples' in first[2]
  assert second == (0, '', '')
