"""Run files on a local disk or a bucket: the only code that opens them.

A path with a scheme (`gs://`, `s3://`, `memory://`) is on a bucket and goes
through fsspec; any other is local.  A file is published whole or not at all:
locally it is written under a temporary name, synced, renamed, and its folder
synced; on a bucket it is one put.  Nothing is ever appended to.
"""

import contextlib
import datetime
import errno
import fcntl
import hashlib
import io
import json
import os
import posixpath
import re
import secrets
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent import futures
from typing import Any

import fsspec
from absl import logging

from wcse_jax import errors


_LOCK = '.lock'
_TEMPORARY = re.compile(r'\..+\.[0-9a-f]{16}\.tmp')
# A lock on a bucket is renewed every `_BEAT_S` seconds and belongs to nobody
# once it was not renewed for `_EXPIRY_S`; clocks may differ by less than the
# difference.
_BEAT_S = 10.0
_EXPIRY_S = 60.0
# Time for a rival's put to land before a take-over is read back (seconds).
_SETTLE_S = 1.0
# Files of a bucket that are removed at a time.
_REMOVERS = 16

# File descriptors of the local locks that this process holds.
_held: set[int] = set()


def _drop_locks() -> None:
  """Closes in a forked child what would outlive a killed parent's lock."""
  for fd in _held:
    os.close(fd)
  _held.clear()


os.register_at_fork(after_in_child=_drop_locks)


def join(*parts: str | os.PathLike) -> str:
  """Returns the path of the parts, on a bucket as locally."""
  return posixpath.join(*(os.fspath(part) for part in parts))


def exists(path: str) -> bool:
  """Returns whether there is a file or a folder."""
  fs, key = _bucket(path)
  return fs.exists(key) if fs else os.path.exists(key)


def is_folder(path: str) -> bool:
  """Returns whether there is a folder; on a bucket, any file under it."""
  fs, key = _bucket(path)
  return fs.isdir(key) if fs else os.path.isdir(key)


def names(folder: str) -> list[str]:
  """Returns the sorted names in a folder; none where it is missing.

  Locks and the temporary files of unfinished writes are left out.
  """
  fs, key = _bucket(folder)
  try:
    if fs:
      paths = (p.rstrip('/') for p in fs.ls(key, detail=False))
      # Some buckets list a folder's own marker object in it.
      found = [posixpath.basename(p) for p in paths if p != key.rstrip('/')]
    else:
      found = os.listdir(key)
  except FileNotFoundError:
    return []
  return sorted(
    name for name in found if name != _LOCK and not _TEMPORARY.fullmatch(name)
  )


def files(folder: str) -> list[str]:
  """Returns the sorted paths, relative to a folder, of all files under it."""
  fs, key = _bucket(folder)
  if fs:
    root = key.rstrip('/') + '/'
    return sorted(p.removeprefix(root) for p in fs.find(key))
  return sorted(
    os.path.relpath(os.path.join(root, name), key)
    for root, _, found in os.walk(key)
    for name in found
  )


def absolute(path: str) -> str:
  """Returns a path that does not depend on the working folder."""
  fs, key = _bucket(path)
  return os.fspath(path) if fs else os.path.abspath(key)


@contextlib.contextmanager
def local(path: str) -> Iterator[str]:
  """Gives a file as one on this machine, for what reads local files only.

  A file of a bucket is copied, and the copy removed in the end.
  """
  fs, key = _bucket(path)
  if not fs:
    yield key
    return
  with tempfile.TemporaryDirectory() as folder:
    copy = os.path.join(folder, posixpath.basename(key))
    fs.get_file(key, copy)
    yield copy


def read_bytes(path: str) -> bytes:
  """Returns a file's bytes.

  Raises:
    InputError: if there is no such file or it may not be read.
  """
  with _reading(path) as file:
    return file.read()


