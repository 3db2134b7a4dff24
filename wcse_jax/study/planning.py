"""A study's plan: what a pilot of its samples says, and following it."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from wcse_jax import arms as arm_data
from wcse_jax import errors, follow, records, runlog, shardfiles, storage
from wcse_jax.metrics import measure
from wcse_jax.plan import (
  allocation,
  costs,
  curves,
  given,
  pilots,
  planner,
  settings,
)
from wcse_jax.study import settings as study_settings


ROLES = study_settings.PAIR


def plan(study, graded: Mapping[str, arm_data.Graded]) -> None:
  """Writes `plan/plan.json`: what a pilot of the first samples says.

  Args:
    study: a `design.Study`.
    graded: samples and grades of `wc` and `se`.

  Raises:
    InputError: if the pilot's samples could not be graded.
  """
  path = storage.join(study.workdir, 'plan', 'plan.json')
  if storage.exists(path):
    return
  c = study.config
  names = [study.stem(role) for role in ROLES]
  sources = [
    pilots.Source(
      storage.join(study.workdir, 'grades', name), name, study.workdir, name
    )
    for name in names
  ]
  asked = settings.PlanConfig(
    pilots=tuple(source.path for source in sources),
    currency='flops',
    budget=c.budgets[c.largest],
    problems=len(study.problems),
    seed=c.seed,
  )
  drawn_Q = pilots.part(len(study.problems), c.pilot_problems, c.seed)
  tables = [
    graded[role].table.of_problems(drawn_Q).restrict(0, c.pilot_samples)
    for role in ROLES
  ]
  pilot, kept_Q = counted(names, tables)
  told = given.Given(
    pilot=pilot,
    levels=tuple(np.array(tables[0].levels, object)[kept_Q]),
    paid=costs.prices_of(asked, sources),
    worth=allocation.covered,
    rates=(None, None),
    sources=tuple(
      (source.path, study.checkpoint(role))
      for source, role in zip(sources, ROLES, strict=True)
    ),
    dollars=costs.per_million_right(
      asked,
      [costs.spent(source) for source in sources],
      pilot,
      [int(drawn_Q.sum()) * c.pilot_samples] * len(ROLES),
    ),
  )
  storage.publish_json(path, planner.decide(asked, told))


def counted(
  names: Sequence[str], tables: Sequence[measure.Table]
) -> tuple[curves.Pilot, npt.NDArray[np.bool_]]:
  """Returns `pilots.usable` of tables of the same problems.

  Raises:
    InputError: if most samples could not be graded.
  """
  return pilots.usable(
    names,
    np.stack([table.n_Q for table in tables]),
    np.stack([table.right_Q for table in tables]),
  )


def check(study) -> None:
  """Raises InputError if the pair is not asked alike, as plans have it."""
  alike = ('temperature', 'shots', 'prompts', 'chat')
  models = [study.config.models[role] for role in ROLES]
  if not study.config.pilot_problems:
    return
  for role, model in zip(ROLES, models, strict=True):
    if model.server:
      raise errors.InputError(
        f'pilot_problems: wanted 0 where {role} is behind a server, which no '
        f'plan can ask; got {study.config.pilot_problems}.'
      )
  for name in alike:
    values = [getattr(model, name) for model in models]
    if values[0] != values[1]:
      raise errors.InputError(
        f'pilot_problems: wanted 0 where {name} differs between wc and se, '
        f'which a plan asks alike; got {values[0]!r} and {values[1]!r}.'
      )


def follow_it(study, replicate: int = 0) -> None:
  """Draws what the plan says, into a run folder of its own."""
  folder = study.planned(replicate)
  done = storage.join(folder, 'followed.json')
  if not storage.exists(done):
    follow.follow(
      dataclasses.replace(
        study.sampling('wc'),
        name='',
        plan=storage.join(study.workdir, 'plan', 'plan.json'),
        # The plan's samples are none of the pilot's.
        seed=study.config.seed + 1 + replicate,
      ),
      folder,
    )
  for row in runlog.merge_ledger(folder):
    key = f'planned-r{replicate}-{row["stage"]}-{row["model"]}'
    stage = f'planned {row["stage"]}'
    runlog.book(study.workdir, key, row | {'stage': stage})
  storage.publish_json(
    storage.join(study.workdir, 'plan', f'followed-r{replicate}.json'),
    storage.read_json(done),
  )


def followed(study, replicate: int = 0) -> list[tuple[arm_data.Graded, range]]:
  """Returns what the plan drew, as parts of `arms.choose`."""
  folder, found = study.planned(replicate), []
  for name in storage.names(storage.join(folder, 'samples')):
    samples, grades = (
      shardfiles.ShardFolder(storage.join(folder, kind, name))
      for kind in ('samples', 'grades')
    )
    if samples.shards:
      # Rows of the problems that were asked; of the others there are none.
      asked = {row.problem_id for row in grades.rows(records.Grade)}
      problems = [p for p in study.problems if p.id in asked]
      graded = arm_data.Graded.read(name, study.task, problems, samples, grades)
      most = max(shard.last_index for shard in samples.shards)
      found.append((graded, range(most + 1)))
  return found
