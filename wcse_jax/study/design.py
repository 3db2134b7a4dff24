"""What follows from a study's settings: counts, pools, students, folders."""

import dataclasses
import fractions
import hashlib
import math
from collections.abc import Iterator
from typing import Any

from wcse_jax import (
  budget,
  checkpoints,
  contamination,
  errors,
  prices,
  records,
  shardfiles,
  storage,
  tasks,
)
from wcse_jax.models import config as model_config
from wcse_jax.models import published
from wcse_jax.sampler import inputs
from wcse_jax.study import settings
from wcse_jax.tasks import base


# Fields of a model behind a server, as `inputs.SampleConfig` has them.
_SERVED = (
  'server',
  'model',
  'key_variable',
  'concurrency',
  'retries',
  'timeout',
  'send_seed',
)
# Settings that no result depends on: of the study, and of its parts.
_SHOWN = ('title', 'export', 'power', 'expected')
_SHOWN_OF = frozenset(
  {
    'label',
    'title',
    'architecture',
    # Where a server is, and how patiently it is asked.
    'server',
    'key_variable',
    'concurrency',
    'retries',
    'timeout',
  }
)


@dataclasses.dataclass(frozen=True)
class Run:
  """One student: who is trained on what, and which replicate."""

  setup: str
  budget: str
  arm: str
  replicate: int

  @property
  def key(self) -> str:
    return f'{self.setup}-{self.budget}-{self.arm}-r{self.replicate}'