def read_text(path: str) -> str:
  """Returns the text of a UTF-8 file, line ends unchanged.

  Raises:
    InputError: if there is no such file or it is not UTF-8.
  """
  try:
    return read_bytes(path).decode('utf-8')
  except UnicodeDecodeError as error:
    raise errors.InputError(
      f'{path}: wanted UTF-8 text; got byte 0x{error.object[error.start]:02x} '
      f'at offset {error.start}.'
    ) from None


def read_json(path: str) -> Any:
  """Returns the value of a JSON file.

  Raises:
    InputError: if there is no such file or it is not JSON.
  """
  text = read_text(path)
  try:
    return json.loads(text)
  except (ValueError, RecursionError) as error:
    raise errors.InputError(f'{path}: wanted JSON; got {error}.') from None


def sha256(path: str) -> str:
  """Returns the hex digest of a file's bytes, read in pieces."""
  digest = hashlib.sha256()
  with _reading(path) as file:
    while block := file.read(1 << 20):
      digest.update(block)
  return digest.hexdigest()


def publish(path: str, data: bytes | str) -> str:
  """Writes a whole file, replacing any older one; returns its sha256.

  After a failure or a kill at any point the path holds the old file or the new
  one.  Parent folders are made.

  Raises:
    OSError: if it cannot be written; the path is as it was, or holds `data`.
  """
  data = data.encode('utf-8') if isinstance(data, str) else data
  fs, key = _bucket(path)
  if fs:
    fs.pipe_file(key, data)
  else:
    with _written(key, data) as temporary:
      os.rename(temporary, key)
  return hashlib.sha256(data).hexdigest()


class Stream(io.BufferedWriter):
  """A binary file that is written front to back, and its digest."""

  def __init__(self, raw: io.RawIOBase):
    super().__init__(raw, 1 << 20)
    self._digest = hashlib.sha256()

  def write(self, data: Any) -> int:
    self._digest.update(data)
    return super().write(data)

  def sha256(self) -> str:
    """Returns the hex digest of what was written."""
    return self._digest.hexdigest()


@contextlib.contextmanager
def stream(path: str) -> Iterator[Stream]:
  """Gives a file to write, for what is too large to be held; as `publish`.

  It is published when the block is left, and not at all if that raises.  On its
  way to a bucket it is kept on this machine.

  Raises:
    OSError: as `publish`.
  """
  fs, key = _bucket(path)
  if fs:
    with tempfile.TemporaryDirectory() as folder:
      copy = os.path.join(folder, posixpath.basename(key))
      with Stream(io.FileIO(copy, 'wb')) as file:
        yield file
      fs.put_file(copy, key)
    return
  with _beside(key) as (fd, temporary):
    with Stream(io.FileIO(fd, 'wb', closefd=False)) as file:
      yield file
    os.fsync(fd)
    os.rename(temporary, key)


def publish_json(path: str, value: Any) -> str:
  """Writes a value as indented JSON; returns the file's sha256.

  Raises:
    ValueError: if the value holds NaN or an infinity.
  """
  text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
  return publish(path, text + '\n')


def create(path: str, data: bytes | str) -> bool:
  """Writes a whole file unless there is one; returns whether it was written.

  Of many that try at once, one succeeds.
  """
  data = data.encode('utf-8') if isinstance(data, str) else data
  fs, key = _bucket(path)
  try:
    if fs:
      if fs.exists(key):
        return False
      fs.pipe_file(key, data, mode='create')
    else:
      with _written(key, data) as temporary:
        os.link(temporary, key)
  except FileExistsError:
    return False
  return True


def remove(path: str) -> None:
  """Removes a file; a missing one is no error."""
  fs, key = _bucket(path)
  with contextlib.suppress(FileNotFoundError):
    if fs:
      fs.rm_file(key)
    else:
      os.unlink(key)


def remove_all(paths: Sequence[str]) -> None:
  """Removes files, on a bucket several at a time; missing ones are no error."""
  if paths and _bucket(paths[0])[0]:
    # Not the bucket's own way for many, which would read `[` as a pattern.
    with futures.ThreadPoolExecutor(_REMOVERS) as pool:
      list(pool.map(remove, paths))
    return
  for path in paths:
    remove(path)


