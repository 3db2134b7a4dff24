"""Pilots: graded samples of several models on the same problems."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from wcse_jax import errors, records, shardfiles, storage
from wcse_jax.metrics import table as tables
from wcse_jax.plan import curves
from wcse_jax.tasks import base


@dataclasses.dataclass(frozen=True)
class Source:
  """Where one pilot is.

  Attributes:
    path: as it was given.
    name: of the model: the stem of the path.
    workdir: the run folder; empty for a file.
    model: the model's name in the run folder; empty for a file.
  """

  path: str
  name: str
  workdir: str = ''
  model: str = ''

  def grades(self) -> Iterator[records.Grade]:
    """Yields all grade rows.

    Raises:
      InputError: if a file or a row is not what it should be.
    """
    if not self.workdir:
      yield from _rows(self.path)
      return
    path = storage.join(self.workdir, 'grades', self.model)
    folder = shardfiles.ShardFolder(path)
    drawn = folder.fingerprint.get('samples')
    if isinstance(drawn, dict) and 'plan' in drawn:
      raise errors.InputError(
        f'pilots: {self.path}: wanted as many samples of every problem; these '
        'followed a plan, and ended where a problem was solved.'
      )
    yield from folder.rows(records.Grade)

  def samples(self) -> Iterator[records.Sample] | None:
    """Returns all sample rows, or None where there are none at hand."""
    if not self.workdir:
      return None
    folder = storage.join(self.workdir, 'samples', self.model)
    if not storage.exists(storage.join(folder, shardfiles.MANIFEST)):
      return None
    return shardfiles.ShardFolder(folder).rows(records.Sample)


def find(path: str) -> Source:
  """Returns the pilot at a path.

  Raises:
    InputError: if there are no grades, or those of several models.
  """
  path = path.rstrip('/')
  last = path.rpartition('/')[2]
  if path.endswith('.jsonl'):
    if not storage.exists(path):
      raise errors.InputError(f'pilots: {path}: wanted grades; no such file.')
    return Source(path, last.removesuffix('.jsonl'))
  if storage.exists(storage.join(path, shardfiles.MANIFEST)) and '/' in path:
    parent = path.rpartition('/')[0]
    if parent.rpartition('/')[2] == 'grades':
      return Source(path, last, parent.rpartition('/')[0] or '.', last)
  root = storage.join(path, 'grades')
  models = [
    name
    for name in storage.names(root)
    if storage.exists(storage.join(root, name, shardfiles.MANIFEST))
  ]
  if len(models) == 1:
    return Source(path, last, path, models[0])
  if models:
    raise errors.InputError(
      f'pilots: {path}: wanted the grades of one model; there are those of '
      f'{", ".join(models)}: name {root}/{models[0]}, or another.'
    )
  raise errors.InputError(
    f'pilots: {path}: wanted a JSONL file of grades or a folder with grades; '
    'there are none.'
  )


@dataclasses.dataclass(frozen=True)
class Read:
  """All pilots.

  Attributes:
    pilot: the counts.
    ids: of its problems, in order.
    rates: of each model, the share of the right samples whose reasoning was
      judged that was found wrong; None where none was judged.
    drawn: samples of each model, those among them that could not be graded.
  """

  pilot: curves.Pilot
  ids: tuple[str, ...]
  rates: tuple[float | None, ...]
  drawn: tuple[int, ...]


def read(sources: Sequence[Source]) -> Read:
  """Returns the counts of all pilots; their grades are read once.

  Raises:
    InputError: if two models have one name, if a sample comes twice, if the
      pilots are of different problems, or if most problems have fewer than
      `curves.LEAST` graded samples.
  """
  names = tuple(source.name for source in sources)
  if len(set(names)) < len(names):
    raise errors.InputError(
      f'pilots: wanted a name of its own for each; got {", ".join(names)}.'
    )
  told = [_counts(source) for source in sources]
  counts = [one.counts for one in told]
  first = counts[0]
  for source, found in zip(sources[1:], counts[1:], strict=True):
    if set(found) != set(first):
      raise errors.InputError(
        f'pilots: wanted the same problems in all; {names[0]} has '
        f'{len(first)}, {source.name} {len(found)}, both '
        f'{len(set(first) & set(found))}.'
      )
  ids = tuple(sorted(first))
  n_MQ, right_MQ = (
    np.array([[found[one][i] for one in ids] for found in counts])
    for i in (0, 1)
  )
  pilot, kept_Q = usable(names, n_MQ, right_MQ)
  return Read(
    pilot,
    tuple(one for one, keep in zip(ids, kept_Q, strict=True) if keep),
    tuple(one.rate for one in told),
    tuple(one.drawn for one in told),
  )


def usable(
  names: Sequence[str], n_MQ: curves.Counts, right_MQ: curves.Counts
) -> tuple[curves.Pilot, npt.NDArray[np.bool_]]:
  """Returns the pilot of those problems that all models have grades of.

  Args:
    names: of the models.
    n_MQ: graded samples of each problem.
    right_MQ: how many of them are right.

  Returns:
    The pilot, and kept_Q: which problems are in it.

  Raises:
    InputError: if most problems have fewer than `curves.LEAST` graded samples.
  """
  kept_Q = (n_MQ > 0).all(axis=0)
  pilot = curves.Pilot(tuple(names), n_MQ[:, kept_Q], right_MQ[:, kept_Q])
  for m, name in enumerate(names):
    if not kept_Q.any() or pilot.common(m) < curves.LEAST:
      raise errors.InputError(
        f'pilots: {name}: wanted {curves.LEAST} graded samples or more of nine '
        f'problems in ten; got {int(np.median(n_MQ[m])) if n_MQ.size else 0} '
        'of the median problem.'
      )
  return pilot, kept_Q


def part(problems: int, count: int, seed: int) -> npt.NDArray[np.bool_]:
  """Returns which problems a pilot of so many has, drawn at random, (Q,)."""
  kept_Q = np.zeros(problems, bool)
  random = np.random.default_rng([seed, 1])
  kept_Q[random.permutation(problems)[:count]] = True
  return kept_Q


@dataclasses.dataclass(frozen=True)
class _Counted:
  """What the grades of one model say.

  Attributes:
    counts: problem -> (graded samples, right ones).
    rate: as of `Read`.
    drawn: samples, graded or not.
  """

  counts: dict[str, tuple[int, int]]
  rate: float | None
  drawn: int


def _counts(source: Source) -> _Counted:
  judged = unsound = 0
  seen: set[tuple[str, int]] = set()
  found: dict[str, list[int]] = {}
  for row in source.grades():
    if (row.problem_id, row.index) in seen:
      raise errors.InputError(
        f'{source.path}: problem {row.problem_id}, index {row.index}: wanted '
        'one grade; there are two.'
      )
    seen.add((row.problem_id, row.index))
    count = found.setdefault(row.problem_id, [0, 0])
    # Timeouts and errors say nothing about the sample.
    count[0] += row.correct is not None
    if row.correct:
      count[1] += 1
      judged += row.sound is not None
      unsound += row.sound is False
  if not found:
    raise errors.InputError(
      f'{source.path}: wanted rows of grades; it is empty.'
    )
  counts = {key: (n, right) for key, (n, right) in found.items()}
  return _Counted(counts, unsound / judged if judged else None, len(seen))


def _rows(path: str) -> Iterator[records.Grade]:
  """Yields the grades of a JSONL file; only id, index and `correct` count."""
  for number, line in enumerate(storage.read_text(path).split('\n'), 1):
    if not line.strip():
      continue
    where = f'{path}: row {number}'
    row = records.parse_object(line, where)
    for name, kind in (('problem_id', str), ('index', int)):
      if name not in row:
        raise errors.InputError(f'{where}: missing field "{name}".')
      records.check_value(kind, row[name], name, where)
    if 'correct' not in row or row['correct'] not in (True, False, None):
      raise errors.InputError(
        f'{where}: field "correct": wanted true, false or null; got '
        f'{records.shorten(row.get("correct"))}.'
      )
    sound = row.get('sound')
    verdict = {True: 'right', False: 'wrong', None: 'error'}[row['correct']]
    yield records.Grade(
      problem_id=row['problem_id'],
      index=row['index'],
      answer=None,
      correct=row['correct'],
      verdict=verdict,
      sound=sound if isinstance(sound, bool) else None,
      why='',
    )


def chains(source: Source, task: base.Task) -> dict[str, list[int]]:
  """Returns problem -> the chain of each of its right samples, hashed.

  Raises:
    InputError: if the samples are not at hand.
  """
  samples = source.samples()
  if samples is None:
    raise errors.InputError(
      f'pilots: {source.path}: wanted the samples beside the grades, whose '
      'texts say which right ones are distinct; there are none.'
    )
  right = {(g.problem_id, g.index) for g in source.grades() if g.correct}
  found: dict[str, list[int]] = {}
  for row in samples:
    if (row.problem_id, row.index) in right:
      chain = tables.hashed(task.chain(row.text))
      found.setdefault(row.problem_id, []).append(chain)
  return found
