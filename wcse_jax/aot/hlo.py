"""Optimised HLO text (`compiled.as_text()`) read into instructions.

Only what counting needs: shapes with their layouts, operands, attributes.

Source: openxla/xla, xla/hlo/parser and docs/tiled_layout.md (the text's form
and what `T(8,128)` and `S(1)` in a layout mean).
"""

import dataclasses
import functools
import json
import math
import re
from collections.abc import Iterator
from typing import Any


# Bytes of an element; of types that are not here the digits of the name tell.
_BYTES = {'pred': 1.0, 'token': 0.0, 'opaque': 0.0}

_LEAF = re.compile(r'(\w+)\[([^\]]*)\](?:\{([^}]*)\})?')
_TILE = re.compile(r'T((?:\([\d,*]*\))+)')
_SPACE = re.compile(r'S\((\d+)\)')
_NAME = re.compile(r'%([\w.\-]+)')
_COMMENT = re.compile(r'/\*.*?\*/')
_HEADER = re.compile(r'^(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$')
# A computation may say on which thread it runs.
_END = re.compile(r'\}(, execution_thread=.*)?$')
_LINE = re.compile(r'^\s+(ROOT )?%([\w.\-]+) = (.*)$')
_OPCODE = re.compile(r' ([a-z][\w\-]*)\(')


@dataclasses.dataclass(frozen=True)
class Array:
  """One buffer.

  Attributes:
    dtype: of its elements, as HLO names it.
    dims: its sizes.
    space: where it lives: 0 is HBM, all others are on the chip or the host.
    padded: bytes that it takes, tiles filled up.
  """

  dtype: str
  dims: tuple[int, ...]
  space: int
  padded: float

  @property
  def elements(self) -> int:
    return math.prod(self.dims)

  @property
  def bytes(self) -> float:
    """Bytes that it moves to or from HBM as a whole."""
    return 0.0 if self.space else self.padded


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line of a computation.

  Attributes:
    name: unique in the module.
    opcode: what it does.
    leaves: its results, tuples flattened.
    operands: names of what it takes.
    attributes: the rest of the line.
    number: of a parameter, which one.
    root: whether it is what the computation returns.
  """

  name: str
  opcode: str
  leaves: tuple[Array, ...]
  operands: tuple[str, ...]
  attributes: str
  number: int
  root: bool

  def called(self, key: str) -> str | None:
    """Returns the name of the computation that an attribute names."""
    found = re.search(rf'\b{key}=%([\w.\-]+)', self.attributes)
    return found and found.group(1)

  def text(self, key: str) -> str:
    """Returns an attribute's text up to the next comma; '' without it."""
    found = re.search(rf'\b{key}=(\{{[^}}]*\}}|[^,\s]+)', self.attributes)
    return found.group(1) if found else ''

  def numbers(self, key: str) -> tuple[int, ...]:
    """Returns the numbers of an attribute such as `dimensions={0,1}`."""
    return tuple(int(n) for n in re.findall(r'\d+', self.text(key)))

  @property
  def op_name(self) -> str:
    """What the instruction came from in the traced program."""
    found = re.search(r'op_name="((?:[^"\\]|\\.)*)"', self.attributes)
    return found.group(1) if found else ''

  @property
  def backend(self) -> dict[str, Any]:
    """The backend's own configuration."""
    _, found, text = self.attributes.partition('backend_config=')
    if not found or not text.startswith('{'):
      return {}
    return json.JSONDecoder().raw_decode(text)[0]


@dataclasses.dataclass(frozen=True)
class Computation:
  """Instructions in their order, by name.

  Attributes:
    name: unique in the module.
    instructions: in the order in which they are printed.
  """

  name: str
  instructions: dict[str, Instruction]

  @functools.cached_property
  def root(self) -> Instruction:
    return next(i for i in self.instructions.values() if i.root)

  @functools.cached_property
  def parameters(self) -> dict[int, Instruction]:
    return {
      i.number: i for i in self.instructions.values() if i.opcode == 'parameter'
    }

  @functools.cached_property
  def users(self) -> dict[str, list[Instruction]]:
    """Who takes each instruction, once for each place that it takes it at."""
    found: dict[str, list[Instruction]] = {n: [] for n in self.instructions}
    for instruction in self.instructions.values():
      for operand in dict.fromkeys(instruction.operands):
        if operand in found:
          found[operand].append(instruction)
    return found


