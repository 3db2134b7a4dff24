"""What one sample of each model of a pilot costs, in a currency."""

import dataclasses
from collections.abc import Sequence

from wcse_jax import budget, checkpoints, errors, prices, shardfiles, storage
from wcse_jax.plan import pilots, settings


@dataclasses.dataclass(frozen=True)
class Spent:
  """What the samples of a pilot took, a sample.

  Attributes:
    samples: how many there are.
    checkpoint: whose they are.
    flops: of a sample, its share of the shared prefix included.
    chip_seconds: of a sample, compiling left out.
    tokens: drawn tokens of a sample, truncated ones with all that they have.
    usd: of a sample; None where the ledger has no price.
  """

  samples: int
  checkpoint: str
  flops: float
  chip_seconds: float
  tokens: float
  usd: float | None


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
  config = storage.join(source.workdir, 'config.json')
  found = storage.read_json(config) if storage.exists(config) else {}
  return Spent(
    samples=count,
    checkpoint=str(found.get('checkpoint', '')),
    flops=cost['flops'] / count,
    chip_seconds=cost['chip_seconds'] / count,
    tokens=cost['decode_tokens'] / count,
    usd=None if usd is None else usd / count,
  )


def of_samples(
  config: settings.PlanConfig, sources: Sequence[pilots.Source]
) -> tuple[float, ...]:
  """Returns the cost of a sample of each model, in `config.currency`.

  Raises:
    InputError: if neither the configuration nor a ledger says it.
  """
  if config.costs:
    return config.costs
  return tuple(_of_one(config, source) for source in sources)


def _of_one(config: settings.PlanConfig, source: pilots.Source) -> float:
  found = spent(source)
  if found is None:
    raise errors.InputError(
      f'costs: {source.path} has no ledger: wanted --config.costs, the cost of '
      f'one sample of each model in {config.currency}; got nothing.'
    )
  match config.currency:
    case 'params':
      if not found.checkpoint:
        raise errors.InputError(
          f'costs: {source.workdir}: wanted a config.json that names the '
          'checkpoint, for its parameters; got none.'
        )
      model = checkpoints.read_config(found.checkpoint)
      value = float(budget.flops_per_token(model))
    case 'usd':
      value = found.usd
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
