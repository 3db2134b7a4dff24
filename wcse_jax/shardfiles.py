"""Folders of shards: rows that are written whole, once, and never change.

A shard is a rectangle of (problem, sample index) cells; a manifest beside the
shards has the sha256 of each and the fingerprint of what made them.  Of several
writers at a time one writes the manifest, and each of the others a part of it
beside it; who reads takes them together, until they are merged.
"""

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from absl import logging

from wcse_jax import errors, records, storage


MANIFEST = 'manifest.json'


_PART = re.compile(r'manifest-[0-9a-z-]+\.json')


# A shard stays inside one block of this many positions and sample indices.
BLOCK_PROBLEMS = 64


BLOCK_SAMPLES = 8


@dataclasses.dataclass(frozen=True, order=True)
class Shard:
  """A rectangle of cells, the bounds inclusive.

  Positions of problems count the whole split.  Positions that a run skips
  (held-out problems) are inside the bounds but have no rows.
  """

  first_problem: int
  last_problem: int
  first_index: int
  last_index: int

  @property
  def name(self) -> str:
    """The file name, padded so that names sort as shards do."""
    return (
      f'shard-{self.first_problem:05d}-{self.last_problem:05d}'
      f'-{self.first_index:04d}-{self.last_index:04d}.jsonl'
    )

  @classmethod
  def parse(cls, name: str) -> 'Shard | None':
    """Returns the shard of a file name of any padding; None for another."""
    match = re.fullmatch(
      r'shard-([0-9]+)-([0-9]+)-([0-9]+)-([0-9]+)\.jsonl', name
    )
    if match is None:
      return None
    shard = cls(*map(int, match.groups()))
    ordered = (
      shard.first_problem <= shard.last_problem
      and shard.first_index <= shard.last_index
    )
    return shard if ordered else None

  def covers(self, position: int, index: int) -> bool:
    """Returns whether a cell is inside the bounds."""
    return (
      self.first_problem <= position <= self.last_problem
      and self.first_index <= index <= self.last_index
    )


