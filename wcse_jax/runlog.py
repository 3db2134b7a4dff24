"""What a run folder says of its run: configuration, metrics, costs, progress.

    DIR/config.json      the configuration
    DIR/provenance.json  commit, versions, devices and command of each start
    DIR/metrics.jsonl    numbers by (name, step)
    DIR/ledger.jsonl     what each stage cost

Nothing is appended to: metrics and ledger rows go out as files of their own
under `DIR/parts/` and `DIR/ledger/`, and are merged when a stage ends.
"""

import contextlib
import datetime
import importlib.metadata
import json
import math
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from wcse_jax import errors, storage


_PACKAGES = (
  'jax',
  'jaxlib',
  'flax',
  'optax',
  'orbax-checkpoint',
  'transformers',
  'numpy',
  'wcse-jax',
)


# A part is published when it has this many rows or its oldest row this age.
_PART_ROWS = 1000


_PART_S = 30.0


_LEDGER_TEXT = ('stage', 'model')


_LEDGER_COUNTS = ('chips', 'prefill_tokens', 'decode_tokens', 'flops')


_LEDGER_AMOUNTS = ('chip_seconds', 'usd')


LEDGER_FIELDS = (
  'stage',
  'model',
  'chips',
  'chip_seconds',
  'prefill_tokens',
  'decode_tokens',
  'flops',
  'usd',
)


# Run folders that this process holds.
_open: set[str] = set()


def open_run(
  workdir: str,
  config: Mapping[str, Any],
  *,
  devices: Sequence[str] = (),
) -> None:
  """Writes `config.json` and `provenance.json` of a run.

  A resumed run keeps the provenance of its first start; each later start is
  added under `resumes`.

  Args:
    workdir: the run folder; the caller holds its lock.
    config: the whole configuration, as JSON values.
    devices: names of the devices the run uses.

  Raises:
    InputError: if the folder holds a `provenance.json` that is none.
  """
  path = storage.join(workdir, 'provenance.json')
  start = provenance(devices)
  if storage.exists(path):
    first = storage.read_json(path)
    resumes = first.get('resumes') if isinstance(first, dict) else None
    if not isinstance(resumes, list):
      raise errors.InputError(
        f'{path}: wanted an object with the list "resumes"; got another value.'
      )
    start = {**first, 'resumes': [*resumes, start]}
  else:
    start['resumes'] = []
  storage.publish_json(storage.join(workdir, 'config.json'), config)
  storage.publish_json(path, start)


