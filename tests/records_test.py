import contextlib
import errno
import json
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

_PROBLEM = records.Problem(
  id='p-0', task='arith', question='1 + 1?', answer='2', meta={'b': 1, 'a': []}
)
_SAMPLE = records.Sample(
  problem_id='p-0',
  index=3,
  text='één\u2028\n"two"\\',
  tokens=(5, 7, 1),
  finish_reason='stop',
  prompt_tokens=20,
  shared_prompt_tokens=12,
  output_tokens=3,
  logprob=-1.2345678901234567,
)
_GRADE = records.Grade(
  problem_id='p-0',
  index=3,
  answer='2',
  correct=True,
  verdict='right',
  sound=None,
  why='',
)
_ROWS = [_PROBLEM, _SAMPLE, _GRADE]


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


@pytest.mark.parametrize('row', _ROWS, ids=lambda row: type(row).__name__)
def test_a_row_is_one_line_and_comes_back(row):
  line = row.to_json()
  assert '\n' not in line
  assert type(row).from_json(line) == row
  assert type(row).from_json(line).to_json() == line
  shuffled = json.dumps(dict(reversed(json.loads(line).items())))
  assert type(row).from_json(shuffled).to_json() == line
  hash(row)


def test_the_fields_are_the_contract():
  assert list(json.loads(_PROBLEM.to_json())) == [
    'id', 'task', 'question', 'answer', 'solution', 'level', 'subject', 'meta',
  ]  # fmt: skip
  assert list(json.loads(_SAMPLE.to_json())) == [
    'problem_id', 'index', 'text', 'tokens', 'finish_reason', 'prompt_tokens',
    'shared_prompt_tokens', 'output_tokens', 'logprob',
  ]  # fmt: skip
  assert list(json.loads(_GRADE.to_json())) == [
    'problem_id', 'index', 'answer', 'correct', 'verdict', 'sound', 'why',
  ]  # fmt: skip
  assert 'één\u2028\\n' in _SAMPLE.to_json()


@pytest.mark.parametrize('row', _ROWS, ids=lambda row: type(row).__name__)
def test_a_missing_or_unknown_field_is_named(row):
  fields = json.loads(row.to_json())
  optional = {'solution', 'level', 'subject', 'meta'}
  for name in fields:
    line = json.dumps({k: v for k, v in fields.items() if k != name})
    if name in optional:
      type(row).from_json(line)
      continue
    message = f'^f.jsonl: row 7: missing field "{name}"'
    with pytest.raises(errors.InputError, match=message):
      type(row).from_json(line, 'f.jsonl: row 7')
  line = json.dumps({**fields, 'colour': 1})
  with pytest.raises(errors.InputError, match='row 7: unknown field "colour"'):
    type(row).from_json(line, 'f.jsonl: row 7')


@pytest.mark.parametrize(
  ('row', 'field', 'values'),
  [
    (_PROBLEM, 'id', [None, 1, ['p'], '\ud800']),
    (_PROBLEM, 'level', [3, None]),
    (_PROBLEM, 'meta', [None, [], '{}', {'x': float('inf')}]),
    (_SAMPLE, 'problem_id', [0, None]),
    (_SAMPLE, 'index', [-1, 1.0, True, '0', None]),
    (_SAMPLE, 'text', [None, 1]),
    (_SAMPLE, 'tokens', [None, 'abc', [1.0], [True], [-1], {'0': 1}]),
    (_SAMPLE, 'finish_reason', ['eos', '', None]),
    (_SAMPLE, 'output_tokens', [-1, 2.5]),
    (_SAMPLE, 'logprob', [None, '0', False, float('nan'), float('-inf')]),
    (_SAMPLE, 'logprob', [10**400]),
    (_GRADE, 'answer', [2, True]),
    (_GRADE, 'correct', [1, 'true', False, None]),
    (_GRADE, 'verdict', ['Right', 'timeout', 'wrong', None]),
    (_GRADE, 'sound', [0, 'yes']),
    (_GRADE, 'why', [None]),
  ],
)
def test_a_wrong_value_is_named(row, field, values):
  fields = json.loads(row.to_json())
  for value in values:
    line = json.dumps({**fields, field: value})
    with pytest.raises(errors.InputError, match=r'^f: row 7: ') as error:
      type(row).from_json(line, 'f: row 7')
    message = str(error.value)
    assert '\n' not in message
    assert len(message) < 300
    if 'wanted JSON' not in message:
      assert f'"{field}"' in message or '"correct"' in message


def test_what_json_does_not_allow_is_refused():
  line = _GRADE.to_json()
  for bad in [
    '', 'null', '[]', '3', line[:-1], line + line, line[:-1] + ',"index":3}',
    line.replace('3', 'NaN'), line.replace('3', '1e999'), '[' * 100_000,
  ]:  # fmt: skip
    with pytest.raises(errors.InputError, match=r'^row: '):
      records.Grade.from_json(bad)
  with pytest.raises(ValueError, match='Out of range'):
    _sample(float('nan'), 0).to_json()


def test_correct_is_null_for_timeout_and_error_only():
  for verdict, want in records.VERDICTS.items():
    for correct in (True, False, None):
      fields = {**json.loads(_GRADE.to_json())}
      fields.update(verdict=verdict, correct=correct)
      if correct is want:
        assert records.Grade.from_json(json.dumps(fields)).correct is want
        continue
      with pytest.raises(ValueError, match=f'with verdict "{verdict}"'):
        records.Grade(**fields)


def test_damaged_rows_come_back_as_a_row_or_an_error():
  draw = random.Random(0)
  good = bad = 0
  for _ in range(5000):
    line = list(_SAMPLE.to_json())
    for _ in range(draw.randint(1, 3)):
      at = draw.randrange(len(line))
      line[at] = draw.choice(['', '"', '}', ',', '9', 'x', '\ud800', '\x00'])
    try:
      row = records.Sample.from_json(''.join(line))
    except errors.InputError:
      bad += 1
    else:
      assert records.Sample.from_json(row.to_json()) == row
      good += 1
  assert good + bad == 5000
  assert min(good, bad) > 100


def test_read_rows_counts_blank_lines_and_keeps_odd_separators(root):
  path = storage.join(root, 'x.jsonl')
  storage.publish(path, f'\n{_SAMPLE.to_json()}\r\n  \n{_SAMPLE.to_json()}')
  assert records.read_rows(path, records.Sample) == [_SAMPLE, _SAMPLE]
  storage.publish(path, f'\n{_SAMPLE.to_json()}\n{{}}\n')
  message = re.escape(f'{path}: row 3: missing field "problem_id"')
  with pytest.raises(errors.InputError, match=message):
    records.read_rows(path, records.Sample)


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
