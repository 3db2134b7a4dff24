"""Stop strings, and the tokens behind which they are looked for."""

import itertools
import random

import numpy as np
import pytest

from wcse_jax import checkpoints
from wcse_jax.sampler import stopping


@pytest.fixture(scope='module')
def tokenizer():
  return checkpoints.load('tiny-wc')[1]


class _Bytes:
  """A tokenizer whose tokens are the bytes of UTF-8, and some pairs."""

  _PAIRS = (b'\n\n', b'Q:', b'.\n', b' a', b'a ')

  def _piece(self, i):
    return bytes([i]) if i < 256 else self._PAIRS[i - 256]

  def decode_all(self, rows):
    whole = (b''.join(map(self._piece, row)) for row in rows)
    return [text.decode('utf-8', 'replace') for text in whole]

  def encode(self, text):
    return list(text.encode())


def test_the_first_stop_string_ends_the_text(tokenizer):
  stops = stopping.Stops(tokenizer, ('\nQ', ' The'))
  ids = tokenizer.encode('12 + 3 = 15. The answer is 15.')
  count, text = stops.find(ids)
  assert text == '12 + 3 = 15.'
  assert tokenizer.decode_all([ids[:count]])[0].endswith(' The')
  assert stops.find(tokenizer.encode('12 + 3 = 15.')) is None
  assert stopping.Stops(tokenizer, ()).find(ids) is None
  assert stopping.Stops(tokenizer, ()).pauses(100) is None


@pytest.mark.parametrize(
  'stop', ['\nQ:', '\n\n', 'a', ' ', 'é', '.\n\n', '\nÄ.']
)
def test_no_stop_string_is_completed_without_a_pause(stop):
  stops = stopping.Stops(_Bytes(), (stop,))
  pauses_V = np.asarray(stops.pauses(261))
  assert not pauses_V.all()
  rng = random.Random(stop)
  likely = [*stop.encode(), *b'ab \n.', *range(256, 261), 0xC3]
  seen = 0
  for _ in range(2000):
    ids = rng.choices(likely, k=12)
    if rng.random() < 0.5:
      at = rng.randrange(12)
      ids[at:at] = stop.encode()
    found = stops.find(ids)
    if found is not None:
      seen += 1
      assert pauses_V[ids[found[0] - 1]]
  assert seen > 100


def test_a_pause_is_rare_where_the_last_character_is(tokenizer):
  size = 100
  pauses_V = np.asarray(stopping.Stops(tokenizer, ('\nQ:',)).pauses(size))
  texts = tokenizer.decode_all([[i] for i in range(size)])
  want = [':' in text or '\ufffd' in text for text in texts]
  assert pauses_V.tolist() == want


def test_blocks_of_ids_are_joined(monkeypatch):
  stops = stopping.Stops(_Bytes(), (':',))
  want = np.asarray(stops.pauses(261))
  monkeypatch.setattr(stopping, '_BLOCK', 50)
  assert np.asarray(stops.pauses(261)).tolist() == want.tolist()
  assert sorted(itertools.compress(range(261), want)) == [
    58, *range(128, 256), 257,
  ]  # fmt: skip
