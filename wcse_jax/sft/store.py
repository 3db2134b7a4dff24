"""Training checkpoints: Orbax arrays behind a manifest of our own.

Orbax restores flipped bytes in silence, so a step counts only if every file has
the sha256 of its manifest, which is written last and holds its own.

Arrays are copied when `save` is called, and written while training goes on.
The newest three stay, each with the best of all up to it, so that there is one
to go on from whatever happens to another.
"""

import concurrent.futures
import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging

from wcse_jax import errors, processes, shardfiles, storage


# What a checkpoint is compared by, and the step of the best.
Best = Callable[[dict[int, float]], int]
_NEWEST = 3


class Store:
  """The checkpoints of one run; a context, at whose end all are written.

  Attributes:
    folder: where they lie, one folder a step.
  """

  def __init__(self, folder: str, fingerprint: dict[str, Any], best: Best):
    """Opens the folder.

    Args:
      folder: where they lie or will lie.
      fingerprint: all that the weights depend on; another one is refused.
      best: scores -> the step of the best.
    """
    self.folder = folder
    self._fingerprint = fingerprint
    self._best = best
    self._writer = None
    self._thread = concurrent.futures.ThreadPoolExecutor(1)
    self._pending: concurrent.futures.Future | None = None
    for step in self._steps():
      manifest = self._manifest(step)
      if manifest is None:
        continue
      check(folder, fingerprint, manifest['fingerprint'])

  def __enter__(self) -> 'Store':
    return self

  def __exit__(self, *exception: object) -> None:
    try:
      self.wait()
    finally:
      self._thread.shutdown()
      if self._writer is not None:
        with _writing(self.folder):
          self._writer.close()

  def save(
    self, step: int, tree: Any, scores: dict[int, float], seconds: float
  ) -> None:
    """Copies a step's arrays; writes them, then the manifest, meanwhile.

    Args:
      step: how many are done.
      tree: the arrays; they may be given up as soon as this returns.
      scores: of the checkpoints so far, this one's too if it has one.
      seconds: spent on the steps so far.

    Raises:
      OSError: if the checkpoint before could not be written.
    """
    self.wait()
    folder = self._path(step)
    if processes.first():
      # Left by a run that was killed before its manifest.
      storage.remove_folder(folder)
    processes.meet('sft-save')
    if self._writer is None:
      self._writer = ocp.StandardCheckpointer()
      if processes.first():
        # What stops left of checkpoints that were not finished.
        for name in storage.names(self.folder):
          if '.orbax-checkpoint-tmp' in name:
            storage.remove_folder(storage.join(self.folder, name))
    with _writing(folder):
      self._writer.save(storage.absolute(folder), _named(tree))
    self._pending = self._thread.submit(
      self._finish, step, dict(scores), seconds
    )

  def wait(self) -> None:
    """Returns when what was saved is written.

    Raises:
      OSError: if it could not be.
    """
    pending, self._pending = self._pending, None
    if pending is not None:
      pending.result()

  def _finish(self, step: int, scores: dict[int, float], seconds: float):
    with _writing(self._path(step)):
      self._writer.wait_until_finished()
    if not processes.first():
      return
    manifest = {
      'fingerprint': self._fingerprint,
      'seconds': seconds,
      'scores': plain(scores),
      'files': self._hashes(self._path(step)),
    }
    storage.publish_json(
      self._path(step) + '.json', manifest | {'sha256': _sha256(manifest)}
    )
    good = [s for s in self._steps() if s <= step and self._manifest(s)]
    kept = set(good[-_NEWEST:])
    for newest in tuple(kept):
      before = {s: score for s, score in scores.items() if s <= newest}
      if before:
        kept.add(self._best(before))
    for old in set(good) - kept:
      # First the manifest: without it the rest does not count.
      storage.remove(self._path(old) + '.json')
      storage.remove_folder(self._path(old))

  def newest(self) -> tuple[int, dict[int, float], float]:
    """Returns (step, scores, seconds) so far, of the newest good checkpoint.

    (0, {}, 0.0) where there is none.  A damaged one is named in the log and
    passed over; so are those that were scored behind it, if it is the best.
    """
    for step in reversed(self._steps()):
      needed = step
      if self._good(step):
        manifest = self._manifest(step)
        scores = {
          int(k): -math.inf if v is None else v
          for k, v in manifest['scores'].items()
        }
        needed = self._best(scores) if scores else step
        if self._good(needed):
          return step, scores, manifest['seconds']
      logging.warning(
        '%s: damaged or unfinished; falling back to an older checkpoint.',
        self._path(needed),
      )
    return 0, {}, 0.0

  def load(self, step: int, like: Any) -> Any:
    """Returns the tree of a step, with the shapes and shardings of `like`.

    Args:
      step: which.
      like: arrays, or what `shapes` makes of them.

    Raises:
      InputError: if it was damaged since it was written.
    """
    self.wait()
    if not self._good(step):
      raise errors.InputError(
        f'{self._path(step)}: wanted the files that its manifest names; they '
        'were damaged or removed.  Run it again to go on from another one.'
      )
    named = _named(like)
    abstract = shapes(named)
    with ocp.StandardCheckpointer() as reader:
      found = reader.restore(storage.absolute(self._path(step)), abstract)
    leaves = [found[name] for name in named]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)

  def clear(self) -> None:
    """Removes all checkpoints: the run is over and its result exported."""
    storage.remove_folder(self.folder)

  def _path(self, step: int) -> str:
    return storage.join(self.folder, f'{step:08d}')

  def _steps(self) -> list[int]:
    names = storage.names(self.folder)
    return sorted(int(name) for name in names if name.isdecimal())

  def _manifest(self, step: int) -> dict[str, Any] | None:
    """Returns a step's manifest; None if it is missing or damaged."""
    path = self._path(step) + '.json'
    if not storage.exists(path):
      return None
    try:
      manifest = storage.read_json(path)
      seal = manifest.pop('sha256')
    except (errors.InputError, KeyError, TypeError, AttributeError):
      return None
    return manifest if seal == _sha256(manifest) else None

  def _good(self, step: int) -> bool:
    manifest = self._manifest(step)
    return manifest is not None and manifest['files'] == self._hashes(
      self._path(step)
    )

  def _hashes(self, folder: str) -> dict[str, str]:
    return {
      name: storage.sha256(storage.join(folder, name))
      for name in storage.files(folder)
    }