def remove_folder(folder: str) -> None:
  """Removes a folder with all that is in it; a missing one is no error."""
  fs, key = _bucket(folder)
  with contextlib.suppress(FileNotFoundError):
    if fs:
      fs.rm(key, recursive=True)
    else:
      shutil.rmtree(key)


def quarantine(path: str) -> str:
  """Renames a bad file aside, to NAME.bad or NAME.bad.1, ...; returns which."""
  aside, number = f'{path}.bad', 0
  while exists(aside):
    number += 1
    aside = f'{path}.bad.{number}'
  fs, key = _bucket(path)
  if fs:
    fs.mv(key, _bucket(aside)[1])
  else:
    os.rename(key, _bucket(aside)[1])
    _sync_folder(os.path.dirname(key) or '.')
  return aside


@contextlib.contextmanager
def lock(folder: str) -> Iterator[None]:
  """Holds a folder as its only writer; makes it if needed.

  Locally the lock ends with the process, however that ends, and what killed
  writers left half written is swept.  On a bucket a killed holder's lock
  expires after a minute.  The lock is not re-entrant.

  Raises:
    InputError: at once, if another holds it; nothing is changed.
    RuntimeError: on leaving, if the lock was lost to another (bucket only).
  """
  fs, key = _bucket(folder)
  owner = {
    'host': socket.gethostname(),
    'process': os.getpid(),
    'since': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
  }
  with _bucket_lock(folder, owner) if fs else _local_lock(key, owner):
    yield


def _bucket(path: str) -> tuple[Any, str]:
  """Returns (file system, key on it), or (None, path) where it is local."""
  path = os.fspath(path)
  if path.startswith('file://'):
    return None, path.removeprefix('file://')
  if '://' not in path:
    return None, path
  # Cached listings would hide what other processes wrote.
  return fsspec.core.url_to_fs(path, use_listings_cache=False)


@contextlib.contextmanager
def _reading(path: str) -> Iterator[Any]:
  fs, key = _bucket(path)
  try:
    with fs.open(key, 'rb') if fs else open(key, 'rb') as file:
      yield file
  except FileNotFoundError:
    raise errors.InputError(
      f'{path}: wanted a file; there is no such file.'
    ) from None
  except IsADirectoryError:
    raise errors.InputError(f'{path}: wanted a file; got a folder.') from None
  except (PermissionError, NotADirectoryError) as error:
    raise errors.InputError(
      f'{path}: wanted a file to read; got {error.strerror or error}.'
    ) from None


def _make_folder(folder: str) -> None:
  """Makes a folder and its parents, each durable before the next."""
  if not folder or os.path.isdir(folder):
    return
  parent = os.path.dirname(folder.rstrip('/'))
  _make_folder(parent)
  with contextlib.suppress(FileExistsError):
    os.mkdir(folder)
  _sync_folder(parent or '.')


def _sync_folder(folder: str) -> None:
  fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
  try:
    os.fsync(fd)
  finally:
    os.close(fd)


def _claim(path: str) -> int | None:
  """Opens and locks a file, making it if needed; None where another holds it.

  The holder may unlink the file before closing it: a rival that had already
  opened it sees that it has no name left, and starts anew.
  """
  while True:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
      fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
      if os.fstat(fd).st_nlink:
        return fd
    except OSError as error:
      os.close(fd)
      if error.errno in (errno.EAGAIN, errno.EACCES):
        return None
      error.filename = path
      raise
    os.close(fd)


def _write_all(fd: int, data: bytes) -> None:
  view = memoryview(data)
  while view:
    view = view[os.write(fd, view) :]


@contextlib.contextmanager
def _written(path: str, data: bytes) -> Iterator[str]:
  """Yields a synced temporary file beside `path` to be given that name."""
  with _beside(path) as (fd, temporary):
    _write_all(fd, data)
    os.fsync(fd)
    yield temporary


