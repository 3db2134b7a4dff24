"""Plain data as bytes, for talk with programs that nobody has read.

Reading builds values of exactly the standard library's types from a fixed set,
whatever the bytes are; there is nothing in it that could run code, and what an
object says about itself (`__eq__`, `__class__`, `__reduce__`) never crosses.
Lists, dicts, sets and byte arrays keep their identity through one call and its
reply, so that changes in place are seen.

This file runs inside sandboxes as well: it imports the standard library alone.
"""

import struct


# Bytes of one message, and how deep values may nest.
MAX_BYTES = 4 << 20
MAX_DEPTH = 200


class NotPlain(Exception):
  """A value that is not plain data cannot be sent."""


class Malformed(Exception):
  """Bytes that are no message."""


class Handle:
  """A value that stays in the other process, by its number there.

  Attributes:
    number: its number.
    iterator: whether it yields values.
  """

  __slots__ = ('iterator', 'number')

  def __init__(self, number: int, iterator: bool):
    self.number = number
    self.iterator = iterator


_TYPES = {
  kind.__name__: kind
  for kind in (
    *(bool, bytearray, bytes, complex, dict, float, frozenset, int, list),
    *(object, range, set, slice, str, tuple, type, type(None)),
  )
}
_AS_DICTS = (
  *('builtins.dict_items', 'collections.Counter', 'collections.OrderedDict'),
)
_MUTABLE = (list, dict, set, bytearray)
# Subclasses go as what they are based on; the order matters to none of them.
_BASES = (
  *(int, float, complex, str, bytes, tuple, frozenset),
  *_MUTABLE,
)


def dump(value, objects: list, keep=None) -> bytes:
  """Returns `value` as bytes.

  Args:
    value: what is sent.
    objects: the mutable objects of this call by number; new ones are appended.
    keep: object -> Handle, for what is not plain; None: it cannot be sent.

  Raises:
    NotPlain: if a value is not plain, nests too deep or is too large.
  """
  return _Writer(objects, keep).dump(value)


def load(data: bytes, objects: list, meet=None):
  """Returns the value of `data`.

  Args:
    data: what `dump` returned, or anything at all.
    objects: the mutable objects of this call by number, changed in place to
      what the message says; new ones are appended.
    meet: Handle -> what stands for it; None: handles are malformed.

  Raises:
    Malformed: if the bytes are no message.
  """
  reader = _Reader(data, objects, meet)
  try:
    value = reader.load(0)
  except Malformed:
    raise
  except Exception as error:
    # Unhashable keys, values out of range, a Decimal that is none, ...
    raise Malformed(f'{type(error).__name__}: {str(error)[:200]}') from None
  if reader.at != len(data):
    raise Malformed(f'{len(data) - reader.at} bytes too many')
  return value


