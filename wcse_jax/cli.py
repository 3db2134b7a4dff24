"""What every launch script shares: flags, exit statuses, one error line.

Exit status 0: done; 2: bad arguments or input, one line on standard error; 75:
stopped and resumable.
"""

import dataclasses
import re
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from absl import app, flags, logging
from ml_collections import config_flags

from wcse_jax import errors


_WORKDIR = flags.DEFINE_string(
  'workdir', '', 'The run folder, local or in a bucket.'
)

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
) -> None:
  """Runs a launch script: parses the flags, then calls `run(config, workdir)`.

  Args:
    run: the script's work.
    default_config: path of the configuration file used without `--config`.
    needs_workdir: whether to refuse a call without `--workdir`; else `workdir`
      is empty there, and no run folder is written.
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
    return rest

  def call(_) -> None:
    # A stop by the scheduler ends like one by hand: resumable.
    signal.signal(signal.SIGTERM, _terminate)
    if not flags.FLAGS['verbosity'].present:
      # Orbax tells of every array at level INFO.
      logging.set_verbosity(logging.WARNING)
    try:
      run(holder.value, _WORKDIR.value)
    except errors.InputError as error:
      _refuse(error)
    except OSError as error:
      # A full disk, a folder that may not be written: nothing is lost.
      _refuse(error)
    except (errors.Stopped, KeyboardInterrupt) as error:
      print(
        f'stopped: {error or "interrupted"}; run it again to go on.',
        file=sys.stderr,
      )
      sys.exit(75)

  app.run(call, flags_parser=parse)


def _terminate(*_) -> None:
  raise errors.Stopped('SIGTERM')


def _refuse(error: Exception) -> NoReturn:
  if isinstance(error, OSError) or not error.args:
    text = str(error) or type(error).__name__
  else:
    text = error.args[0]
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
