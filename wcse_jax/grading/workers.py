"""Persistent worker processes with deadlines, for graders that may hang.

A `Pool` runs one importable function `str -> str` in processes of its own.  A
string goes in and a plain string comes out, as lines of JSON over pipes:
objects from a worker are never unpickled, as unpickling alone can evaluate
9^9^9^9.  The parent keeps the deadline of every single string, kills a worker
that misses it and starts another; the strings that waited behind go to the new
one, so one string's fate never changes another's verdict.

Workers are plain subprocesses, not forks (a fork of a process with threads can
deadlock) and they do not run the caller's `__main__`.  Each has a limit on its
address space, and ends when its parent does: by the end of its input, by the
death signal of Linux, and where that does not exist by an alarm.
"""

import collections
import ctypes
import dataclasses
import importlib
import json
import os
import queue
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from wcse_jax import errors


# A message holds so many strings, or fewer where they are long (characters).
_BATCH = 32
_BATCH_SIZE = 200_000
# Messages a worker may have ahead, waiting or finished but not yet yielded.
_AHEAD = 8
# Importing a grader takes a second, on a busy machine many (seconds).
_START = 120.0
# A worker's longest reply; a longer one is an error (bytes).
_REPLY = 1_000_000
# An orphan's alarm rings so long after the parent would have killed (seconds).
_GRACE = 5.0
_PR_SET_PDEATHSIG = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
  """What came of one string.

  Attributes:
    status: `done`, `timeout` (the deadline passed) or `error` (the function
      raised, or its process died, as from want of memory).
    text: the function's result, or why there is none.
  """

  status: str
  text: str


class Pool:
  """Worker processes, started when first used.

  Use it in a `with`, or call `close`.  Several threads may share one.
  """

  def __init__(
    self,
    function: str,
    *,
    processes: int = 0,
    deadline: float = 5.0,
    memory: int = 2**30,
  ):
    """Says what to run; starts nothing.

    Args:
      function: `package.module:name` of a function str -> str.
      processes: number of workers; 0 for one a core.
      deadline: for each string (seconds).
      memory: address space of each worker (bytes).
    """
    module, _, name = function.partition(':')
    if not module or not name:
      raise ValueError(f'function: wanted module:name; got {function!r}.')
    if processes < 0 or deadline <= 0 or memory <= 0:
      raise ValueError(
        'wanted processes >= 0, deadline > 0 and memory > 0; got '
        f'{processes}, {deadline} and {memory}.'
      )
    self._command = (
      function,
      str(memory),
      str(deadline + _GRACE),
    )
    self.processes = processes or _cores()
    self._deadline = deadline
    self._lock = threading.Lock()
    self._todo: queue.Queue[_Batch | None] = queue.Queue()
    self._threads: list[threading.Thread] = []
    self._workers: set[_Worker] = set()
    self._closed = False

  def __enter__(self) -> 'Pool':
    return self

  def __exit__(self, *_: Any) -> None:
    self.close()

  def map(self, texts: Iterable[str]) -> Iterator[Reply]:
    """Yields the reply of each text, in order, while all workers work.

    `texts` is read a bounded number of strings ahead.
    """
    self._start()
    waiting: collections.deque[_Batch] = collections.deque()
    source = _batches(texts)
    try:
      while True:
        while len(waiting) < _AHEAD * self.processes:
          batch = next(source, None)
          if batch is None:
            break
          waiting.append(batch)
          self._todo.put(batch)
        if not waiting:
          return
        first = waiting.popleft()
        first.done.wait()
        if first.failure is not None:
          raise first.failure
        yield from first.replies
    finally:
      # A caller that stops early leaves no work behind.
      for batch in waiting:
        batch.cancelled = True

  def one(self, text: str) -> Reply:
    """Returns the reply of one text."""
    return next(self.map([text]))

  def close(self) -> None:
    """Ends the workers at once; what waits for them raises."""
    with self._lock:
      if self._closed:
        return
      self._closed = True
      threads, self._threads = self._threads, []
      for worker in self._workers:
        worker.kill()
    for _ in threads:
      self._todo.put(None)
    for thread in threads:
      thread.join()

  def _start(self) -> None:
    with self._lock:
      if self._closed:
        raise ValueError('the pool is closed.')
      while len(self._threads) < self.processes:
        # One thread a worker: it starts it, feeds it and keeps its deadlines.
        # A daemon, so that a program which forgets to close still ends.
        thread = threading.Thread(target=self._run, daemon=True)
        self._threads.append(thread)
        thread.start()

  def _run(self) -> None:
    worker: _Worker | None = None
    while (batch := self._todo.get()) is not None:
      try:
        while len(batch.replies) < len(batch.texts) and not batch.cancelled:
          if self._closed:
            raise ValueError('the pool was closed.')
          if worker is None:
            worker = self._spawn()
          if not worker.serve(batch, self._deadline):
            self._drop(worker)
            worker = None
      except Exception as error:
        batch.failure = error
      finally:
        batch.done.set()
    if worker is not None:
      self._drop(worker)

  def _spawn(self) -> '_Worker':
    worker = _Worker(self._command)
    with self._lock:
      self._workers.add(worker)
      if self._closed:
        worker.kill()
    try:
      worker.greet()
    except errors.InputError:
      self._drop(worker)
      raise
    return worker

  def _drop(self, worker: '_Worker') -> None:
    with self._lock:
      self._workers.discard(worker)
    worker.end()


class _Batch:
  """Some texts and, as they come, their replies."""

  def __init__(self, texts: list[str]):
    self.texts = texts
    self.replies: list[Reply] = []
    self.done = threading.Event()
    self.cancelled = False
    self.failure: Exception | None = None


