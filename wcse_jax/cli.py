"""What every launch script shares: flags, exit statuses, one error line.

Exit status 0: done; 2: bad arguments or input, one line on standard error; 75:
stopped and resumable.
"""

import contextlib
import dataclasses
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from absl import app, flags, logging
from ml_collections import config_flags

from wcse_jax import errors, prices, processes


_WORKDIR = flags.DEFINE_string(
  'workdir', '', 'The run folder, local or in a bucket.'
)
# Where several processes run one command; on TPU pods and under SLURM they
# find each other by themselves.
_COORDINATOR = flags.DEFINE_string(
  'coordinator', None, 'HOST:PORT of process 0, where all processes meet.'
)
_PROCESSES = flags.DEFINE_integer(
  'processes', None, 'How many processes run this command.'
)
_PROCESS = flags.DEFINE_integer(
  'process', None, 'Which of them this one is, from 0.'
)

_PRICES = flags.DEFINE_string(
  'prices', '', 'A JSON file like wcse_jax/prices.json, whose rows come first.'
)

# A stop is obeyed within so many seconds, whatever the process is at; one that
# says that it saves has longer.
_GRACE_S, _SAVING_S = 8, 25
_saving = False
_STOPPED = 'stopped: {}; run it again to go on.'

# How config_flags tells of a field that a dataclass lacks.
_UNKNOWN_FIELD = re.compile(
  r"Field (\S+) not found on dataclass <class '([\w.]+)\.(\w+)'>"
)
# What config_flags and absl raise for flags that do not fit.
_FLAG_ERRORS = (
  flags.Error,
  KeyError,
  AttributeError,
  TypeError,
  ValueError,
  OSError,
  SyntaxError,
  ImportError,
)


def main(
  run: Callable[[Any, str], None],
  default_config: str,
  *,
  needs_workdir: bool = True,
  several: bool | Callable[[Any], bool] = False,
) -> None:
  """Runs a launch script: parses the flags, then calls `run(config, workdir)`.

  The same command may be started on every host.  Then process 0 alone prints.

  Args:
    run: the script's work.
    default_config: path of the configuration file used without `--config`.
    needs_workdir: whether to refuse a call without `--workdir`; else `workdir`
      is empty there, and no run folder is written.
    several: whether the work is divided over the processes, or what says so of
      a configuration; else process 0 does it alone, and the others end at once.
  """
  try:
    # With a default file, overrides are already looked at here.
    holder = config_flags.DEFINE_config_file(
      'config', default_config, 'The configuration file.', lock_config=True
    )
  except _FLAG_ERRORS as error:
    _refuse(error)

  def parse(arguments: Sequence[str]) -> list[str]:
    try:
      rest = flags.FLAGS(list(arguments))
      if holder.value is None:
        raise errors.InputError('--config: wanted a configuration file.')
    except _FLAG_ERRORS as error:
      _refuse(error)
    if len(rest) > 1:
      _refuse(
        errors.InputError(f'wanted flags only; got the argument {rest[1]!r}.')
      )
    if needs_workdir and not _WORKDIR.value:
      _refuse(errors.InputError('--workdir: wanted a folder; got nothing.'))
    try:
      processes.check(*_flags())
      prices.use(_PRICES.value)
    except (errors.InputError, OSError) as error:
      _refuse(error)
    return rest

  def call(_) -> None:
    quiet = not flags.FLAGS['verbosity'].present
    if quiet:
      # Orbax tells of every array at level INFO.
      logging.set_verbosity(logging.WARNING)
    try:
      divided = several(holder.value) if callable(several) else several
      if divided:
        processes.start(*_flags())
      elif _PROCESS.value:
        return
      if quiet and not processes.first():
        logging.set_verbosity(logging.ERROR)
      # A stop by the scheduler ends like one by hand: resumable.
      signal.signal(signal.SIGTERM, _terminate)
      _end_at_last()
      with _silent(not processes.first()):
        run(holder.value, _WORKDIR.value)
    except errors.InputError as error:
      _refuse(error)
    except OSError as error:
      # A full disk, a folder that may not be written: nothing is lost.
      _refuse(error)
    except (errors.Stopped, KeyboardInterrupt) as error:
      print(_STOPPED.format(error or 'interrupted'), file=sys.stderr)
      sys.exit(75)

  app.run(call, flags_parser=parse)


def _flags() -> tuple[str | None, int | None, int | None]:
  return _COORDINATOR.value, _PROCESSES.value, _PROCESS.value


@contextlib.contextmanager
def _silent(silent: bool) -> Iterator[None]:
  """Prints nothing to standard output inside."""
  if not silent:
    yield
    return
  with open(os.devnull, 'w') as nowhere, contextlib.redirect_stdout(nowhere):
    yield


def _end_at_last() -> None:
  """Ends the process some seconds after a SIGTERM, if it has not ended itself.

  Python handles a signal between two of its own steps only, and what compiles
  or computes may take longer than a scheduler waits.  Files are published
  whole, so that nothing is lost.
  """
  reader, writer = os.pipe()
  os.set_blocking(writer, False)
  signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

  def watch() -> None:
    while os.read(reader, 1)[0] != signal.SIGTERM:
      pass
    time.sleep(_SAVING_S if _saving else _GRACE_S)
    print(_STOPPED.format('SIGTERM'), file=sys.stderr, flush=True)
    os._exit(75)

  threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def saving() -> Iterator[None]:
  """Gives what is inside longer to end after a SIGTERM: it saves first.

  Schedulers wait 30 seconds or more before they kill.
  """
  global _saving
  before, _saving = _saving, True
  try:
    yield
  finally:
    _saving = before


def _terminate(*_) -> None:
  raise errors.Stopped('SIGTERM')


def _refuse(error: Exception) -> NoReturn:
  if isinstance(error, OSError) or not error.args:
    text = str(error) or type(error).__name__
  else:
    text = error.args[0]
    if isinstance(error, KeyError) and str(text).isidentifier():
      text = f'--config: wanted the name of one of its parts; got {text!r}.'
  text = ' '.join(str(text).split())
  unknown = _UNKNOWN_FIELD.search(text)
  if unknown:
    field, module, name = unknown.groups()
    known = dataclasses.fields(getattr(sys.modules[module], name))
    text = (
      f'--config: wanted one of the fields '
      f'{", ".join(f.name for f in known)} of {name}; got {field!r}.'
    )
  print(f'{sys.argv[0]}: {text}', file=sys.stderr)
  sys.exit(2)
