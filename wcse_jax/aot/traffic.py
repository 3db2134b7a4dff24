"""What one run of a compiled program moves and multiplies, from its HLO text.

The compiler's own `cost_analysis` counts the body of a loop once and buffers in
on-chip memory like those in HBM.  Here a body is counted as often as it runs,
and of every instruction

- what it reads of HBM: its operands, of those that it only cuts pieces from
  (dynamic-slice, gather) the pieces;
- what it writes to HBM: its results, where it updates an operand in place
  (dynamic-update-slice, scatter) the update.

Inside a fusion nothing but its parameters and its result is memory.  A buffer
whose layout has another memory space than 0 is not in HBM.  A Pallas kernel
counts as its own cost estimate says.

A collective may be fused into the work that goes on meanwhile: one fusion
starts it, others do a part of it beside work of their own, the last one ends
it.  It counts where it starts; what the others only pass on is not moved.
"""

import collections
import dataclasses
import functools
import math
import re
from collections.abc import Iterable, Iterator

import numpy as np

from wcse_jax.aot import collectives, hlo


# Move nothing by themselves: names, and the ends of what was counted where it
# began.
_FREE = frozenset(
  (
    'parameter',
    'constant',
    'tuple',
    'get-tuple-element',
    'bitcast',
    'after-all',
    'add-dependency',
    'opt-barrier',
    'partition-id',
    'replica-id',
    'copy-done',
    'slice-done',
    'async-update',
    'async-done',
    'send-done',
    'recv-done',
  )
)
# Custom calls that only name memory.
_FREE_CALLS = frozenset(('ConcatBitcast', 'AllocateBuffer', 'SliceId'))
# A collective that goes on beside other work: its beginning, and its parts.
_STARTS, _PARTS = 'AsyncCollectiveStart', 'async_collective_fusion_config'
# Take of each operand the elements at the places that are asked of them.
_ELEMENTWISE = frozenset(
  (
    'abs',
    'add',
    'and',
    'convert',
    'copy',
    'divide',
    'exponential',
    'maximum',
    'minimum',
    'multiply',
    'negate',
    'or',
    'select',
    'subtract',
    'tanh',
    'bitcast-convert',
    'bitcast',
    'reshape',
    'transpose',
  )
)
_CUTS = ('dynamic-slice', 'slice', 'gather')
_PUTS = ('dynamic-update-slice', 'scatter')
_NARROW = frozenset(('s8', 'u8', 's4', 'u4'))


@dataclasses.dataclass(frozen=True)
class Row:
  """What one kind of instruction moves.

  Attributes:
    op: where it came from in the traced program.
    opcode: its own.
    array: the largest buffer that it touches.
  """

  op: str
  opcode: str
  array: str


@dataclasses.dataclass
class Traffic:
  """What some instructions cost, on one device.

  Attributes:
    bytes: to and from HBM.
    flops: of products of bfloat16 and wider.
    int8_flops: of products of integers of up to 8 bits.
    rows: bytes by kind of instruction.
    exchanges: how often each collective is done, by (kind, bytes, group).
    guessed: loops whose number of rounds is not known: counted as one.
  """

  bytes: float = 0.0
  flops: float = 0.0
  int8_flops: float = 0.0
  rows: collections.Counter = dataclasses.field(
    default_factory=collections.Counter
  )
  exchanges: collections.Counter = dataclasses.field(
    default_factory=collections.Counter
  )
  guessed: int = 0

  def add(self, other: 'Traffic', times: float = 1) -> None:
    """Adds what is done `times` times."""
    self.bytes += times * other.bytes
    self.flops += times * other.flops
    self.int8_flops += times * other.int8_flops
    for key, size in other.rows.items():
      self.rows[key] += times * size
    for key, count in other.exchanges.items():
      self.exchanges[key] += times * count
    self.guessed += other.guessed

  def collectives(self) -> Iterator[collectives.Collective]:
    for (kind, size, group), count in self.exchanges.items():
      yield collectives.Collective(kind, size, group, count)

  def largest(self, count: int) -> list[tuple[Row, float]]:
    """Returns the kinds of instruction that move most."""
    return self.rows.most_common(count)


