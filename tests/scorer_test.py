"""Padded lengths, chunks of the output head, and the memory they take."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from wcse_jax import errors, scorer, sharding
from wcse_jax.models import transformer


def _model(loaded, mesh=None, **changes):
  """Returns an untrained model like the loaded one."""
  config = dataclasses.replace(loaded[0].config, **changes)
  mesh = mesh or sharding.make_mesh('', jax.devices()[:1])
  return transformer.Transformer(config, rngs=nnx.Rngs(0), mesh=mesh)


def test_padded_lengths():
  found = [scorer.padded(n) for n in range(1, 4097)]
  assert sorted(set(found))[:8] == [32, 48, 64, 96, 128, 192, 256, 384]
  for length, wide in enumerate(found, 1):
    assert wide >= length
    assert length < 32 or 3 * (wide - length) <= wide


def test_batches_hold_every_text_once(loaded):
  one = scorer.Scorer(_model(loaded), 3)
  tokens = [np.zeros(n, np.int32) for n in (5, 40, 1, 32, 33, 9, 60, 2)]
  batches = one.batches(tokens)
  assert [b.length for b in batches] == [64, 48, 32, 32]
  assert [b.texts for b in batches] == [(6,), (1, 4), (0, 2, 3), (5, 7)]
  for batch in batches:
    assert [len(t) for t in batch.tokens] == [
      len(tokens[i]) for i in batch.texts
    ]


@pytest.mark.parametrize('cap', [None, 30.0])
def test_logits_take_bounded_memory(loaded, cap):
  # 8 texts of 64 tokens with Gemma's vocabulary: 512 MiB of logits.
  model = _model(loaded, vocab_size=262_144, final_softcap=cap)
  one = scorer.Scorer(model, 8, full_logits=True)
  arguments = {'graph': one._graph}
  tokens_BT = jax.ShapeDtypeStruct((8, 64), np.int32)
  chunk = one._chunk(64, scorer._LOGPROBS_BYTES)
  program = scorer._logprobs.lower(
    one._params, tokens_BT, chunk=chunk, keep=True, **arguments
  ).compile()
  used = program.memory_analysis().temp_size_in_bytes
  assert 100 << 20 < used < 270 << 20
  x_BTD = jax.ShapeDtypeStruct((8, 64, model.config.d_model), np.float32)
  start = jax.ShapeDtypeStruct((), np.int32)
  program = scorer._logits.lower(
    one._params, x_BTD, start, chunk=one.chunk(64), **arguments
  ).compile()
  found = program.memory_analysis()
  used = found.temp_size_in_bytes + 2 * found.output_size_in_bytes
  assert 100 << 20 < used < 200 << 20


def test_chunks_divide_the_length(loaded):
  one = scorer.Scorer(_model(loaded, vocab_size=262_144), 6)
  for length in (32, 48, 64, 96, 384, 8192):
    chunk = one.chunk(length)
    assert length % chunk == 0
    assert 4 * 6 * 262_144 * chunk <= scorer._LOGITS_BYTES
    assert chunk >= 6


def test_chunks_change_nothing(loaded, monkeypatch):
  rng = np.random.default_rng(0)
  tokens = [rng.integers(0, 300, size=n).astype(np.int32) for n in (40, 48, 33)]
  found = []
  for positions in (48, 16):
    size = 4 * 4 * loaded[0].config.vocab_size * positions
    monkeypatch.setattr(scorer, '_LOGPROBS_BYTES', size)
    monkeypatch.setattr(scorer, '_LOGITS_BYTES', size)
    one = scorer.Scorer(_model(loaded), 4, full_logits=True)
    assert one.chunk(48) == positions
    found.append(list(one.run(one.batches(tokens))))
  whole, chunked = found
  assert [start for _, start, _ in whole] == [0, None]
  assert [start for _, start, _ in chunked] == [0, 16, 32, None]
  logits_BTV = np.concatenate([array for *_, array in chunked[:-1]], axis=1)
  np.testing.assert_allclose(logits_BTV, whole[0][2], atol=1e-5)
  np.testing.assert_allclose(chunked[-1][2], whole[-1][2], atol=1e-5)


def test_too_many_texts_for_one_position_are_refused(loaded, nothing_compiled):
  model = loaded[0]
  size = scorer._LOGPROBS_BYTES // (4 * model.config.vocab_size)
  scorer.Scorer(model, size)
  with pytest.raises(errors.InputError, match=rf'at most {size} .* {size + 1}'):
    scorer.Scorer(model, size + 1)
