"""Verdicts on programs, formed where the program cannot reach.

Two sandboxes: in one the program, which is called by name with plain data; in
the other the tests, whose calls are passed on and whose comparisons are made on
plain data rebuilt there.  The program sees arguments and nothing else: no
test, no expected value, no channel that bears the verdict.

The parts: `sandbox` (bubblewrap), `plain` (data as bytes), `candidate` (the
program's side), `tester` (the tests' side); here they are put together.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import importlib.util
import itertools
import json
import os
import socket
import struct
import subprocess
import threading
import types
from collections.abc import Iterable, Iterator

from wcse_jax.grading import sandbox


# Characters of a program.
MAX_PROGRAM = 100_000
# Seconds that the tests' own process has beyond the deadline.
_GRACE_S = 20.0
_PACKAGE = 'wcse_jax.grading'
_TESTER = sandbox.Limits(seconds=0.0, files=64)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tests:
  """What a program must do; this is trusted.

  Attributes:
    tests: Python source that raises unless the program is right.
    names: names in `tests` that are the program's: functions and classes.
    preamble: Python source run before, as imports and helpers of the tests.
  """

  tests: str
  names: tuple[str, ...]
  preamble: str = ''


@dataclasses.dataclass(frozen=True)
class Verdict:
  """One of `records.VERDICTS`, and why."""

  verdict: str
  why: str


class Pool:
  """Judges programs on all cores.

  Each thread keeps one process for tests, made when it is first needed.

  Args:
    limits: of each program; `seconds` is for the program and its tests.
    processes: programs at a time; 0 for one a core.

  Raises:
    InputError: if programs cannot be run safely here.
  """

  def __init__(
    self, limits: sandbox.Limits | None = None, *, processes: int = 0
  ):
    sandbox.require()
    self._limits = limits or sandbox.Limits()
    self._count = processes or len(os.sched_getaffinity(0))
    self._threads = concurrent.futures.ThreadPoolExecutor(self._count)
    self._own = threading.local()
    self._testers: list[_Tester] = []

  def judge(self, program: str, tests: Tests) -> Verdict:
    """Returns the verdict on one program."""
    return next(self.judge_many([(program, tests)]))

  def judge_many(self, pairs: Iterable[tuple[str, Tests]]) -> Iterator[Verdict]:
    """Yields the verdicts on (program, tests), in order."""
    waiting: collections.deque[concurrent.futures.Future] = collections.deque()
    pairs = iter(pairs)
    try:
      while True:
        # A window, so that a million programs are never held at once.
        for pair in itertools.islice(pairs, 4 * self._count - len(waiting)):
          waiting.append(self._threads.submit(self._judge, *pair))
        if not waiting:
          return
        yield waiting.popleft().result()
    finally:
      for future in waiting:
        future.cancel()

  def close(self) -> None:
    """Ends all processes; the pool cannot be used again."""
    self._threads.shutdown(cancel_futures=True)
    for tester in self._testers:
      tester.close()
    self._testers.clear()

  def __enter__(self) -> 'Pool':
    return self

  def __exit__(self, *_) -> None:
    self.close()

  def _judge(self, program: str, tests: Tests) -> Verdict:
    if not program.strip():
      return Verdict('unparsed', 'no program found')
    if len(program) > MAX_PROGRAM:
      return Verdict('unparsed', f'more than {MAX_PROGRAM} characters')
    tester = getattr(self._own, 'tester', None)
    if tester is None or tester.closed:
      tester = self._own.tester = _Tester()
      self._testers.append(tester)
    with sandbox.start(
      self._limits, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
      fds = (process.stdin.fileno(), process.stdout.fileno())
      return tester.judge(program, tests, self._limits.seconds, fds)


class _Tester:
  """A process for tests.  One thread makes it, uses it and outlives it."""

  def __init__(self):
    self._number = 0
    self._stack = contextlib.ExitStack()
    ours, theirs = socket.socketpair()
    self._socket = self._stack.enter_context(ours)
    with theirs:
      self.process = self._stack.enter_context(
        sandbox.start(
          _TESTER,
          stdin=theirs,
          stdout=subprocess.DEVNULL,
          forks=4,
          forever=True,
        )
      )
    self.closed = False
    ours.settimeout(_GRACE_S)
    boot = _boot('candidate')
    ours.sendall(_boot('tester') + struct.pack('<I', len(boot)) + boot)

  def judge(
    self, program: str, tests: Tests, seconds: float, fds: tuple[int, int]
  ) -> Verdict:
    self._number += 1
    job = {
      'number': self._number,
      'program': program,
      'seconds': seconds,
      **dataclasses.asdict(tests),
    }
    data = json.dumps(job).encode()
    try:
      self._socket.settimeout(seconds + _GRACE_S)
      socket.send_fds(self._socket, [struct.pack('<I', len(data))], fds)
      self._socket.sendall(data)
      size = struct.unpack('<I', self._read(4))[0]
      number, verdict, why = json.loads(self._read(size))
    except OSError as error:
      self.close()
      return Verdict('error', f'the process of the tests is lost ({error})')
    if number != self._number:
      self.close()
      return Verdict('error', 'the process of the tests is out of step')
    return Verdict(verdict, why)

  def close(self) -> None:
    self.closed = True
    self._stack.close()

  def _read(self, count: int) -> bytes:
    data = b''
    while len(data) < count:
      part = self._socket.recv(count - len(data))
      if not part:
        raise ConnectionError('it ended')
      data += part
    return data


@functools.cache
def _boot(side: str) -> bytes:
  """Returns the code of one side, as the sandbox wants it."""
  empty = compile('', '<package>', 'exec')
  return sandbox.pack(
    (_PACKAGE, empty),
    (f'{_PACKAGE}.plain', _code('plain')),
    (f'{_PACKAGE}.{side}', _code(side)),
    ('__main__', _main(side)),
  )


def _code(name: str) -> types.CodeType:
  return importlib.util.find_spec(f'{_PACKAGE}.{name}').loader.get_code(
    f'{_PACKAGE}.{name}'
  )


def _main(side: str) -> types.CodeType:
  return compile(
    f'import sys; sys.modules["{_PACKAGE}.{side}"].main()', '<main>', 'exec'
  )
