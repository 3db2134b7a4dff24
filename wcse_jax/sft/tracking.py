"""The numbers of a run on Weights & Biases, where it is asked for."""

import secrets
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import logging

from wcse_jax import errors, storage
from wcse_jax.sft import settings


_INSTALL = 'pip install wcse_jax[wandb]'
# Folders of a path that name a run.
_NAMED = 3


def package() -> Any:
  """Returns the package `wandb`.

  Raises:
    InputError: if it is not installed.
  """
  try:
    import wandb
  except ImportError as error:
    wandb, why = None, str(error)
  else:
    # A folder that old runs left here is a package for Python, an empty one.
    why = 'a folder of that name'
  if not hasattr(wandb, 'init'):
    raise errors.InputError(
      f'wandb: wanted the package `wandb`; got {why}; {_INSTALL}'
    )
  return wandb


def check(asked: settings.WandbConfig) -> None:
  """Raises InputError if numbers are to go there and cannot."""
  if asked.project:
    package()


class Tracker:
  """Sends each step's numbers; what fails on the way is told once.

  A run folder has one run there, whose id is kept in `wandb.json`: a resumed
  run goes on with it.  Steps that are done again after a kill are sent again.
  """

  def __init__(
    self, asked: settings.WandbConfig, workdir: str, config: Mapping[str, Any]
  ):
    """Opens the run.

    Args:
      asked: where it goes.
      workdir: the run folder.
      config: what is shown as the configuration of the run.

    Raises:
      InputError: if the package is missing, or the run cannot be opened.
    """
    wandb = package()
    self._run = None
    # Its own files are appended to, which buckets do not allow.
    local = tempfile.gettempdir() if '://' in workdir else workdir
    parts = [part for part in workdir.rstrip('/').split('/') if part]
    try:
      self._run = wandb.init(
        project=asked.project,
        entity=asked.entity or None,
        mode=asked.mode or None,
        id=_kept(asked, workdir),
        resume='allow',
        name='/'.join(parts[-_NAMED:]),
        dir=local,
        config=dict(config),
        settings=wandb.Settings(console='off', quiet=True),
      )
      self._run.define_metric('*', step_metric='step')
    except Exception as error:
      # The package has many kinds of its own.
      raise errors.InputError(
        f'wandb: wanted a run of project {asked.project!r}; got '
        f'{" ".join(str(error).split()) or type(error).__name__}'
      ) from None

  def write(self, step: int, values: Mapping[str, Any]) -> None:
    """Sends the numbers of a step."""
    numbers = {name: np.asarray(v).item() for name, v in values.items()}
    self._do('log', {'step': step, **numbers})

  def close(self, *, failed: bool) -> None:
    """Ends the run there for now; it can be resumed."""
    self._do('finish', exit_code=int(failed))
    self._run = None

  def _do(self, what: str, *arguments: Any, **more: Any) -> None:
    if self._run is None:
      return
    try:
      getattr(self._run, what)(*arguments, **more)
    except Exception as error:
      # Training goes on: the numbers are in the run folder too.
      self._run = None
      logging.warning(
        'wandb: %s failed, and nothing more is sent: %s',
        what,
        ' '.join(str(error).split()) or type(error).__name__,
      )


def _kept(asked: settings.WandbConfig, workdir: str) -> str:
  """Returns the id of a folder's run in a project; makes one if needed."""
  path = storage.join(workdir, 'wandb.json')
  place = {'project': asked.project, 'entity': asked.entity}
  if storage.exists(path):
    kept = storage.read_json(path)
    if isinstance(kept, dict) and kept.items() >= place.items():
      return str(kept.get('id'))
  number = secrets.token_hex(8)
  storage.publish_json(path, {'id': number, **place})
  return number
