"""The attention kernel of training, interpreted, against the plain one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wcse_jax import checkpoints, errors, sharding
from wcse_jax.kernels import train
from wcse_jax.models import attention


_B, _T, _K, _G, _H = 2, 256, 2, 2, 128


@pytest.fixture(scope='module')
def given():
  keys = jax.random.split(jax.random.key(0), 4)
  segments_BT = jnp.sort(jax.random.randint(keys[3], (_B, _T), 0, 5), axis=1)
  return (
    jax.random.normal(keys[0], (_B, _T, _K, _G, _H)) * _H**-0.5,
    jax.random.normal(keys[1], (_B, _T, _K, _H)),
    jax.random.normal(keys[2], (_B, _T, _K, _H)),
    segments_BT,
  )


def _plain(q_BTKGH, k_BTKH, v_BTKH, segments_BT, window, softcap):
  places_1T = jnp.arange(_T)[None]
  segments = None if segments_BT is None else (segments_BT, segments_BT)
  mask_BTS = attention.mask(
    places_1T, places_1T, window=window, segments=segments
  )
  source = attention.Source(
    k_BTKH, jnp.transpose(v_BTKH, (0, 2, 3, 1)), mask_BTS
  )
  return attention.attend(q_BTKGH, [source], softcap=softcap)


@pytest.mark.parametrize(
  ('window', 'softcap', 'packed'),
  [
    (None, None, False),
    (100, None, True),
    (None, 5.0, True),
    (100, 5.0, False),
  ],
)
def test_the_kernel_gives_what_the_plain_attention_gives(
  given, window, softcap, packed
):
  q, k, v, segments_BT = given
  segments_BT = segments_BT if packed else None
  mesh = sharding.make_mesh('', jax.devices()[:1])
  kernel = functools.partial(
    train.attend,
    segments_BT=segments_BT,
    window=window,
    softcap=softcap,
    mesh=mesh,
    name='splash',
    interpret=True,
  )

  def plain(q, k, v):
    return _plain(q, k, v, segments_BT, window, softcap)

  weights = jnp.cos(jnp.arange(q.size, dtype=jnp.float32)).reshape(q.shape)
  found = []
  for run in (kernel, plain):
    out, back = jax.vjp(jax.jit(run), q, k, v)
    found.append((out, *back(weights)))
  for got, want in zip(*found, strict=True):
    assert np.abs(want).max() > 0.1
    np.testing.assert_allclose(got, want, atol=5e-5)


def test_the_kernel_is_split_over_a_mesh(given):
  q, k, v, segments_BT = given
  found = []
  for devices, text in ((1, ''), (4, 'fsdp=2,tensor=2')):
    mesh = sharding.make_mesh(text, jax.devices()[:devices])
    run = jax.jit(
      functools.partial(
        train.attend,
        window=None,
        softcap=None,
        mesh=mesh,
        name='splash',
        interpret=True,
      )
    )
    found.append(np.asarray(run(q, k, v, segments_BT=segments_BT)))
  np.testing.assert_allclose(found[1], found[0], atol=1e-6)


def test_it_is_chosen_where_it_fits():
  mesh = sharding.make_mesh('', jax.devices()[:1])
  assert train.chosen('', mesh, 512, {256}) == ''
  assert train.chosen('plain', mesh, 512, {256}) == ''
  with pytest.raises(errors.InputError, match='splash wants a TPU; got a CPU'):
    train.chosen('splash', mesh, 512, {256})
  for length, width in ((500, 256), (512, 80)):
    with pytest.raises(errors.InputError, match='attention: splash wants a le'):
      train.chosen('splash', mesh, length, {width})


@pytest.mark.parametrize(
  ('length', 'window', 'blocks'),
  [
    (512, None, 1),
    (2048, None, 10),
    (2048, 512, 7),
    # One token further back is one block more.
    (2048, 513, 7),
    (2048, 514, 9),
    (384, None, 6),
  ],
)
def test_pairs_are_those_of_blocks_in_sight(length, window, blocks):
  size = train.block(length)
  assert train.pairs(length, window) == blocks * size * size
  seen = 0
  for first in range(0, length, size):
    for other in range(0, first + 1, size):
      nearest = first - (other + size - 1)
      seen += window is None or nearest < window
  assert seen == blocks


def test_shared_keys_and_values_go_through_a_scan(goldens, monkeypatch):
  """As Gemma 4 E2B is trained on TPU."""
  model, _ = checkpoints.load(str(goldens['gemma4_e'].folder), scan=True)

  def attend(*given, segments_BT, name, **rest):
    # The kernel's operands, worked on without it.
    q_BTKGH, k_BTKH, v_BTKH = given
    assert k_BTKH.shape == v_BTKH.shape
    places_1T = jnp.arange(k_BTKH.shape[1])[None]
    mask_BTS = attention.mask(places_1T, places_1T, window=rest['window'])
    source = attention.Source(
      k_BTKH, jnp.transpose(v_BTKH, (0, 2, 3, 1)), mask_BTS
    )
    return attention.attend(q_BTKGH, [source], softcap=rest['softcap'])

  monkeypatch.setattr(train, 'attend', attend)
  tokens_BT = jnp.arange(80).reshape(2, 40) % 60 + 3
  found, want = (
    np.asarray(jax.jit(lambda t, a=a: model.hidden(t, attention=a))(tokens_BT))
    for a in ('splash', '')
  )
  np.testing.assert_allclose(found, want, atol=1e-4)