def provenance(devices: Sequence[str] = ()) -> dict[str, Any]:
  """Returns commit, versions, machine and command of this process.

  `commit` is None outside a git checkout and has `-dirty` behind it where
  tracked files were changed; the version of a missing package is None.
  """
  versions: dict[str, str | None] = {}
  for package in _PACKAGES:
    try:
      versions[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      versions[package] = None
  now = datetime.datetime.now(datetime.UTC)
  return {
    'start': now.isoformat(timespec='seconds'),
    'argv': list(sys.argv),
    'commit': _commit(),
    'versions': versions,
    'python': platform.python_version(),
    'platform': platform.platform(),
    'devices': list(devices),
  }


def _commit() -> str | None:
  folder = os.path.dirname(os.path.abspath(__file__))

  def git(*arguments: str) -> str:
    done = subprocess.run(
      ['git', '-C', folder, *arguments],
      check=True,
      capture_output=True,
      text=True,
      timeout=10,
    )
    return done.stdout.strip()

  try:
    # An installed copy may lie inside the checkout of something else.
    git('ls-files', '--error-unmatch', os.path.basename(__file__))
    commit = git('rev-parse', 'HEAD')
    changed = git('status', '--porcelain', '--untracked-files=no')
  except (OSError, subprocess.SubprocessError):
    return None
  return f'{commit}-dirty' if changed else commit


@contextlib.contextmanager
def writing(
  workdir: str, config: Mapping[str, Any], *, devices: Sequence[str] = ()
) -> Iterator[None]:
  """Holds a run folder for this process, and opens the run in it.

  A stage that runs inside another of the same folder finds it open and leaves
  it so.

  Args:
    workdir: the run folder.
    config: the whole configuration, as JSON values.
    devices: names of the devices the run uses.

  Raises:
    InputError: if another process holds the folder.
  """
  key = _key(workdir)
  if key in _open:
    yield
    return
  with storage.lock(workdir):
    _open.add(key)
    try:
      open_run(workdir, config, devices=devices)
      yield
    finally:
      _open.discard(key)


@contextlib.contextmanager
def part(
  workdir: str, name: str, config: Mapping[str, Any], *, alone: bool
) -> Iterator[None]:
  """Holds a part of a run folder for this process, as one stage of many.

  What runs inside finds the folder open and leaves it so; other processes may
  hold other parts of it.

  Args:
    workdir: the run folder.
    name: of the part.
    config: as for `writing`.
    alone: whether this process holds the whole folder; else the provenance of
      the part is kept in `DIR/stages/NAME/`.

  Raises:
    InputError: if another process holds the part.
  """
  _check_key('name', name)
  folder = storage.join(workdir, 'stages', name)
  key = _key(workdir)
  fresh = key not in _open
  with storage.lock(folder):
    if not alone:
      open_run(folder, config)
    _open.add(key)
    try:
      yield
    finally:
      if fresh:
        _open.discard(key)


def _key(workdir: str) -> str:
  return workdir if '://' in workdir else os.path.abspath(workdir)


class Metrics:
  """Numbers by step, in `metrics.jsonl` once closed.

  A step that is written again, as after a resume, replaces its older row.
  After a kill at most the rows since the last part are lost; the others are
  merged by the next `close`.
  """

  def __init__(self, workdir: str, name: str):
    """Args: run folder, whose lock the caller holds; `name` of the stage."""
    _check_key('name', name)
    self._workdir = workdir
    self._name = name
    self._rows: list[str] = []
    self._oldest = 0.0
    parts = self._parts()
    self._next = parts[-1][0] + 1 if parts else 0

  def __enter__(self) -> 'Metrics':
    return self

  def __exit__(self, *exception: object) -> None:
    self.close()

  def write(self, step: int, **values: Any) -> None:
    """Adds a row; a NaN or an infinity is written as null.

    Raises:
      ValueError: if a value is not a number, or is called `name`.
    """
    if 'name' in values:
      raise ValueError('name: wanted another name of a metric; it is taken.')
    row = {'name': self._name, 'step': int(step)}
    row.update((key, _number(key, value)) for key, value in values.items())
    if not self._rows:
      self._oldest = time.monotonic()
    self._rows.append(json.dumps(row, allow_nan=False) + '\n')
    old = time.monotonic() - self._oldest >= _PART_S
    if old or len(self._rows) >= _PART_ROWS:
      self.flush()

  def flush(self) -> None:
    """Publishes the rows so far as a part."""
    if self._rows:
      storage.publish(self._part(self._next), ''.join(self._rows))
      self._next += 1
      self._rows = []

  def close(self) -> None:
    """Merges all parts of this name into `metrics.jsonl`."""
    self.flush()
    parts = self._parts()
    if not parts:
      return
    merged = storage.join(self._workdir, 'metrics.jsonl')
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for path in [merged, *(path for _, path in parts)]:
      if path != merged or storage.exists(path):
        for row in _read_metrics(path):
          rows[row['name'], row['step']] = row
    lines = [json.dumps(rows[key]) + '\n' for key in sorted(rows)]
    storage.publish(merged, ''.join(lines))
    # Oldest first: what a kill leaves of them is then still the newest.
    for _, path in parts:
      storage.remove(path)
    self._next = 0

  def _part(self, number: int) -> str:
    name = f'{self._name}-{number:06d}.jsonl'
    return storage.join(self._workdir, 'parts', name)

  def _parts(self) -> list[tuple[int, str]]:
    """Returns (number, path) of this name's parts, oldest first."""
    pattern = re.compile(re.escape(self._name) + r'-([0-9]{6,})\.jsonl')
    names = storage.names(storage.join(self._workdir, 'parts'))
    found = (pattern.fullmatch(name) for name in names)
    ordered = sorted(int(match[1]) for match in found if match)
    return [(number, self._part(number)) for number in ordered]


def _read_metrics(path: str) -> list[dict[str, Any]]:
  rows = []
  for number, line in enumerate(storage.read_text(path).split('\n'), 1):
    if not line:
      continue
    try:
      row = json.loads(line)
      _ = row['name'], row['step']
    except (ValueError, KeyError, TypeError):
      raise errors.InputError(
        f'{path}: row {number}: wanted an object with "name" and "step".'
      ) from None
    rows.append(row)
  return rows


def _check_key(what: str, key: str) -> None:
  if not re.fullmatch(r'[A-Za-z0-9_][A-Za-z0-9_.-]*', key):
    raise ValueError(
      f'{what}: wanted letters, digits, "_", "." and "-" only; got {key!r}.'
    )


def _number(key: str, value: Any) -> int | float | None:
  array = np.asarray(value)
  # Of kind V are bfloat16 and its like, which convert to float.
  if array.ndim or array.dtype.kind not in 'iufV':
    raise ValueError(f'{key}: wanted one number; got {value!r}.')
  number = int(array) if array.dtype.kind in 'iu' else float(array)
  return number if math.isfinite(number) else None


def book(workdir: str, key: str, row: Mapping[str, Any]) -> None:
  """Sets one row of the ledger.

  Args:
    workdir: the run folder.
    key: what the row is of, as `sample-tiny-wc`; the same key replaces the
      row, so that a resumed stage is not counted twice.
    row: the fields `LEDGER_FIELDS`; chip_seconds leave compiling out, `usd` is
      None where the price is not known.

  Raises:
    ValueError: if a field is unknown, missing or of a wrong type.
  """
  _check_key('key', key)
  _check_ledger_row(key, row)
  row = {field: row[field] for field in LEDGER_FIELDS}
  storage.publish_json(storage.join(workdir, 'ledger', f'{key}.json'), row)


def merge_ledger(workdir: str) -> list[dict[str, Any]]:
  """Writes `ledger.jsonl` from all booked rows, by key; returns the rows.

  Raises:
    InputError: if a booked row is not one.
  """
  rows = booked(workdir)
  lines = [json.dumps(row, ensure_ascii=False) + '\n' for row in rows]
  storage.publish(storage.join(workdir, 'ledger.jsonl'), ''.join(lines))
  return rows


def booked(workdir: str) -> list[dict[str, Any]]:
  """Returns all booked rows, by key.

  Raises:
    InputError: if one is not a row of a ledger.
  """
  folder = storage.join(workdir, 'ledger')
  names = (name for name in storage.names(folder) if name.endswith('.json'))
  rows = []
  for key in sorted(name.removesuffix('.json') for name in names):
    path = storage.join(folder, f'{key}.json')
    row = storage.read_json(path)
    try:
      _check_ledger_row(key, row)
    except ValueError as error:
      raise errors.InputError(f'{path}: {error}') from None
    rows.append(row)
  return rows


def _check_ledger_row(key: str, row: Any) -> None:
  if not isinstance(row, Mapping) or set(row) != set(LEDGER_FIELDS):
    got = sorted(row) if isinstance(row, Mapping) else row
    raise ValueError(
      f'{key}: wanted the fields {", ".join(LEDGER_FIELDS)}; got {got}.'
    )
  for field, value in row.items():
    if field in _LEDGER_TEXT:
      wanted, good = 'a string', isinstance(value, str)
    elif field in _LEDGER_COUNTS:
      wanted, good = 'an integer >= 0', type(value) is int and value >= 0
    else:
      wanted = 'a finite number >= 0'
      good = type(value) in (int, float) and 0 <= value < math.inf
      good = good or (field == 'usd' and value is None)
    if not good:
      raise ValueError(f'{key}: {field}: wanted {wanted}; got {value!r}.')
