"""What a program has to move, against counts by hand."""

import pytest
from flax import nnx

from wcse_jax.aot import ideal
from wcse_jax.models import published, transformer


def _model(name: str, weights: str = '', scan: bool = True):
  config = published.configs()[name]
  return nnx.eval_shape(
    lambda: transformer.Transformer(
      config, dtype='bfloat16', rngs=nnx.Rngs(0), scan=scan, weights=weights
    )
  )


@pytest.mark.parametrize('name', ['gemma2-27b', 'gemma4-e2b', 'qwen2.5-7b'])
def test_weights_are_the_published_parameters(name):
  model = _model(name)
  assert ideal.weights(model) == 2 * model.config.parameters()


def test_step_reads_all_of_a_tied_model():
  model = _model('gemma2-9b')
  assert ideal.step_weights(model, 64) == ideal.weights(model)


def test_step_reads_no_table_that_is_only_looked_up_in():
  model = _model('qwen2.5-7b')
  c = model.config
  spared = 2 * c.vocab_size * c.d_model
  assert ideal.step_weights(model, 64) == ideal.weights(model) - spared
  model = _model('gemma4-e2b')
  c = model.config
  spared = 2 * c.per_layer_vocab * c.num_layers * c.per_layer_dim
  assert ideal.step_weights(model, 64) == ideal.weights(model) - spared


def test_few_tokens_meet_few_experts():
  model = _model('gemma4-26b-a4b')
  c = model.config
  one = ideal.step_weights(model, 1)
  # As the work on one token goes through.
  vectors = one - 2 * c.active_parameters()
  assert abs(vectors) < 0.001 * one
  assert ideal.step_weights(model, 64) == ideal.weights(model)


@pytest.mark.parametrize('scan', [True, False])
def test_prefill_leaves_out_the_end_of_the_last_layer(scan):
  model = _model('gemma3-4b', scan=scan)
  c = model.config
  layer = c.layers[-1]
  width = c.num_heads * layer.head_dim
  unused = c.d_model * (2 * width + 3 * layer.d_ff)
  want = 2 * (c.parameters() - c.embedding_parameters() - unused)
  assert ideal.prefill_weights(model, 64) == pytest.approx(want, rel=1e-5)


def test_layers_without_keys_of_their_own_are_not_needed_in_a_prefill():
  model = _model('gemma4-e2b')
  c = model.config
  own = c.num_layers - c.num_kv_shared_layers
  needed = sum(c.d_model * 3 * layer.d_ff for layer in c.layers[: own - 1])
  found = ideal.prefill_weights(model, 64)
  assert 2 * needed < found < 2 * needed * 1.4


def test_int8_halves_the_matrices():
  found = ideal.weights(_model('gemma2-2b', weights='int8'))
  assert found == pytest.approx(
    published.configs()['gemma2-2b'].parameters(), rel=0.01
  )


def test_cache_is_no_larger_than_the_window():
  c = published.configs()['gemma3-1b']
  # 22 local layers of 512 places, 4 global ones; 1 head of 256.
  held, used = ideal.cache(c, slots=2, places=1024, filled=600, item=2)
  place = 2 * 2 * 256 * 2
  assert held == place * (22 * 512 + 4 * 1024)
  assert used == place * (22 * 512 + 4 * 600)
  assert ideal.prefix(c, 1000, 2) == place // 2 * (22 * 511 + 4 * 1000)
  assert ideal.logits(c, 3) == 4 * 3 * 262_144
