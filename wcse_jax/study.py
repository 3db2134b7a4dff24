"""A whole study: sample, grade, measure, train, evaluate, report.

Stages meet only through files in the run folder.  A stage whose result is
complete is skipped, so a killed study goes on where it was and ends with the
same numbers.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

from wcse_jax import arms as arm_data
from wcse_jax import (
  budget,
  checkpoints,
  contamination,
  errors,
  evaluate,
  findings,
  grade,
  meter,
  outcome,
  runlog,
  shardfiles,
  sharding,
  storage,
  study_plan,
  tasks,
)
from wcse_jax import selection as selections
from wcse_jax.metrics import measure
from wcse_jax.plan import curves
from wcse_jax.report import browser, html
from wcse_jax.sampler import inputs
from wcse_jax.sampler import run as sampling
from wcse_jax.sampler import settings as sampler_settings
from wcse_jax.sft import data, grid, train
from wcse_jax.sft import settings as sft_settings
from wcse_jax.tasks import base


# FLOPs a second of training over those of decoding, of tiny models on CPU.
_TRAINING_SPEED = 6.0


@dataclasses.dataclass(kw_only=True)
class StudyConfig:
  """A study of one weak and cheap (WC) and one strong and dear (SE) model.

  Attributes:
    title: of the report.
    wc: checkpoint of the weak model.
    se: checkpoint of the strong model.
    student: checkpoint of the separate student.
    task: one of `tasks.TASKS`.
    data: folder or file of the set, or `hub:NAME@REVISION`; empty for the
      task's own source.
    bad_rows: of the set: `refuse` ends with a report, `skip` leaves them out.
    shots: worked examples in the sampling prompt and for untuned models.
    prompts: JSONL of those; empty for the task's own.
    problems: training problems that are sampled; 0 for all.
    test_problems: test problems of the evaluation; 0 for all.
    validation_problems: held-out problems that choose the checkpoint.
    validation_size: training problems that are held out.
    budget_low: SE samples per problem at the low budget; WC's number follows.
    budget_high: SE samples per problem at the high budget.
    train_budget: `low` or `high`: the budget whose data trains the students.
    pilot_problems: how many of the problems a pilot has, from which the study
      plans and whose plan it follows beside the arms; 0 for no plan.
    pilot_samples: samples of each of them by each model, of those for coverage
      by brute force.
    truth_samples: samples per problem for coverage by brute force; 0 for none.
    cost_ratios: SE over WC, at which the outcome is looked up.
    setups: keys of `outcome.SETUPS`.
    student_arms: sources of data for the student.
    other_arms: sources of data for the other setups.
    selection: which samples of an arm's pool are trained on.
    decontaminate: training problems that have this share or more of some test
      problem's 8-grams are not trained on; 0: all are.
    replicates: each redraws the sampled pool and the training seed.
    majority: the k of maj@k.
    seed: of everything.
    dtype: `float32` or `bfloat16`.
    mesh: as `sharding.make_mesh` reads it.
    sampler: how solutions are drawn.
    sft: how students are trained; its checkpoint and data are filled in.
  """

  title: str = 'Weaker and cheaper, or stronger and dearer?'
  wc: str = 'tiny-wc'
  se: str = 'tiny-se'
  student: str = 'tiny-student'
  task: str = 'arith'
  data: str = ''
  bad_rows: str = 'refuse'
  shots: int = 0
  prompts: str = ''
  problems: int = 256
  test_problems: int = 256
  validation_problems: int = 64
  validation_size: int = 500
  budget_low: int = 1
  budget_high: int = 10
  train_budget: str = 'high'
  pilot_problems: int = 0
  pilot_samples: int = 8
  truth_samples: int = 128
  cost_ratios: tuple[float, ...] = (1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0)
  setups: tuple[str, ...] = ('student', 'wc', 'se')
  student_arms: tuple[str, ...] = ('wc', 'se', 'wc_number_matched', 'human')
  other_arms: tuple[str, ...] = ('wc', 'se')
  selection: selections.Selection = dataclasses.field(
    default_factory=selections.Selection
  )
  decontaminate: float = 0.0
  replicates: int = 3
  majority: tuple[int, ...] = (4,)
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
    for field, known in (
      ('setups', tuple(outcome.SETUPS)),
      ('student_arms', arm_data.ARMS),
      ('other_arms', arm_data.ARMS),
    ):
      for name in getattr(self, field):
        if name not in known:
          raise errors.InputError(
            f'{field}: wanted names among {", ".join(known)}; got {name!r}.'
          )
    if self.train_budget not in ('low', 'high'):
      raise errors.InputError(
        f'train_budget: wanted low or high; got {self.train_budget!r}.'
      )
    for field in ('budget_low', 'budget_high', 'replicates'):
      if getattr(self, field) < 1:
        raise errors.InputError(
          f'{field}: wanted a count >= 1; got {getattr(self, field)}.'
        )
    if (
      self.pilot_problems
      and not curves.LEAST <= self.pilot_samples <= self.truth_samples
    ):
      raise errors.InputError(
        f'pilot_samples: wanted a count from {curves.LEAST} to truth_samples='
        f'{self.truth_samples}; got {self.pilot_samples}.'
      )
    if self.budget_low > self.budget_high:
      raise errors.InputError(
        f'budget_low: wanted at most budget_high={self.budget_high}; '
        f'got {self.budget_low}.'
      )
    for ratio in self.cost_ratios:
      most = self.truth_samples / self.budget_high
      if self.truth_samples and not 1 <= ratio <= most:
        raise errors.InputError(
          f'cost_ratios: wanted numbers from 1 to {most:g}, which is '
          f'truth_samples / budget_high; got {ratio}.'
        )
    if not 0 <= self.decontaminate <= 1:
      raise errors.InputError(
        'decontaminate: wanted a share from 0 to 1, 0 for none; got '
        f'{self.decontaminate}.'
      )
    self.selection.validate()
    self.sampler.validate()


@dataclasses.dataclass(frozen=True)
class Run:
  """One student: what it starts from, what it learns from, which replicate."""

  setup: str
  arm: str
  replicate: int

  @property
  def key(self) -> str:
    return f'{self.setup}-{self.arm}-r{self.replicate}'


class Study:
  """The stages of one study, over one run folder.

  Attributes:
    config: validated.
    workdir: the run folder.
    matches: budget name -> (SE samples, `budget.Match`).
    placed: (position, problem) of the training problems that are sampled.
    problems: the same without their positions.
    overlap: what they have in common with the test problems.
    trained: those of them that are trained on.
  """

  def __init__(self, config: StudyConfig, workdir: str):
    """Reads the models' configurations and the task; writes nothing."""
    config.validate()
    self.config = config
    self.workdir = workdir
    self.task = tasks.load(
      config.task, config.data, config.prompts, bad_rows=config.bad_rows
    )
    self.models = {
      role: checkpoints.read_config(getattr(config, role))
      for role in ('wc', 'se', 'student')
    }
    costs = {
      role: budget.flops_per_token(model) for role, model in self.models.items()
    }
    self.matches = {
      name: (count, budget.matched(count, costs['se'], costs['wc']))
      for name, count in (
        ('low', config.budget_low),
        ('high', config.budget_high),
      )
    }
    self.placed = base.select(
      self.task,
      'train',
      limit=config.problems,
      validation_size=config.validation_size,
    )
    self.problems = [problem for _, problem in self.placed]
    tested = base.select(self.task, 'test', limit=config.test_problems)
    self.overlap = contamination.overlap(
      self.problems, [problem for _, problem in tested]
    )
    self.trained = self.problems
    if config.decontaminate:
      self.trained, _ = contamination.clean(
        self.problems, self.overlap, config.decontaminate
      )

  def count(self, role: str, budget_name: str) -> int:
    """Returns samples per problem of `wc` or `se` at a budget."""
    strong, match = self.matches[budget_name]
    return strong if role == 'se' else match.count_weak

  def pool(self, role: str, budget_name: str, replicate: int) -> range:
    """Returns the sample indices that a replicate takes at a budget.

    Brute force comes first, then one range for each replicate, so no sample
    serves twice.
    """
    start = self.config.truth_samples + replicate * self.count(role, 'high')
    return range(start, start + self.count(role, budget_name))

  def pools(self, replicate: int) -> dict[str, range]:
    """Returns the pools of both models that train a replicate's students."""
    return {
      role: self.pool(role, self.config.train_budget, replicate)
      for role in ('wc', 'se')
    }

  def runs(self) -> Iterator[Run]:
    """Yields every student, whole replicates first."""
    for replicate in range(self.config.replicates):
      for setup in self.config.setups:
        for arm in self.arms(setup):
          yield Run(setup, arm, replicate)

  def arms(self, setup: str) -> tuple[str, ...]:
    c = self.config
    return c.student_arms if setup == 'student' else c.other_arms

  def sampling_cost(self, role: str) -> dict[str, float]:
    """Returns the cost of all of a model's samples, from their manifest."""
    name = inputs.model_name(getattr(self.config, role))
    path = storage.join(self.workdir, 'samples', name)
    return shardfiles.ShardFolder(path).cost()

  def sampling_usd(self, role: str) -> float | None:
    """Returns what a model's samples cost, from the ledger; None if unknown."""
    name = inputs.model_name(getattr(self.config, role))
    path = storage.join(self.workdir, 'ledger', f'sample-{name}.json')
    return storage.read_json(path)['usd'] if storage.exists(path) else None

  def fingerprint(self) -> dict[str, Any]:
    """Returns all that the results depend on."""
    return {
      'config': self.described(),
      'checkpoints': {
        role: checkpoints.fingerprint(getattr(self.config, role))
        for role in self.models
      },
    }

  def check(self) -> None:
    """Raises InputError if the run folder holds another study."""
    shardfiles.check_owner(self.workdir, self.fingerprint(), 'study')

  def described(self) -> dict[str, Any]:
    """Returns the configuration as JSON values."""
    return dataclasses.asdict(self.config)

  def folder(self, run: Run) -> str:
    """Returns the folder of one student."""
    return storage.join(
      self.workdir, 'students', run.setup, run.arm, f'r{run.replicate}'
    )

  def execute(self) -> dict[str, Any]:
    """Runs what is missing; returns what `results.json` holds."""
    stages = meter.Stages('study', self.work())
    for role in ('wc', 'se'):
      with stages.stage(f'sample {role}'):
        self.sample(role)
    graded = {}
    for role in ('wc', 'se'):
      with stages.stage(f'grade {role}'):
        graded[role] = self.graded(role)
    if self.config.pilot_problems:
      with stages.stage('plan'):
        study_plan.plan(self, graded)
      with stages.stage('follow the plan'):
        study_plan.follow_it(self)
    evaluator = self._evaluator()
    for role in self.config.setups:
      with stages.stage(f'untuned {role}'):
        self.untuned(role, evaluator)
    for run in self.runs():
      path = storage.join(self.folder(run), 'evaluation.json')
      if storage.exists(path):
        stages.skip(run.key)
        continue
      with stages.stage(run.key):
        self.train_student(run, graded)
        self.evaluate_student(run, evaluator)
    return self.report(graded)

  def work(self) -> dict[str, float]:
    """Returns stage -> its FLOPs, roughly, in those of a decode step.

    Training runs whole matrices where decoding runs rows, several times as
    many FLOPs a second.  This serves the progress line alone.
    """
    c = self.config
    length = c.sft.max_length

    def decode(role: str, samples: int) -> float:
      model = self.models[role]
      return samples * budget.forward_flops(model, length // 3, length // 3)

    drawn = {
      role: self.pool(role, 'high', c.replicates - 1).stop
      for role in ('wc', 'se')
    }
    found = {
      f'sample {role}': decode(role, len(self.problems) * count)
      for role, count in drawn.items()
    }
    found |= {f'grade {role}': 0.0 for role in ('wc', 'se')}
    if c.pilot_problems:
      # At the price of the high budget.
      found['plan'] = 0.0
      found['follow the plan'] = decode(
        'se', len(self.problems) * c.budget_high
      )
    asked = (c.test_problems or 1000) * (1 + max(c.majority, default=0))
    checks = c.sft.checkpoints * c.validation_problems
    found |= {f'untuned {role}': decode(role, asked) for role in c.setups}
    for run in self.runs():
      step = budget.training_flops(self.models[run.setup], length)
      # By epochs, as if two samples of a problem were right.
      rows = c.sft.steps * c.sft.batch_size
      rows = rows or c.sft.epochs * 2 * len(self.trained)
      found[run.key] = max(1, len(c.sft.learning_rates)) * (
        rows * step / _TRAINING_SPEED + decode(run.setup, checks)
      ) + decode(run.setup, asked)
    return found

  def sample(self, role: str) -> None:
    """Draws all samples of `wc` or `se`: brute force and every replicate."""
    sampling.sample(self.sampling(role), self.workdir)

  def sampling(self, role: str) -> inputs.SampleConfig:
    """Returns what `wc` or `se` is asked for."""
    c = self.config
    return inputs.SampleConfig(
      checkpoint=getattr(c, role),
      task=c.task,
      data=c.data,
      bad_rows=c.bad_rows,
      split='train',
      limit=c.problems,
      shots=c.shots,
      prompts=c.prompts,
      samples_per_problem=self.pool(role, 'high', c.replicates - 1).stop,
      validation_size=c.validation_size,
      seed=c.seed,
      dtype=c.dtype,
      mesh=c.mesh,
      sampler=c.sampler,
    )

  def graded(self, role: str) -> arm_data.Graded:
    """Grades what is missing; returns samples, grades and their table."""
    problems = {problem.id: problem for problem in self.problems}
    name = inputs.model_name(getattr(self.config, role))
    samples, grades = grade.grade_model(self.task, problems, self.workdir, name)
    table = measure.Table.from_rows(
      self.problems, samples, grades, self.task.chain, self.task.ballot
    )
    return arm_data.Graded(samples, grades, table)

  def untuned(self, role: str, evaluator: evaluate.Evaluator) -> None:
    """Evaluates a model before any training."""
    path = storage.join(self.workdir, 'untuned', role, 'evaluation.json')
    self._evaluate(
      getattr(self.config, role), path, f'untuned-{role}', evaluator
    )

  def train_student(self, run: Run, graded: dict[str, arm_data.Graded]) -> None:
    """Trains one student on its arm's data."""
    c = self.config
    folder = self.folder(run)
    done = storage.join(folder, 'training.json')
    if not storage.exists(done):
      rows = storage.join(folder, 'train.jsonl')
      examples = arm_data.examples(
        run.arm,
        self.task,
        self.trained,
        graded,
        self.pools(run.replicate),
        c.selection,
        chat=inputs.by_template(
          checkpoints.read_tokenizer(getattr(c, run.setup)), c.sft.chat
        ),
      )
      data.write(rows, examples)
      grid.run(
        dataclasses.replace(
          c.sft,
          checkpoint=getattr(c, run.setup),
          train=rows,
          task=c.task,
          data=c.data,
          bad_rows=c.bad_rows,
          validation_problems=c.validation_problems,
          validation_size=c.validation_size,
          sampler=c.sampler,
          # No two replicates of any two studies share a data order.
          seed=c.seed * 1000 + run.replicate,
          mesh=c.mesh,
        ),
        folder,
      )
    row = train.ledger_row(storage.read_json(done), run.key)
    runlog.book(self.workdir, f'train-{run.key}', row)

  def evaluate_student(self, run: Run, evaluator: evaluate.Evaluator) -> None:
    """Evaluates one student on the test problems."""
    folder = self.folder(run)
    path = storage.join(folder, 'evaluation.json')
    model = storage.join(folder, 'model')
    self._evaluate(model, path, run.key, evaluator)

  def report(self, graded: dict[str, arm_data.Graded]) -> dict[str, Any]:
    """Writes `results.json` and `report/`; returns the results."""
    folder = storage.join(self.workdir, 'report')
    shown = browser.write(
      self.placed,
      browser.sources(
        self.workdir,
        {
          role: inputs.model_name(getattr(self.config, role))
          for role in ('wc', 'se')
        },
      ),
      storage.join(folder, 'samples'),
      lambda problem, text: self.task.sound(problem, text)[1],
    )
    results = shardfiles.plain(findings.collect(self, graded))
    results['samples_shown'] = shown
    storage.publish_json(storage.join(self.workdir, 'results.json'), results)
    html.write(results, folder)
    return results

  def _evaluator(self) -> evaluate.Evaluator:
    c = self.config
    return evaluate.Evaluator(
      evaluate.EvaluateConfig(
        task=c.task,
        data=c.data,
        bad_rows=c.bad_rows,
        split='test',
        limit=c.test_problems,
        majority=c.majority,
        temperature=c.sampler.temperature,
        validation_size=c.validation_size,
        seed=c.seed,
        dtype=c.dtype,
        mesh=c.mesh,
        sampler=c.sampler,
      )
    )

  def _evaluate(self, checkpoint, path, key, evaluator) -> None:
    if storage.exists(path):
      return
    mesh = sharding.make_mesh(self.config.mesh)
    model, tokenizer = checkpoints.load(
      checkpoint, dtype=self.config.dtype, mesh=mesh
    )
    evaluator.reset()
    result = evaluate.score(evaluator, model, tokenizer)
    runlog.book(
      self.workdir,
      f'evaluate-{key}',
      evaluate.ledger_row(evaluator, key, mesh.size),
    )
    storage.publish_json(path, result)


def run(config: StudyConfig, workdir: str) -> dict[str, Any]:
  """Runs a study to its end; returns what `results.json` holds.

  Raises:
    InputError: if the configuration does not fit, or the folder holds another
      study; nothing is written before that.
  """
  study = Study(config, workdir)
  study.check()
  with runlog.writing(workdir, study.described()):
    shardfiles.claim(workdir, study.fingerprint())
    return study.execute()


def rebuild(config: StudyConfig, workdir: str) -> dict[str, Any]:
  """Rebuilds results and report from the files of a run folder.

  Raises:
    InputError: if the folder holds no samples yet, or another study.
  """
  study = Study(config, workdir)
  study.check()
  with runlog.writing(workdir, study.described()):
    return study.report({role: study.graded(role) for role in ('wc', 'se')})
