"""What an hour of a chip costs, from the one table `prices.json`.  No jax here.

Prices change: each row has its date, its region and the page that
tells those of today.  GPUs
are priced with their share of the machine that they come in.
"""

import dataclasses
import functools
import importlib.resources
import json


@dataclasses.dataclass(frozen=True)
class Price:
  """One row.

  Attributes:
    chip: `v5e`, `h100`, ...
    usd: of one chip and hour, on demand.
    region: where.
    date: when (ISO 8601).
    source: URL of the seller's page.
  """

  chip: str
  usd: float
  region: str
  date: str
  source: str


@functools.cache
def table() -> dict[str, Price]:
  """Returns the rows by chip."""
  text = importlib.resources.files('wcse_jax').joinpath('prices.json')
  rows = json.loads(text.read_text(encoding='utf-8'))['rows']
  return {row['chip']: Price(**row) for row in rows}


def usd_per_million(seconds: float, usd_per_hour: float) -> float:
  """Returns what a million pieces of work cost.

  Args:
    seconds: chip-seconds of one.
    usd_per_hour: of one chip.
  """
  return seconds / 3600 * usd_per_hour * 1e6
