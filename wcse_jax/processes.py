"""One command as several processes: who this one is, what they agree on.

Every host runs the same command.  They find each other by flags, or by what
jax knows of TPU pods and job schedulers; process 0 is the first.  A process
that ends by an error tells the others, which see it in `meet`, `tell` and
`look`; one that dies is noticed by jax, which ends them all.

It loads jax only to join others.
"""

import contextlib
import re
import time
from collections.abc import Iterator
from typing import Any

from wcse_jax import errors


# A process is given up when it was not heard of for this long (seconds).
_SILENCE_S = 20
# A process that ends waits so long for the others to end, too.
_LEAVE_S = 20
# How often who waits looks whether somebody failed (milliseconds).
_LOOK_MS = 1000

_ROOT = 'wcse_jax'
_FAILED = f'{_ROOT}/failed/'

_index, _count = 0, 1
# When `look` asked last (seconds).
_looked = 0.0
# How often each name was used: what a key is told apart by.
_used: dict[str, int] = {}


def index() -> int:
  """Returns which process this is, from 0."""
  return _index


def count() -> int:
  """Returns how many processes there are."""
  return _count


def first() -> bool:
  """Returns whether this is the process that writes what is of the run."""
  return _index == 0


def check(
  coordinator: str | None, processes: int | None, process: int | None
) -> None:
  """Raises InputError unless all flags are given and fit, or none is."""
  given = {
    '--coordinator': coordinator,
    '--processes': processes,
    '--process': process,
  }
  missing = [name for name, value in given.items() if value is None]
  if len(missing) == len(given):
    return
  if missing:
    raise errors.InputError(
      f'{missing[0]}: wanted all of {", ".join(given)}, or none of them; it is '
      'missing.'
    )
  port = re.fullmatch(r'.+:([0-9]{1,5})', coordinator)
  if port is None or not 0 < int(port[1]) < 2**16:
    raise errors.InputError(
      f'--coordinator: wanted HOST:PORT of process 0; got {coordinator!r}.'
    )
  if processes < 1:
    raise errors.InputError(
      f'--processes: wanted a count >= 1; got {processes}.'
    )
  if not 0 <= process < processes:
    raise errors.InputError(
      f'--process: wanted 0 to {processes - 1}, as --processes={processes}; '
      f'got {process}.'
    )


def start(
  coordinator: str | None = None,
  processes: int | None = None,
  process: int | None = None,
) -> None:
  """Joins the other processes, before anything uses a device.

  Args:
    coordinator: HOST:PORT of process 0; None to find the others as jax does,
      on TPU pods and under SLURM, and to be alone where it finds none.
    processes: how many there are.
    process: which this one is.

  Raises:
    InputError: if the arguments do not fit, or the others were not met.
  """
  global _index, _count
  check(coordinator, processes, process)
  if processes == 1:
    return
  import jax

  # Stops are ours to handle: the service would take SIGTERM for itself.
  jax.config.update('jax_enable_preemption_service', False)
  # What CPUs exchange data by; it must be set before they are used.
  jax.config.update('jax_cpu_collectives_implementation', 'gloo')
  try:
    jax.distributed.initialize(
      coordinator,
      processes,
      process,
      heartbeat_timeout_seconds=_SILENCE_S,
      shutdown_timeout_seconds=_LEAVE_S,
      # Flags say all that is to be known, whatever the cluster is.
      cluster_detection_method='deactivate' if coordinator else None,
    )
  except jax.errors.JaxRuntimeError as error:
    raise errors.InputError(
      f'--coordinator: process {process} of {processes} could not join the '
      f'others at {coordinator}: {" ".join(str(error).split())[:200]}'
    ) from None
  except ValueError as error:
    # How jax says that it knows of no others.
    if coordinator or 'coordinator_address should be' not in str(error):
      raise
    return
  _index, _count = jax.process_index(), jax.process_count()


def meet(name: str, text: str = '') -> list[str]:
  """Waits until all processes are here.

  Returns what each of them says, to the first one; to the others nothing.

  Raises:
    InputError, Stopped: if another process has failed; see `failing`.
  """
  if _count == 1:
    return [text]
  key = _key(name)
  _set(f'{key}/{_index}', text)
  if not first():
    _wait(f'{key}/all')
    return []
  said = [text]
  said += [_wait(f'{key}/{other}') for other in range(1, _count)]
  _set(f'{key}/all', '')
  return said


def tell(name: str, text: str = '') -> str:
  """Returns the first process's text, in every process.

  Raises:
    InputError, Stopped: if another process has failed; see `failing`.
  """
  if _count == 1:
    return text
  key = _key(name)
  if first():
    _set(key, text)
    return text
  return _wait(key)


def look() -> None:
  """Looks whether another process has failed, at most once a second.

  For work that goes on between meetings.

  Raises:
    InputError, Stopped: if one has; see `failing`.
  """
  global _looked
  now = time.monotonic()
  if _count > 1 and now - _looked >= _LOOK_MS / 1000:
    _looked = now
    _raise_failed()


@contextlib.contextmanager
def failing() -> Iterator[None]:
  """Tells the others of an error inside: they end where they next look.

  Bad input is bad for them, too; by anything else they are stopped.
  """
  try:
    yield
  except (Exception, KeyboardInterrupt) as error:
    if _count > 1:
      kind = 'input' if isinstance(error, errors.InputError) else 'other'
      text = ' '.join(str(error).split()) or type(error).__name__
      with contextlib.suppress(_runtime_error()):
        _set(f'{_FAILED}{_index}', f'{kind} {text}')
    raise


def _key(name: str) -> str:
  number = _used[name] = _used.get(name, -1) + 1
  return f'{_ROOT}/{name}/{number}'


def _client() -> Any:
  # The public collectives run on devices, and give up after some seconds.
  from jax._src import distributed

  return distributed.global_state.client


def _runtime_error() -> type[Exception]:
  import jax

  return jax.errors.JaxRuntimeError


def _set(key: str, text: str) -> None:
  _client().key_value_set(key, text)


def _wait(key: str) -> str:
  """Returns the text of a key as soon as it is there."""
  while True:
    try:
      return _client().blocking_key_value_get(key, _LOOK_MS)
    except _runtime_error() as error:
      if 'DEADLINE_EXCEEDED' not in str(error):
        raise errors.Stopped('the first process was lost') from None
    _raise_failed()


def _raise_failed() -> None:
  """Raises what another process has failed by, if one has."""
  for where, text in _client().key_value_dir_get(_FAILED):
    who = where.rpartition('/')[2]
    kind, _, text = text.partition(' ')
    if kind == 'input':
      raise errors.InputError(text)
    raise errors.Stopped(f'process {who}: {text}')
