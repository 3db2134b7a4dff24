import collections
import datetime
import decimal
import enum
import fractions
import math
import random

import pytest

from wcse_jax.grading import plain


_VALUES = [
  None, True, False, ..., 0, -1, 255, -256, 10**400, -(10**400), 0.5, -0.0,
  float('inf'), 1 + 2j, '', 'é\ud800\x00', b'\x00', bytearray(b'ab'), [], [[1]],
  (), (1, (2,)), {}, {'a': [1], 2: None}, set(), {1, 'a'}, frozenset({(1,)}),
  range(1, 9, 2), slice(1, None), int, type(None),
  collections.Counter('aab'), collections.OrderedDict(b=1, a=2),
  collections.defaultdict(list, {1: [2]}), collections.deque([1, 2], 5),
  decimal.Decimal('1.50'), fractions.Fraction(1, 3),
  datetime.date(2020, 2, 29), datetime.time(1, 2, 3),
  datetime.datetime(2020, 2, 29, 1, 2, 3, 4), datetime.timedelta(1, 2, 3),
]  # fmt: skip


def _both(value):
  return plain.load(plain.dump(value, []), [])


@pytest.mark.parametrize('value', _VALUES, ids=repr)
def test_plain_values_cross_as_they_are(value):
  found = _both(value)
  assert found == value
  assert type(found) is type(value)
  assert repr(found) == repr(value)


def test_views_and_nan_cross():
  assert math.isnan(_both(float('nan')))
  assert _both({1: 2}.keys()) == {1: 2}.keys()
  assert _both({1: 2}.items()) == {1: 2}.items()
  assert list(_both({1: 2}.values())) == [2]


def _liar(base):
  return type(
    'Liar',
    (base,),
    {
      '__eq__': lambda *_: True,
      '__hash__': lambda _: 0,
      '__iter__': lambda _: iter([9]),
      '__str__': lambda _: '9',
      '__int__': lambda _: 9,
      '__pos__': lambda _: 9,
      'items': lambda _: [(9, 9)],
      '__class__': property(lambda _: base),
    },
  )


@pytest.mark.parametrize(
  'value',
  [7, 2.5, 1j, 'ab', b'ab', (1,), frozenset({1}), [1], {1: 2}, {1}],
  ids=repr,
)
def test_a_subclass_crosses_as_what_it_is_based_on(value):
  found = _both(_liar(type(value))(value))
  assert type(found) is type(value)
  assert found == value


def test_enums_and_named_tuples_lose_their_names():
  assert type(_both(enum.IntEnum('E', 'A').A)) is int
  pair = collections.namedtuple('Pair', 'a b')(1, 2)
  assert type(_both(pair)) is tuple


@pytest.mark.parametrize(
  'value', [object(), lambda: 0, len, iter([]), ValueError(), math], ids=repr
)
def test_what_is_not_plain_is_kept_or_refused(value):
  with pytest.raises(plain.NotPlain):
    plain.dump([value], [])
  data = plain.dump([value], [], lambda _: plain.Handle(5, False))
  (found,) = plain.load(data, [], lambda handle: handle)
  assert (found.number, found.iterator) == (5, False)
  with pytest.raises(plain.Malformed):
    plain.load(data, [])


def test_identity_holds_within_a_message():
  one = [1]
  one.append(one)
  found = _both((one, one, {'a': one}))
  assert found[0] is found[1] is found[2]['a'] is found[0][1]


def test_changes_come_back_into_the_same_objects():
  sent = {'a': [1], 'b': {2}, 'c': {3: 4}, 'd': bytearray(b'x')}
  here: list = []
  data = plain.dump(sent, here)
  there: list = []
  got = plain.load(data, there)
  got['a'].append(got['a'])
  got['b'].add(5)
  del got['c'][3]
  got['d'] += b'y'
  a, b, c, d = sent.values()
  back = plain.load(plain.dump(list(there), there), here)
  assert back[0] is sent
  assert a[0] == 1
  assert a[1] is a
  assert (b, c, d) == ({2, 5}, {}, b'xy')


@pytest.mark.parametrize('make', ['deep', 'large', 'wide', 'shared', 'integer'])
def test_too_much_is_refused(make):
  value: object = ()
  if make == 'deep':
    for _ in range(300):
      value = [value]
  elif make == 'large':
    value = 'x' * (plain.MAX_BYTES + 1)
  elif make == 'wide':
    value = [None] * (plain.MAX_BYTES + 9)
  elif make == 'shared':
    for _ in range(100):
      value = (value, value)
  else:
    value = 1 << (8 * plain.MAX_BYTES + 9)
  with pytest.raises(plain.NotPlain):
    plain.dump(value, [])


@pytest.mark.parametrize(
  'data',
  [
    b'', b'?', b'i', b's\xff\xff\xff\xff', b'l\0\0\0\0\xff\xff\xff\xff',
    b'p\0\0\0\0', b'l\x05\0\0\0\0\0\0\0', b'NN', b'o\0\0\0\0',
    b'y\x04\0\0\0eval', b'x\x02\0\0\0osN', b's\x01\0\0\0\xff',
    b'e\0\0\0\0\x01\0\0\0l\x01\0\0\0\0\0\0\0', b't\x01\0\0\0' * 400 + b'N',
    b'x\x0f\0\0\0decimal.Decimals\x01\0\0\0x',
  ],
  ids=repr,
)  # fmt: skip
def test_malformed_bytes_are_named_so(data):
  with pytest.raises(plain.Malformed):
    plain.load(data, [])


def test_an_object_of_another_kind_is_not_taken():
  with pytest.raises(plain.Malformed, match='object 0 is not a list'):
    plain.load(plain.dump([], []), [{}])


def _exact(value, depth=0):
  kinds = {type(one) for one in _VALUES} | {type, plain.Handle}
  kinds |= {type({}.keys()), type({}.values()), type({}.items())}
  assert type(value) in kinds, type(value)
  if type(value) in (list, tuple, set) and depth < 50:
    for one in value:
      _exact(one, depth + 1)


def test_whatever_comes_is_plain_or_malformed():
  rng = random.Random(0)
  data = plain.dump(
    [v for v in _VALUES if v != 10**400 and v != -(10**400)], []
  )
  good = 0
  for _ in range(3000):
    torn = bytearray(data)
    for _ in range(rng.randint(1, 4)):
      torn[rng.randrange(len(torn))] = rng.choice(
        (rng.randrange(256), *b'NTF.idcsbtzr/ylmeBpxog')
      )
    try:
      value = plain.load(bytes(torn), [], lambda handle: handle)
    except plain.Malformed:
      continue
    good += 1
    _exact(value)
  assert 100 < good < 2900