class _Writer:
  def __init__(self, objects, keep):
    self.out = bytearray()
    self.objects = objects
    self.numbers = {id(one): number for number, one in enumerate(objects)}
    self.defined = set()
    self.keep = keep

  def dump(self, value) -> bytes:
    self.write(value, 0)
    return bytes(self.out)

  def count(self, tag: bytes, count: int) -> None:
    self.out += tag
    self.out += struct.pack('<I', count)

  def blob(self, tag: bytes, data: bytes) -> None:
    if len(self.out) + len(data) > MAX_BYTES:
      raise NotPlain(f'more than {MAX_BYTES} bytes')
    self.count(tag, len(data))
    self.out += data

  def items(self, tag: bytes, items, depth: int) -> None:
    items = list(items)
    self.count(tag, len(items))
    for item in items:
      self.write(item, depth)

  def write(self, value, depth: int) -> None:
    if len(self.out) > MAX_BYTES:
      raise NotPlain(f'more than {MAX_BYTES} bytes')
    if depth > MAX_DEPTH:
      raise NotPlain(f'nested deeper than {MAX_DEPTH}')
    kind = type(value)
    if value is None:
      self.out += b'N'
    elif kind is bool:
      self.out += b'T' if value else b'F'
    elif value is Ellipsis:
      self.out += b'.'
    elif kind in _BASES:
      self.plain(kind, value, depth + 1)
    elif kind is range:
      self.out += b'r'
      for part in (value.start, value.stop, value.step):
        self.write(part, depth + 1)
    elif kind is slice:
      self.out += b'/'
      for part in (value.start, value.stop, value.step):
        self.write(part, depth + 1)
    elif kind is type and _TYPES.get(value.__name__) is value:
      self.blob(b'y', value.__name__.encode())
    elif not self.library(kind, value, depth + 1):
      self.other(kind, value, depth + 1)

  def plain(self, kind, value, depth: int) -> None:
    if kind is int:
      size = value.bit_length() // 8 + 1
      if size > MAX_BYTES:
        raise NotPlain(f'more than {MAX_BYTES} bytes')
      self.blob(b'i', value.to_bytes(size, 'little', signed=True))
    elif kind is float:
      self.out += b'd' + struct.pack('<d', value)
    elif kind is complex:
      self.out += b'c' + struct.pack('<dd', value.real, value.imag)
    elif kind is str:
      self.blob(b's', value.encode('utf-8', 'surrogatepass'))
    elif kind is bytes:
      self.blob(b'b', value)
    elif kind is tuple:
      self.items(b't', value, depth)
    elif kind is frozenset:
      self.items(b'z', value, depth)
    else:
      self.mutable(kind, value, depth)

  def mutable(self, kind, value, depth: int) -> None:
    number = self.numbers.get(id(value))
    if number is None:
      number = self.numbers[id(value)] = len(self.objects)
      self.objects.append(value)
    if number in self.defined:
      self.count(b'p', number)
      return
    self.defined.add(number)
    self.count(
      {list: b'l', dict: b'm', set: b'e', bytearray: b'B'}[kind], number
    )
    if kind is bytearray:
      self.blob(b'b', bytes(value))
    elif kind is dict:
      self.items(b'', (part for row in value.items() for part in row), depth)
    else:
      self.items(b'', value, depth)

  def library(self, kind, value, depth: int) -> bool:
    """Writes what of the standard library is plain; returns whether it was."""
    # By name: importing them for every program would take longer than it runs.
    name = f'{kind.__module__}.{kind.__qualname__}'
    if name in ('builtins.dict_keys', 'builtins.dict_values'):
      parts = list(value)
    elif name in _AS_DICTS:
      parts = dict(value)
    elif name == 'collections.defaultdict':
      factory = value.default_factory
      known = isinstance(factory, type) and _TYPES.get(factory.__name__)
      parts = (factory if known is factory else None, dict(value))
    elif name == 'collections.deque':
      parts = (list(value), value.maxlen)
    elif name == 'decimal.Decimal':
      parts = str(value)
    elif name == 'fractions.Fraction':
      parts = (value.numerator, value.denominator)
    elif name == 'datetime.timedelta':
      parts = (value.days, value.seconds, value.microseconds)
    elif name in ('datetime.date', 'datetime.time', 'datetime.datetime'):
      if getattr(value, 'tzinfo', None) is not None:
        return False
      parts = value.isoformat()
    else:
      return False
    self.blob(b'x', name.encode())
    self.write(parts, depth)
    return True

  def other(self, kind, value, depth: int) -> None:
    for base in _BASES:
      if issubclass(kind, base):
        break
    else:
      if self.keep is None:
        raise NotPlain(f'a value of type {kind.__name__} is not plain data')
      handle = self.keep(value)
      self.count(b'g' if handle.iterator else b'o', handle.number)
      return
    # A new object of the base type: what a subclass overrides is not asked.
    if base in (int, float, complex):
      self.plain(base, base.__pos__(value), depth)
    elif base is str:
      self.plain(str, str.__str__(value), depth)
    elif base is bytes:
      self.plain(bytes, bytes.__getitem__(value, slice(None)), depth)
    elif base is dict:
      self.plain(dict, dict(dict.items(value)), depth)
    else:
      self.plain(base, base(base.__iter__(value)), depth)


