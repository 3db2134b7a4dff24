"""What the slices of Cloud TPU that can be rented are made of.  No jax here.

Figures are the documented ones of a chip.  `usable` alone is not documented: it
is the limit that the compiler itself names when a program is too large for
the chip (libtpu 0.0.52), which is what decides whether a program fits.

Source: https://docs.cloud.google.com/tpu/docs/ v4, v5e, v5p, v6e and tpu7x,
"System architecture".
"""

import dataclasses
import math
import re

from wcse_jax import errors


_GIB = 2**30
# Seconds that one hop from chip to chip takes beside the bytes.
# Source: "How to Scale Your Model", jax-ml.github.io/scaling-book/sharding.
HOP_SECONDS = 1e-6


@dataclasses.dataclass(frozen=True)
class Chip:
  """One chip.

  Attributes:
    name: as in `v5e:4x4`.
    usable: bytes of HBM that a program may take.
    bandwidth: bytes/s of HBM.
    bf16: FLOP/s of bfloat16 products.
    int8: operations/s of int8 products; as bf16 where none are documented.
    ici: bytes/s to and from all neighbours together, both directions.
    ports: links to neighbours.
    axes: dimensions of the torus.
    devices: devices that jax makes of a chip.
    options: of `get_topology_desc`, so that jax makes `devices` of a chip.
  """

  name: str
  usable: int
  bandwidth: float
  bf16: float
  int8: float
  ici: float
  ports: int
  axes: int
  devices: int = 1
  options: tuple[tuple[str, str], ...] = ()

  @property
  def link(self) -> float:
    """Bytes/s of one link in one direction."""
    return self.ici / 2 / self.ports


CHIPS = {
  chip.name: chip
  for chip in (
    Chip(
      name='v4',
      usable=int(30.75 * _GIB),
      bandwidth=1200e9,
      bf16=275e12,
      int8=275e12,
      # Six links of 50 GB/s each way.  Source: arXiv:2304.01433, table 4.
      ici=600e9,
      ports=6,
      axes=3,
      # One device of both cores, as on a TPU VM.
      options=(('chip_config_name', 'megacore'),),
    ),
    Chip(
      name='v5e',
      usable=int(15.75 * _GIB),
      bandwidth=819e9,
      bf16=197e12,
      int8=393e12,
      ici=400e9,
      ports=4,
      axes=2,
    ),
    Chip(
      name='v5p',
      usable=int(95.73 * _GIB),
      bandwidth=2765e9,
      bf16=459e12,
      # 918e12 is told of elsewhere; the document has no int8 figure.
      int8=459e12,
      ici=1200e9,
      ports=6,
      axes=3,
    ),
    Chip(
      name='v6e',
      usable=int(31.24 * _GIB),
      bandwidth=1638e9,
      bf16=918e12,
      int8=1836e12,
      ici=800e9,
      ports=4,
      axes=2,
    ),
    Chip(
      name='tpu7x',
      usable=2 * int(94.74 * _GIB),
      bandwidth=7380e9,
      bf16=2307e12,
      # 4614e12 is documented for FP8 alone.
      int8=2307e12,
      ici=1200e9,
      ports=6,
      axes=3,
      # Two chiplets, each a device with half of everything.
      devices=2,
    ),
  )
}


@dataclasses.dataclass(frozen=True)
class Slice:
  """Some chips, joined.

  Attributes:
    chip: of which it is made.
    sides: chips along each axis of the torus or mesh.
  """

  chip: Chip
  sides: tuple[int, ...]

  @property
  def name(self) -> str:
    return f'{self.chip.name}:{"x".join(str(side) for side in self.sides)}'

  @property
  def chips(self) -> int:
    return math.prod(self.sides)

  @property
  def wraps(self) -> tuple[bool, ...]:
    """Along which axes the last chip is a neighbour of the first.

    In two dimensions the whole sides of a pod; in three, whole cubes.

    Source: docs.cloud.google.com/tpu/docs/v5p ("4x4x4 and larger slices have
    full 3D tori"), v4 ("each dimension is a multiple of 4"); for v5e and v6e
    "How to Scale Your Model", section "TPU networking" (sides of 16).
    """
    if self.chip.axes == 2:
      return tuple(side == 16 for side in self.sides)
    cubes = all(side % 4 == 0 for side in self.sides)
    return tuple(cubes for _ in self.sides)


def parse(text: str) -> Slice:
  """Returns the slice that `v5e:4x4` names.

  Raises:
    InputError: if the chip is not known, or its sides do not fit the chip.
  """
  name, _, sides = text.partition(':')
  if name not in CHIPS:
    raise errors.InputError(
      f'topology: wanted CHIP:SIDES with CHIP one of {", ".join(CHIPS)}; '
      f'got {text!r}.'
    )
  chip = CHIPS[name]
  example = 'x'.join(['4'] * chip.axes)
  if not re.fullmatch(r'[1-9]\d*(x[1-9]\d*)*', sides) or (
    sides.count('x') + 1 != chip.axes
  ):
    raise errors.InputError(
      f'topology: wanted {chip.axes} sides, as {name}:{example}; got {text!r}.'
    )
  return Slice(chip, tuple(int(side) for side in sides.split('x')))
