"""The untrusted side: loads a program, and calls what is asked for.

It runs in a sandbox of its own, in one interpreter with the program, which may
do to it what it likes.  Whatever it sends is taken for the program's answers
and nothing more: it knows no test, no expected value and no verdict.

Messages are a length (4 bytes, little-endian) and `plain` data.  First comes an
empty one, before the program is read; then the reply to loading it, and one to
each request `(op, target, name, args, kwargs)`.
"""

import os
import sys
import types

from wcse_jax.grading import plain


class _Held:
  """Values that are not plain stay here and are known by their number."""

  def __init__(self):
    self.values = []
    self.numbers = {}

  def keep(self, value) -> plain.Handle:
    number = self.numbers.setdefault(id(value), len(self.values))
    if number == len(self.values):
      self.values.append(value)
    return plain.Handle(number, hasattr(type(value), '__next__'))

  def meet(self, handle: plain.Handle):
    return self.values[handle.number]


def serve(requests: int, replies: int) -> None:
  """Serves one program until the requests end.

  Args:
    requests: descriptor to read from.
    replies: descriptor to write to.
  """
  _send(replies, b'')
  source = _receive(requests).decode('utf-8', 'surrogatepass')
  held = _Held()
  module = types.ModuleType('solution')
  # Dataclasses and the like look their module up.
  sys.modules['solution'] = module
  try:
    code = compile(source, '<solution>', 'exec', dont_inherit=True)
  except (SyntaxError, ValueError, OverflowError, RecursionError) as error:
    # ValueError: NUL characters, lone surrogates.
    _reply(replies, held, [], ('syntax', [], _told(error)))
    return
  except MemoryError:
    _reply(replies, held, [], ('syntax', [], 'MemoryError: nested too deep'))
    return
  answer = _try(lambda: exec(code, module.__dict__))
  _reply(replies, held, [], answer)
  while True:
    objects: list = []
    request = plain.load(_receive(requests), objects, held.meet)
    answer = _try(lambda request=request: _act(module, *request))
    _reply(replies, held, objects, answer)


def _act(module, op, target, name, args, kwargs):
  if isinstance(target, str):
    if not hasattr(module, target):
      raise NameError(f'name {target!r} is not defined')
    target = getattr(module, target)
  if op == 'call':
    return target(*args, **kwargs)
  if op == 'next':
    return next(target)
  if op == 'truth':
    return bool(target)
  if op == 'get':
    return getattr(target, name)
  return setattr(target, name, args[0])


def _try(act):
  """Returns (status, value, told) of a call."""
  try:
    return 'ok', act(), ''
  except Exception as error:
    names = [kind.__name__ for kind in type(error).__mro__]
    return 'raise', names, _told(error)
  except BaseException as error:
    return 'end', [], _told(error)


def _told(error: BaseException) -> str:
  try:
    return f'{type(error).__name__}: {error}'[:300]
  except BaseException:
    return type(error).__name__


def _reply(replies, held, objects, answer) -> None:
  # What the request's lists and dicts are now goes back as well.
  state = list(objects)
  try:
    data = plain.dump((*answer, state), objects, held.keep)
  except (Exception, RecursionError) as error:
    names = [kind.__name__ for kind in type(error).__mro__]
    data = plain.dump(('raise', names, _told(error), []), state)
  _send(replies, data)


def _send(fd: int, data: bytes) -> None:
  data = len(data).to_bytes(4, 'little') + data
  while data:
    data = data[os.write(fd, data) :]


def _receive(fd: int) -> bytes:
  return _read(fd, int.from_bytes(_read(fd, 4), 'little'))


def _read(fd: int, count: int) -> bytes:
  parts = []
  while count:
    part = os.read(fd, min(count, 1 << 16))
    if not part:
      # Nobody asks any more; threads of the program must not delay the end.
      os._exit(0)
    parts.append(part)
    count -= len(part)
  return b''.join(parts)


def main() -> None:
  requests, replies = os.dup(0), os.dup(1)
  null = os.open(os.devnull, os.O_RDWR)
  # What the program prints goes nowhere, and it has nothing to read.
  for fd in range(3):
    os.dup2(null, fd)
  os.close(null)
  serve(requests, replies)
