"""Judgements of a model's samples by judges: files, and what they say.

    DIR/judgements/<model>/<judge>/part-00000.jsonl      `records.Judgement`
    DIR/judgements/<model>/<judge>/canaries-00000.jsonl  `Canary`
    DIR/judgements/<model>/<judge>/manifest.json

A part holds up to `PART` samples and the canaries that were among them.  Parts
are written whole, once, and never change; the manifest has the sha256 of each
and the fingerprint of what made them.
"""

import dataclasses
import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from absl import logging

from wcse_jax import errors, records, shardfiles, storage
from wcse_jax.grading import canaries as known


FOLDER = 'judgements'
# Samples of a part at most.
PART = 64
# Share of bad canaries above which a judge is not to be believed.
_MOST_ACCEPTED = 0.1
_NAME = re.compile(r'(part|canaries)-([0-9]{5,})\.jsonl')
# Normal deviate of a 95% interval.
_Z = 1.959963984540054


@dataclasses.dataclass(frozen=True, kw_only=True)
class Canary(records.Judgement):
  """What a judge said of a canary; `index` is the canary's number.

  Attributes:
    kind: one of `grading.canaries.KINDS`.
  """

  kind: str

  def __post_init__(self):
    if self.kind not in known.KINDS:
      raise ValueError(
        f'field "kind": wanted one of {", ".join(known.KINDS)}; '
        f'got {records.shorten(self.kind)}.'
      )


class Folder:
  """The parts of one judge on one model.

  The caller holds the lock of the run where it writes or checks.
  """

  def __init__(self, path: str, fingerprint: Mapping[str, Any] | None = None):
    """Opens the folder.

    Args:
      path: the folder; it need not exist where a fingerprint is given.
      fingerprint: all that the judgements depend on, as JSON values; None to
        take what is there.

    Raises:
      InputError: if the manifest is of another fingerprint or is not one, or
        if there is none and no fingerprint was given.
    """
    self.path = path
    self._parts: dict[int, dict[str, Any]] = {}
    manifest = storage.join(path, shardfiles.MANIFEST)
    if fingerprint is None or storage.exists(manifest):
      have, self._parts = _read_manifest(manifest)
      if fingerprint is not None:
        differences = shardfiles.fingerprint_difference(fingerprint, have)
        if differences:
          raise errors.InputError(
            f'{path}: wanted the judgements of this configuration; the folder '
            f'has those of another: {"; ".join(differences)}.'
          )
      fingerprint = have
    self.fingerprint: dict[str, Any] = shardfiles.plain(fingerprint)

  def start(self) -> None:
    """Writes the manifest, so that a resumed run finds its fingerprint."""
    if not storage.exists(storage.join(self.path, shardfiles.MANIFEST)):
      self._publish(self._parts)

  def check(self) -> list[str]:
    """Verifies every file, and returns the names of the bad ones.

    A torn or changed file is renamed aside; its part is made again.
    """
    bad = []
    for number, part in sorted(self._parts.items()):
      found = []
      for name, entry in part['files'].items():
        path = storage.join(self.path, name)
        if not storage.exists(path):
          logging.warning('%s: missing; will be made again.', path)
        elif storage.sha256(path) != entry['sha256']:
          logging.warning(
            '%s: not what was written; moved to %s, will be made again.',
            path,
            storage.quarantine(path),
          )
        else:
          continue
        found.append(name)
      if found:
        del self._parts[number]
        bad += found
    return bad

  def write(
    self,
    rows: Sequence[records.Judgement],
    canaries: Sequence[Canary],
    cost: Mapping[str, float],
  ) -> None:
    """Publishes a part, then the manifest that makes it count.

    Args:
      rows: the judgements of samples that no other part has.
      canaries: those of the canaries that were among them.
      cost: numbers to be summed over parts, as tokens and seconds.

    Raises:
      ValueError: if a sample is there already, or twice.
    """
    keys = [(row.problem_id, row.index) for row in rows]
    if len({*keys}) < len(keys) or not self.judged().keys().isdisjoint(keys):
      raise ValueError('rows: a sample is there already: parts never change.')
    number = next(
      i for i in range(len(self._parts) + 1) if i not in self._parts
    )
    files = {}
    for kind, members in (('part', rows), ('canaries', canaries)):
      name = f'{kind}-{number:05d}.jsonl'
      text = ''.join(row.to_json() + '\n' for row in members)
      files[name] = {
        'sha256': storage.publish(storage.join(self.path, name), text),
        'rows': len(members),
      }
    part = {'files': files, 'cost': shardfiles.plain(cost)}
    parts = dict(sorted({**self._parts, number: part}.items()))
    self._publish(parts)
    self._parts = parts

  def judged(self) -> dict[tuple[str, int], bool | None]:
    """Returns (problem id, sample index) -> sound, verified as it is read.

    Raises:
      InputError: if a file is missing or not what was written.
    """
    return {
      (row.problem_id, row.index): row.sound
      for row in self._rows('part', records.Judgement)
    }

  def have(self) -> frozenset[tuple[str, int]]:
    """Returns the samples of all parts whose files are as they were written."""
    return frozenset(
      (row.problem_id, row.index)
      for row in self._rows('part', records.Judgement, skip=True)
    )

  def canaries(self) -> list[Canary]:
    """Returns the canaries of all parts, by number; raises as `judged`."""
    found = self._rows('canaries', Canary)
    return sorted(found, key=lambda row: row.index)

  def cost(self) -> dict[str, float]:
    """Returns the costs of all parts, summed by name."""
    total: dict[str, float] = {}
    for _, part in sorted(self._parts.items()):
      for name, value in part['cost'].items():
        total[name] = total.get(name, 0) + value
    return total

  def _rows(
    self, kind: str, cls: type[records.RowT], skip: bool = False
  ) -> Iterator[records.RowT]:
    """Yields the rows of all files of a kind; `skip`: bad ones are left out."""
    for part in self._parts.values():
      for name, entry in part['files'].items():
        if not name.startswith(f'{kind}-'):
          continue
        path = storage.join(self.path, name)
        if skip and not storage.exists(path):
          continue
        data = storage.read_bytes(path)
        if hashlib.sha256(data).hexdigest() != entry['sha256']:
          if skip:
            continue
          raise errors.InputError(
            f'{path}: wanted sha256 {entry["sha256"]} of the manifest; the '
            'file was changed or is torn; launch/judge.py makes it again.'
          )
        yield from records.parse_rows(data.decode('utf-8'), cls, path)

  def _publish(self, parts: Mapping[int, Mapping[str, Any]]) -> None:
    storage.publish_json(
      storage.join(self.path, shardfiles.MANIFEST),
      {'fingerprint': self.fingerprint, 'parts': list(parts.values())},
    )


