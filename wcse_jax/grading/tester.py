"""The trusted side: runs a task's tests against a program elsewhere.

It runs in a sandbox of its own, where no byte of the program ever is: what the
tests call are stand-ins that ask `candidate` in the other sandbox, and what
they compare is plain data rebuilt here.  A process is kept; each program's
tests run in a fork of it, which it kills at the deadline.
"""

import builtins
import contextlib
import json
import os
import random
import select
import signal
import socket
import time

from wcse_jax.grading import plain


# Questions to one program, and bytes of all its answers.
MAX_CALLS = 200_000
MAX_TOTAL = 64 << 20
_SHOWN = 200
# Imported before the first fork, as the published tests and prompts use them.
PRELOADED = (
  *('collections', 'copy', 'datetime', 'decimal', 'fractions', 'functools'),
  *('hashlib', 'heapq', 'itertools', 'math', 're', 'string', 'typing'),
)
_ERRORS = {
  name: kind
  for name, kind in vars(builtins).items()
  if isinstance(kind, type) and issubclass(kind, Exception)
}


class Broken(BaseException):
  """The program cannot be asked any more.

  Not an Exception: tests that expect an exception must not take it for one.
  """

  def __init__(self, verdict: str, why: str):
    super().__init__(why)
    self.verdict = verdict
    self.why = why


class Channel:
  """Asks the program; its answers are plain data or `Remote`s.

  Args:
    requests: descriptor to write to.
    replies: descriptor to read from.
  """

  def __init__(self, requests: int, replies: int):
    self._requests = requests
    self._replies = replies
    self._remotes: dict[int, Remote | RemoteIterator] = {}
    self._calls = 0
    self._total = 0
    # Kept, so that tests which catch everything cannot hide them.
    self.broken: Broken | None = None
    self.raised: Exception | None = None

  def load(self, boot: bytes, program: str) -> None:
    """Sends the other side its code and the program.

    Raises:
      Broken: if the program does not load.
    """
    try:
      _write(self._requests, boot)
      if self._receive():
        self._break('wrong', 'the program speaks before it is loaded')
    except Broken as broken:
      # Nothing of the program has run yet.
      broken.verdict = 'error'
      broken.why = 'the sandbox of the program did not start'
      raise
    self._send(program.encode('utf-8', 'surrogatepass'))
    try:
      self._answer([])
    except Exception as error:
      self._break('wrong', f'the program does not load: {error}')

  def ask(self, op: str, target, name: str = '', args=(), kwargs=None):
    """Returns what the program answers, or raises what it raised.

    Args:
      op: `call`, `get`, `set`, `next` or `truth`.
      target: a name of the program, or a `Remote`.
      name: an attribute, for `get` and `set`.
      args: positional arguments, or the value to `set`.
      kwargs: keyword arguments.

    Raises:
      Broken: if there is no answer, or none that is plain data.
      Exception: as the program did.
    """
    if self.broken:
      raise self.broken
    self._calls += 1
    if self._calls > MAX_CALLS:
      self._break('wrong', f'more than {MAX_CALLS} calls')
    objects: list = []
    request = (op, target, name, tuple(args), dict(kwargs or {}))
    try:
      data = plain.dump(request, objects, _keep)
    except plain.NotPlain as error:
      self._break('error', f'the tests pass what cannot be sent: {error}')
    self._send(data)
    return self._answer(objects)

  def _answer(self, objects: list):
    data = self._receive()
    try:
      answer = plain.load(data, objects, self._meet)
      status, value, told, _ = answer
      # Exactly texts: anything else could be the program's again.
      if type(status) is not str or type(told) is not str:
        raise ValueError('no status')
      names = [] if status == 'ok' else list.copy(value)
      if any(type(name) is not str for name in names):
        raise ValueError('no names')
      told = told[:_SHOWN]
    except (plain.Malformed, TypeError, ValueError) as error:
      self._break('wrong', f'an answer that is no plain data ({error})')
    if status == 'ok':
      return value
    if status == 'raise':
      kind = next((_ERRORS[n] for n in names if n in _ERRORS), Exception)
      try:
        error = kind(told)
      except TypeError:
        error = ValueError(told)
      self.raised = error
      raise error
    if status == 'syntax':
      self._break('unparsed', f'the program does not compile: {told}')
    self._break('wrong', f'the program ended itself: {told}')

  def _meet(self, handle: plain.Handle):
    kind = RemoteIterator if handle.iterator else Remote
    found = self._remotes.setdefault(handle.number, kind(self, handle.number))
    if type(found) is not kind:
      raise ValueError('a value that changes its kind')
    return found

  def _break(self, verdict: str, why: str):
    self.broken = Broken(verdict, why)
    raise self.broken

  def _send(self, data: bytes) -> None:
    try:
      _write(self._requests, len(data).to_bytes(4, 'little') + data)
    except OSError:
      self._break('wrong', 'the program ended before it was asked all')

  def _receive(self) -> bytes:
    size = int.from_bytes(self._read(4), 'little')
    self._total += size
    if size > plain.MAX_BYTES + (1 << 16) or self._total > MAX_TOTAL:
      self._break('wrong', 'the program answers too much')
    return self._read(size)

  def _read(self, count: int) -> bytes:
    data = _read(self._replies, count)
    if data is None:
      self._break('wrong', 'the program ended before it answered')
    return data


