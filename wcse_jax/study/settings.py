"""What a study is: models, arms, setups, budgets, test sets.  No jax here."""

import dataclasses
import re
from collections.abc import Iterable, Mapping

from wcse_jax import errors
from wcse_jax import selection as selections
from wcse_jax.plan import curves
from wcse_jax.sampler import settings as sampler_settings
from wcse_jax.sft import settings as sft_settings


# The two models that a study is about.
PAIR = ('wc', 'se')
# How samples of different models are made to cost the same.
CURRENCIES = ('params', 'usd')
# Before the key of a student, where a checkpoint is named.
STUDENT = 'student:'
_NAME = re.compile(r'[A-Za-z0-9_][A-Za-z0-9_.]*')


@dataclasses.dataclass(kw_only=True)
class Model:
  """A model that is sampled, trained, or both.

  Attributes:
    checkpoint: whatever `checkpoints.load` takes; or `student:KEY`, a student
      of this study (`Run.key`), to sample from or to train further; empty where
      `server` is set.
    server: URL of an OpenAI-compatible server whose model it is, as
      `http://localhost:8000/v1`; it can be sampled, not trained.
    model: the server's name of it.
    key_variable: as in `sampler.inputs.SampleConfig`, as the next four.
    concurrency: requests under way at a time.
    retries: of a request that failed in a way that may pass.
    timeout: seconds that the server may be silent for.
    send_seed: whether each request tells the server a seed of its own.
    label: what the report calls it; empty: its name in the study.
    architecture: name of a published model, for a dry run where the checkpoint
      is not at hand; empty: it is read from the checkpoint.
    cost: of a sample, in any unit that all models share; 0: by the study's
      `currency`.
    temperature: of its samples; None: the study's.
    shots: worked examples of its prompt; None: the study's.
    prompts: JSONL of those; None: the study's.
    chat: as in `sampler.inputs.SampleConfig`.
  """

  checkpoint: str = ''
  server: str = ''
  model: str = ''
  key_variable: str = 'OPENAI_API_KEY'
  concurrency: int = 8
  retries: int = 5
  timeout: float = 120.0
  send_seed: bool = True
  label: str = ''
  architecture: str = ''
  cost: float = 0.0
  temperature: float | None = None
  shots: int | None = None
  prompts: str | None = None
  chat: str = ''

  @property
  def student(self) -> str | None:
    """The key of the student that it is; None for a checkpoint."""
    if self.checkpoint.startswith(STUDENT):
      return self.checkpoint.removeprefix(STUDENT)
    return None


@dataclasses.dataclass(kw_only=True)
class Arm:
  """A source of training data at a budget.

  Attributes:
    label: what the report calls it.
    samples: model -> share of the budget that is spent on it.
    as_many_as: a model: the arm has as many samples as the budget buys of it,
      whatever they cost; empty: the budget counts.
    human: the data are the reference solutions.
    plan: the data are what the plan of the study's pilot drew.
    problems: share of the problems that the arm has; those of a smaller share
      are among those of a larger one.
    selection: which samples are trained on; None: as the study says.
    against: the arm that its students are compared with, where the setup has
      it; empty: the second of the setup's `primary`.
  """

  label: str
  samples: dict[str, float] = dataclasses.field(default_factory=dict)
  as_many_as: str = ''
  human: bool = False
  plan: bool = False
  problems: float = 1.0
  selection: selections.Selection | None = None
  against: str = ''


@dataclasses.dataclass(kw_only=True)
class Setup:
  """Who is trained, and on what.

  Attributes:
    model: the name of the model.
    title: of the report.
    arms: names of arms; none leaves the setup out.
    budgets: names of budgets whose data train a student each; none: of the
      largest.
    primary: the arms whose difference is the question; each other arm is
      compared with its `against`, and Holm's correction covers those.
    sft: how it is trained; None: as the study says.
  """

  model: str
  title: str
  arms: tuple[str, ...] = ('wc', 'se')
  budgets: tuple[str, ...] = ()
  primary: tuple[str, str] = ('wc', 'se')
  sft: sft_settings.SftConfig | None = None


