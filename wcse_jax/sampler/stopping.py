"""Stop strings: where a sample's text ends."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from wcse_jax import tokenizer as tokenizers


# Ids that are decoded at a time.
_BLOCK = 1 << 15


class Stops:
  """The stop strings of a run."""

  def __init__(self, tokenizer: tokenizers.Tokenizer, stop: Sequence[str]):
    self._tokenizer = tokenizer
    self._stop = tuple(stop)

  def find(
    self, ids: Sequence[int], text: str | None = None
  ) -> tuple[int, str] | None:
    """Returns (tokens that complete the first stop string, text before it).

    Token by token, so that it does not matter when it is asked: tokens further
    on can complete a stop string that begins earlier, and bytes of a character
    that is not whole (U+FFFD) hide what stands before them.

    Args:
      ids: the tokens drawn.
      text: their text, if it is known.
    """
    if not self._stop:
      return None
    if text is None:
      (text,) = self._tokenizer.decode_all([ids])
    if not any(s in text for s in (*self._stop, '\ufffd')):
      return None
    begun = [ids[:count] for count in range(1, len(ids) + 1)]
    for count, text in enumerate(self._tokenizer.decode_all(begun), 1):
      found = [text.find(s) for s in self._stop if s in text]
      if found:
        return count, text[: min(found)]
    return None

  def pauses(self, vocab_size: int) -> jax.Array | None:
    """Returns pauses_V: tokens that may complete a stop string.

    Those whose text has the last character of one, or is no whole character.
    It only says when to look: `find` decides.  None without stop strings.
    """
    if not self._stop:
      return None
    last = {stop[-1] for stop in self._stop}
    found = np.zeros(vocab_size, bool)
    # Behind another token, as the first of a text may lose its blank.
    before = self._tokenizer.encode('a')
    (begin,) = self._tokenizer.decode_all([before])
    for first in range(0, vocab_size, _BLOCK):
      ids = range(first, min(first + _BLOCK, vocab_size))
      texts = self._tokenizer.decode_all([[*before, i] for i in ids])
      found[ids.start : ids.stop] = [
        '\ufffd' in text or not last.isdisjoint(text[len(begin) :])
        for text in texts
      ]
    return jnp.asarray(found)
