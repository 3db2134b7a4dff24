"""The arms of a study: which graded samples become training examples."""

import dataclasses
from collections.abc import Mapping, Sequence

from wcse_jax import errors, records, selection
from wcse_jax.metrics import measure
from wcse_jax.sft import data
from wcse_jax.tasks import base


# Name -> what the report calls it.
LABELS = {
  'wc': 'WC data',
  'se': 'SE data',
  'wc_number_matched': 'WC data, as many samples as SE',
  'human': 'human solutions',
}
ARMS = tuple(LABELS)


@dataclasses.dataclass(frozen=True)
class Graded:
  """One model's samples on the training problems, with their grades."""

  samples: Sequence[records.Sample]
  grades: Sequence[records.Grade]
  table: measure.Table


def examples(
  arm: str,
  task: base.Task,
  problems: Sequence[records.Problem],
  graded: Mapping[str, Graded],
  pools: Mapping[str, range],
  rules: selection.Selection | None = None,
  *,
  chat: bool = False,
) -> list[data.Example]:
  """Returns the training examples of an arm, those of its pool that fit.

  Args:
    arm: one of `ARMS`.
    task: lays out prompt and completion.
    problems: the training problems; samples of others are not taken.
    graded: samples and grades of `wc` and `se`.
    pools: the sample indices that `wc` and `se` may use at this budget.
    rules: which samples to take; None: every right one.
    chat: as in `data.example`.

  Raises:
    InputError: if no sample of the pool fits.
  """
  if arm == 'human':
    return [data.example(task, p, p.solution, chat=chat) for p in problems]
  rows, counts = choose(arm, task, problems, graded, pools, rules)
  if not rows:
    dropped = ', '.join(f'{name} {counts[name]}' for name in selection.RULES)
    raise errors.InputError(
      f'arm {arm}: none of the {counts["rows"]} samples of its pool is right '
      f'and fits; there is nothing to train on (dropped by rule: {dropped}).'
    )
  return [
    data.example(task, row.problem, row.sample.text, chat=chat) for row in rows
  ]


def choose(
  arm: str,
  task: base.Task,
  problems: Sequence[records.Problem],
  graded: Mapping[str, Graded],
  pools: Mapping[str, range],
  rules: selection.Selection | None = None,
) -> tuple[list[selection.Row], dict[str, int]]:
  """Returns the samples of an arm and what each rule dropped.

  Arguments are as in `examples`, but that the arm `human` has no samples; the
  counts are those of `selection.select`.
  """
  role = 'se' if arm == 'se' else 'wc'
  pool = pools[role]
  if arm == 'wc_number_matched':
    pool = pool[: len(pools['se'])]
  source = graded[role]
  where = {problem.id: problem for problem in problems}
  grades = {
    (g.problem_id, g.index): g
    for g in source.grades
    if g.index in pool and g.problem_id in where
  }
  return selection.select(
    [
      selection.Row(where[s.problem_id], s, grades[s.problem_id, s.index])
      for s in source.samples
      if (s.problem_id, s.index) in grades
    ],
    rules or selection.Selection(),
    task.chain,
    task.ballot,
  )
