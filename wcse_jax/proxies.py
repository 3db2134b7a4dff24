"""Does what is known of the data tell which student will be better?

Many students are trained, each on the right samples of one model at one budget,
drawn anew in every replicate.  For each cell, a budget and a cost ratio, there
are two arms: as many samples of the weak model as the ratio buys, and those of
the strong one.  A proxy is a number of an arm's data that is known before
training; it picks the arm with more of it.  What it is worth is measured on the
students of the other replicates, so that no noise is counted as a gain.

Stages meet through files, as those of a study do; a run that is stopped goes
on.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from wcse_jax import arms as arm_data
from wcse_jax import (
  budget,
  checkpoints,
  errors,
  evaluate,
  grade,
  meter,
  runlog,
  shardfiles,
  sharding,
  storage,
  tasks,
)
from wcse_jax.plan import curves, picks, pilots
from wcse_jax.sampler import inputs
from wcse_jax.sampler import run as sampling
from wcse_jax.sampler import settings as sampler_settings
from wcse_jax.sft import data, judge, train
from wcse_jax.sft import settings as sft_settings
from wcse_jax.sft import step as steps
from wcse_jax.study import planning
from wcse_jax.tasks import base


ROLES = ('wc', 'se')


@dataclasses.dataclass(kw_only=True)
class ProxiesConfig:
  """A study of proxies.

  Attributes:
    wc: checkpoint of the weak model.
    se: checkpoint of the strong model.
    student: checkpoint of the student.
    task: one of `tasks.TASKS`.
    data: folder or file of the set; empty for the task's own source.
    problems: training problems that are sampled; 0 for all.
    test_problems: test problems of the evaluation; 0 for all.
    budgets: samples per problem of the strong model.
    ratios: cost of a strong sample over that of a weak one.
    replicates: of every arm, each with samples and a data order of its own.
    pilot_problems: of the planner's pilot, whose samples serve for nothing
      else.
    pilot_samples: of each of them.
    seed: of everything.
    dtype: `float32` or `bfloat16`.
    mesh: as `sharding.make_mesh` reads it.
    sampler: how solutions are drawn.
    sft: how students are trained; its checkpoint and data are filled in.
  """

  wc: str = 'tiny-wc'
  se: str = 'tiny-se'
  student: str = 'tiny-student'
  task: str = 'arith'
  data: str = ''
  problems: int = 192
  test_problems: int = 512
  budgets: tuple[int, ...] = (1, 2, 4, 8)
  ratios: tuple[float, ...] = (1.2, 1.5, 2.0, 3.0, 4.0)
  replicates: int = 14
  pilot_problems: int = 96
  pilot_samples: int = 8
  seed: int = 0
  dtype: str = 'float32'
  mesh: str = ''
  sampler: sampler_settings.SamplerConfig = dataclasses.field(
    default_factory=sampler_settings.SamplerConfig
  )
  sft: sft_settings.SftConfig = dataclasses.field(
    default_factory=sft_settings.SftConfig
  )

  def validate(self) -> None:
    """Raises InputError for the first field that is out of range."""
    for field, least in (('replicates', 2), ('pilot_samples', 2)):
      if getattr(self, field) < least:
        raise errors.InputError(
          f'{field}: wanted a count >= {least}; got {getattr(self, field)}.'
        )
    for field, least in (('budgets', 1), ('ratios', 1.0)):
      values = getattr(self, field)
      if not values or not all(least <= one < math.inf for one in values):
        raise errors.InputError(
          f'{field}: wanted numbers >= {least}; got {values}.'
        )
    if self.pilot_problems < 2:
      raise errors.InputError(
        f'pilot_problems: wanted a count >= 2; got {self.pilot_problems}.'
      )
    self.sampler.validate()


@dataclasses.dataclass(frozen=True, order=True)
class Arm:
  """One student's data: samples of one model, of one replicate."""

  role: str
  samples: int
  replicate: int

  @property
  def key(self) -> str:
    return f'{self.role}-{self.samples}-r{self.replicate}'


