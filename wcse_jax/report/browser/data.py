"""What the sample browser shows: samples with their kinds, block by block."""

import collections
import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from wcse_jax import records, shardfiles, storage
from wcse_jax.report import names


# Kinds of samples, in the order in which they are shown.
KINDS = {
  'unsound': 'false positive',
  'wrong': 'wrong',
  'cut': 'truncated',
  'ungraded': 'not graded',
  'right': 'right',
}


@dataclasses.dataclass(frozen=True)
class Source:
  """The samples of one model.

  Attributes:
    role: `wc`, `se`, or that of a further model.
    name: the model's.
    samples: its samples.
    grades: their grades.
    label: what the role is called; empty where it has a name of its own.
  """

  role: str
  name: str
  samples: shardfiles.ShardFolder
  grades: shardfiles.ShardFolder
  label: str = ''

  @property
  def title(self) -> str:
    return self.label or names.ROLES.get(self.role, self.role)


def sources(
  workdir: str,
  models: Mapping[str, str],
  labels: Mapping[str, str] | None = None,
) -> list[Source]:
  """Returns the sources of a run folder.

  Args:
    workdir: the run folder.
    models: role -> name of the model.
    labels: role -> what it is called, of models beyond WC and SE.
  """
  return [
    Source(
      role,
      name,
      shardfiles.ShardFolder(storage.join(workdir, 'samples', name)),
      shardfiles.ShardFolder(storage.join(workdir, 'grades', name)),
      (labels or {}).get(role, ''),
    )
    for role, name in models.items()
  ]


def kind(sample: records.Sample, grade: records.Grade | None) -> str:
  """Returns one of `KINDS`."""
  if grade is None or grade.correct is None:
    return 'ungraded'
  if grade.correct:
    return 'unsound' if grade.sound is False else 'right'
  return 'cut' if sample.finish_reason == 'length' else 'wrong'


# A sample's kind, the sample, its grade.
Found = tuple[str, records.Sample, records.Grade | None]


class Blocks:
  """The shards of a folder by the blocks of problems that they are of."""

  def __init__(self, folder: shardfiles.ShardFolder):
    self._folder = folder
    self._shards: dict[int, list[shardfiles.Shard]] = {}
    size = shardfiles.BLOCK_PROBLEMS
    for shard in folder.shards:
      last = shard.last_problem // size
      for block in range(shard.first_problem // size, last + 1):
        self._shards.setdefault(block, []).append(shard)

  def rows(self, block: int, cls: type[records.RowT]) -> Iterator[records.RowT]:
    for shard in self._shards.get(block, ()):
      yield from self._folder.read(shard, cls)


def read(samples: Blocks, grades: Blocks, block: int) -> dict[str, list[Found]]:
  """Returns problem -> its samples with their kinds, of a block of problems."""
  graded = {
    (row.problem_id, row.index): row
    for row in grades.rows(block, records.Grade)
  }
  found: dict[str, list[Found]] = {}
  for row in samples.rows(block, records.Drawn):
    grade = graded.get((row.problem_id, row.index))
    found.setdefault(row.problem_id, []).append((kind(row, grade), row, grade))
  return found


def counts(rows: Sequence[Found]) -> collections.Counter[str]:
  return collections.Counter(name for name, _, _ in rows)
