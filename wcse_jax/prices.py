"""What a chip's hour and an API's tokens cost, from the one table
`prices.json`.

No jax here.

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


@dataclasses.dataclass(frozen=True)
class ApiPrice:
  """What a model behind an API costs.

  Attributes:
    model: as its server calls it.
    read: US dollars for a million tokens of prompts.
    drawn: for a million drawn tokens.
    date: when (ISO 8601).
    source: URL of the seller's page.
  """

  model: str
  read: float
  drawn: float
  date: str
  source: str


# Rows of a file of the user's, which come first.
_own: dict[str, Price] = {}
_own_api: dict[str, ApiPrice] = {}


def use(path: str) -> None:
  """Puts the rows of a file in the place of those of the table.

  Args:
    path: `{"rows": [{"chip", "usd", "region", "date", "source"}], "api":
      [{"model", "read", "drawn", "date", "source"}]}`, either or both; a chip
      may be `cpu`, whose price is not in the table.  Empty for none.

  Raises:
    InputError: if the file is no such table.
  """
  global _own, _own_api
  value = storage.read_json(path) if path else {}
  if path and not (isinstance(value, dict) and {'rows', 'api'} & set(value)):
    raise errors.InputError(
      f'{path}: wanted {{"rows": [...]}} or {{"api": [...]}}; got another.'
    )
  _own = _rows(value, 'rows', Price, path)
  _own_api = _rows(value, 'api', ApiPrice, path)


def table() -> dict[str, Price]:
  """Returns the rows of chips, by chip."""
  return _rows(_shipped(), 'rows', Price, 'prices.json') | _own


def api() -> dict[str, ApiPrice]:
  """Returns the rows of models behind an API, by model."""
  return _rows(_shipped(), 'api', ApiPrice, 'prices.json') | _own_api


def usd_of_tokens(model: str, read: int, drawn: int) -> float | None:
  """Returns what tokens of an API cost; None where the price is not known."""
  row = api().get(model)
  return None if row is None else (read * row.read + drawn * row.drawn) / 1e6


def usd(chip: str, chip_seconds: float) -> float | None:
  """Returns what some chip-seconds cost; None where the price is not known."""
  row = table().get(chip)
  return None if row is None else chip_seconds / 3600 * row.usd


def _shipped() -> Any:
  own = importlib.resources.files('wcse_jax').joinpath('prices.json')
  return json.loads(own.read_text(encoding='utf-8'))


def _rows(value: Any, key: str, cls: type[Any], where: str) -> dict[str, Any]:
  fields = [field.name for field in dataclasses.fields(cls)]
  rows = value.get(key, [])
  if not isinstance(rows, list):
    raise errors.InputError(f'{where}: {key}: wanted a list; got another.')
  found = {}
  for number, row in enumerate(rows, 1):
    at = f'{where}: {key}: row {number}'
    if not isinstance(row, dict) or set(row) != set(fields):
      raise errors.InputError(
        f'{at}: wanted the fields {", ".join(fields)}; got '
        f'{sorted(row) if isinstance(row, dict) else row}.'
      )
    for name in ('usd', 'read', 'drawn'):
      price = row.get(name, 0)
      if type(price) not in (int, float) or not 0 <= price < math.inf:
        raise errors.InputError(
          f'{at}: {name}: wanted a price >= 0; got {price!r}.'
        )
    found[row[fields[0]]] = cls(**row)
  return found


def usd_per_million(seconds: float, usd_per_hour: float) -> float:
  """Returns what a million pieces of work cost.

  Args:
    seconds: chip-seconds of one.
    usd_per_hour: of one chip.
  """
  return seconds / 3600 * usd_per_hour * 1e6