@dataclasses.dataclass(kw_only=True)
class TestSet:
  """Problems that students are measured on.

  Attributes:
    task: one of `tasks.TASKS`; empty: the study's.
    data: folder or file of the set, or `hub:NAME@REVISION`; empty for that of
      the study, where the task is the same, else the task's own source.
    split: of the task.
    limit: problems; 0 for all.
    shots: worked examples for untuned models; None: as the study says.
    prompts: JSONL of those; empty for the task's own.
  """

  task: str = ''
  data: str = ''
  split: str = 'test'
  limit: int = 0
  shots: int | None = None
  prompts: str = ''


@dataclasses.dataclass(kw_only=True)
class Power:
  """What a study expects of its students, to say what it can find.

  Attributes:
    accuracy: share of test problems that a student solves.
    run_deviation: standard deviation of that between runs of one arm.
    disagreement: share of test problems on which two students differ.
    wanted: the smallest difference that is worth finding; a study that would
      miss it says so before it runs; 0: none.
  """

  accuracy: float = 0.5
  run_deviation: float = 0.01
  disagreement: float = 0.25
  wanted: float = 0.0


@dataclasses.dataclass(kw_only=True)
class Expected:
  """How long texts are expected to be, for a dry run.

  Attributes:
    output_tokens: drawn tokens of a sample on average; 0: half of the most.
    spread: standard deviation of that over its mean.
    prompt_tokens: of the prompt behind what all prompts share, on average; 0:
      counted, or a quarter of the characters where no tokenizer is at hand.
    right: share of samples that are right, for training by epochs.
    tokenizer: checkpoint whose tokenizer counts for models that are not at
      hand; empty: none.
  """

  output_tokens: float = 0.0
  spread: float = 0.5
  prompt_tokens: float = 0.0
  right: float = 0.5
  tokenizer: str = ''


def pair_of_models() -> dict[str, Model]:
  """Returns the embedded models."""
  return {
    'wc': Model(checkpoint='tiny-wc', label='WC'),
    'se': Model(checkpoint='tiny-se', label='SE'),
    'student': Model(checkpoint='tiny-student', label='student'),
  }


def usual_arms() -> dict[str, Arm]:
  """Returns the arms of the paper."""
  return {
    'wc': Arm(label='WC data', samples={'wc': 1.0}),
    'se': Arm(label='SE data', samples={'se': 1.0}),
    'wc_number_matched': Arm(
      label='WC data, as many samples as SE',
      samples={'wc': 1.0},
      as_many_as='se',
    ),
    'human': Arm(label='human solutions', human=True),
  }


def usual_setups(
  arms: tuple[str, ...] = ('wc', 'se', 'wc_number_matched', 'human'),
) -> dict[str, Setup]:
  """Returns the setups of the paper; `arms` are those of the student."""
  return {
    'student': Setup(
      model='student', title='Knowledge distillation', arms=arms
    ),
    'wc': Setup(model='wc', title='Self-improvement'),
    'se': Setup(model='se', title='Weak-to-strong improvement'),
  }


