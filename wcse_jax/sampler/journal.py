"""Samples of shards that are not whole yet, each on disk as soon as it came.

    DIR/samples/<model>/replies/<digest>.json   `records.Sample`

Replies of a server are paid for, and a shard is written when it is whole.  What
came before that is kept here, a file each, until its shard is there; so a run
that is killed asks again for nothing that came.  A file is named after its
bytes, and one that does not fit its name is moved aside.
"""

import hashlib
import re
import threading
from collections.abc import Iterable

from absl import logging

from wcse_jax import errors, records, storage


# Under the folder of a model's samples.
FOLDER = 'replies'
_NAME = re.compile(r'[0-9a-f]{64}\.json')

Cell = tuple[str, int]


class Journal:
  """The samples that are kept; the caller holds the lock of the run.

  Attributes:
    rows: (problem id, sample index) -> sample.
  """

  def __init__(self, folder: str):
    """Reads what an earlier run left.

    Args:
      folder: of the model's samples; it need not exist.
    """
    self.rows: dict[Cell, records.Sample] = {}
    self._path = storage.join(folder, FOLDER)
    self._files: dict[Cell, list[str]] = {}
    self._lock = threading.Lock()
    for name in storage.names(self._path):
      if _NAME.fullmatch(name):
        self._read(name)

  def _read(self, name: str) -> None:
    path = storage.join(self._path, name)
    data = storage.read_bytes(path)
    try:
      if hashlib.sha256(data).hexdigest() != name.partition('.')[0]:
        raise errors.InputError('not what was written')
      row = records.Sample.from_json(data.decode('utf-8'), path)
    except ValueError as error:
      aside = storage.quarantine(path)
      logging.warning(
        '%s: %s; moved to %s, will be asked again.', path, error, aside
      )
      return
    self.rows.setdefault((row.problem_id, row.index), row)
    self._files.setdefault((row.problem_id, row.index), []).append(name)

  def add(self, row: records.Sample) -> None:
    """Keeps a sample; any thread may call it."""
    data = row.to_json().encode('utf-8')
    name = f'{hashlib.sha256(data).hexdigest()}.json'
    storage.publish(storage.join(self._path, name), data)
    cell = row.problem_id, row.index
    with self._lock:
      self.rows[cell] = row
      self._files.setdefault(cell, []).append(name)

  def drop(self, cells: Iterable[Cell]) -> None:
    """Forgets samples whose shards are written."""
    names = []
    with self._lock:
      for cell in cells:
        if cell in self.rows:
          del self.rows[cell]
          names += self._files.pop(cell)
    storage.remove_all([storage.join(self._path, name) for name in names])

  def tidy(self) -> None:
    """Removes the folder if nothing is left in it."""
    if not storage.names(self._path):
      storage.remove_folder(self._path)
