"""What a compiled program's figures are made of, whatever the program."""

from typing import Any

from jax.sharding import Mesh

from wcse_jax import prices
from wcse_jax.aot import collectives, programs, slices, traffic


# Kinds of instruction that are listed.
_LISTED = 12


def fits(done: programs.Compiled, pieces: slices.Slice) -> bool:
  """Returns whether a program fits the memory of its slice."""
  room = pieces.chip.usable // pieces.chip.devices
  return done.total is not None and done.total <= room


def memory(done: programs.Compiled, pieces: slices.Slice) -> dict[str, Any]:
  """Returns the memory of a chip by kind (bytes)."""
  count = pieces.chip.devices

  def chip(size: int | None) -> int | None:
    return None if size is None else count * size

  return {
    'weights': chip(done.weights),
    'cache': chip(done.cache),
    'temporary': chip(done.temporary),
    'total': chip(done.total),
    'limit': pieces.chip.usable,
  }


def times(
  step: traffic.Traffic, counted: float, pieces: slices.Slice, mesh: Mesh
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
  """Returns (seconds of memory, products and links, the links in parts).

  Args:
    step: what a device does.
    counted: bytes that a chip moves to and from HBM.
    pieces: the slice.
    mesh: of its devices.
  """
  chip = pieces.chip
  places = [tuple(device.coords) for device in mesh.devices.flat]
  links: dict[str, dict[str, float]] = {}
  for item in step.collectives():
    row = links.setdefault(item.kind, dict(bytes=0.0, count=0.0, seconds=0.0))
    row['bytes'] += item.count * item.bytes
    row['count'] += item.count
    row['seconds'] += item.count * collectives.seconds(item, places, pieces)
  seconds = {
    'hbm': counted / chip.bandwidth,
    'matrix': chip.devices
    * (step.flops / chip.bf16 + step.int8_flops / chip.int8),
    'interconnect': sum(row['seconds'] for row in links.values()),
  }
  return seconds, links


def largest(step: traffic.Traffic, pieces: slices.Slice) -> list[dict]:
  """Returns what moves most, by instruction."""
  return [
    {
      'bytes': round(pieces.chip.devices * size),
      'op': row.op,
      'opcode': row.opcode,
      'array': row.array,
    }
    for row, size in step.largest(_LISTED)
  ]


def price(
  usd_per_chip_hour: float, pieces: slices.Slice
) -> dict[str, Any] | None:
  """Returns what a chip costs, from the table where no price is given."""
  if usd_per_chip_hour:
    return {'usd_per_chip_hour': usd_per_chip_hour}
  row = prices.table().get(pieces.chip.name)
  if row is None:
    return None
  return {
    'usd_per_chip_hour': row.usd,
    'region': row.region,
    'date': row.date,
    'source': row.source,
  }