def plain(scores: dict[int, float]) -> dict[str, float | None]:
  """Returns scores as JSON holds them: None for one that is not finite."""
  return {
    str(step): score if math.isfinite(score) else None
    for step, score in sorted(scores.items())
  }


def shapes(tree: Any) -> Any:
  """Returns a tree's shapes, dtypes and shardings, without its arrays."""
  return jax.tree.map(ocp.utils.to_shape_dtype_struct, tree)


@contextlib.contextmanager
def _writing(folder: str) -> Iterator[None]:
  """Turns what Orbax raises where a disk is full into an OSError."""
  try:
    yield
  except (ValueError, RuntimeError) as error:
    text = ' '.join(str(error).split())[:200]
    raise OSError(f'{folder}: could not be written: {text}') from error


def check(folder: str, want: dict[str, Any], have: dict[str, Any]) -> None:
  """Raises InputError if a folder holds the results of another run."""
  differences = shardfiles.fingerprint_difference(want, have)
  if differences:
    raise errors.InputError(
      f'{folder}: holds the results of another run: {"; ".join(differences)}.'
    )


def _sha256(value: Any) -> str:
  return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _named(tree: Any) -> dict[str, Any]:
  """Returns the leaves by their path, in the order of the tree."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {
    f'{i:05d}{jax.tree_util.keystr(path)}'.replace('/', '|'): leaf
    for i, (path, leaf) in enumerate(leaves)
  }