@dataclasses.dataclass
class Loop:
  """A loop of unknown rounds at the top of a program.

  Attributes:
    round: what one round costs.
    resident: bytes of on-chip buffers that stay there from round to round.
  """

  round: Traffic
  resident: float


@dataclasses.dataclass
class Program:
  """A program in its parts.

  Attributes:
    outside: all but the loops whose rounds are not known.
    loops: those loops.
  """

  outside: Traffic
  loops: list[Loop]


def count(text: str, devices: int = 1) -> Program:
  """Returns what a compiled program costs on one device.

  Args:
    text: its optimised HLO.
    devices: that it runs on.
  """
  return _Counter(hlo.parse(text), devices).program()


class _Counter:
  def __init__(self, module: hlo.Module, devices: int):
    self._module = module
    self._devices = devices
    self._done: dict[str, Traffic] = {}

  def program(self) -> Program:
    entry, outside, loops = self._module.entry, Traffic(), []
    for instruction in entry.instructions.values():
      if instruction.opcode == 'while' and not self._rounds(entry, instruction):
        resident = sum(a.padded for a in instruction.leaves if a.space == 1)
        loops.append(Loop(self._round(instruction), resident))
      else:
        outside.add(self._instruction(entry, instruction))
    return Program(outside, loops)

  def _computation(self, name: str) -> Traffic:
    if name not in self._done:
      total = Traffic()
      computation = self._module.computations[name]
      for instruction in computation.instructions.values():
        total.add(self._instruction(computation, instruction))
      self._done[name] = total
    return self._done[name]

  def _instruction(self, home: hlo.Computation, i: hlo.Instruction) -> Traffic:
    found = Traffic()
    if i.opcode in _FREE:
      return found
    kind = i.opcode.removesuffix('-start').removesuffix('-done')
    if i.opcode == 'while':
      rounds = self._rounds(home, i)
      found.add(self._round(i), rounds or 1)
      found.guessed += not rounds
      return found
    if i.opcode in ('call', 'async-start'):
      name = i.called('to_apply') or i.called('calls')
      if name:
        found.add(self._computation(name))
      return found
    if i.opcode == 'conditional':
      branches = _NAMED_BRANCHES.findall(i.attributes)
      listed = [n for part in branches for n in _NAME.findall(''.join(part))]
      costs = [self._computation(name) for name in listed]
      found.add(max(costs, key=lambda cost: cost.bytes))
      return found
    moved = self._moved(home, i, kind, found)
    if i.opcode.endswith('-done'):
      kind = ''
    if kind in collectives.KINDS:
      self._exchange(i, self._operands(home, i), kind, found)
    if moved:
      found.bytes += moved
      arrays = [*i.leaves, *self._operands(home, i)]
      widest = max(arrays, key=lambda a: a.bytes)
      array = f'{widest.dtype}[{",".join(str(d) for d in widest.dims)}]'
      found.rows[Row(i.op_name or i.name, i.opcode, array)] += moved
    return found

  def _moved(
    self, home: hlo.Computation, i: hlo.Instruction, kind: str, found: Traffic
  ) -> float:
    """Returns the bytes of an instruction; adds its products to `found`."""
    operands = self._operands(home, i)
    written = sum(leaf.bytes for leaf in i.leaves)
    if i.opcode == 'fusion':
      return self._fusion(i, operands, found)
    if i.opcode == 'custom-call':
      return self._custom_call(i, sum(a.bytes for a in operands), found)
    if i.opcode == 'copy-start':
      # Its results: where to, where from, and a signal.
      return sum(leaf.bytes for leaf in i.leaves[:2])
    if i.opcode == 'slice-start':
      # Where from as a whole, then what was cut.
      cut = i.leaves[len(operands)]
      return sum(_part(cut, a) for a in operands) + cut.bytes
    if kind in collectives.KINDS and kind != i.opcode:
      if i.opcode.endswith('-start'):
        return sum(a.bytes for a in operands)
      return written
    if i.opcode in _CUTS:
      return _part(i.leaves[0], operands[0]) + written
    if i.opcode in _PUTS:
      return 2 * sum(_updates(home, i)) if written else 0.0
    self._product(i, operands, found)
    return sum(a.bytes for a in operands) + written

  def _operands(self, home: hlo.Computation, i) -> list[hlo.Array]:
    return [
      leaf
      for name in i.operands
      if name in home.instructions
      for leaf in home.instructions[name].leaves
    ]

  def _fusion(self, i: hlo.Instruction, operands, found: Traffic) -> float:
    inside = self._module.computations[i.called('calls')]
    self._products(inside, found)
    goes_on = any(map(_goes_on, inside.instructions.values()))
    if goes_on and inside.root.opcode == 'custom-call':
      return self._starts(inside, found)
    total = 0.0
    for number, parameter in inside.parameters.items():
      if number < len(operands) and operands[number].bytes:
        share = self._share(inside, parameter)
        total += min(1.0, share) * operands[number].bytes
    written = self._written(inside, inside.root)
    for leaf, share in zip(i.leaves, written, strict=True):
      total += share * leaf.bytes
    return total

  def _starts(self, inside: hlo.Computation, found: Traffic) -> float:
    """Adds a collective, if this starts it; returns what it moves."""
    if inside.root.text('custom_call_target').strip('"') != _STARTS:
      return 0.0
    moved = 0.0
    for one in inside.instructions.values():
      if _goes_on(one):
        operands = self._operands(inside, one)
        self._exchange(one, operands, one.opcode, found)
        moved += sum(a.bytes for a in operands)
    # Where the results are says the root: what it takes, what is made, flags.
    return moved + sum(a.bytes for a in inside.root.leaves[1:])

  def _exchange(self, i, operands, kind: str, found: Traffic) -> None:
    """Adds what a collective sends."""
    group = collectives.group(i.attributes, self._devices)
    sizes = [leaf.padded for leaf in i.leaves]
    if kind == 'reduce-scatter':
      sizes = [a.padded for a in operands]
    started = i.opcode.endswith('-start') and kind != 'all-reduce'
    size = max(sizes) if started else sum(sizes)
    if len(group) > 1:
      found.exchanges[kind, size, group] += 1

  def _custom_call(self, i, read: float, found: Traffic) -> float:
    target = i.text('custom_call_target').strip('"')
    if target in _FREE_CALLS:
      return 0.0
    config = i.backend.get('custom_call_config', {})
    cost = config.get('cost_estimate', {})
    if 'bytes_accessed' in cost:
      found.flops += float(cost.get('flops', 0))
      return float(cost['bytes_accessed'])
    return read + sum(leaf.bytes for leaf in i.leaves)

  def _share(self, home: hlo.Computation, i: hlo.Instruction) -> float:
    """Returns which share of an instruction's elements a fusion asks for."""
    if i.root:
      return 1.0
    cut, whole = 0.0, 0.0
    for user in home.users[i.name]:
      first = user.operands[0] == i.name
      if user.opcode in _CUTS and first:
        cut += user.leaves[0].elements / max(1, i.leaves[0].elements)
      elif _goes_on(user) or (
        i.opcode == 'parameter' and user.root and user.opcode == 'tuple'
      ):
        # Passed on as it is.
        whole = max(whole, 0.0)
      elif user.opcode in _PUTS and first and _ends(home, user):
        # Updated in place: what stays is not read.
        whole = max(whole, 0.0)
      elif user.opcode == 'fusion':
        inside = self._module.computations[user.called('calls')]
        for number, name in enumerate(user.operands):
          if name == i.name:
            cut += self._share(inside, inside.parameters[number])
      elif user.opcode in _ELEMENTWISE:
        same = user.leaves[0].elements == i.leaves[0].elements
        whole = max(whole, self._share(home, user) if same else 1.0)
      else:
        whole = 1.0
    return min(1.0, cut + whole)

  def _written(self, home: hlo.Computation, i: hlo.Instruction) -> list[float]:
    """Returns which share of each result of a fusion is written."""
    while i.opcode in ('bitcast', 'reshape') and len(i.operands) == 1:
      i = home.instructions[i.operands[0]]
    if i.opcode == 'tuple':
      return [
        share
        for name in i.operands
        for share in self._written(home, home.instructions[name])
      ]
    if i.opcode in _PUTS:
      results = i.leaves
      return [
        update / max(1.0, leaf.padded)
        for update, leaf in zip(_updates(home, i), results, strict=True)
      ]
    if i.opcode == 'fusion':
      inside = self._module.computations[i.called('calls')]
      return self._written(inside, inside.root)
    if i.opcode == 'parameter' or _goes_on(i):
      # Passed on as it is.
      return [0.0] * len(i.leaves)
    return [1.0] * len(i.leaves)

  def _products(self, home: hlo.Computation, found: Traffic) -> None:
    """Adds the products inside a fusion."""
    for i in home.instructions.values():
      if i.opcode == 'fusion':
        inside = self._module.computations[i.called('calls')]
        self._products(inside, found)
      else:
        self._product(i, self._operands(home, i), found)

  def _product(self, i: hlo.Instruction, operands, found: Traffic) -> None:
    if i.opcode == 'dot':
      contracted = i.numbers('lhs_contracting_dims')
      width = math.prod(operands[0].dims[d] for d in contracted)
      flops = 2 * i.leaves[0].elements * width
    elif i.opcode == 'convolution':
      flops = _convolution(i, operands)
    else:
      return
    if all(a.dtype in _NARROW for a in operands[:2]):
      found.int8_flops += flops
    else:
      found.flops += flops

  def _round(self, i: hlo.Instruction) -> Traffic:
    total = Traffic()
    for key in ('body', 'condition'):
      total.add(self._computation(i.called(key)))
    return total

  def _rounds(self, home: hlo.Computation, i: hlo.Instruction) -> int | None:
    """Returns how often a loop runs; None where the text does not say."""
    known = re.search(r'known_trip_count[^\d}]*(\d+)', i.attributes)
    if known:
      return int(known.group(1))
    condition = self._module.computations[i.called('condition')]
    root, where = condition.root, condition
    names = list(root.operands)
    if root.opcode == 'fusion':
      where = self._module.computations[root.called('calls')]
      numbers = [where.instructions[n].number for n in where.root.operands]
      names = [root.operands[n] for n in numbers]
      root = where.root
    if root.opcode != 'compare' or root.text('direction') != 'LT':
      return None
    values = [self._loop_value(home, i, condition, name) for name in names]
    if len(values) != 2 or values[1] is None:
      return None
    # A scan counts from 0.
    count = max(0, values[1] - (values[0] or 0))
    return -(-count // self._stride(i, condition, names[0]))

  def _stride(self, loop, condition: hlo.Computation, name: str) -> int:
    """Returns by how much a loop's counter grows; 1 where it does not say."""
    counter = condition.instructions[name]
    body = self._module.computations[loop.called('body')]
    if counter.opcode != 'get-tuple-element' or body.root.opcode != 'tuple':
      return 1
    place = counter.numbers('index')[0]
    i = body.instructions[body.root.operands[place]]
    while i.opcode in ('copy', 'bitcast', 'copy-done', 'copy-start'):
      i = body.instructions[i.operands[0]]
    if i.opcode != 'add':
      return 1
    for operand in i.operands:
      other = body.instructions[operand]
      if other.opcode == 'constant' and other.attributes.isdecimal():
        return max(1, int(other.attributes))
    return 1

  def _loop_value(self, home, loop, condition, name: str) -> int | None:
    """Returns the integer that an operand of a loop's condition starts as."""
    i = condition.instructions[name]
    if i.opcode == 'get-tuple-element':
      start = home.instructions.get(loop.operands[0])
      if start is None or start.opcode != 'tuple':
        return None
      i = home.instructions[start.operands[i.numbers('index')[0]]]
      while i.opcode in ('copy', 'bitcast', 'convert', 'copy-done'):
        i = home.instructions[i.operands[0]]
    if i.opcode == 'constant' and i.attributes.lstrip('-').isdecimal():
      return int(i.attributes)
    return None


_NAME = re.compile(r'%([\w.\-]+)')
_NAMED_BRANCHES = re.compile(
  r'branch_computations=\{([^}]*)\}|'
  r'(?:true|false)_computation=(%[\w.\-]+)'
)


def _goes_on(i: hlo.Instruction) -> bool:
  """Returns whether this is a collective that goes on beside other work."""
  return i.opcode in collectives.KINDS and _PARTS in i.attributes


def _part(piece: hlo.Array, whole: hlo.Array) -> float:
  """Returns the bytes of HBM that a piece of a buffer takes."""
  return whole.bytes * min(1.0, piece.elements / max(1, whole.elements))


def _updates(home: hlo.Computation, i: hlo.Instruction) -> Iterable[float]:
  """Returns the bytes that an update in place writes, of each result."""
  if i.opcode == 'dynamic-update-slice':
    places = [i.operands[1]]
  else:
    # Operands, places, updates.
    places = list(i.operands[len(i.operands) // 2 + 1 :])
  found = []
  for name, leaf in zip(places, i.leaves, strict=True):
    update = home.instructions[name].leaves[0]
    share = update.elements / max(1, leaf.elements)
    found.append(leaf.padded * min(1.0, share))
  return found


def _ends(home: hlo.Computation, i: hlo.Instruction) -> bool:
  """Returns whether an instruction is a result of its computation."""
  if i.root:
    return True
  users = home.users[i.name]
  return bool(users) and all(
    user.opcode in ('bitcast', 'reshape', 'tuple') and _ends(home, user)
    for user in users
  )


def _convolution(i: hlo.Instruction, operands) -> float:
  """Returns the FLOPs of a product written as a convolution.

  Only places of the window that fall on an element count: the compiler writes
  batched products as convolutions over padded and dilated inputs.
  """
  lhs, rhs, out = i.text('dim_labels').replace('->', '_').split('_')
  window = re.search(r'window=\{([^}]*)\}', i.attributes)
  fields = dict(
    part.split('=', 1) for part in (window.group(1) if window else '').split()
  )

  def of(key: str, d: int, default: int) -> int:
    # Of `pad=1_1x0_0` what comes before the input.
    return (
      int(fields[key].split('x')[d].split('_')[0])
      if key in fields
      else (default)
    )

  result = i.leaves[0].dims
  flops = 2.0 * operands[1].dims[rhs.index('i')]
  flops *= result[out.index('b')] * result[out.index('f')]
  for d in range(len(lhs) - 2):
    flops *= _valid(
      operands[0].dims[lhs.index(str(d))],
      of('size', d, 1),
      result[out.index(str(d))],
      of('stride', d, 1),
      of('pad', d, 0),
      of('lhs_dilate', d, 1),
      of('rhs_dilate', d, 1),
    )
  return flops


@functools.cache
def _valid(
  size: int,
  window: int,
  places: int,
  stride: int,
  low: int,
  lhs_dilate: int,
  rhs_dilate: int,
) -> int:
  """Returns how many pairs of a window's place and an output's have input."""
  end = (size - 1) * lhs_dilate + 1
  starts = stride * np.arange(places) - low
  found = 0
  for k in range(window):
    at = starts + k * rhs_dilate
    found += np.count_nonzero((at >= 0) & (at < end) & (at % lhs_dilate == 0))
  return int(found)
