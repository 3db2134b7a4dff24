"""How long a collective takes on the links of a slice.  No jax here.

Bandwidth alone decides, beside a fixed time for each hop: every chip must get
what it lacks through its own links, and a chip at the edge of a side that does
not wrap around has one link along it, others two.

Source: "How to Scale Your Model", jax-ml.github.io/scaling-book/sharding, for
the formulas; openxla/xla, docs on shardings, for the forms of device groups.
"""

import dataclasses
import itertools
import math
import re
from collections.abc import Sequence

from wcse_jax.aot import slices


KINDS = (
  'all-reduce',
  'all-gather',
  'reduce-scatter',
  'all-to-all',
  'collective-permute',
  'collective-broadcast',
  'ragged-all-to-all',
)
# How often the payload passes the links, all devices of a group together.
_PASSES = {'all-reduce': 2}
# Of the two chiplets of a chip, over one link between chips.
# Source: docs.cloud.google.com/tpu/docs/tpu7x, "Dual-chiplet architecture".
_CHIPLETS = 6


@dataclasses.dataclass(frozen=True)
class Collective:
  """One kind of exchange.

  Attributes:
    kind: one of `KINDS`.
    bytes: of the whole payload: all that a device has when it is done (that it
      had before, of a reduce-scatter).
    group: devices of one group, as places in the mesh.
    count: how often it is done.
  """

  kind: str
  bytes: float
  group: tuple[int, ...]
  count: float


def group(attributes: str, devices: int) -> tuple[int, ...]:
  """Returns the devices of the first group that an instruction names.

  Args:
    attributes: of the instruction.
    devices: of the whole program: the group where none is named.
  """
  pairs = re.search(r'source_target_pairs=\{\{(\d+),(\d+)\}', attributes)
  if pairs:
    return tuple(int(n) for n in pairs.groups())
  listed = re.search(r'replica_groups=\{\{([\d,]+)\}', attributes)
  if listed:
    return tuple(int(n) for n in listed.group(1).split(','))
  iota = re.search(
    r'replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?',
    attributes,
  )
  if iota:
    dims = [int(n) for n in iota.group(3).split(',')]
    order = [int(n) for n in (iota.group(4) or '').split(',') if n]
    return _first(dims, order or list(range(len(dims))), int(iota.group(2)))
  mesh = re.search(
    r'replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}', attributes
  )
  if mesh:
    sizes = {
      name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", mesh[1])
    }
    # Part of an axis: 'name':(sizes before it)its own size.
    parts = re.findall(r"'(\w+)'(?::\((\d+)\)(\d+))?", mesh[2])
    dims, chosen = [], []
    for name, size in sizes.items():
      split = [(b, n) for own, b, n in parts if own == name]
      if split and split[0][0]:
        before, own = (int(n) for n in split[0])
        chosen.append(len(dims) + 1)
        dims += [before, own, size // before // own]
      else:
        chosen += [len(dims)] if split else []
        dims.append(size)
    rest = [d for d in range(len(dims)) if d not in chosen]
    return _first(dims, rest + chosen, math.prod(dims[d] for d in chosen))
  return tuple(range(devices))


def _first(
  dims: Sequence[int], order: Sequence[int], count: int
) -> tuple[int, ...]:
  """Returns the first of the places of a box, its axes in another order."""
  strides = [math.prod(dims[d + 1 :]) for d in range(len(dims))]
  walk = itertools.product(*(range(dims[d]) for d in order))
  places = (
    sum(at * strides[d] for at, d in zip(point, order, strict=True))
    for point in walk
  )
  return tuple(itertools.islice(places, count))


def seconds(
  item: Collective,
  places: Sequence[tuple[int, ...]],
  pieces: slices.Slice,
) -> float:
  """Returns the time of one exchange.

  Args:
    item: the exchange.
    places: of each device of the mesh its coordinates in the slice.
    pieces: the slice.
  """
  link = pieces.chip.link
  points = [places[device][: pieces.chip.axes] for device in item.group]
  chips = len(set(points))
  extents = [len({point[a] for point in points}) for a in range(len(points[0]))]
  passes = _PASSES.get(item.kind, 1)
  total = 0.0
  if len(points) > chips:
    total += passes * item.bytes / 2 / (_CHIPLETS * link)
  if chips == 1:
    return total
  if item.kind == 'collective-permute':
    hops = sum(
      min(abs(a - b), side - abs(a - b)) if wraps else abs(a - b)
      for a, b, side, wraps in zip(*points[:2], pieces.sides, pieces.wraps)
    )
    return total + item.bytes / link + hops * slices.HOP_SECONDS
  links, hops = 0, 0
  for extent, side, wraps in zip(extents, pieces.sides, pieces.wraps):
    if extent > 1:
      ring = wraps and extent == side
      links += 2 if ring else 1
      hops += extent // 2 if ring else extent - 1
  moved = item.bytes * (chips - 1) / chips
  if item.kind.endswith('all-to-all'):
    # A piece goes a quarter of a ring, a third of a line, on the mean; each
    # link carries what passes by.
    moved = max(moved, item.bytes * max(extents) / 4)
  return total + passes * (moved / (links * link) + hops * slices.HOP_SECONDS)
