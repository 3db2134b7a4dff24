import contextlib
import errno
import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import uuid

import pytest

from wcse_jax import errors, storage


_REPOSITORY = pathlib.Path(storage.__file__).parent.parent


@pytest.fixture(params=['local', 'memory'])
def root(request, tmp_path):
  if request.param == 'local':
    return str(tmp_path / 'run')
  return f'memory://{uuid.uuid4().hex}'


def _start(code, *arguments):
  """Starts Python on `code` in a process of its own."""
  return subprocess.Popen(
    [sys.executable, '-c', code, *map(str, arguments)],
    cwd=_REPOSITORY,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def _finish(process):
  out, err = process.communicate(timeout=30)
  return process.returncode, out, err


def _tree(folder):
  """Returns {path: (bytes, time of change)} of all that is in a folder."""
  return {
    str(path): (path.read_bytes(), path.stat().st_mtime_ns)
    for path in sorted(pathlib.Path(folder).rglob('*'))
    if path.is_file()
  }


def _fail_nth(monkeypatch, nth):
  """Makes the nth write, fsync or rename fail; a write is torn first."""
  calls = []
  for name in ('write', 'fsync', 'rename', 'link'):
    monkeypatch.setattr(
      storage.os, name, _Failing(name, getattr(os, name), calls, nth)
    )
  return calls


class _Failing:
  def __init__(self, name, real, calls, nth):
    self.name, self.real, self.calls, self.nth = name, real, calls, nth

  def __call__(self, *arguments, **options):
    self.calls.append(self.name)
    if len(self.calls) == self.nth:
      if self.name == 'write':
        self.real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return self.real(*arguments, **options)


def test_publish_read_and_list(root):
  path = storage.join(root, 'a', 'b.txt')
  assert storage.names(root) == []
  assert not storage.exists(path)
  digest = storage.publish(path, 'één\r\n\u2028')
  assert digest == hashlib.sha256('één\r\n\u2028'.encode()).hexdigest()
  assert digest == storage.sha256(path)
  assert storage.read_text(path) == 'één\r\n\u2028'
  assert storage.publish(path, b'new') == storage.sha256(path)
  assert storage.read_bytes(path) == b'new'
  storage.publish(storage.join(root, 'a', 'a.txt'), b'')
  assert storage.names(storage.join(root, 'a')) == ['a.txt', 'b.txt']
  assert storage.names(root) == ['a']
  assert storage.is_folder(storage.join(root, 'a'))
  assert not storage.is_folder(path)
  storage.remove(path)
  storage.remove(path)
  assert not storage.exists(path)


def test_a_stream_is_published_when_it_ends(root):
  path = storage.join(root, 'a', 'b.bin')
  with storage.stream(path) as file:
    for number in range(3):
      file.write(bytes([number]) * 1_000_000)
      assert not storage.exists(path)
  whole = bytes(1_000_000) + b'\x01' * 1_000_000 + b'\x02' * 1_000_000
  assert storage.read_bytes(path) == whole
  assert file.sha256() == hashlib.sha256(whole).hexdigest()
  with contextlib.suppress(KeyError), storage.stream(path) as file:
    file.write(b'new')
    raise KeyError
  assert storage.read_bytes(path) == whole
  assert storage.names(storage.join(root, 'a')) == ['b.bin']


def test_json(root):
  path = storage.join(root, 'x.json')
  value = {'b': [1, 2.5, None], 'a': 'é'}
  storage.publish_json(path, value)
  assert storage.read_json(path) == value
  assert list(storage.read_json(path)) == ['b', 'a']
  with pytest.raises(ValueError, match='Out of range'):
    storage.publish_json(path, {'x': float('nan')})
  assert storage.read_json(path) == value


def test_folders_are_listed_and_removed_whole(root):
  for name in ('a', 'b/c', 'b/d/e'):
    storage.publish(storage.join(root, 'x', name), name)
  folder = storage.join(root, 'x')
  assert storage.files(folder) == ['a', 'b/c', 'b/d/e']
  storage.remove_folder(folder)
  assert storage.files(folder) == []
  assert not storage.exists(folder)
  storage.remove_folder(folder)


def test_many_files_are_removed(root):
  paths = [storage.join(root, 'x', f'[{i}]*') for i in range(40)]
  for path in [*paths, storage.join(root, 'x', '1')]:
    storage.publish(path, 'data')
  storage.remove_all([*paths, storage.join(root, 'missing')])
  assert storage.files(storage.join(root, 'x')) == ['1']
  storage.remove_all([])


def test_a_file_is_given_as_a_local_one(root):
  path = storage.join(root, 'f.bin')
  storage.publish(path, b'abc')
  with storage.local(path) as copy:
    assert pathlib.Path(copy).read_bytes() == b'abc'
  assert storage.read_bytes(path) == b'abc'


def test_create_only_where_there_is_none(root):
  path = storage.join(root, 'a', 'x')
  assert storage.create(path, 'first')
  assert not storage.create(path, 'second')
  assert storage.read_text(path) == 'first'
  assert storage.names(storage.join(root, 'a')) == ['x']


def test_quarantine_keeps_every_bad_file(root):
  path = storage.join(root, 'x.jsonl')
  aside = []
  for body in ('one', 'two', 'three'):
    storage.publish(path, body)
    aside.append(storage.quarantine(path))
    assert not storage.exists(path)
  assert aside == [f'{path}.bad', f'{path}.bad.1', f'{path}.bad.2']
  assert [storage.read_text(a) for a in aside] == ['one', 'two', 'three']


@pytest.mark.parametrize(
  ('body', 'message'),
  [
    (None, 'no such file'),
    (b'{"a": 1', 'wanted JSON'),
    (b'[' * 100_000, 'wanted JSON'),
    (b'\xff{}', 'byte 0xff at offset 0'),
  ],
)
def test_unreadable_input_is_named_in_one_line(root, body, message):
  path = storage.join(root, 'x.json')
  if body is not None:
    storage.publish(path, body)
  with pytest.raises(errors.InputError, match=message) as error:
    storage.read_json(path)
  assert str(error.value).startswith(f'{path}: ')
  assert '\n' not in str(error.value)


def test_a_folder_is_no_file(tmp_path):
  with pytest.raises(errors.InputError, match='got a folder'):
    storage.read_bytes(str(tmp_path))
  (tmp_path / 'file').write_bytes(b'')
  with pytest.raises(errors.InputError, match='Not a directory'):
    storage.read_bytes(str(tmp_path / 'file' / 'x'))


def test_file_scheme_and_relative_paths(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  storage.publish('x', b'1')
  assert storage.read_bytes(f'file://{tmp_path}/x') == b'1'
  with storage.lock('.'):
    assert storage.names('.') == ['x']


def test_publish_syncs_before_it_renames(tmp_path, monkeypatch):
  calls = _fail_nth(monkeypatch, nth=0)
  storage.publish(str(tmp_path / 'x'), b'data')
  assert calls == ['write', 'fsync', 'rename', 'fsync']


def test_short_writes_are_continued(tmp_path, monkeypatch):
  real = os.write
  monkeypatch.setattr(storage.os, 'write', lambda fd, b: real(fd, b[:3]))
  storage.publish(str(tmp_path / 'x'), b'0123456789')
  assert (tmp_path / 'x').read_bytes() == b'0123456789'


@pytest.mark.parametrize('operation', ['publish', 'stream', 'create', 'lock'])
def test_every_failure_leaves_old_or_new(tmp_path, monkeypatch, operation):
  def work(folder):
    path = str(folder / 'sub' / 'x')
    if operation == 'publish':
      storage.publish(path, 'new ' * 100)
    elif operation == 'stream':
      with storage.stream(path) as file:
        file.write(b'new ' * 100)
    elif operation == 'create':
      storage.create(path, 'new ' * 100)
    else:
      with storage.lock(str(folder / 'sub')):
        storage.publish(path, 'new ' * 100)

  for nth in range(1, 100):
    folder = tmp_path / str(nth)
    if operation in ('publish', 'stream'):
      storage.publish(str(folder / 'sub' / 'x'), 'old')
    with monkeypatch.context() as patch:
      calls = _fail_nth(patch, nth)
      with contextlib.suppress(OSError):
        work(folder)
    # Whole, or not there; and nothing half written beside it.
    left = {p.name: p.read_text() for p in folder.rglob('*') if p.is_file()}
    assert left in [{}, {'x': 'old'}, {'x': 'new ' * 100}]
    if len(calls) < nth:
      break
    work(folder)
    assert (folder / 'sub' / 'x').read_text() == 'new ' * 100
  wanted = {'publish': 5, 'stream': 4, 'create': 7, 'lock': 8}
  assert nth == wanted[operation]


@pytest.mark.parametrize(
  'writing',
  [
    'storage.publish(sys.argv[1], bytes(100_000))',
    'with storage.stream(sys.argv[1]) as file: file.write(bytes(100_000))',
  ],
)
def test_disk_full_names_the_file_and_keeps_the_old(tmp_path, writing):
  path = tmp_path / 'x'
  path.write_bytes(b'old')
  code = (
    'import resource, sys; from wcse_jax import storage\n'
    'resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n'
    f'try:\n  {writing}\n'
    'except OSError as error: print(error)'
  )
  status, out, err = _finish(_start(code, path))
  assert (status, err) == (0, '')
  assert out == f"[Errno 27] File too large: '{path}'\n"
  assert _tree(tmp_path).keys() == {str(path)}
  assert path.read_bytes() == b'old'


# Kills a child at its nth system call, for n = 1, 2, ... until one finishes.
_KILLED = """
import os, signal, sys
from wcse_jax import storage
root, nth, finished = sys.argv[1], 0, False
while not finished:
  nth += 1
  folder = f'{root}/{nth}'
  storage.publish(f'{folder}/x', 'old')
  child = os.fork()
  if not child:
    calls = 0
    def shim(real):
      def call(*arguments, **options):
        global calls
        calls += 1
        if calls == nth:
          os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)
      return call
    for name in ('write', 'fsync', 'rename', 'unlink', 'ftruncate'):
      setattr(os, name, shim(getattr(os, name)))
    with storage.lock(folder):
      storage.publish(f'{folder}/x', 'new')
    os._exit(0)
  finished = os.waitpid(child, 0)[1] == 0
  assert storage.read_text(f'{folder}/x') in ('old', 'new')
  assert storage.names(folder) == ['x'], storage.names(folder)
  with storage.lock(folder):
    storage.publish(f'{folder}/x', 'new')
  assert os.listdir(folder) == ['x'], os.listdir(folder)
print(nth)
"""


def test_killed_at_every_call_leaves_old_or_new_and_no_litter(tmp_path):
  status, out, err = _finish(_start(_KILLED, tmp_path))
  assert (status, err) == (0, '')
  # ftruncate and write of the lock, write, fsync, rename, fsync, two unlinks.
  assert out == '9\n'


_HOLD = """
import os, sys, time
from wcse_jax import storage
with storage.lock(sys.argv[1]):
  if len(sys.argv) > 2 and not os.fork():
    time.sleep(60)
    os._exit(0)
  storage.os.fsync = lambda fd: print('held', flush=True) or time.sleep(60)
  storage.publish(sys.argv[1] + '/x', 'new')
"""

_TRY = """
import sys
from wcse_jax import errors, storage
try:
  with storage.lock(sys.argv[1]):
    storage.publish(sys.argv[1] + '/x', 'second')
except errors.InputError as error:
  sys.exit(f'refused: {error}')
"""


@contextlib.contextmanager
def _holder(folder, *arguments):
  process = _start(_HOLD, folder, *arguments)
  try:
    assert process.stdout.readline() == 'held\n'
    yield process
  finally:
    process.kill()
    process.wait()
    process.stdout.close()
    process.stderr.close()


def test_a_second_writer_leaves_at_once_and_changes_nothing(tmp_path):
  with _holder(tmp_path) as holder:
    before = _tree(tmp_path)
    assert len(before) == 2  # The lock, and the file being written.
    begin = time.monotonic()
    status, _, err = _finish(_start(_TRY, tmp_path))
    assert time.monotonic() - begin < 30
    assert status == 1
    assert err.startswith(f'refused: {tmp_path}: wanted to be the only writer')
    assert f'process {holder.pid} on ' in err
    assert err.count('\n') == 1
    assert _tree(tmp_path) == before


def test_a_stale_lock_does_not_block_and_litter_is_swept(tmp_path):
  storage.publish(str(tmp_path / 'x'), 'old')
  with _holder(tmp_path) as holder:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert len(list(tmp_path.iterdir())) == 3  # x, the lock, a torn file.
    assert storage.names(str(tmp_path)) == ['x']
    with storage.lock(str(tmp_path)):
      assert {p.name for p in tmp_path.iterdir()} == {'x', '.lock'}
      assert storage.read_text(str(tmp_path / 'x')) == 'old'
  assert [p.name for p in tmp_path.iterdir()] == ['x']


def test_a_child_that_outlives_a_killed_holder_does_not_block(tmp_path):
  with _holder(tmp_path, 'fork') as holder:
    children = pathlib.Path(
      f'/proc/{holder.pid}/task/{holder.pid}/children'
    ).read_text()
    (child,) = map(int, children.split())
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    try:
      os.kill(child, 0)
      # The child lets go in its first moments, which a busy machine delays.
      deadline = time.monotonic() + 30
      while True:
        try:
          with storage.lock(str(tmp_path)):
            break
        except errors.InputError:
          assert time.monotonic() < deadline
          time.sleep(0.02)
      os.kill(child, 0)
    finally:
      os.kill(child, signal.SIGKILL)


# In each round all rivals try at once; a winner holds until all have tried.
_RACE = """
import multiprocessing, sys
from wcse_jax import errors, storage
def rival(root, barrier, wins):
  for number in range(50):
    barrier.wait(20)
    try:
      with storage.lock(f'{root}/{number}'):
        with wins.get_lock():
          wins[number] += 1
        barrier.wait(20)
    except errors.InputError:
      barrier.wait(20)
context = multiprocessing.get_context('fork')
barrier, wins = context.Barrier(4), context.Array('i', 50)
rivals = [
  context.Process(target=rival, args=(sys.argv[1], barrier, wins))
  for _ in range(4)
]
[r.start() for r in rivals]
[r.join() for r in rivals]
print(list(wins))
"""


def test_of_many_that_race_one_holds(tmp_path):
  status, out, err = _finish(_start(_RACE, tmp_path))
  assert (status, err) == (0, '')
  assert json.loads(out) == [1] * 50


def test_a_lock_released_while_it_is_asked_for_is_taken_anew(
  tmp_path, monkeypatch
):
  real, asked = storage.fcntl.flock, []

  def flock(fd, operation):
    # The holder leaves, and unlinks the file, after this one has opened it.
    if not asked:
      os.unlink(tmp_path / '.lock')
    asked.append(fd)
    real(fd, operation)

  monkeypatch.setattr(storage.fcntl, 'flock', flock)
  with storage.lock(str(tmp_path)):
    assert len(asked) == 2
    assert (tmp_path / '.lock').exists()
    with pytest.raises(errors.InputError):
      with storage.lock(str(tmp_path)):
        pass


def test_a_sweep_spares_what_a_living_writer_writes(tmp_path):
  with storage._written(str(tmp_path / 'x'), b'new') as temporary:
    with storage.lock(str(tmp_path)):
      os.rename(temporary, tmp_path / 'x')
  assert (tmp_path / 'x').read_bytes() == b'new'


def test_lock_is_exclusive_and_is_given_back(root):
  def fail_inside():
    with storage.lock(root):
      with pytest.raises(errors.InputError, match=f'process {os.getpid()} '):
        with storage.lock(root):
          pass
      assert storage.names(root) == []
      raise KeyError

  for _ in range(2):
    with pytest.raises(KeyError):
      fail_inside()
    assert not storage.exists(storage.join(root, '.lock'))


def _foreign(folder, age):
  body = {'host': 'h', 'process': 7, 'since': 's', 'token': 'other'}
  body['beat'] = time.time() - age
  storage.publish_json(storage.join(folder, '.lock'), body)


def test_a_bucket_lock_is_refused_while_fresh_and_expires(monkeypatch):
  monkeypatch.setattr(storage, '_SETTLE_S', 0.01)
  folder = f'memory://{uuid.uuid4().hex}'
  _foreign(folder, age=50)
  before = storage.read_text(f'{folder}/.lock')
  with pytest.raises(errors.InputError, match=r'process 7 on h.* 50 s ago'):
    with storage.lock(folder):
      pass
  assert storage.read_text(f'{folder}/.lock') == before
  _foreign(folder, age=61)
  with storage.lock(folder):
    with pytest.raises(errors.InputError):
      with storage.lock(folder):
        pass
  assert not storage.exists(f'{folder}/.lock')


def test_a_bucket_lock_is_renewed_and_its_loss_is_said(monkeypatch):
  monkeypatch.setattr(storage, '_BEAT_S', 0.02)
  folder = f'memory://{uuid.uuid4().hex}'

  def lose():
    with storage.lock(folder):
      first = storage.read_json(f'{folder}/.lock')['beat']
      deadline = time.monotonic() + 30
      while storage.read_json(f'{folder}/.lock')['beat'] == first:
        assert time.monotonic() < deadline
        time.sleep(0.01)
      # The heartbeat may be between its look and its put: insist.
      for _ in range(5):
        _foreign(folder, age=0)
        time.sleep(0.05)

  with pytest.raises(RuntimeError, match='lost to another'):
    lose()
  assert storage.read_json(f'{folder}/.lock')['token'] == 'other'