def _batches(texts: Iterable[str]) -> Iterator[_Batch]:
  # The first messages are short, so that all workers begin at once.
  held: list[str] = []
  size, most = 0, 1
  for text in texts:
    held.append(text)
    size += len(text)
    if len(held) >= most or size >= _BATCH_SIZE:
      yield _Batch(held)
      held, size, most = [], 0, min(_BATCH, most + 1)
  if held:
    yield _Batch(held)


class _Worker:
  """One process and its pipes; used by one thread, killed by any."""

  def __init__(self, command: tuple[str, ...]):
    package = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    # The package that runs here is what runs there, however it was found.
    path = os.pathsep.join([package, *filter(None, sys.path)])
    self._process = subprocess.Popen(
      [sys.executable, '-m', 'wcse_jax.grading.workers', *command],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      env={**os.environ, 'PYTHONPATH': path},
      bufsize=0,
    )
    self._held = b''
    self._served = False
    self._name = command[0]

  def greet(self) -> None:
    """Waits until the function is imported.

    Raises:
      InputError: if it cannot be; with the last line of what it said.
    """
    line = self._line(time.monotonic() + _START)
    if line == b'"ready"':
      return
    self.kill()
    # The rest of its pipe: the process is dead, so this ends.
    said = self._process.stderr.read().decode(errors='replace').strip()
    raise errors.InputError(
      f'grader: the worker of {self._name} did not start: '
      f'{said.splitlines()[-1] if said else "no word of why"}.'
    )

  def serve(self, batch: _Batch, deadline: float) -> bool:
    """Adds replies to a batch; returns whether the worker can go on.

    After a miss of the deadline, or a death, it cannot: then the reply of the
    text at fault has been added, and the texts behind it have none yet.
    """
    texts = batch.texts[len(batch.replies) :]
    message = json.dumps(texts).encode() + b'\n'
    try:
      self._process.stdin.write(message)
    except OSError:
      # Killed from outside while it waited: no text is at fault, so another
      # worker takes them.  One that dies before its first text is at fault.
      if not self._served:
        batch.replies.append(Reply('error', self._death()))
      return False
    self._served = True
    for _ in texts:
      line = self._line(time.monotonic() + deadline)
      if line is None:
        batch.replies.append(Reply('timeout', f'no verdict in {deadline:g} s'))
        return False
      reply = _read_reply(line)
      if reply is None:
        batch.replies.append(Reply('error', self._death()))
        return False
      batch.replies.append(reply)
      if reply.status == 'error' and reply.text == 'MemoryError':
        # What it holds may not be given back; a fresh one has all its space.
        return False
    return True

  def kill(self) -> None:
    self._process.kill()

  def end(self) -> None:
    """Kills, waits (no zombie) and closes the pipes."""
    self._process.kill()
    self._process.wait()
    for pipe in (
      self._process.stdin,
      self._process.stdout,
      self._process.stderr,
    ):
      pipe.close()

  def _line(self, until: float) -> bytes | None:
    """Returns a line, None at the deadline, b'' at the end of the pipe."""
    while b'\n' not in self._held:
      left = until - time.monotonic()
      if left <= 0:
        return None
      ready = select.poll()
      ready.register(self._process.stdout, select.POLLIN)
      if not ready.poll(1000 * left):
        return None
      read = os.read(self._process.stdout.fileno(), 65_536)
      if not read or len(self._held) > _REPLY:
        return b''
      self._held += read
    line, _, self._held = self._held.partition(b'\n')
    return line

  def _death(self) -> str:
    try:
      code = self._process.wait(timeout=1)
    except subprocess.TimeoutExpired:
      return 'the worker sent what is no reply'
    return f'the worker ended with status {code}'


def _read_reply(line: bytes) -> Reply | None:
  try:
    status, text = json.loads(line)
  except ValueError:
    return None
  if status not in ('done', 'error') or not isinstance(text, str):
    return None
  return Reply(status, text)


def _cores() -> int:
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


# What follows runs in the worker.


def _main(name: str, memory: int, alarm: float) -> None:
  parent = os.getppid()
  _die_with(parent)
  # The function may print: the pipe is ours, so what it prints goes nowhere.
  replies = os.fdopen(os.dup(1), 'wb', buffering=0)
  texts = os.fdopen(os.dup(0), 'rb')
  nowhere = os.open(os.devnull, os.O_RDWR)
  os.dup2(nowhere, 0)
  os.dup2(nowhere, 1)
  module, _, attribute = name.partition(':')
  function = getattr(importlib.import_module(module), attribute)
  # Standard error is only for why a start failed; nobody reads it later, and a
  # full pipe would block.
  os.dup2(nowhere, 2)
  resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
  resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
  replies.write(b'"ready"\n')
  _serve(function, texts, replies, alarm)


def _die_with(parent: int) -> None:
  if sys.platform == 'linux':
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
      # The parent died before the signal was asked for.
      os._exit(1)


def _serve(function, texts: BinaryIO, replies: BinaryIO, alarm: float) -> None:
  # No handler: the kernel ends the process, whatever the interpreter does.
  signal.signal(signal.SIGALRM, signal.SIG_DFL)
  # An interrupt of the terminal is the parent's to act on.
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  for line in texts:
    for text in json.loads(line):
      signal.setitimer(signal.ITIMER_REAL, alarm)
      try:
        reply = ('done', function(text))
      except Exception as error:
        # MemoryError and RecursionError are Exceptions too.
        reply = ('error', type(error).__name__)
      signal.setitimer(signal.ITIMER_REAL, 0)
      replies.write(json.dumps(reply).encode() + b'\n')


if __name__ == '__main__':
  _main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