class _Reader:
  def __init__(self, data, objects, meet):
    self.data = data
    self.at = 0
    self.objects = objects
    self.defined = set()
    self.meet = meet

  def take(self, count: int) -> bytes:
    part = self.data[self.at : self.at + count]
    if len(part) != count:
      raise Malformed('the message ends too early')
    self.at += count
    return part

  def count(self) -> int:
    return struct.unpack('<I', self.take(4))[0]

  def items(self, depth: int) -> list:
    count = self.count()
    if count > len(self.data) - self.at:
      raise Malformed('the message ends too early')
    return [self.load(depth) for _ in range(count)]

  def load(self, depth: int):
    if depth > MAX_DEPTH + 2:
      raise Malformed(f'nested deeper than {MAX_DEPTH}')
    depth += 1
    match self.take(1):
      case b'N':
        return None
      case b'T':
        return True
      case b'F':
        return False
      case b'.':
        return Ellipsis
      case b'i':
        return int.from_bytes(self.take(self.count()), 'little', signed=True)
      case b'd':
        return struct.unpack('<d', self.take(8))[0]
      case b'c':
        return complex(*struct.unpack('<dd', self.take(16)))
      case b's':
        return self.take(self.count()).decode('utf-8', 'surrogatepass')
      case b'b':
        return bytes(self.take(self.count()))
      case b't':
        return tuple(self.items(depth))
      case b'z':
        return frozenset(self.items(depth))
      case b'r':
        return range(*(self.load(depth) for _ in range(3)))
      case b'/':
        return slice(*(self.load(depth) for _ in range(3)))
      case b'y':
        return _TYPES[self.take(self.count()).decode()]
      case b'l':
        return self.mutable(list, depth)
      case b'm':
        return self.mutable(dict, depth)
      case b'e':
        return self.mutable(set, depth)
      case b'B':
        return self.mutable(bytearray, depth)
      case b'p':
        number = self.count()
        if number not in self.defined:
          raise Malformed(f'object {number} is not defined')
        return self.objects[number]
      case b'x':
        name = self.take(self.count()).decode()
        return _build(name, self.load(depth))
      case b'o' | b'g' as tag if self.meet is not None:
        return self.meet(Handle(self.count(), tag == b'g'))
      case tag:
        raise Malformed(f'unknown tag {tag!r}')

  def mutable(self, kind, depth: int):
    number = self.count()
    if number == len(self.objects):
      self.objects.append(kind())
    if number > len(self.objects) or number in self.defined:
      raise Malformed(f'object {number} comes out of turn')
    found = self.objects[number]
    if type(found) is not kind:
      raise Malformed(f'object {number} is not a {kind.__name__}')
    self.defined.add(number)
    if kind is bytearray:
      value = self.load(depth)
      if type(value) is not bytes:
        raise Malformed('a byte array without bytes')
      found[:] = value
      return found
    items = self.items(depth)
    if kind is list:
      found[:] = items
    elif kind is set:
      found.clear()
      found.update(items)
    else:
      if len(items) % 2:
        raise Malformed('a key without a value')
      found.clear()
      found.update(zip(items[::2], items[1::2], strict=True))
    return found


def _build(name: str, parts):
  """Returns a value of the standard library from its plain parts."""
  import collections
  import datetime
  import decimal
  import fractions

  match name, parts:
    case 'builtins.dict_keys', list():
      return dict.fromkeys(parts).keys()
    case 'builtins.dict_values', list():
      return dict(enumerate(parts)).values()
    case 'builtins.dict_items', dict():
      return parts.items()
    case 'collections.Counter', dict():
      return collections.Counter(parts)
    case 'collections.OrderedDict', dict():
      return collections.OrderedDict(parts)
    case 'collections.defaultdict', (factory, dict() as values):
      return collections.defaultdict(factory, values)
    case 'collections.deque', (list() as values, most):
      return collections.deque(values, most)
    case 'decimal.Decimal', str():
      return decimal.Decimal(parts)
    case 'fractions.Fraction', (int() as above, int() as below):
      return fractions.Fraction(above, below)
    case 'datetime.timedelta', (int() as days, int() as s, int() as us):
      return datetime.timedelta(days, s, us)
    case 'datetime.date', str():
      return datetime.date.fromisoformat(parts)
    case 'datetime.time', str():
      return datetime.time.fromisoformat(parts)
    case 'datetime.datetime', str():
      return datetime.datetime.fromisoformat(parts)
  raise Malformed(f'no {name[:60]!r} of such parts')
