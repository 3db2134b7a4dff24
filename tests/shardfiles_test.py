import contextlib
import errno
import os
import pathlib
import random
import re
import subprocess
import sys
import uuid

import pytest

from wcse_jax import errors, records, shardfiles, storage


_REPOSITORY = pathlib.Path(storage.__file__).parent.parent


_GRADE = records.Grade(
  problem_id='p-0',
  index=3,
  answer='2',
  correct=True,
  verdict='right',
  sound=None,
  why='',
)


@pytest.fixture(params=['local', 'memory'])
def root(request, tmp_path):
  if request.param == 'local':
    return str(tmp_path / 'run')
  return f'memory://{uuid.uuid4().hex}'


def _sample(problem, index):
  return records.Sample(
    problem_id=f'p-{problem}',
    index=index,
    text=f'text {problem}.{index}',
    tokens=(problem, index, 1),
    finish_reason='length',
    prompt_tokens=20,
    shared_prompt_tokens=12,
    output_tokens=3,
    logprob=-problem - index / 8,
  )


def _make(folder, shards):
  """Writes shards whose content follows from their bounds alone."""
  for shard in shards:
    rows = [
      _sample(problem, index)
      for problem in range(shard.first_problem, shard.last_problem + 1)
      for index in range(shard.first_index, shard.last_index + 1)
    ]
    folder.write(shard, rows, {'tokens': 3 * len(rows), 'seconds': 0.5})


def test_shard_names():
  shard = shardfiles.Shard(0, 63, 0, 7)
  assert shard.name == 'shard-00000-00063-0000-0007.jsonl'
  assert shardfiles.Shard.parse(shard.name) == shard
  big = shardfiles.Shard(1234560, 1234567, 10000, 10007)
  assert big.name == 'shard-1234560-1234567-10000-10007.jsonl'
  assert shardfiles.Shard.parse(big.name) == big
  assert shardfiles.Shard.parse('shard-0-063-0-7.jsonl') == shard
  for name in [
    'shard-00063-00000-0000-0007.jsonl', 'shard-0-63-7-0.jsonl',
    'shard-0-63-0-7.jsonl.bad', 'shard-0-63-0.jsonl', 'manifest.json',
    'x-shard-0-63-0-7.jsonl', 'shard-0-63-0-٧.jsonl', 'shard-0-63-0-7.jsonl\n',
  ]:  # fmt: skip
    assert shardfiles.Shard.parse(name) is None, name
  draw = random.Random(0)
  shards = [
    shardfiles.Shard(a, a + 5, i, i + 3)
    for a in draw.sample(range(99_000), 50)
    for i in draw.sample(range(9_000), 3)
  ]
  assert [s.name for s in sorted(shards)] == sorted(s.name for s in shards)


def test_covers_is_inclusive():
  shard = shardfiles.Shard(3, 5, 8, 9)
  inside = {(q, r) for q in range(9) for r in range(12) if shard.covers(q, r)}
  assert inside == {(q, r) for q in (3, 4, 5) for r in (8, 9)}


def test_plan_by_hand():
  shard = shardfiles.Shard
  assert shardfiles.plan_shards([], 8) == []
  assert shardfiles.plan_shards([1], 0) == []
  # A hole stays inside; blocks are of 64 positions and 8 indices.
  assert shardfiles.plan_shards([0, 1, 5, 63, 64, 70], 9) == [
    shard(0, 63, 0, 7),
    shard(0, 63, 8, 8),
    shard(64, 70, 0, 7),
    shard(64, 70, 8, 8),
  ]
  assert shardfiles.plan_shards(range(20), 4, [shard(0, 9, 0, 3)]) == [
    shard(10, 19, 0, 3)
  ]
  assert shardfiles.plan_shards(range(10), 6, [shard(0, 9, 0, 3)]) == [
    shard(0, 9, 4, 5)
  ]
  # Neighbours that miss the same indices meet across what is done.
  assert shardfiles.plan_shards(range(9), 4, [shard(3, 5, 1, 2)]) == [
    shard(0, 2, 0, 3),
    shard(3, 5, 0, 0),
    shard(3, 5, 3, 3),
    shard(6, 8, 0, 3),
  ]


@pytest.mark.parametrize('positions', [[1, 1], [2, 1], [-1, 0]])
def test_plan_refuses_positions_out_of_order(positions):
  with pytest.raises(ValueError, match='positions must'):
    shardfiles.plan_shards(positions, 1)