@dataclasses.dataclass(frozen=True)
class Module:
  """A compiled program.

  Attributes:
    computations: by name.
    entry: the one that is run.
  """

  computations: dict[str, Computation]
  entry: Computation


def parse(text: str) -> Module:
  """Returns the program that a text describes.

  Raises:
    ValueError: if it has no entry.
  """
  computations: dict[str, Computation] = {}
  entry = None
  name, first, lines = '', False, {}
  for line in _lines(text):
    header = _HEADER.match(_COMMENT.sub('', line)) if line[:1] != ' ' else None
    if header:
      first, name, lines = bool(header.group(1)), header.group(2), {}
    elif _END.match(line) and name:
      computations[name] = Computation(name, lines)
      entry = computations[name] if first else entry
      name = ''
    elif name:
      instruction = _instruction(line)
      if instruction is not None:
        lines[instruction.name] = instruction
  if entry is None:
    raise ValueError('text: wanted optimised HLO with an ENTRY; got none.')
  return Module(computations, entry)


def _lines(text: str) -> Iterator[str]:
  """Yields the lines of a text, each instruction as one.

  What a kernel says of itself may have line breaks, behind which nothing is
  indented.
  """
  whole = ''
  for line in text.splitlines():
    begins = line[:1] in (' ', '%', '') or line[:5] == 'ENTRY'
    begins = begins or _END.match(line) is not None
    if begins or not whole.startswith(' '):
      yield whole
      whole = line
    else:
      whole += line
  yield whole


def array(text: str) -> Array:
  """Returns the buffer that `bf16[8,128]{1,0:T(8,128)(2,1)S(1)}` describes."""
  (found,) = _leaves(text)
  return found


def _instruction(line: str) -> Instruction | None:
  found = _LINE.match(line)
  if not found:
    return None
  root, name, rest = found.groups()
  rest = _COMMENT.sub('', rest)
  if rest.startswith('('):
    end = _closing(rest, 0) + 1
  else:
    end = rest.index(' ')
  opcode = _OPCODE.match(rest, end)
  if opcode is None:
    return None
  start = opcode.end() - 1
  stop = _closing(rest, start)
  inside = rest[start + 1 : stop]
  kind = opcode.group(1)
  return Instruction(
    name=name,
    opcode=kind,
    leaves=_leaves(rest[:end]),
    operands=() if kind == 'constant' else tuple(_NAME.findall(inside)),
    # A constant's value is kept: it may be a loop's limit.
    attributes=inside if kind == 'constant' else rest[stop + 1 :],
    number=int(inside) if kind == 'parameter' else 0,
    root=bool(root),
  )


def _closing(text: str, start: int) -> int:
  """Returns where the parenthesis that opens at `start` is closed."""
  depth = 0
  for place in range(start, len(text)):
    if text[place] == '(':
      depth += 1
    elif text[place] == ')':
      depth -= 1
      if not depth:
        return place
  raise ValueError(f'text: a parenthesis is not closed in {text[:80]!r}.')


@functools.cache
def _leaves(text: str) -> tuple[Array, ...]:
  return tuple(
    _array(dtype, dims, layout or '')
    for dtype, dims, layout in _LEAF.findall(text)
  )


def _array(dtype: str, dims: str, layout: str) -> Array:
  sizes = tuple(int(re.sub(r'\D', '', d)) for d in dims.split(',') if d)
  order, _, more = layout.partition(':')
  space = _SPACE.search(more)
  tile = _TILE.search(more)
  minor = [int(d) for d in order.split(',') if d.strip().isdecimal()]
  laid = [sizes[d] for d in minor] if minor else list(reversed(sizes))
  # A scalar's tile is no traffic that counts.
  if tile and laid:
    sides = tile.group(1)[1:].partition(')')[0].split(',')
    for place, side in enumerate(reversed(sides)):
      if place < len(laid) and side.isdecimal() and int(side):
        laid[place] = -(-laid[place] // int(side)) * int(side)
  return Array(
    dtype,
    sizes,
    int(space.group(1)) if space else 0,
    math.prod(laid) * _element(dtype),
  )


@functools.cache
def _element(dtype: str) -> float:
  if dtype in _BYTES:
    return _BYTES[dtype]
  bits = re.match(r'[a-z]+(\d+)', dtype)
  if not bits:
    raise ValueError(f'dtype: wanted one that HLO knows; got {dtype!r}.')
  return int(bits.group(1)) / 8
