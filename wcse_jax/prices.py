"""What an hour of a chip costs, from the one table `prices.json`.  No jax here.

Prices change: each row has its date, its region and the page that tells those
of today.  GPUs are priced with their share of the machine that they come in.  A
file of the same form puts other rows in their place.
"""

import dataclasses
import importlib.resources
import json
import math
from typing import Any

from wcse_jax import errors, storage


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


# Rows of a file of the user's, which come first.
_own: dict[str, Price] = {}


def use(path: str) -> None:
  """Puts the rows of a file in the place of those of the table.

  Args:
    path: `{"rows": [{"chip", "usd", "region", "date", "source"}]}`; a chip may
      be `cpu`, whose price is not in the table.  Empty for none.

  Raises:
    InputError: if the file is no such table.
  """
  global _own
  _own = _rows(storage.read_json(path), path) if path else {}


def table() -> dict[str, Price]:
  """Returns the rows by chip."""
  own = importlib.resources.files('wcse_jax').joinpath('prices.json')
  rows = _rows(json.loads(own.read_text(encoding='utf-8')), 'prices.json')
  return rows | _own


def usd(chip: str, chip_seconds: float) -> float | None:
  """Returns what some chip-seconds cost; None where the price is not known."""
  row = table().get(chip)
  return None if row is None else chip_seconds / 3600 * row.usd


def _rows(value: Any, where: str) -> dict[str, Price]:
  fields = [field.name for field in dataclasses.fields(Price)]
  rows = value.get('rows') if isinstance(value, dict) else None
  if not isinstance(rows, list):
    raise errors.InputError(f'{where}: wanted {{"rows": [...]}}; got another.')
  found = {}
  for number, row in enumerate(rows, 1):
    if not isinstance(row, dict) or set(row) != set(fields):
      raise errors.InputError(
        f'{where}: row {number}: wanted the fields {", ".join(fields)}; got '
        f'{sorted(row) if isinstance(row, dict) else row}.'
      )
    usd = row['usd']
    if type(usd) not in (int, float) or not 0 <= usd < math.inf:
      raise errors.InputError(
        f'{where}: row {number}: usd: wanted a price >= 0; got {usd!r}.'
      )
    found[row['chip']] = Price(**row)
  return found


def usd_per_million(seconds: float, usd_per_hour: float) -> float:
  """Returns what a million pieces of work cost.

  Args:
    seconds: chip-seconds of one.
    usd_per_hour: of one chip.
  """
  return seconds / 3600 * usd_per_hour * 1e6
