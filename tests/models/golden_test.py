"""Every family against what transformers computed, as the goldens hold it."""

import dataclasses

import families
import jax
import numpy as np
import pytest
import references
from flax import nnx

from wcse_jax import checkpoints
from wcse_jax.models import config


# Nats.  What float32 leaves of two orders of summation is 6e-5 and less; any
# term left out or out of place is a hundred times that and more.
_LIMIT = 1e-4
# Nats, of the sum over a continuation of 64 tokens.
_SUM_LIMIT = 64 * _LIMIT
# Nats a token, mean over positions.
_BFLOAT16_LIMIT = 1e-2

_FAMILIES = tuple(families.ROWS)
# Between them they have every part of the model; tests/parity_test.py compares
# the same samples.
_QUICK = ('gemma4_e', 'gemma4_moe')


def _each(*quick):
  """Returns the families; those that are not quick are slow together."""
  return [
    pytest.param(f, marks=() if f in quick else pytest.mark.slow)
    for f in _FAMILIES
  ]


def _gap(golden, logits) -> float:
  """Returns the largest difference to the golden's logits."""
  got_AV = np.stack(
    [logits[row][t] for row, t in zip(golden.rows, golden.positions)]
  )
  return np.abs(got_AV - golden.logits_AV).max()


@pytest.mark.parametrize('family', _FAMILIES)
def test_logits_equal_transformers(family, goldens, ours):
  assert _gap(goldens[family], ours.logits(family)) <= _LIMIT


@pytest.mark.parametrize('family', _each(*_QUICK))
def test_greedy_samples_equal_transformers(family, goldens, ours):
  golden = goldens[family]
  samples = ours.samples(family)
  assert [list(s.tokens) for s in samples] == golden.drawn.tolist()
  # No loop of a few tokens, which a wrong model could get right.
  assert all(len(set(tokens_T[-32:])) >= 7 for tokens_T in golden.drawn)
  np.testing.assert_allclose(
    [s.logprob for s in samples], golden.logprobs, rtol=0, atol=_SUM_LIMIT
  )


@pytest.mark.slow
@pytest.mark.parametrize('family', _FAMILIES)
def test_scanned_logits_equal_transformers(family, goldens, ours):
  assert _gap(goldens[family], ours.logits(family, scan=True)) <= _LIMIT


@pytest.mark.slow
@pytest.mark.parametrize('family', _FAMILIES)
def test_bfloat16_stays_close_to_float32(family, goldens, ours):
  golden = goldens[family]
  logits = ours.logits(family, dtype='bfloat16')
  got_AV = np.stack(
    [logits[row][t] for row, t in zip(golden.rows, golden.positions)]
  )
  divergence_A = references.divergence(golden.logits_AV, got_AV)
  assert 0 < divergence_A.mean() <= _BFLOAT16_LIMIT


_CHANGES = [
  ('gemma', {'embed_scale': False}),
  ('gemma', {'activation': 'silu'}),
  ('gemma', {'rope_global': config.Rope(base=9000.0)}),
  ('gemma2', {'window': 31}),
  ('gemma2', {'window': 33}),
  ('gemma2', {'query_scale': 0.35}),
  ('gemma2', {'attn_softcap': 12.0}),
  ('gemma2', {'final_softcap': 6.0}),
  ('gemma2', {'norm_eps': 1e-3}),
  ('gemma2', {'norm_plus_one': False}),
  ('gemma3', {'rope_local': config.Rope(base=900.0)}),
  ('gemma3', {'rope_global': config.Rope(base=20_000.0, scale=4.0)}),
  ('gemma4_e', {'rope_global': config.Rope(base=2000.0, rotated=0.5)}),
  ('gemma4_e', {'v_norm': False}),
  ('gemma4_e', {'layer_scalar': False}),
  ('gemma4_moe', {'experts_per_token': 2}),
  ('qwen2', {'qkv_bias': False}),
  ('qwen2_window', {'window': 31}),
]


@pytest.mark.slow
@pytest.mark.parametrize(
  ('family', 'change'),
  _CHANGES,
  ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_goldens_notice_each_field(family, change, goldens, ours):
  _assert_noticed(goldens[family], ours.model(family), change)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('low', 'high', 'original'), [(2, 4, 128), (1, 3, 128), (1, 4, 96)]
)
def test_goldens_notice_the_smoothed_band(low, high, original, goldens, ours):
  model = ours.model('llama')
  rope = dataclasses.replace(
    model.config.rope_global, smooth=(low, high, original)
  )
  _assert_noticed(goldens['llama'], model, {'rope_global': rope})


def _assert_noticed(golden, model, change):
  """Asserts that the change shows in the shortest prompt's last logits."""
  graph, state = nnx.split(model)
  changed = nnx.merge(graph, state)
  changed.config = dataclasses.replace(model.config, **change)
  prompt_T = golden.prompts[-1]
  got_V = changed(prompt_T.astype(np.int32)[None])[0, -1]
  assert golden.positions[-1] == len(prompt_T) - 1
  assert np.abs(got_V - golden.logits_AV[-1]).max() > 10 * _LIMIT


def test_each_token_goes_to_as_many_experts_as_stated(goldens, ours):
  golden = goldens['gemma4_moe']
  whole = ours.logits('gemma4_moe')
  graph, state = nnx.split(ours.model('gemma4_moe'))
  counts = [np.zeros(len(logits_TV), int) for logits_TV in whole]
  for expert in range(golden.row['num_experts']):
    # Of the last layer, behind which no token sees another: what changes are
    # the tokens that were sent to this expert.
    # A copy, as merging alone would share what is changed here.
    model = nnx.merge(graph, jax.tree.map(lambda leaf: leaf, state))
    down = model.stacks[-1].blocks[-1].expert_down
    down.set_value(down[...].at[expert].set(0))
    without_BTV = np.asarray(
      ours.forward(model, references.padded(golden.prompts))
    )
    share = []
    for b, logits_TV in enumerate(whole):
      gap_TV = np.abs(without_BTV[b, : len(logits_TV)] - logits_TV)
      changed_T = gap_TV.max(axis=-1) > 1e-6
      counts[b] += changed_T
      share += changed_T.tolist()
    # No expert is idle, and none is everybody's.
    assert 0.1 < np.mean(share) < 0.9
  chosen = golden.row['top_k_experts']
  assert 1 < chosen < golden.row['num_experts']
  assert set(np.concatenate(counts)) == {chosen}


def test_one_expert_less_changes_the_logits(goldens, ours, tmp_path):
  # By way of config.json, so that the number is read from there.
  golden = goldens['gemma4_moe']
  families.write(tmp_path, {**golden.row, 'top_k_experts': 1}, golden.tensors)
  families.write_tokenizer(tmp_path, golden.row['vocab_size'])
  model, _ = checkpoints.load(str(tmp_path), scan=False)
  got_BTV = np.asarray(ours.forward(model, references.padded(golden.prompts)))
  for b, logits_TV in enumerate(ours.logits('gemma4_moe')):
    gap_TV = np.abs(got_BTV[b, : len(logits_TV)] - logits_TV)
    # Nearly every position notices, by much.
    assert np.median(gap_TV.max(axis=-1)) > 0.1