def plan_shards(
  positions: Sequence[int], samples: int, existing: Iterable[Shard] = ()
) -> list[Shard]:
  """Returns the shards that are still to be made, in the order to make them.

  Every wanted cell outside `existing` is in exactly one of them, and each stays
  inside one block of `BLOCK_PROBLEMS` positions and `BLOCK_SAMPLES` indices.
  Making some of them and planning again gives exactly the others.

  Args:
    positions: ascending positions in the whole split; holes are skipped
      problems, and which are skipped belongs into the folder's fingerprint.
    samples: samples per problem.
    existing: shards that are done; each has all wanted cells in its bounds.

  Raises:
    ValueError: if `positions` do not ascend.
  """
  if any(a >= b for a, b in itertools.pairwise(positions)):
    raise ValueError('positions must ascend without repeats.')
  if positions and positions[0] < 0:
    raise ValueError(f'positions must be >= 0; got {positions[0]}.')
  done: dict[tuple[int, int], list[Shard]] = {}
  for shard in existing:
    for block in _blocks(shard):
      done.setdefault(block, []).append(shard)
  rows: dict[int, list[int]] = {}
  for position in positions:
    rows.setdefault(position // BLOCK_PROBLEMS, []).append(position)
  plan = []
  for row, members in rows.items():
    for first in range(0, samples, BLOCK_SAMPLES):
      indices = range(first, min(first + BLOCK_SAMPLES, samples))
      block = (row, first // BLOCK_SAMPLES)
      plan += _plan_block(members, indices, done.get(block, ()))
  return plan


def _blocks(shard: Shard) -> Iterator[tuple[int, int]]:
  for row in range(
    shard.first_problem // BLOCK_PROBLEMS,
    shard.last_problem // BLOCK_PROBLEMS + 1,
  ):
    for column in range(
      shard.first_index // BLOCK_SAMPLES, shard.last_index // BLOCK_SAMPLES + 1
    ):
      yield row, column


def _plan_block(
  positions: Sequence[int], indices: range, done: Sequence[Shard]
) -> list[Shard]:
  """Returns the missing shards of one block.

  Neighbours that miss the same run of indices share a shard.  Comparing runs,
  not whole sets, keeps the rest of a plan as it is when a part gets done.
  """
  found: list[Shard] = []
  growing: dict[tuple[int, int], Shard] = {}
  for position in positions:
    missing = [
      i for i in indices if not any(s.covers(position, i) for s in done)
    ]
    grown = {}
    for run in _runs(missing):
      begun = growing.get(run)
      start = begun.first_problem if begun else position
      grown[run] = Shard(start, position, *run)
    found += [shard for run, shard in growing.items() if run not in grown]
    growing = grown
  return sorted([*found, *growing.values()])


def _runs(indices: Sequence[int]) -> list[tuple[int, int]]:
  """Returns (first, last) of each run of consecutive integers."""
  runs: list[tuple[int, int]] = []
  for i in indices:
    if runs and runs[-1][1] == i - 1:
      runs[-1] = (runs[-1][0], i)
    else:
      runs.append((i, i))
  return runs


class ShardFolder:
  """A folder of shards of one fingerprint, with its manifest.

  Nothing is written before the first shard.  The caller holds the lock of the
  run (`storage.lock`) where it writes or checks; who writes a part of its own
  needs none.
  """

  def __init__(
    self,
    path: str,
    fingerprint: Mapping[str, Any] | None = None,
    *,
    part: str = '',
  ):
    """Opens the folder.

    Args:
      path: the folder; it need not exist.
      fingerprint: all that the rows depend on, as JSON values; None to take
        what is there, whatever made it.
      part: of the manifest, which this writer has for itself: lower-case
        letters, digits and `-`; empty for the manifest.

    Raises:
      InputError: if the manifest or a part is of another fingerprint or is not
        one, or if there is none and no fingerprint was given.
    """
    self.path = path
    self._part = part
    self._files: dict[str, dict[str, Any]] = {}
    # What goes into the part.
    self._own: dict[str, dict[str, Any]] = {}
    # Parts first: what is merged meanwhile is in the manifest.
    found = _read_parts(path)
    manifest = storage.join(path, MANIFEST)
    if storage.exists(manifest) or (fingerprint is None and not found):
      found.insert(0, _read_manifest(manifest))
    for have, files in found:
      if fingerprint is not None:
        differences = fingerprint_difference(fingerprint, have)
        if differences:
          raise errors.InputError(
            f'{path}: wanted the results of this configuration; the folder has '
            f'those of another: {"; ".join(differences)}.'
          )
      fingerprint = have
      # What the manifest says of a shard counts.
      self._files = {**files, **self._files}
    self.fingerprint: dict[str, Any] = plain(fingerprint)

  @property
  def shards(self) -> list[Shard]:
    """The shards of the manifest not known to be bad, sorted."""
    return sorted(Shard.parse(name) for name in self._files)

  def begin(self) -> None:
    """Publishes the manifest, so that other writers know of the folder."""
    self._publish(self._files)

  def merge(self) -> None:
    """Takes the parts into the manifest."""
    names = _part_names(self.path)
    if not names:
      return
    for _, files in _read_parts(self.path, names):
      self._files = {**files, **self._files}
    self._publish(self._files)
    for name in names:
      storage.remove(storage.join(self.path, name))

  def check(self) -> list[str]:
    """Verifies every file, and returns the names of the bad ones.

    A torn or changed file is renamed aside.  Bad and missing shards are no
    longer among `shards`, so that they are planned and made again.
    """
    bad = []
    for name, entry in sorted(self._files.items()):
      path = storage.join(self.path, name)
      if not storage.exists(path):
        logging.warning('%s: missing; will be made again.', path)
      elif storage.sha256(path) != entry['sha256']:
        aside = storage.quarantine(path)
        logging.warning(
          '%s: not what was written; moved to %s, will be made again.',
          path,
          aside,
        )
      else:
        continue
      bad.append(name)
    for name in bad:
      del self._files[name]
    return bad

  def write(
    self,
    shard: Shard,
    rows: Sequence[records.Sample | records.Grade],
    cost: Mapping[str, float] | None = None,
  ) -> None:
    """Publishes a shard, then the manifest that makes it count.

    Args:
      shard: one that is not there yet.
      rows: its rows; their order is part of the file.
      cost: numbers to be summed over shards, as tokens and seconds.

    Raises:
      ValueError: if the shard is there already, or a row is outside it or
        there twice.
    """
    if shard.name in self._files:
      raise ValueError(f'{shard.name} is there already: shards never change.')
    cells = set()
    for row in rows:
      if not shard.first_index <= row.index <= shard.last_index:
        raise ValueError(
          f'{shard.name}: row of problem {row.problem_id!r} has index '
          f'{row.index}, which is outside the shard.'
        )
      if (row.problem_id, row.index) in cells:
        raise ValueError(
          f'{shard.name}: problem {row.problem_id!r}, index {row.index} is '
          'there twice.'
        )
      cells.add((row.problem_id, row.index))
    data = ''.join(row.to_json() + '\n' for row in rows).encode('utf-8')
    entry = {
      'sha256': storage.publish(storage.join(self.path, shard.name), data),
      'rows': len(rows),
      'bytes': len(data),
      'cost': plain(cost or {}),
    }
    held = self._own if self._part else self._files
    self._publish({**held, shard.name: entry})
    self._own[shard.name] = self._files[shard.name] = entry

  def _publish(self, files: Mapping[str, dict[str, Any]]) -> None:
    name = f'manifest-{self._part}.json' if self._part else MANIFEST
    storage.publish_json(
      storage.join(self.path, name),
      {'fingerprint': self.fingerprint, 'files': dict(sorted(files.items()))},
    )

  def read(self, shard: Shard, cls: type[records.RowT]) -> list[records.RowT]:
    """Returns the rows of a good shard, verified again as they are read.

    Of samples, `records.Drawn` takes a part.

    Raises:
      KeyError: if the shard is not among `shards`.
      InputError: if the file is missing or not what was written, or a row is
        not a `cls`.
    """
    entry = self._files[shard.name]
    path = storage.join(self.path, shard.name)
    data = storage.read_bytes(path)
    if hashlib.sha256(data).hexdigest() != entry['sha256']:
      raise errors.InputError(
        f'{path}: wanted sha256 {entry["sha256"]} of the manifest; the file '
        'was changed or is torn.'
      )
    return records.own_rows(data, cls, path)

  def digest(self) -> str:
    """Returns the sha256 of what the manifest says of the rows, costs aside."""
    found = {name: entry['sha256'] for name, entry in self._files.items()}
    whole = json.dumps([self.fingerprint, found], sort_keys=True)
    return hashlib.sha256(whole.encode('utf-8')).hexdigest()

  def size(self, shard: Shard) -> int:
    """Returns how many rows a good shard has, from the manifest."""
    return self._files[shard.name]['rows']

  def rows(self, cls: type[records.RowT]) -> Iterator[records.RowT]:
    """Yields the rows of all good shards, shard after shard."""
    for shard in self.shards:
      yield from self.read(shard, cls)

  def cost(self, shards: Iterable[Shard] | None = None) -> dict[str, float]:
    """Returns the costs of some good shards, or of all, summed by name."""
    total: dict[str, float] = {}
    chosen = None if shards is None else {shard.name for shard in shards}
    for file, entry in sorted(self._files.items()):
      if chosen is not None and file not in chosen:
        continue
      for name, value in entry['cost'].items():
        total[name] = total.get(name, 0) + value
    return total


def fingerprint_difference(
  want: Mapping[str, Any], have: Mapping[str, Any]
) -> list[str]:
  """Returns each differing field, dotted, as `a.b: wanted 1, has 2`."""
  return _difference(plain(want), plain(have), '')


_ABSENT = object()


def check_owner(
  workdir: str, fingerprint: Mapping[str, Any], what: str
) -> None:
  """Raises InputError if a run folder holds another of `what`, as `study`."""
  path = storage.join(workdir, MANIFEST)
  if not storage.exists(path):
    return
  differences = fingerprint_difference(
    plain(fingerprint), storage.read_json(path)['fingerprint']
  )
  if differences:
    raise errors.InputError(
      f'{workdir}: holds another {what}: {"; ".join(differences)}.'
    )


def claim(workdir: str, fingerprint: Mapping[str, Any]) -> None:
  """Writes whose run folder it is, for `check_owner`."""
  storage.publish_json(
    storage.join(workdir, MANIFEST), {'fingerprint': plain(fingerprint)}
  )


def _difference(want: Any, have: Any, prefix: str) -> list[str]:
  if isinstance(want, dict) and isinstance(have, dict):
    found = []
    for name in sorted({*want, *have}):
      dotted = f'{prefix}.{name}' if prefix else name
      found += _difference(
        want.get(name, _ABSENT), have.get(name, _ABSENT), dotted
      )
    return found
  # As JSON, so that 1, 1.0 and true differ.
  if _ABSENT not in (want, have) and (
    json.dumps(want, sort_keys=True) == json.dumps(have, sort_keys=True)
  ):
    return []
  shown = [
    'nothing' if value is _ABSENT else records.shorten(value)
    for value in (want, have)
  ]
  return [f'{prefix}: wanted {shown[0]}, has {shown[1]}']


def plain(value: Any) -> Any:
  """Returns a value as JSON gives it back: tuples as lists, keys as strings.

  Raises:
    ValueError: if the value holds NaN or an infinity.
    TypeError: if it holds something that JSON does not know.
  """
  if isinstance(value, Mapping):
    value = dict(value)
  return json.loads(json.dumps(value, allow_nan=False))


def _part_names(path: str) -> list[str]:
  """Returns the names of the manifest's parts in a folder."""
  return [name for name in storage.names(path) if _PART.fullmatch(name)]


def _read_parts(
  path: str, names: Sequence[str] | None = None
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
  """Returns the fingerprint and the files of each part in a folder."""
  found = []
  for name in _part_names(path) if names is None else names:
    part = storage.join(path, name)
    try:
      found.append(_read_manifest(part))
    except errors.InputError:
      # Merged since the names were read.
      if storage.exists(part):
        raise
  return found


def _read_manifest(path: str) -> tuple[dict[str, Any], dict[str, Any]]:
  """Returns the fingerprint and the files of a manifest."""
  manifest = records.parse_object(storage.read_text(path), path)
  fingerprint, files = manifest.get('fingerprint'), manifest.get('files')
  if not isinstance(fingerprint, dict) or not isinstance(files, dict):
    raise errors.InputError(
      f'{path}: wanted the objects "fingerprint" and "files"; '
      f'got the fields {records.shorten(sorted(manifest))}.'
    )
  for name, entry in files.items():
    shard = Shard.parse(name)
    if shard is None or shard.name != name:
      raise errors.InputError(
        f'{path}: files: wanted the name of a shard; '
        f'got {records.shorten(name)}.'
      )
    where = f'{path}: files: {name}'
    if not isinstance(entry, dict):
      raise errors.InputError(
        f'{where}: wanted an object; got {records.shorten(entry)}.'
      )
    for key, kind in (
      ('sha256', str),
      ('rows', int),
      ('bytes', int),
      ('cost', Mapping[str, Any]),
    ):
      records.check_value(kind, entry.get(key), key, where)
    for key, value in entry['cost'].items():
      records.check_value(float, value, f'cost.{key}', where)
  return fingerprint, files