class Proxies:
  """The stages of one study, over one run folder."""

  def __init__(self, config: ProxiesConfig, workdir: str):
    """Reads the task and the models' configurations; writes nothing."""
    config.validate()
    self.config, self.workdir = config, workdir
    self.task = tasks.load(config.task, config.data)
    for role in (*ROLES, 'student'):
      checkpoints.read_config(getattr(config, role))
    self.problems = [
      problem
      for _, problem in base.select(self.task, 'train', limit=config.problems)
    ]
    self.cells = [
      (count, ratio, budget.matched(count, ratio, 1).count_weak)
      for count in config.budgets
      for ratio in config.ratios
    ]

  def arms(self) -> list[Arm]:
    """Returns every student, whole replicates first."""
    counts = {('se', count) for count, _, _ in self.cells}
    counts |= {('wc', weak) for _, _, weak in self.cells}
    return [
      Arm(role, samples, replicate)
      for replicate in range(self.config.replicates)
      for role, samples in sorted(counts)
    ]

  def pool(self, arm: Arm) -> range:
    """Returns the sample indices of an arm, behind those of the pilot."""
    start = self.config.pilot_samples + arm.replicate * self._most(arm.role)
    return range(start, start + arm.samples)

  def _most(self, role: str) -> int:
    return max(c if role == 'se' else weak for c, _, weak in self.cells)

  def folder(self, arm: Arm) -> str:
    return storage.join(self.workdir, 'students', arm.key)

  def fingerprint(self) -> dict[str, Any]:
    """Returns all that the results depend on."""
    return {
      'config': dataclasses.asdict(self.config),
      'checkpoints': {
        role: checkpoints.fingerprint(getattr(self.config, role))
        for role in (*ROLES, 'student')
      },
    }

  def execute(self) -> dict[str, Any]:
    """Runs what is missing; returns what `proxies.json` holds."""
    graded = {role: self.graded(role) for role in ROLES}
    evaluator = self._evaluator()
    arms = self.arms()
    done = [
      storage.exists(storage.join(self.folder(arm), 'student.json'))
      for arm in arms
    ]
    with meter.Progress('students', len(arms), 'students') as progress:
      for number, arm in enumerate(arms, 1):
        if not done[number - 1]:
          self.student(arm, graded, evaluator)
        progress.update(number)
    students = {
      arm: storage.read_json(storage.join(self.folder(arm), 'student.json'))
      for arm in arms
    }
    found = curves.Curves(self._pilot(graded), draws=20, seed=self.config.seed)
    foretold = {
      (role, arm.samples): float(found.covered(m, arm.samples)[0, 0])
      for m, role in enumerate(ROLES)
      for arm in arms
      if arm.role == role
    }
    results = shardfiles.plain(
      picks.judge(
        self.cells,
        {
          (arm.role, arm.samples, arm.replicate): row
          for arm, row in students.items()
        },
        foretold,
        self.config.replicates,
      )
    )
    storage.publish_json(storage.join(self.workdir, 'proxies.json'), results)
    runlog.merge_ledger(self.workdir)
    return results

  def graded(self, role: str) -> arm_data.Graded:
    """Draws and grades what is missing of a model."""
    c = self.config
    sampling.sample(
      inputs.SampleConfig(
        checkpoint=getattr(c, role),
        task=c.task,
        data=c.data,
        split='train',
        limit=c.problems,
        samples_per_problem=c.pilot_samples + c.replicates * self._most(role),
        seed=c.seed,
        dtype=c.dtype,
        mesh=c.mesh,
        sampler=c.sampler,
      ),
      self.workdir,
    )
    name = inputs.model_name(getattr(c, role))
    problems = {problem.id: problem for problem in self.problems}
    return arm_data.Graded.read(
      name,
      self.task,
      self.problems,
      *grade.grade_missing(self.task, problems, self.workdir, name),
    )

  def _pilot(self, graded: Mapping[str, arm_data.Graded]) -> curves.Pilot:
    c = self.config
    drawn_Q = pilots.part(len(self.problems), c.pilot_problems, c.seed)
    tables = [
      graded[role].table.of_problems(drawn_Q).restrict(0, c.pilot_samples)
      for role in ROLES
    ]
    return planning.counted(ROLES, tables)[0]

  def student(
    self,
    arm: Arm,
    graded: Mapping[str, arm_data.Graded],
    evaluator: evaluate.Evaluator,
  ) -> None:
    """Trains and evaluates one student; keeps its figures alone."""
    c, folder = self.config, self.folder(arm)
    rows = storage.join(folder, 'train.jsonl')
    pool = self.pool(arm)
    chosen, counts = arm_data.choose(
      [(graded[arm.role], pool)], self.task, self.problems
    )
    arm_data.check(f'arm {arm.key}', counts)
    data.write(rows, arm_data.examples(chosen, self.task))
    asked = dataclasses.replace(
      c.sft,
      checkpoint=c.student,
      train=rows,
      # No two replicates share a data order.
      seed=c.seed * 1000 + arm.replicate,
      mesh=c.mesh,
    )
    table = graded[arm.role].table.restrict(pool.start, len(pool))
    chains = np.stack([table.problem_M, table.chain_M], 1)[table.right_M]
    found = {
      'role': arm.role,
      'samples': arm.samples,
      'replicate': arm.replicate,
      'coverage': float((table.right_Q > 0).mean()),
      'right': int(table.right_Q.sum()),
      'distinct': len(np.unique(chains, axis=0)),
      'student loss': self._loss(asked, rows),
    }
    train.run(asked, folder)
    mesh = sharding.make_mesh(c.mesh)
    model, tokenizer = checkpoints.load(
      storage.join(folder, 'model'), dtype=c.dtype, mesh=mesh
    )
    accuracy = evaluator.accuracy(model, tokenizer)
    storage.publish_json(
      storage.join(folder, 'student.json'), found | {'accuracy': accuracy}
    )
    storage.remove_folder(storage.join(folder, 'model'))

  def _loss(self, asked: sft_settings.SftConfig, rows: str) -> float:
    """Returns the untuned student's loss on some rows, nats a target token."""
    asked = dataclasses.replace(asked, validation=rows)
    mesh = sharding.make_mesh(asked.mesh)
    model, tokenizer = checkpoints.load(
      asked.checkpoint, dtype=asked.weights_dtype, mesh=mesh
    )
    scorer = judge.Judge(asked, tokenizer, inputs.by_template(tokenizer))
    recipe = train.recipe(asked, model.config, mesh, 1)
    graph, params, frozen = steps.split(model, asked.dtype)
    return -scorer.score(graph, params, frozen, 0, recipe)

  def _evaluator(self) -> evaluate.Evaluator:
    c = self.config
    return evaluate.Evaluator(
      evaluate.EvaluateConfig(
        task=c.task,
        data=c.data,
        split='test',
        limit=c.test_problems,
        majority=(),
        seed=c.seed,
        dtype=c.dtype,
        mesh=c.mesh,
        sampler=c.sampler,
      )
    )


def run(config: ProxiesConfig, workdir: str) -> dict[str, Any]:
  """Runs a study of proxies; returns what `proxies.json` holds.

  Raises:
    InputError: if the configuration does not fit, or the folder holds another
      study; nothing is written before that.
  """
  study = Proxies(config, workdir)
  shardfiles.check_owner(workdir, study.fingerprint(), 'study')
  with runlog.writing(workdir, dataclasses.asdict(config)):
    shardfiles.claim(workdir, study.fingerprint())
    return study.execute()
