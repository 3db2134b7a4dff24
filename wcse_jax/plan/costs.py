"""What one sample of each model of a pilot costs, in a currency."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from wcse_jax import budget, checkpoints, errors, prices, shardfiles, storage
from wcse_jax.plan import allocation, curves, pilots, settings


@dataclasses.dataclass(frozen=True)
class Spent:
  """What the samples of a pilot took, a sample.

  Attributes:
    samples: how many there are.
    checkpoint: whose they are; empty for a model of a server.
    served: whether a server drew them: what it computed is not known.
    flops: of a sample, its share of the shared prefix included.
    chip_seconds: of a sample, compiling left out.
    tokens: drawn tokens of a sample, truncated ones with all that they have.
    usd: of a sample; None where the ledger has no price.
    prompts: times that a prompt was read, of a sample: less than 1 where
      samples of a problem were drawn together.
    reading: share of the tokens that were read, not drawn.
  """

  samples: int
  checkpoint: str
  served: bool
  flops: float
  chip_seconds: float
  tokens: float
  usd: float | None
  prompts: float
  reading: float


def spent(source: pilots.Source) -> Spent | None:
  """Returns what a pilot's run folder says of its samples; None for a file."""
  if not source.workdir:
    return None
  path = storage.join(source.workdir, 'samples', source.model)
  if not storage.exists(storage.join(path, shardfiles.MANIFEST)):
    return None
  folder = shardfiles.ShardFolder(path)
  count = sum(map(folder.size, folder.shards))
  ledger = storage.join(source.workdir, 'ledger', f'sample-{source.model}.json')
  if not count or not storage.exists(ledger):
    return None
  cost = storage.read_json(ledger)
  usd = cost['usd']
  place = storage.join(path, 'source.json')
  found = storage.read_json(place) if storage.exists(place) else {}
  served = 'server' in found
  if served and usd is None:
    usd = prices.usd_of_tokens(
      str(found.get('model')), cost['prefill_tokens'], cost['decode_tokens']
    )
  return Spent(
    samples=count,
    checkpoint=str(found.get('checkpoint', '')),
    served=served,
    flops=cost['flops'] / count,
    chip_seconds=cost['chip_seconds'] / count,
    tokens=cost['decode_tokens'] / count,
    usd=None if usd is None else usd / count,
    prompts=sum(
      folder.size(shard) / (shard.last_index - shard.first_index + 1)
      for shard in folder.shards
    )
    / count,
    # Of a server each sample pays for its prompt, as drawing it costs.
    reading=0.0
    if served
    else cost['prefill_tokens']
    / max(1, cost['prefill_tokens'] + cost['decode_tokens']),
  )


@dataclasses.dataclass(frozen=True)
class Prices:
  """What samples cost, in the planner's currency.

  Attributes:
    mean_M: of a sample of each model, its share of a prompt included: as the
      pilot drew them.
    parts: the same as what drawing a sample costs, and reading a prompt.
  """

  mean_M: npt.NDArray[np.float64]
  parts: allocation.Costs


def prices_of(
  config: settings.PlanConfig, sources: Sequence[pilots.Source]
) -> Prices:
  """Returns what samples of each model cost, in `config.currency`.

  Where the ledger does not tell reading from drawing apart, the cost is divided
  by tokens: for seconds and dollars that is more than reading takes, so that
  plans with many rounds are not too hopeful.

  Raises:
    InputError: if neither the configuration nor a ledger says it.
  """
  zeros_M = np.zeros(len(sources))
  if config.costs:
    mean_M = np.array(config.costs, np.float64)
    prompt_M = np.array(config.prompt_costs or zeros_M, np.float64)
    return Prices(mean_M, allocation.Costs(mean_M, prompt_M))
  mean_M = np.array([_of_one(config, source) for source in sources])
  if config.currency in ('params', 'tokens'):
    return Prices(mean_M, allocation.Costs(mean_M, zeros_M))
  told = [spent(source) for source in sources]
  reading_M = np.array([one.reading for one in told])
  prompt_M = mean_M * reading_M / np.array([one.prompts for one in told])
  return Prices(mean_M, allocation.Costs(mean_M * (1 - reading_M), prompt_M))


def per_million_right(
  config: settings.PlanConfig,
  told: Sequence[Spent | None],
  pilot: curves.Pilot,
  drawn: Sequence[int],
) -> tuple[float | None, ...]:
  """Returns the dollars of a million right samples of each model.

  None where the ledger has no dollars, and `config.chip` no price, or where no
  sample is right.

  Args:
    config: for `chip`.
    told: what the samples of each model took.
    pilot: the right ones.
    drawn: of how many, those among them that could not be graded.
  """
  found: list[float | None] = []
  for m, one in enumerate(told):
    usd = None
    if one is not None:
      usd = one.usd
      if usd is None and not one.served:
        usd = prices.usd(config.chip, one.chip_seconds)
    right = pilot.right_MQ[m].sum() / drawn[m]
    found.append(usd / right * 1e6 if usd is not None and right else None)
  return tuple(found)


def _of_one(config: settings.PlanConfig, source: pilots.Source) -> float:
  found = spent(source)
  if found is None:
    raise errors.InputError(
      f'costs: {source.path} has no ledger: wanted --config.costs, the cost of '
      f'one sample of each model in {config.currency}; got nothing.'
    )
  if found.served and config.currency not in ('usd', 'tokens'):
    raise errors.InputError(
      f'currency: {source.path} is of a model of a server, whose '
      f'{config.currency} nobody tells: wanted usd or tokens.'
    )
  match config.currency:
    case 'params':
      if not found.checkpoint:
        raise errors.InputError(
          f'costs: {source.path}: wanted a source.json beside the samples, '
          'which names the checkpoint, for its parameters; got none.'
        )
      model = checkpoints.read_config(found.checkpoint)
      value = float(budget.flops_per_token(model))
    case 'usd':
      value = found.usd
      if value is None and found.served:
        raise errors.InputError(
          f'costs: {source.workdir}: the ledger has no dollars: wanted a price '
          "of the server's model, as --prices=FILE gives it; there is none."
        )
      if value is None:
        table = prices.table()
        if config.chip not in table:
          raise errors.InputError(
            f'chip: {source.workdir}: the ledger has no dollars: wanted a chip '
            f'of the price table ({", ".join(table)}); got {config.chip!r}.'
          )
        value = found.chip_seconds / 3600 * table[config.chip].usd
    case _:
      value = getattr(found, config.currency)
  if not value > 0:
    raise errors.InputError(
      f'costs: {source.path}: wanted a cost > 0 in {config.currency}; the '
      f'ledger has {value}.'
    )
  return value