@dataclasses.dataclass(kw_only=True)
class StudyConfig:
  """A study of one weak and cheap (WC) and one strong and dear (SE) model.

  Attributes:
    title: of the report.
    models: by name; `wc` and `se` are the pair, others as arms and setups name
      them.
    arms: sources of training data, by name.
    setups: who is trained on what, by name.
    budgets: samples of SE per problem, by name, the smallest first; those of
      the other models follow.
    currency: what costs the same: `params`, 2P a drawn token (the paper's), or
      `usd`, the price of a drawn token of a model behind an API.
    task: one of `tasks.TASKS`.
    data: folder or file of the set, or `hub:NAME@REVISION`; empty for the
      task's own source.
    bad_rows: of the set: `refuse` ends with a report, `skip` leaves them out.
    shots: worked examples in the sampling prompt and for untuned models.
    prompts: JSONL of those; empty for the task's own.
    problems: training problems that are sampled; 0 for all.
    test: problems of the evaluation.
    transfer: further sets that students are measured on, by name.
    validation_problems: held-out problems that choose the checkpoint.
    validation_size: training problems that are held out.
    pilot_problems: how many of the problems a pilot has, from which the study
      plans and whose plan it follows beside the arms; 0 for no plan.
    pilot_samples: samples of each of them by each model, of those for coverage
      by brute force.
    truth_samples: samples per problem of the pair for coverage by brute force;
      0: none, and cost ratios are looked up by the samples of all replicates.
    cost_ratios: SE over WC, at which the outcome is looked up; what lies beyond
      the samples is left out.
    selection: which samples of an arm's pool are trained on.
    decontaminate: training problems that have this share or more of some test
      problem's 8-grams are not trained on; 0: all are.
    replicates: each redraws the sampled pool and the training seed.
    pass_samples: pass@1 is the mean of so many samples; 0: it is greedy.
    majority: the k of maj@k.
    export: whether the training sets of replicate 0 are written for others.
    power: what is expected of the students.
    expected: how long texts are expected to be, for a dry run.
    seed: of everything.
    dtype: `float32` or `bfloat16`.
    mesh: as `sharding.make_mesh` reads it.
    sampler: how solutions are drawn.
    sft: how students are trained; its checkpoint and data are filled in.
  """

  title: str = 'Weaker and cheaper, or stronger and dearer?'
  models: dict[str, Model] = dataclasses.field(default_factory=pair_of_models)
  arms: dict[str, Arm] = dataclasses.field(default_factory=usual_arms)
  setups: dict[str, Setup] = dataclasses.field(default_factory=usual_setups)
  budgets: dict[str, int] = dataclasses.field(
    default_factory=lambda: {'low': 1, 'high': 10}
  )
  currency: str = 'params'
  task: str = 'arith'
  data: str = ''
  bad_rows: str = 'refuse'
  shots: int = 0
  prompts: str = ''
  problems: int = 256
  test: TestSet = dataclasses.field(default_factory=lambda: TestSet(limit=256))
  transfer: dict[str, TestSet] = dataclasses.field(default_factory=dict)
  validation_problems: int = 64
  validation_size: int = 500
  pilot_problems: int = 0
  pilot_samples: int = 8
  truth_samples: int = 128
  cost_ratios: tuple[float, ...] = (1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0)
  selection: selections.Selection = dataclasses.field(
    default_factory=selections.Selection
  )
  decontaminate: float = 0.0
  replicates: int = 3
  pass_samples: int = 0
  majority: tuple[int, ...] = (4,)
  export: bool = True
  power: Power = dataclasses.field(default_factory=Power)
  expected: Expected = dataclasses.field(default_factory=Expected)
  seed: int = 0
  dtype: str = 'float32'
  mesh: str = ''
  sampler: sampler_settings.SamplerConfig = dataclasses.field(
    default_factory=sampler_settings.SamplerConfig
  )
  sft: sft_settings.SftConfig = dataclasses.field(
    default_factory=sft_settings.SftConfig
  )

  @property
  def largest(self) -> str:
    """The name of the largest budget."""
    return max(self.budgets, key=lambda name: self.budgets[name])

  def budgets_of(self, setup: str) -> tuple[str, ...]:
    """Returns the budgets whose data a setup trains on."""
    return self.setups[setup].budgets or (self.largest,)

  def validate(self) -> None:
    """Raises InputError for the first field that is out of range."""
    self._check_names()
    self._check_arms()
    self._check_setups()
    self._check_counts()
    self.selection.validate()
    self.sampler.validate()

  def _check_names(self) -> None:
    for field in ('models', 'arms', 'setups', 'budgets', 'transfer'):
      for name in getattr(self, field):
        if not _NAME.fullmatch(name):
          raise errors.InputError(
            f'{field}: wanted names of letters, digits, "_" and "."; got '
            f'{name!r}.'
          )
    for name in PAIR:
      _known('models', (name,), self.models, 'the pair')
    for name, model in self.models.items():
      if bool(model.checkpoint) == bool(model.server):
        raise errors.InputError(
          f'models.{name}: wanted a checkpoint or a server; got '
          + ('both.' if model.server else 'neither.')
        )
    if self.currency not in CURRENCIES:
      raise errors.InputError(
        f'currency: wanted one of {", ".join(CURRENCIES)}; got '
        f'{self.currency!r}.'
      )
    if not self.budgets or min(self.budgets.values()) < 1:
      raise errors.InputError(
        f'budgets: wanted counts >= 1 by name; got {self.budgets}.'
      )
    counts = list(self.budgets.values())
    if counts != sorted(set(counts)):
      raise errors.InputError(
        f'budgets: wanted rising counts; got {self.budgets}.'
      )

  def _check_arms(self) -> None:
    for name, arm in self.arms.items():
      where = f'arms.{name}'
      kinds = [bool(arm.samples), arm.human, arm.plan]
      if sum(kinds) != 1:
        raise errors.InputError(
          f'{where}: wanted one of samples, human and plan; got {sum(kinds)}.'
        )
      _known(f'{where}.samples', arm.samples, self.models)
      if arm.as_many_as:
        _known(f'{where}.as_many_as', (arm.as_many_as,), self.models)
      if arm.against:
        _known(f'{where}.against', (arm.against,), self.arms)
      shares = list(arm.samples.values())
      if shares and not (min(shares) > 0 and sum(shares) <= 1 + 1e-9):
        raise errors.InputError(
          f'{where}.samples: wanted shares above 0 that sum to at most 1; got '
          f'{arm.samples}.'
        )
      if not 0 < arm.problems <= 1:
        raise errors.InputError(
          f'{where}.problems: wanted a share above 0 and at most 1; got '
          f'{arm.problems}.'
        )
      if arm.plan and not self.pilot_problems:
        raise errors.InputError(
          f'{where}.plan: wanted pilot_problems above 0, from which the plan '
          'is made; got 0.'
        )
      if arm.selection is not None:
        arm.selection.validate()

  def _check_setups(self) -> None:
    for name, setup in self.setups.items():
      where = f'setups.{name}'
      _known(f'{where}.model', (setup.model,), self.models)
      if setup.arms and self.models[setup.model].server:
        raise errors.InputError(
          f'{where}.model: wanted a model of a checkpoint, to be trained; '
          f'{setup.model} is behind a server.'
        )
      _known(f'{where}.arms', setup.arms, self.arms)
      _known(f'{where}.budgets', setup.budgets, self.budgets)
      _known(f'{where}.primary', setup.primary, self.arms)

  def _check_counts(self) -> None:
    for field, least in (('replicates', 1), ('pass_samples', 0)):
      if getattr(self, field) < least:
        raise errors.InputError(
          f'{field}: wanted a count >= {least}; got {getattr(self, field)}.'
        )
    if (
      self.pilot_problems
      and not curves.LEAST <= self.pilot_samples <= self.truth_samples
    ):
      raise errors.InputError(
        f'pilot_samples: wanted a count from {curves.LEAST} to truth_samples='
        f'{self.truth_samples}; got {self.pilot_samples}.'
      )
    most = self.truth_samples / max(self.budgets.values())
    for ratio in self.cost_ratios:
      if self.truth_samples and not 1 <= ratio <= most:
        raise errors.InputError(
          f'cost_ratios: wanted numbers from 1 to {most:g}, which is '
          f'truth_samples over the largest budget; got {ratio}.'
        )
    if not 0 <= self.decontaminate <= 1:
      raise errors.InputError(
        'decontaminate: wanted a share from 0 to 1, 0 for none; got '
        f'{self.decontaminate}.'
      )


def _known(
  where: str, names: Iterable[str], known: Mapping[str, object], what: str = ''
) -> None:
  """Raises InputError for the first name that is not known."""
  for name in names:
    if name not in known:
      what = what or f'names among {", ".join(known)}'
      raise errors.InputError(f'{where}: wanted {what}; got {name!r}.')
