"""The numbers of a run: `metrics.jsonl`, TensorBoard, Weights & Biases."""

import dataclasses
from typing import Any

from wcse_jax import processes, runlog, storage
from wcse_jax.sft import settings, tracking


class Metrics:
  """Writes each step's numbers to all of them; a context.

  The first process alone writes.  TensorBoard's files are appended to, which
  buckets do not allow: there they are left out.
  """

  def __init__(
    self, config: settings.SftConfig, workdir: str, name: str, start: int
  ):
    """Opens them.

    Args:
      config: of the run.
      workdir: the run folder.
      name: of the stage.
      start: steps that are done; later ones, of a run that was killed, are
        taken back.

    Raises:
      InputError: if Weights & Biases is asked for and cannot be opened.
    """
    self._rows, self._board, self._tracker = None, None, None
    if not processes.first():
      return
    if config.wandb.project:
      self._tracker = tracking.Tracker(
        config.wandb, workdir, dataclasses.asdict(config)
      )
    self._rows = runlog.Metrics(workdir, name)
    if '://' not in workdir:
      import tensorboardX

      self._board = tensorboardX.SummaryWriter(
        storage.join(workdir, 'tensorboard'),
        purge_step=start + 1,
        flush_secs=10,
      )

  def __enter__(self) -> 'Metrics':
    return self

  def __exit__(self, *exception: object) -> None:
    if self._rows is not None:
      self._rows.close()
    if self._board is not None:
      self._board.close()
    if self._tracker is not None:
      self._tracker.close(failed=exception[0] is not None)

  def write(self, step: int, **values: Any) -> None:
    """Adds the numbers of a step."""
    if self._rows is not None:
      self._rows.write(step, **values)
    if self._board is not None:
      for name, value in values.items():
        self._board.add_scalar(name, value, step)
    if self._tracker is not None:
      self._tracker.write(step, values)

  def flush(self) -> None:
    """Publishes the rows so far."""
    if self._rows is not None:
      self._rows.flush()
