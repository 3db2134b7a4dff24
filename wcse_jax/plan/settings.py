"""What a planning run is asked."""

import dataclasses
import math

from wcse_jax import errors
from wcse_jax.plan import policies


CURRENCIES = ('params', 'flops', 'chip_seconds', 'usd', 'tokens')
OBJECTIVES = ('coverage', 'right', 'distinct')


@dataclasses.dataclass(kw_only=True)
class PlanConfig:
  """A planning run.

  Attributes:
    pilots: of each model: a folder with grades (a run folder with those of one
      model, or its `grades/MODEL`), or a JSONL file of grades.  The stem is the
      model's name.
    costs: of one sample of each model, in `currency`; empty: from the ledgers.
    currency: one of `CURRENCIES`: 2P a token of one length for all (`params`),
      FLOPs, chip-seconds, US dollars or output tokens of a sample.
    prompt_costs: of reading a prompt once, beside `costs` of the samples that
      are drawn from it; empty: nothing, or from the ledgers.
    budget: samples per problem of the dearest model.
    problems: how many the plan is for, those of the pilot among them; 0: an
      unlimited population.
    objective: what a plan is to have most of, a problem: coverage, right
      samples or distinct right samples.
    policies: kinds of plans to choose from.
    until: right samples after which adaptive plans leave a problem alone, to
      choose from.
    rounds: how many samples adaptive plans draw before they grade, to choose
      from.
    most_samples: of a problem by one model; 0: eight times what the budget
      buys.
    margin: a gap within this either way is called equal.
    task: of the pilots, for the levels of its problems and what makes two
      right samples differ; empty: no levels, and no objective `distinct`.
    data: folder or file of the task's set; empty for the task's own source.
    split: of the task.
    bad_rows: of the set: `refuse` ends with a report, `skip` leaves them out.
    false_positive_rates: share of the right samples of each model whose
      reasoning is wrong; empty: as the pilots' grades have it.
    chip: whose price is paid for chip-seconds, where the ledger has none in
      dollars: a chip of the price table.
    draws: resamples of the pilot's problems.
    seed: of the resampling.
  """

  pilots: tuple[str, ...] = ()
  costs: tuple[float, ...] = ()
  prompt_costs: tuple[float, ...] = ()
  currency: str = 'flops'
  budget: float = 1.0
  problems: int = 0
  objective: str = 'coverage'
  policies: tuple[str, ...] = policies.KINDS
  until: tuple[int, ...] = (1,)
  rounds: tuple[int, ...] = (1, 2, 4, 8)
  most_samples: int = 0
  margin: float = 0.01
  task: str = ''
  data: str = ''
  split: str = 'train'
  bad_rows: str = 'refuse'
  false_positive_rates: tuple[float, ...] = ()
  chip: str = ''
  draws: int = 500
  seed: int = 0

  def validate(self) -> None:
    """Raises InputError for the first field that is out of range."""
    if len(self.pilots) < 2:
      raise errors.InputError(
        'pilots: wanted the grades of two models or more; got '
        f'{len(self.pilots)}.'
      )
    for field, known in (('currency', CURRENCIES), ('objective', OBJECTIVES)):
      value = getattr(self, field)
      if value not in known:
        raise errors.InputError(
          f'{field}: wanted one of {", ".join(known)}; got {value!r}.'
        )
    for name in self.policies:
      if name not in policies.KINDS:
        raise errors.InputError(
          f'policies: wanted names among {", ".join(policies.KINDS)}; got '
          f'{name!r}.'
        )
    if self.prompt_costs and not self.costs:
      raise errors.InputError(
        'prompt_costs: wanted costs beside them; got none.'
      )
    for field, most in (
      ('costs', math.inf),
      ('prompt_costs', math.inf),
      ('false_positive_rates', 1.0),
    ):
      values = getattr(self, field)
      if values and len(values) != len(self.pilots):
        raise errors.InputError(
          f'{field}: wanted one for each of the {len(self.pilots)} pilots; got '
          f'{len(values)}.'
        )
      for value in values:
        good = 0 <= value <= most and value < math.inf
        if not good or (field == 'costs' and not value):
          wanted = {'costs': '> 0', 'prompt_costs': '>= 0'}
          raise errors.InputError(
            f'{field}: wanted numbers {wanted.get(field, "from 0 to 1")}; got '
            f'{value}.'
          )
    if not 0 < self.budget < math.inf:
      raise errors.InputError(
        f'budget: wanted samples per problem > 0; got {self.budget}.'
      )
    for field, least in (
      ('problems', 0),
      ('most_samples', 0),
      ('draws', 20),
      ('seed', 0),
    ):
      if getattr(self, field) < least:
        raise errors.InputError(
          f'{field}: wanted a count >= {least}; got {getattr(self, field)}.'
        )
    for field in ('until', 'rounds'):
      if not getattr(self, field) or min(getattr(self, field)) < 1:
        raise errors.InputError(
          f'{field}: wanted counts >= 1; got {getattr(self, field)}.'
        )
    if not 0 <= self.margin < 1:
      raise errors.InputError(
        f'margin: wanted a share from 0 to 1; got {self.margin}.'
      )
    if self.objective == 'distinct' and not self.task:
      raise errors.InputError(
        'task: wanted the task of the pilots, which says what makes right '
        'samples distinct; got nothing.'
      )