class Study:
  """A study over one run folder: what is asked of whom, and where it lies.

  Attributes:
    config: validated.
    workdir: the run folder.
    task: of the training problems.
    models: name -> its architecture; None behind a server.
    matches: budget -> what it buys of WC.
    placed: (position, problem) of the training problems that are sampled.
    problems: the same without their positions.
    overlap: what they have in common with the test problems.
    trained: those of them that are trained on.
  """

  def __init__(
    self, config: settings.StudyConfig, workdir: str, *, dry: bool = False
  ):
    """Reads the models' configurations and the task; writes nothing.

    Args:
      config: the settings.
      workdir: the run folder.
      dry: takes a model's `architecture` instead of its checkpoint's, where
        it is given.

    Raises:
      InputError: if the settings do not fit.
    """
    config.validate()
    self.config = config
    self.workdir = workdir
    self._sets: dict[Any, list[tuple[int, records.Problem]]] = {}
    self.task = tasks.load(
      config.task, config.data, config.prompts, bad_rows=config.bad_rows
    )
    self.models = {
      name: self._architecture(name, dry) for name in config.models
    }
    self.matches = {
      name: budget.matched(count, self.cost('se'), self.cost('wc'))
      for name, count in config.budgets.items()
    }
    self._check_folders()
    for name, arm in self.arm_budgets():
      self.parts(arm, name, 0)
    self.placed = base.select(
      self.task,
      'train',
      limit=config.problems,
      validation_size=config.validation_size,
    )
    self.problems = [problem for _, problem in self.placed]
    self.overlap = contamination.overlap(
      self.problems, [problem for _, problem in self.chosen(self.tests()[''])]
    )
    self.trained = self.problems
    if config.decontaminate:
      self.trained, _ = contamination.clean(
        self.problems, self.overlap, config.decontaminate
      )
    for name, test in config.transfer.items():
      self._check_transfer(name, test)

  def _architecture(
    self, name: str, dry: bool
  ) -> model_config.ModelConfig | None:
    model = self.config.models[name]
    if model.server:
      return None
    if dry and model.architecture:
      known = published.configs()
      if model.architecture not in known:
        raise errors.InputError(
          f'models.{name}.architecture: wanted one of {", ".join(known)}; got '
          f'{model.architecture!r}.'
        )
      return known[model.architecture]
    seen = [name]
    while model.student is not None:
      # A student has the architecture of what it was trained from.
      name = self.config.setups[self.student_run(name).setup].model
      if name in seen:
        raise errors.InputError(
          f'models.{name}.checkpoint: wanted a student that does not come from '
          f'itself; got {" from ".join([*seen, name])}.'
        )
      seen.append(name)
      model = self.config.models[name]
    return checkpoints.read_config(model.checkpoint)

  def student_run(self, name: str) -> Run:
    """Returns the student that a model is.

    Raises:
      InputError: if the study has no such student.
    """
    key = self.config.models[name].student
    for run in self.runs():
      if run.key == key:
        return run
    raise errors.InputError(
      f'models.{name}.checkpoint: wanted student:KEY, KEY being one of '
      f'{", ".join(run.key for run in self.runs())}; got {key!r}.'
    )

  def checkpoint(self, name: str) -> str:
    """Returns the path or name of a model's checkpoint."""
    if self.config.models[name].student is None:
      return self.config.models[name].checkpoint
    return storage.join(self.folder(self.student_run(name)), 'model')

  # Whom the study asks, and at what cost.

  def cost(self, name: str) -> budget.Number:
    """Returns what a sample of a model costs, in the study's currency."""
    model = self.config.models[name]
    if model.cost:
      return model.cost
    if self.config.currency == 'params':
      architecture = self.models[name]
      if architecture is None:
        raise errors.InputError(
          f'models.{name}.cost: wanted the cost of a sample, or '
          '--config.currency=usd, as nobody tells the parameters of a model '
          'behind a server; got nothing.'
        )
      return budget.flops_per_token(architecture)
    price = prices.api().get(model.model)
    if price is None:
      raise errors.InputError(
        f'models.{name}.cost: wanted the cost of a sample where the table of '
        f'prices has no model {model.model or model.checkpoint!r} (--prices); '
        'got nothing.'
      )
    return price.drawn

  def exact(self, name: str, budget_name: str) -> fractions.Fraction:
    """Returns the samples per problem that a budget buys, not rounded."""
    ratio = budget.cost_ratio(self.cost('se'), self.cost(name))
    return self.config.budgets[budget_name] * ratio

  def count(self, name: str, budget_name: str) -> int:
    """Returns the samples per problem that a budget buys of a model."""
    return math.floor(self.exact(name, budget_name))

  def sources(self) -> tuple[str, ...]:
    """Returns the models that are sampled, the pair first."""
    found = dict.fromkeys(settings.PAIR)
    for arm in self.used_arms():
      found |= dict.fromkeys(self.config.arms[arm].samples)
    return tuple(found)

  def used_arms(self) -> tuple[str, ...]:
    """Returns the arms that some setup trains on."""
    setups = self.config.setups.values()
    return tuple(dict.fromkeys(arm for one in setups for arm in one.arms))

  def arm_budgets(self) -> Iterator[tuple[str, str]]:
    """Yields (budget, arm) of all training data, without the human ones."""
    seen = dict.fromkeys((run.budget, run.arm) for run in self.runs())
    for budget_name, arm in seen:
      if not self.config.arms[arm].human:
        yield budget_name, arm

  def parts(
    self, arm: str, budget_name: str, replicate: int
  ) -> list[tuple[str, range]]:
    """Returns the models of an arm with the sample indices that it takes.

    Raises:
      InputError: if the budget buys no sample of one of them.
    """
    return [
      (name, range(start, start + count))
      for name, count in self._counts(arm, budget_name).items()
      for start in [self._start(name, replicate)]
    ]

  def _counts(self, arm: str, budget_name: str) -> dict[str, int]:
    found = {}
    one = self.config.arms[arm]
    for name, share in one.samples.items():
      bought = self.exact(one.as_many_as or name, budget_name)
      share = fractions.Fraction(str(share))
      found[name] = math.floor(share * bought)
      if found[name] < 1:
        raise errors.InputError(
          f'arms.{arm}: wanted a budget that buys a sample of {name} for its '
          f'share; {budget_name} buys {float(share * bought):.3g}.'
        )
    return found

  def pool(self, name: str, budget_name: str, replicate: int) -> range:
    """Returns the sample indices that a replicate takes at a budget.

    Brute force comes first, then one range for each replicate, so no sample
    serves twice.
    """
    start = self._start(name, replicate)
    return range(start, start + self.count(name, budget_name))

  def _start(self, name: str, replicate: int) -> int:
    first = self.config.truth_samples if name in settings.PAIR else 0
    return first + replicate * self._width(name)

  def _width(self, name: str) -> int:
    """Returns the samples per problem of one replicate."""
    budgets = [self.count(name, one) for one in self.config.budgets]
    parts = [
      self._counts(arm, one).get(name, 0) for one, arm in self.arm_budgets()
    ]
    return max(*budgets, *parts, 0)

  def drawn(self, name: str) -> int:
    """Returns the samples per problem of a model: all of them."""
    return self._start(name, self.config.replicates)

  def sampling(self, name: str) -> inputs.SampleConfig:
    """Returns what a model is asked for."""
    c, model = self.config, self.config.models[name]
    sampler = c.sampler
    if model.temperature is not None:
      sampler = dataclasses.replace(sampler, temperature=model.temperature)
    # A student is asked in the format of its training.
    shots = 0 if model.student is not None else c.shots
    served = {}
    if model.server:
      served = {field: getattr(model, field) for field in _SERVED}
      # What a server decides on by itself.
      served |= {'dtype': 'bfloat16', 'mesh': ''}
    asked = inputs.SampleConfig(
      checkpoint=self.checkpoint(name),
      name=self.stem(name),
      task=c.task,
      data=c.data,
      bad_rows=c.bad_rows,
      split='train',
      limit=c.problems,
      shots=shots if model.shots is None else model.shots,
      prompts=c.prompts if model.prompts is None else model.prompts,
      chat=model.chat,
      samples_per_problem=self.drawn(name),
      validation_size=c.validation_size,
      seed=c.seed,
      dtype=c.dtype,
      mesh=c.mesh,
      sampler=sampler,
    )
    return dataclasses.replace(asked, **served)

  def stem(self, name: str) -> str:
    """Returns the name under which a model's samples are kept."""
    model = self.config.models[name]
    if model.student is not None:
      return name
    return self._stems()[name]

  def _stems(self) -> dict[str, str]:
    """Returns the stems of checkpoints; those that are used twice differ."""
    found: dict[str, str] = {}
    for name, model in self.config.models.items():
      stem = inputs.model_name(model.checkpoint)
      if model.server:
        stem = inputs.served_name(model.model)
      found[name] = f'{stem}-{name}' if stem in found.values() else stem
    return found

  def _check_folders(self) -> None:
    stems = [self.stem(name) for name in self.sources()]
    for stem in stems:
      if stems.count(stem) > 1:
        raise errors.InputError(
          f'models: wanted models whose samples have names of their own; two '
          f'are kept as {stem!r}.'
        )

  # Who is trained, and where it lies.

  def runs(self) -> Iterator[Run]:
    """Yields every student, whole replicates first."""
    for replicate in range(self.config.replicates):
      for name, setup in self.config.setups.items():
        for number, budget_name in enumerate(self.config.budgets_of(name)):
          for arm in setup.arms:
            # Human solutions are the same at any budget.
            if number == 0 or not self.config.arms[arm].human:
              yield Run(name, budget_name, arm, replicate)

  def setups(self) -> dict[str, settings.Setup]:
    """Returns the setups that have arms."""
    return {k: one for k, one in self.config.setups.items() if one.arms}

  def folder(self, run: Run) -> str:
    """Returns the folder of one student."""
    return storage.join(
      self.workdir,
      'students',
      run.setup,
      f'{run.budget}-{run.arm}',
      f'r{run.replicate}',
    )

  def planned(self, replicate: int) -> str:
    """Returns the run folder in which a replicate follows the plan."""
    name = f'planned-r{replicate}' if replicate else 'planned'
    return storage.join(self.workdir, name)

  def problems_of(self, arm: str) -> list[records.Problem]:
    """Returns the problems that an arm trains on, in their order."""
    share = self.config.arms[arm].problems
    if share == 1:
      return list(self.trained)
    order = sorted(
      self.trained,
      key=lambda p: hashlib.sha256(
        f'{self.config.seed}\n{p.id}'.encode('utf-8', 'surrogatepass')
      ).digest(),
    )
    kept = {p.id for p in order[: max(1, round(share * len(order)))]}
    return [problem for problem in self.trained if problem.id in kept]

  # On what students are measured.

  def tests(self) -> dict[str, settings.TestSet]:
    """Returns the test sets by name; that of the study has none."""
    c = self.config
    own = c.test
    if own.task in ('', c.task):
      own = dataclasses.replace(
        own,
        task=c.task,
        data=own.data or c.data,
        prompts=own.prompts or c.prompts,
      )
    return {'': own, **c.transfer}

  def chosen(self, test: settings.TestSet) -> list[tuple[int, records.Problem]]:
    """Returns (position, problem) of a test set."""
    key = dataclasses.astuple(test)
    if key not in self._sets:
      self._sets[key] = self._read(test)
    return self._sets[key]

  def _read(self, test: settings.TestSet) -> list[tuple[int, records.Problem]]:
    same = test.task == self.config.task and test.data == self.config.data
    task = (
      self.task
      if same
      else tasks.load(
        test.task, test.data, test.prompts, bad_rows=self.config.bad_rows
      )
    )
    return base.select(
      task,
      test.split,
      limit=test.limit,
      validation_size=self.config.validation_size,
    )

  def _check_transfer(self, name: str, test: settings.TestSet) -> None:
    """Raises InputError if a transfer set has a problem that is trained on."""
    chosen = [problem for _, problem in self.chosen(test)]
    found = contamination.overlap(self.trained, chosen)
    equal = [match for match in found.matches if match.equal]
    if equal:
      raise errors.InputError(
        f'transfer.{name}: wanted no problem that is trained on; {len(equal)} '
        f'are, the first {equal[0].id} (training problem {equal[0].train_id}).'
      )

  # Whose run folder it is.

  def described(self) -> dict[str, Any]:
    """Returns the configuration as JSON values."""
    return dataclasses.asdict(self.config)

  def fingerprint(self) -> dict[str, Any]:
    """Returns all that the results depend on."""
    config = self.described()
    for name in _SHOWN:
      del config[name]
    for kind in ('models', 'arms', 'setups'):
      for one in config[kind].values():
        for name in _SHOWN_OF & one.keys():
          del one[name]
    return {
      'config': _unwatched(config),
      'checkpoints': {
        name: checkpoints.fingerprint(model.checkpoint)
        for name, model in self.config.models.items()
        if model.student is None and not model.server
      },
    }

  def check(self) -> None:
    """Raises InputError if the run folder holds another study."""
    shardfiles.check_owner(self.workdir, self.fingerprint(), 'study')


def _unwatched(config: Any) -> Any:
  """Returns settings without who looks on while students train."""
  if isinstance(config, dict):
    return {k: _unwatched(v) for k, v in config.items() if k != 'wandb'}
  return config
