"""The cache of the slots against a plain list of what each has seen."""

import jax.numpy as jnp
import numpy as np
import pytest

from wcse_jax.models import cache as caches
from wcse_jax.models import config


def _layer(kind='global'):
  return config.Layer(
    kind=kind,
    head_dim=2,
    num_kv_heads=1,
    d_ff=4,
    shares_kv=False,
    keys_as_values=False,
  )


def _empty(count, repeats, keys_last, rows=3):
  return caches.empty(
    _layer(),
    repeats,
    rows=rows,
    count=count,
    dtype=jnp.float32,
    mesh=None,
    keys_last=keys_last,
  )


def _at(part, slot, index, keys_last):
  """Returns (k, v) of a slot, each [places, width], as written by `_token`."""
  k, v = (part[name] if index is None else part[name][index] for name in 'kv')
  k = k[slot, 0].T if keys_last else k[slot, 0]
  return np.asarray(k), np.asarray(v[slot, 0])


def _token(number):
  """Returns the (k, v) of a token that is known by its number."""
  return [number, number + 0.25], [-number, -number - 0.25]


@pytest.mark.parametrize('keys_last', [False, True])
@pytest.mark.parametrize('repeats', [1, 2])
@pytest.mark.parametrize('count', [4, 9])
def test_slots_hold_the_last_tokens(count, repeats, keys_last):
  part = _empty(count, repeats, keys_last)
  index = None if repeats == 1 else jnp.int32(1)
  lengths, padded = [6, 0, 3], 8
  numbers = 100 * np.arange(1, 4)[:, None] + np.arange(padded)[None]
  k, v = (
    np.array([[_token(n)[side] for n in row] for row in numbers], np.float32)
    for side in (0, 1)
  )
  fresh = {'k': k[:, None], 'v': v[:, None]}
  if repeats > 1:
    other = np.full_like(fresh['k'], 7)
    fresh = {n: np.stack([other, whole]) for n, whole in fresh.items()}
  # Row i goes to slot 2 - i; the fourth goes nowhere.
  (((part,),),) = (
    caches.insert(
      [[part]],
      [[{n: jnp.asarray(whole) for n, whole in fresh.items()}]],
      jnp.array([2, 1, 0, 3]),
      jnp.array([0, 1, 2, 1]),
      jnp.array([*lengths, 5]),
      keys_last=keys_last,
    ),
  )
  seen = {2: list(numbers[0][:6]), 1: [], 0: list(numbers[2][:3])}
  own = np.array([3, 0, 6])
  for step in range(2 * count):
    new = [1000 * (slot + 1) + step for slot in range(3)]
    k_BKH, v_BKH = (
      jnp.array([[_token(n)[side]] for n in new], jnp.float32)
      for side in (0, 1)
    )
    part = caches.write(
      part, k_BKH, v_BKH, jnp.asarray(own), index, keys_last=keys_last
    )
    mask_BS = np.asarray(caches.visible(jnp.asarray(own), count))
    for slot in range(3):
      seen[slot].append(new[slot])
      got_k, got_v = _at(part, slot, index, keys_last)
      want = seen[slot][-count:]
      found = [(list(a), list(b)) for a, b in zip(got_k, got_v)]
      shown = [one for one, on in zip(found, mask_BS[slot]) if on]
      assert sorted(shown) == sorted(_token(n) for n in want)
    own = own + 1


def test_places_and_sight_of_a_window():
  local, whole = _layer('local'), _layer()
  assert caches.places(local, 32, 100) == 32
  assert caches.places(local, 32, 20) == 20
  assert caches.places(local, None, 100) == 100
  assert caches.places(whole, 32, 100) == 100
  # The first token behind the prefix sees itself and 31 others.
  assert caches.seen(local, 32, 100) == 31
  assert caches.seen(local, 32, 20) == 20
  assert caches.seen(whole, 32, 100) == 100