@contextlib.contextmanager
def _beside(path: str) -> Iterator[tuple[int, str]]:
  """Yields an empty temporary file beside `path`, open; syncs its folder."""
  folder, name = os.path.split(path)
  _make_folder(folder)
  # Locked while in use, so that a sweep tells it from a killed writer's.
  fd = None
  while fd is None:
    temporary = join(folder, f'.{name}.{secrets.token_hex(8)}.tmp')
    fd = _claim(temporary)
  try:
    yield fd, temporary
    _sync_folder(folder or '.')
  except OSError as error:
    # A failed write names no file of its own ("No space left on device").
    if error.filename is None:
      error.filename = path
    raise
  finally:
    # Still there after a failure, or where it was linked instead of renamed.
    with contextlib.suppress(OSError):
      os.unlink(temporary)
    os.close(fd)


def _sweep(folder: str) -> None:
  """Removes the temporary files below a folder whose writers are gone."""
  for root, _, files in os.walk(folder):
    for name in files:
      if not _TEMPORARY.fullmatch(name):
        continue
      path = join(root, name)
      fd = _claim(path)
      if fd is not None:
        with contextlib.suppress(FileNotFoundError):
          os.unlink(path)
        os.close(fd)


def _in_use(folder: str, body: bytes, extra: str = '') -> errors.InputError:
  """Returns the error that says who holds a folder."""
  try:
    owner = json.loads(body)
    who = (
      f'process {owner["process"]} on {owner["host"]} since {owner["since"]}'
    )
  except (ValueError, KeyError, TypeError):
    who = 'a process that has not said who it is'
  return errors.InputError(
    f'{folder}: wanted to be the only writer; in use by {who}{extra}.'
  )


@contextlib.contextmanager
def _local_lock(folder: str, owner: dict[str, Any]) -> Iterator[None]:
  _make_folder(folder)
  path = join(folder, _LOCK)
  fd = _claim(path)
  if fd is None:
    try:
      body = read_bytes(path)
    except errors.InputError:  # Released since.
      body = b''
    raise _in_use(folder, body)
  _held.add(fd)
  try:
    os.ftruncate(fd, 0)
    _write_all(fd, json.dumps(owner).encode())
    _sweep(folder)
    yield
  finally:
    if fd in _held:  # Not in a forked child, which holds nothing.
      _held.discard(fd)
      with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
      os.close(fd)


@contextlib.contextmanager
def _bucket_lock(folder: str, owner: dict[str, Any]) -> Iterator[None]:
  path = join(folder, _LOCK)
  owner = {**owner, 'token': secrets.token_hex(8)}

  def body() -> str:
    return json.dumps({**owner, 'beat': time.time()})

  def mine() -> bool:
    try:
      return json.loads(read_bytes(path)).get('token') == owner['token']
    except (ValueError, AttributeError):  # Removed, or somebody's garbage.
      return False

  if not create(path, body()):
    held = read_bytes(path)
    try:
      age = time.time() - json.loads(held)['beat']
    except (ValueError, KeyError, TypeError):
      age = _EXPIRY_S
    if age < _EXPIRY_S:
      raise _in_use(
        folder,
        held,
        f', last seen {age:.0f} s ago (it expires after {_EXPIRY_S:.0f} s)',
      )
    publish(path, body())
    time.sleep(_SETTLE_S)
    if not mine():
      raise _in_use(folder, read_bytes(path))

  done = threading.Event()
  lost = threading.Event()

  def beat() -> None:
    while not done.wait(_BEAT_S):
      try:
        if not mine():
          lost.set()
          logging.error('%s: the lock was lost to another writer.', folder)
          return
        publish(path, body())
      except OSError as error:
        logging.warning('%s: the lock was not renewed: %s', folder, error)

  thread = threading.Thread(target=beat, name='lock-heartbeat', daemon=True)
  thread.start()
  try:
    yield
  finally:
    done.set()
    thread.join()
    if mine():
      remove(path)
  if lost.is_set():
    raise RuntimeError(f'{folder}: the lock was lost to another writer.')