def judges(workdir: str, model: str) -> list[str]:
  """Returns the names of the judges that judged a model's samples."""
  root = storage.join(workdir, FOLDER, model)
  return [
    name
    for name in storage.names(root)
    if storage.exists(storage.join(root, name, shardfiles.MANIFEST))
  ]


def read(
  workdir: str, model: str
) -> dict[str, dict[tuple[str, int], bool | None]]:
  """Returns judge -> (problem id, sample index) -> sound; None: no verdict.

  Raises:
    InputError: if a file is missing or not what was written.
  """
  root = storage.join(workdir, FOLDER, model)
  return {
    name: Folder(storage.join(root, name)).judged()
    for name in judges(workdir, model)
  }


def canaries(workdir: str, model: str) -> dict[str, dict[str, Any]]:
  """Returns judge -> `summary` of its canaries; raises as `read`."""
  root = storage.join(workdir, FOLDER, model)
  return {
    name: summary(Folder(storage.join(root, name)).canaries())
    for name in judges(workdir, model)
  }


def summary(rows: Iterable[Canary]) -> dict[str, Any]:
  """Returns what the canaries say of a judge, by kind, as JSON values.

  Of each kind: `asked`, `unparsed` (no verdict), `accepted` (called sound),
  `sound` (what a judge must say), and `value`, `low`, `high`, `n`: the share
  accepted of those with a verdict, with Wilson's 95% interval; None where
  there are none.
  """
  by_kind: dict[str, list[bool | None]] = {kind: [] for kind in known.KINDS}
  for row in rows:
    by_kind[row.kind].append(row.sound)
  found: dict[str, Any] = {}
  for kind, verdicts in by_kind.items():
    said = [verdict for verdict in verdicts if verdict is not None]
    low, high = wilson(sum(said), len(said))
    found[kind] = {
      'sound': known.KINDS[kind],
      'asked': len(verdicts),
      'unparsed': len(verdicts) - len(said),
      'accepted': sum(said),
      'value': sum(said) / len(said) if said else None,
      'low': low,
      'high': high,
      'n': len(said),
    }
  return found