def _keep(value) -> plain.Handle:
  if type(value) in (Remote, RemoteIterator):
    number = object.__getattribute__(value, '_target')
    if type(number) is not int:
      raise plain.NotPlain(f"the program's own {number}")
    return plain.Handle(number, type(value) is RemoteIterator)
  raise plain.NotPlain(f'type {type(value).__name__}')


class Remote:
  """A function, class or object of the program.

  It can be called, passed on, and asked for attributes.  It has no value here,
  so that whatever would need one fails: comparing, counting, iterating.  Its
  truth is asked for: some tests are no more than `assert f(x)`.
  """

  def __init__(self, channel: Channel, target: str | int):
    object.__setattr__(self, '_channel', channel)
    object.__setattr__(self, '_target', target)

  def _ask(self, op, name='', args=(), kwargs=None):
    channel = object.__getattribute__(self, '_channel')
    target = object.__getattribute__(self, '_target')
    if isinstance(target, int):
      target = self
    return channel.ask(op, target, name, args, kwargs)

  def __call__(self, *args, **kwargs):
    return self._ask('call', args=args, kwargs=kwargs)

  def __getattr__(self, name):
    if name.startswith('__'):
      raise AttributeError(name)
    return self._ask('get', name)

  def __setattr__(self, name, value):
    self._ask('set', name, (value,))

  def __bool__(self):
    # As a program that returns this truth, and not an object that has it.
    truth = self._ask('truth')
    if type(truth) is not bool:
      self._no_value()
    return truth

  def _no_value(self, *_):
    raise TypeError('the program returned an object that is not plain data')

  __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _no_value
  __len__ = __iter__ = __contains__ = __hash__ = _no_value


class RemoteIterator:
  """An iterator of the program: each value is asked for when it is wanted."""

  def __init__(self, channel: Channel, target: int):
    self._channel = channel
    self._target = target

  def __iter__(self):
    return self

  def __next__(self):
    return self._channel.ask('next', self)


