"""A study's plan: what a pilot of its samples says, and following it."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from wcse_jax import arms as arm_data
from wcse_jax import follow, runlog, storage
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
from wcse_jax.sampler import inputs


ROLES = ('wc', 'se')


def plan(study, graded: Mapping[str, arm_data.Graded]) -> None:
  """Writes `plan/plan.json`: what a pilot of the first samples says.

  Args:
    study: a `study.Study`.
    graded: samples and grades of `wc` and `se`.

  Raises:
    InputError: if the pilot's samples could not be graded.
  """
  path = storage.join(study.workdir, 'plan', 'plan.json')
  if storage.exists(path):
    return
  c = study.config
  names = [inputs.model_name(getattr(c, role)) for role in ROLES]
  sources = [
    pilots.Source(
      storage.join(study.workdir, 'grades', name), name, study.workdir, name
    )
    for name in names
  ]
  asked = settings.PlanConfig(
    pilots=tuple(source.path for source in sources),
    currency='flops',
    budget=c.budget_high,
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
      (source.path, getattr(c, role))
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


def follow_it(study) -> None:
  """Draws what the plan says, into a run folder of its own."""
  folder = storage.join(study.workdir, 'planned')
  done = storage.join(folder, 'followed.json')
  if not storage.exists(done):
    follow.follow(
      dataclasses.replace(
        study.sampling('wc'),
        plan=storage.join(study.workdir, 'plan', 'plan.json'),
        # The plan's samples are none of the pilot's.
        seed=study.config.seed + 1,
      ),
      folder,
    )
  for row in runlog.merge_ledger(folder):
    key = f'planned-{row["stage"]}-{row["model"]}'
    stage = f'planned {row["stage"]}'
    runlog.book(study.workdir, key, row | {'stage': stage})
