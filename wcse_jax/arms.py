"""Graded samples as training data: those of a pool that fit the rules."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from wcse_jax import errors, records, selection, shardfiles
from wcse_jax.metrics import measure
from wcse_jax.sft import data
from wcse_jax.tasks import base


@dataclasses.dataclass(frozen=True)
class Graded:
  """One model's graded samples, which stay in their folders.

  Attributes:
    name: of the model.
    samples: the folder of its samples.
    grades: the folder of their grades, shard for shard.
    table: what is measured of them.
  """

  name: str
  samples: shardfiles.ShardFolder
  grades: shardfiles.ShardFolder
  table: measure.Table

  @classmethod
  def read(
    cls,
    name: str,
    task: base.Task,
    problems: Sequence[records.Problem],
    samples: shardfiles.ShardFolder,
    grades: shardfiles.ShardFolder,
  ) -> 'Graded':
    """Returns them, their table made of all rows, which pass once."""
    table = measure.Table.from_rows(
      problems,
      samples.rows(records.Drawn),
      grades.rows(records.Grade),
      task.chain,
      task.ballot,
    )
    return cls(name, samples, grades, table)

  def rows(
    self,
    pool: range,
    problems: Mapping[str, records.Problem],
    position: int | None = None,
  ) -> Iterator[selection.Row]:
    """Yields the samples of some indices and problems.

    Args:
      pool: the sample indices.
      problems: by id.
      position: of the one problem that is wanted, whose shards alone are read;
        None: of all.
    """
    for shard in self.samples.shards:
      if shard.last_index < pool.start or shard.first_index >= pool.stop:
        continue
      if position is not None and not (
        shard.first_problem <= position <= shard.last_problem
      ):
        continue
      grades = {
        (one.problem_id, one.index): one
        for one in self.grades.read(shard, records.Grade)
      }
      for row in self.samples.read(shard, records.Drawn):
        if row.index in pool and row.problem_id in problems:
          yield selection.Row(
            problems[row.problem_id],
            row,
            grades[row.problem_id, row.index],
            self.name,
          )


def choose(
  parts: Sequence[tuple[Graded, range]],
  task: base.Task,
  problems: Sequence[records.Problem],
  rules: selection.Selection | None = None,
) -> tuple[list[selection.Row], dict[str, int]]:
  """Returns the samples to train on, and what each rule dropped.

  Args:
    parts: graded samples, and the sample indices to take of them.
    task: says which solutions are one, and which answers.
    problems: the training problems; samples of others are not taken.
    rules: which samples to take; None: every right one.

  Returns:
    What `selection.select` does.
  """
  where = {problem.id: problem for problem in problems}
  return selection.select(
    (row for source, pool in parts for row in source.rows(pool, where)),
    rules or selection.Selection(),
    task.chain,
    task.ballot,
  )


def examples(
  rows: Sequence[selection.Row], task: base.Task, *, chat: bool = False
) -> list[data.Example]:
  """Returns the training examples of some samples.

  Args:
    rows: the samples.
    task: lays out prompt and completion.
    chat: as in `data.example`.
  """
  return [
    data.example(task, row.problem, row.sample.text, chat=chat) for row in rows
  ]


def human(
  problems: Sequence[records.Problem], task: base.Task, *, chat: bool = False
) -> list[data.Example]:
  """Returns the training examples of the reference solutions."""
  return [data.example(task, p, p.solution, chat=chat) for p in problems]


def check(name: str, counts: Mapping[str, int]) -> None:
  """Raises InputError if no sample of an arm is left to train on.

  Args:
    name: what it is called, as `arm wc`.
    counts: those of `choose`.
  """
  if not counts['chosen']:
    dropped = ', '.join(f'{rule} {counts[rule]}' for rule in selection.RULES)
    raise errors.InputError(
      f'{name}: none of the {counts["rows"]} samples of its pool is right '
      f'and fits; there is nothing to train on (dropped by rule: {dropped}).'
    )