def judge(job: dict, channel: Channel) -> tuple[str, str]:
  """Returns (verdict, why) of a program.

  Args:
    job: `boot`, `program`, and `preamble`, `names`, `tests` as in
      `program.Tests`.
    channel: to a sandbox that waits for `boot`.
  """
  try:
    namespace = {'__name__': 'tests'}
    try:
      tests = compile(job['tests'], '<tests>', 'exec', dont_inherit=True)
      exec(job['preamble'], namespace)
    except Exception as error:
      return 'error', f'the tests do not load: {_told(error)}'
    channel.load(job['boot'], job['program'])
    for name in job['names']:
      namespace[name] = Remote(channel, name)
    random.seed(0)
    exec(tests, namespace)
  except Broken as broken:
    return broken.verdict, broken.why
  except Exception as error:
    if channel.broken is None:
      return _failed(error, job['tests'], channel)
  if channel.broken is not None:
    return channel.broken.verdict, channel.broken.why
  return 'right', ''


def _failed(error, tests, channel) -> tuple[str, str]:
  own = error is not channel.raised
  # What the program raised bears its name already.
  told = _told(error) if own else str(error)
  trace, number = error.__traceback__, 0
  while trace is not None:
    if trace.tb_frame.f_code.co_filename == '<tests>':
      number = trace.tb_lineno
    trace = trace.tb_next
  lines = tests.splitlines()
  line = lines[number - 1].strip()[:_SHOWN] if 0 < number <= len(lines) else ''
  if own and isinstance(error, (NameError, ImportError)):
    return 'error', f'the tests are broken: {told}'
  return 'wrong', f'{told} in: {line}' if line else told


def _told(error: BaseException) -> str:
  try:
    text = str(error)[:_SHOWN]
  except Exception:
    text = ''
  return f'{type(error).__name__}: {text}' if text else type(error).__name__


def serve(fd: int) -> None:
  """Serves jobs on a stream socket until it is closed.

  The first message is the code of the other side.  A job is a message of JSON
  with the two descriptors of a `Channel` beside it; the answer is JSON, too.
  """
  for name in PRELOADED:
    __import__(name)
  server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=fd)
  boot = _read(fd, int.from_bytes(_read(fd, 4), 'little'))
  while True:
    size, fds, _, _ = socket.recv_fds(server, 4, 2)
    if len(size) != 4:
      os._exit(0)
    data = _read(fd, int.from_bytes(size, 'little'))
    if data is None:
      os._exit(0)
    job = json.loads(data)
    verdict, why = _supervise({**job, 'boot': boot}, fd, *fds)
    for one in fds:
      os.close(one)
    data = json.dumps([job['number'], verdict, why]).encode()
    _write(fd, len(data).to_bytes(4, 'little') + data)


def _supervise(job: dict, fd: int, requests: int, replies: int):
  """Judges in a fork; returns (verdict, why)."""
  until = time.monotonic() + job['seconds']
  reader, writer = os.pipe()
  child = os.fork()
  if not child:
    # Whatever happens in here, the fork must not go on as its parent.
    with contextlib.suppress(BaseException):
      os.close(fd)
      os.close(reader)
      answer = judge(job, Channel(requests, replies))
      _write(writer, json.dumps(answer).encode())
    os._exit(0)
  os.close(writer)
  data = b''
  late = False
  with os.fdopen(reader, 'rb', 0) as stream:
    poll = select.poll()
    poll.register(stream, select.POLLIN)
    while True:
      left = until - time.monotonic()
      if left <= 0 or not poll.poll(left * 1000):
        late = True
        break
      part = stream.read(1 << 16)
      if not part:
        break
      data += part
  with contextlib.suppress(ProcessLookupError):
    os.kill(child, signal.SIGKILL)
  os.waitpid(child, 0)
  if late:
    return 'timeout', f'no verdict within {job["seconds"]:g} s'
  try:
    return json.loads(data)
  except ValueError:
    return 'error', 'the tests ended without a verdict'


def _write(fd: int, data: bytes) -> None:
  while data:
    data = data[os.write(fd, data) :]


def _read(fd: int, count: int) -> bytes | None:
  parts = []
  while count:
    part = os.read(fd, min(count, 1 << 16))
    if not part:
      return None
    parts.append(part)
    count -= len(part)
  return b''.join(parts)


def main() -> None:
  serve(0)