def warnings(summary: Mapping[str, Mapping[str, Any]]) -> list[str]:
  """Returns what the canaries say against a judge, a line each."""
  found = []
  for kind, one in summary.items():
    if one['asked'] and not one['n']:
      found.append(
        f'the judge gave no verdict on any of {one["asked"]} {kind} canaries, '
        'so nothing is known of its verdicts.'
      )
    elif one['n'] and not one['sound'] and one['value'] > _MOST_ACCEPTED:
      found.append(
        f'the judge accepted {one["accepted"]} of {one["n"]} {kind} canaries; '
        'its verdicts are not to be believed without an audit.'
      )
    elif one['n'] and one['sound'] and one['value'] < 1 - _MOST_ACCEPTED:
      found.append(
        f'the judge called {one["n"] - one["accepted"]} of {one["n"]} '
        'reference solutions unsound; its verdicts are not to be believed '
        'without an audit.'
      )
  return found


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
  """Returns what `judge.judge` returns, for the terminal."""
  lines = []
  for model, row in found.items():
    counts = row['counts']
    lines.append(
      f'{model} by {row["judge"]}: judged {counts["judged"]} of '
      f'{row["right"]} right samples: sound {counts["sound"]}, unsound '
      f'{counts["unsound"]}, unparsed {counts["unparsed"]}'
    )
    for kind, one in row['canaries'].items():
      shown = 'no verdict'
      if one['n']:
        shown = (
          f'accepted {one["value"]:.3f} [{one["low"]:.3f}, {one["high"]:.3f}] '
          f'n={one["n"]}'
        )
      wanted = 'all' if one['sound'] else 'none'
      lines.append(
        f'  canaries: {kind:<10}{shown}; unparsed {one["unparsed"]} of '
        f'{one["asked"]}; right would be {wanted} accepted'
      )
    lines += [f'warning: {text}' for text in row['warnings']]
  return '\n'.join(lines)


def wilson(count: int, n: int) -> tuple[float | None, float | None]:
  """Returns the ends of the 95% interval of a share; None, None for n = 0.

  Source: Wilson 1927, J. Am. Stat. Assoc. 22, 209-212.
  """
  if not n:
    return None, None
  share, z2 = count / n, _Z**2
  centre = (share + z2 / (2 * n)) / (1 + z2 / n)
  half = _Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
  half /= 1 + z2 / n
  # Rounding must not leave an end beside 0 or 1.
  low = 0.0 if not count else max(0.0, centre - half)
  high = 1.0 if count == n else min(1.0, centre + half)
  return low, high


def _read_manifest(
  path: str,
) -> tuple[dict[str, Any], dict[int, dict[str, Any]]]:
  """Returns the fingerprint and the parts by number."""
  manifest = records.parse_object(storage.read_text(path), path)
  fingerprint, listed = manifest.get('fingerprint'), manifest.get('parts')
  if not isinstance(fingerprint, dict) or not isinstance(listed, list):
    raise errors.InputError(
      f'{path}: wanted the object "fingerprint" and the list "parts"; '
      f'got the fields {records.shorten(sorted(manifest))}.'
    )
  parts = {}
  for part in listed:
    try:
      found = [_NAME.fullmatch(name) for name in part['files']]
      (number,) = {int(match[2]) for match in found}
      hashes = [str(entry['sha256']) for entry in part['files'].values()]
      fine = all(len(digest) == 64 for digest in hashes) and len(found) == 2
      for name, value in part['cost'].items():
        records.check_value(float, value, f'cost.{name}', path)
    except (TypeError, KeyError, ValueError, AttributeError):
      fine = False
    if not fine or number in parts:
      raise errors.InputError(
        f'{path}: parts: wanted {{"files", "cost"}}, the files of one part '
        f'with the sha256 of each; got {records.shorten(part)}.'
      )
    parts[number] = part
  return fingerprint, dict(sorted(parts.items()))