def _cells(shards, positions, samples):
  """Returns the wanted cells of shards, as often as they are covered."""
  return sorted(
    (position, index)
    for shard in shards
    for position in positions
    for index in range(samples)
    if shard.covers(position, index)
  )


@pytest.mark.parametrize('seed', range(40))
def test_plans_cover_once_grow_only_and_resume(seed):
  draw = random.Random(seed)
  split = range(draw.choice([5, 70, 200]))
  wanted = [p for p in split if draw.random() < 0.9]
  # A history of growing requests, some shards lost on the way.
  done = []
  for _ in range(4):
    limit, samples = draw.randint(1, len(wanted)), draw.randint(1, 20)
    positions = wanted[:limit]
    plan = shardfiles.plan_shards(positions, samples, done)
    for shard in plan:
      rows = shard.last_problem - shard.first_problem + 1
      assert shard.first_problem // 64 == shard.last_problem // 64
      assert shard.first_index // 8 == shard.last_index // 8
      assert rows <= 64
      assert shard.first_problem in positions
      assert shard.last_problem in positions
      assert shard.last_index < samples
    order = [
      (s.first_problem // 64, s.first_index // 8, s.first_problem, s)
      for s in plan
    ]
    assert order == sorted(order)
    # Every wanted cell is there once, old shards and new together.
    everything = [(p, i) for p in positions for i in range(samples)]
    assert _cells(done + plan, positions, samples) == everything
    # Whatever part gets done, the rest of the plan stays the same.
    for part in (plan[: len(plan) // 2], draw.sample(plan, len(plan) // 2)):
      rest = [shard for shard in plan if shard not in part]
      resumed = shardfiles.plan_shards(positions, samples, [*part, *done])
      assert resumed == rest
    assert shardfiles.plan_shards(positions, samples, done + plan) == []
    done += plan
    done = [shard for shard in done if draw.random() < 0.8]


_PRINT = {'weights': 'ab12', 'sampler': {'temperature': 0.7, 'top_k': 0}}


def test_a_folder_fills_and_is_found_again(root):
  folder = shardfiles.ShardFolder(root, _PRINT)
  assert folder.shards == []
  assert folder.check() == []
  assert folder.cost() == {}
  assert not storage.exists(root)
  plan = shardfiles.plan_shards(range(70), 2)
  _make(folder, reversed(plan))
  for again in (
    folder,
    shardfiles.ShardFolder(root, _PRINT),
    shardfiles.ShardFolder(root),
  ):
    assert again.fingerprint == _PRINT
    assert again.check() == []
    assert again.shards == plan
    assert again.cost() == {'tokens': 3 * 140, 'seconds': 1.0}
    assert type(again.cost()['tokens']) is int
    rows = list(again.rows(records.Sample))
    assert rows == [_sample(p, i) for p in range(70) for i in range(2)]
    assert again.read(plan[1], records.Sample) == rows[128:]
  manifest = storage.read_json(storage.join(root, 'manifest.json'))
  entry = manifest['files'][plan[0].name]
  path = storage.join(root, plan[0].name)
  assert manifest['fingerprint'] == _PRINT
  assert entry == {
    'sha256': storage.sha256(path),
    'rows': 128,
    'bytes': len(storage.read_bytes(path)),
    'cost': {'tokens': 384, 'seconds': 0.5},
  }


def test_grades_and_empty_shards_are_kept_too(root):
  folder = shardfiles.ShardFolder(root, _PRINT)
  first, second = shardfiles.plan_shards([0, 64], 4)
  folder.write(first, [_GRADE])
  folder.write(second, [], {})
  assert list(folder.rows(records.Grade)) == [_GRADE]
  assert shardfiles.plan_shards([0, 64], 4, folder.shards) == []
  with pytest.raises(errors.InputError, match='unknown field "answer"'):
    folder.read(first, records.Sample)


def test_a_shard_never_changes_and_holds_its_own_rows_only(root):
  folder = shardfiles.ShardFolder(root, _PRINT)
  shard = shardfiles.Shard(0, 1, 0, 1)
  for rows, message in [
    ([_sample(0, 2)], 'index 2, which is outside'),
    ([_sample(0, 1), _sample(0, 1)], 'twice'),
  ]:
    with pytest.raises(ValueError, match=message):
      folder.write(shard, rows)
  assert not storage.exists(root)
  _make(folder, [shard])
  with pytest.raises(ValueError, match='never change'):
    _make(folder, [shard])


def test_the_digest_is_of_rows_and_fingerprint(root):
  folder = shardfiles.ShardFolder(root, _PRINT)
  digests = [folder.digest()]
  for shard in shardfiles.plan_shards(range(70), 1):
    _make(folder, [shard])
    digests.append(folder.digest())
  assert len({*digests}) == 3
  assert shardfiles.ShardFolder(root).digest() == digests[-1]
  # What it cost to make the rows is no part of it.
  manifest = storage.join(root, shardfiles.MANIFEST)
  held = storage.read_json(manifest)
  for entry in held['files'].values():
    entry['cost'] = {'flops': 1.5}
  storage.publish_json(manifest, held)
  assert shardfiles.ShardFolder(root).digest() == digests[-1]
  other = shardfiles.ShardFolder(storage.join(root, 'none'), {'weights': ''})
  assert other.digest() != digests[0]


def test_several_writers_are_read_together_and_merged(root, monkeypatch):
  plan = shardfiles.plan_shards(range(70), 20)
  assert len(plan) == 6
  alone = f'{root}-alone'
  _make(shardfiles.ShardFolder(alone, _PRINT), plan)

  first = shardfiles.ShardFolder(root, _PRINT)
  first.begin()
  manifest = storage.join(root, 'manifest.json')
  assert storage.read_json(manifest) == {'fingerprint': _PRINT, 'files': {}}
  second = shardfiles.ShardFolder(root, _PRINT, part='ab-1')
  third = shardfiles.ShardFolder(root, _PRINT, part='ab-2')
  for number, folder in enumerate((first, second, third) * 2):
    _make(folder, [plan[number]])
  parts = ['manifest-ab-1.json', 'manifest-ab-2.json']
  assert set(parts) < set(storage.names(root))
  # Each wrote its own and nothing else.
  for number, name in enumerate(['manifest.json', *parts]):
    held = storage.read_json(storage.join(root, name))['files']
    assert list(held) == [plan[number].name, plan[number + 3].name]

  def whole(folder):
    assert folder.shards == plan
    assert folder.check() == []
    assert folder.cost() == {'tokens': 3 * 1400, 'seconds': 3.0}
    assert len(list(folder.rows(records.Sample))) == 1400

  whole(shardfiles.ShardFolder(root))
  whole(shardfiles.ShardFolder(root, _PRINT))
  # The inverse: who does not look at the parts sees a third.
  with monkeypatch.context() as patch:
    patch.setattr(shardfiles, '_part_names', lambda _: [])
    assert len(shardfiles.ShardFolder(root, _PRINT).shards) == 2

  # A kill between the two steps of merging leaves both; nothing is doubled.
  with monkeypatch.context() as patch:
    patch.setattr(storage, 'remove', lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
      shardfiles.ShardFolder(root, _PRINT).merge()
  whole(shardfiles.ShardFolder(root, _PRINT))
  first.merge()
  whole(first)
  assert _content(root) == _content(alone)
  first.merge()
  assert _content(root) == _content(alone)


def test_a_part_that_is_merged_meanwhile_is_not_missed(root, monkeypatch):
  shard = shardfiles.Shard(0, 1, 0, 1)
  first = shardfiles.ShardFolder(root, _PRINT)
  first.begin()
  _make(shardfiles.ShardFolder(root, _PRINT, part='ab-1'), [shard])
  real = shardfiles._part_names

  def names(path):
    found = real(path)
    with monkeypatch.context() as patch:
      patch.setattr(shardfiles, '_part_names', real)
      first.merge()
    return found

  monkeypatch.setattr(shardfiles, '_part_names', names)
  assert shardfiles.ShardFolder(root, _PRINT).shards == [shard]


def test_a_part_of_another_fingerprint_is_refused(root):
  _make(shardfiles.ShardFolder(root, _PRINT), [shardfiles.Shard(0, 1, 0, 1)])
  part = {'fingerprint': {**_PRINT, 'weights': 'cd34'}, 'files': {}}
  storage.publish_json(storage.join(root, 'manifest-ab-1.json'), part)
  for fingerprint in (_PRINT, None):
    with pytest.raises(errors.InputError, match='weights: wanted'):
      shardfiles.ShardFolder(root, fingerprint)


def test_another_fingerprint_is_refused_with_every_difference(root):
  _make(shardfiles.ShardFolder(root, _PRINT), [shardfiles.Shard(0, 1, 0, 1)])
  before = storage.read_bytes(storage.join(root, 'manifest.json'))
  other = {
    'weights': 'cd34',
    'sampler': {'temperature': 0.7, 'top_k': False},
    'prompt': 'line\n' * 100,
  }
  with pytest.raises(errors.InputError) as error:
    shardfiles.ShardFolder(root, other)
  message = str(error.value)
  assert message.startswith(f'{root}: ')
  assert '\n' not in message
  assert 'weights: wanted "cd34", has "ab12"' in message
  assert 'sampler.top_k: wanted false, has 0' in message
  assert 'prompt: wanted "line\\nline' in message
  assert 'characters, sha256' in message
  assert 'temperature' not in message
  assert len(message) < 500
  assert storage.read_bytes(storage.join(root, 'manifest.json')) == before


def test_fingerprint_difference():
  difference = shardfiles.fingerprint_difference
  assert difference({'a': (1, 2)}, {'a': [1, 2]}) == []
  assert difference({'a': {'y': 1, 'x': 2}}, {'a': {'x': 2, 'y': 1}}) == []
  assert difference({'a': 1}, {'a': 1.0}) == ['a: wanted 1, has 1.0']
  assert difference({'a': None}, {}) == ['a: wanted null, has nothing']
  assert difference({}, {'a': {'b': 1}}) == ['a: wanted nothing, has {"b": 1}']
  # Long values that differ only behind what is shown still look different.
  (long,) = difference({'a': 'x' * 500 + '1'}, {'a': 'x' * 500 + '2'})
  want, have = long.removeprefix('a: wanted ').split(', has ')
  assert want != have
  assert len(long) < 200


@pytest.mark.parametrize(
  'body',
  [
    '', '{', '[]', '{}', '{"fingerprint": {}, "files": []}', '\ufeff{}',
    '{"fingerprint": {}, "files": {"../x": {}}}',
    '{"fingerprint": {}, "files": {"shard-0-1-0-1.jsonl":'
    ' {"sha256": "", "rows": 1, "bytes": 1, "cost": {}}}}',
    '{"fingerprint": {}, "files": {"shard-00000-00001-0000-0001.jsonl": 1}}',
    '{"fingerprint": {}, "files": {"shard-00000-00001-0000-0001.jsonl":'
    ' {"sha256": "", "rows": 1, "bytes": 1, "cost": {"x": "1"}}}}',
    '{"fingerprint": {}, "files": {}, "files": {}}',
  ],
)  # fmt: skip
def test_a_corrupt_manifest_is_refused(root, body):
  path = storage.join(root, 'manifest.json')
  storage.publish(path, body)
  with pytest.raises(errors.InputError, match=re.escape(path)) as error:
    shardfiles.ShardFolder(root, {})
  assert '\n' not in str(error.value)


def test_a_folder_without_manifest_needs_a_fingerprint(root):
  with pytest.raises(
    errors.InputError, match=r'manifest.json: .* no such file'
  ):
    shardfiles.ShardFolder(root)


def test_a_file_outside_the_manifest_is_not_trusted(root):
  shard = shardfiles.Shard(0, 1, 0, 1)
  storage.publish(storage.join(root, shard.name), 'from who knows where')
  folder = shardfiles.ShardFolder(root, _PRINT)
  assert folder.shards == []
  assert list(folder.rows(records.Sample)) == []
  with pytest.raises(KeyError):
    folder.read(shard, records.Sample)
  _make(folder, [shard])
  assert shardfiles.ShardFolder(root, _PRINT).check() == []


def _damage(draw, path, kind):
  body = bytearray(storage.read_bytes(path))
  if kind == 'missing':
    storage.remove(path)
    return
  if kind == 'flipped':
    body[draw.randrange(len(body))] ^= 1 << draw.randrange(8)
  elif kind == 'torn':
    del body[draw.randrange(len(body)) :]
  else:
    body += b'\n'
  storage.publish(path, bytes(body))


@pytest.mark.parametrize('kind', ['flipped', 'torn', 'missing', 'longer'])
def test_damage_is_found_named_set_aside_and_made_again(root, kind, caplog):
  draw = random.Random(kind)
  folder = shardfiles.ShardFolder(root, _PRINT)
  plan = [shardfiles.Shard(0, 1, 0, 0), shardfiles.Shard(64, 64, 0, 0)]
  _make(folder, plan)
  whole = {name: storage.read_bytes(f'{root}/{name}') for name in _files(root)}
  # 1,000 in all; a disk is slow to sync.
  for _ in range(200 if root.startswith('memory:') else 50):
    victim = draw.choice(plan)
    path = storage.join(root, victim.name)
    _damage(draw, path, kind)
    folder = shardfiles.ShardFolder(root, _PRINT)
    # Even unchecked, nothing damaged is ever read.
    with pytest.raises(errors.InputError, match=re.escape(path)):
      folder.read(victim, records.Sample)
    caplog.clear()
    assert folder.check() == [victim.name]
    assert [path in record.getMessage() for record in caplog.records] == [True]
    assert not storage.exists(path)
    aside = [n for n in storage.names(root) if '.bad' in n]
    assert aside == ([] if kind == 'missing' else [f'{victim.name}.bad'])
    for name in aside:
      storage.remove(storage.join(root, name))
    assert shardfiles.plan_shards([0, 1, 64], 1, folder.shards) == [victim]
    _make(folder, [victim])
    assert {n: storage.read_bytes(f'{root}/{n}') for n in whole} == whole


def _files(folder):
  return [name for name in storage.names(folder) if '.bad' not in name]


# One whole run: what is missing or bad is made, under the lock.
def _run(path):
  with storage.lock(path):
    folder = shardfiles.ShardFolder(path, _PRINT)
    folder.check()
    _make(folder, shardfiles.plan_shards(range(62, 66), 8, folder.shards))


def _content(path):
  return {name: storage.read_bytes(f'{path}/{name}') for name in _files(path)}


def _fail_nth(monkeypatch, nth):
  """Makes the nth write, fsync or rename fail; a write is torn first."""
  calls = []

  def failing(name):
    real = getattr(os, name)

    def call(*arguments):
      calls.append(name)
      if len(calls) != nth:
        return real(*arguments)
      if name == 'write':
        real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return call

  for name in ('write', 'fsync', 'rename'):
    monkeypatch.setattr(os, name, failing(name))
  return calls


@pytest.mark.parametrize('damaged', [False, True])
def test_a_run_survives_the_failure_of_every_call(
  tmp_path, monkeypatch, damaged
):
  clean = str(tmp_path / 'clean')
  _run(clean)
  want = _content(clean)
  assert len(want) == 3
  for nth in range(1, 200):
    path = str(tmp_path / str(nth))
    if damaged:
      _run(path)
      for shard in shardfiles.ShardFolder(path).shards[1:]:
        _damage(random.Random(nth), f'{path}/{shard.name}', 'flipped')
    with monkeypatch.context() as patch:
      calls = _fail_nth(patch, nth)
      failed = False
      try:
        _run(path)
      except OSError:
        failed = True
    if len(calls) < nth:
      break
    assert failed
    with contextlib.suppress(FileNotFoundError):
      assert not [n for n in os.listdir(path) if n.endswith('.tmp')]
    _run(path)
    assert _content(path) == want
  # Two shards or one, and as many manifests, at four calls each; the lock.
  assert nth == (1 + 2 + 2 * 4 if damaged else 2 + 4 * 4) + 1


_KILLED = """
import importlib.util, os, signal, sys
spec = importlib.util.spec_from_file_location('records_test', sys.argv[2])
test = importlib.util.module_from_spec(spec)
spec.loader.exec_module(test)
test._run(f'{sys.argv[1]}/clean')
want = test._content(f'{sys.argv[1]}/clean')
nth, finished = 0, False
while not finished:
  nth += 1
  path = f'{sys.argv[1]}/{nth}'
  child = os.fork()
  if not child:
    calls = 0
    def shim(real):
      def call(*arguments):
        global calls
        calls += 1
        if calls == nth:
          os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments)
      return call
    for name in ('write', 'fsync', 'rename', 'unlink', 'mkdir'):
      setattr(os, name, shim(getattr(os, name)))
    test._run(path)
    os._exit(0)
  finished = os.waitpid(child, 0)[1] == 0
  test._run(path)
  assert test._content(path) == want, nth
  assert sorted(os.listdir(path)) == sorted(want), nth
print(nth)
"""


def test_a_run_killed_at_every_call_ends_in_the_same_bytes(tmp_path):
  done = subprocess.run(
    [sys.executable, '-c', _KILLED, str(tmp_path), __file__],
    cwd=_REPOSITORY,
    capture_output=True,
    text=True,
    timeout=60,
    check=False,
  )
  assert (done.returncode, done.stderr) == (0, '')
  # 4 files at write, fsync, rename, fsync, unlink; mkdir, fsync; the lock.
  assert done.stdout == f'{4 * 5 + 2 + 2 + 1}\n'
