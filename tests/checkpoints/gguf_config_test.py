import families
import gguf_models
import numpy as np
import pytest

from wcse_jax import errors
from wcse_jax.checkpoints import gguf, gguf_config
from wcse_jax.models import hf_config


_LOCAL, _GLOBAL = 'sliding_attention', 'full_attention'


@pytest.fixture
def read(tmp_path):
  """Returns the config.json of a row's file, with changes to its metadata."""

  def do(name, *, extra=None, drop=(), **changes):
    row = gguf_models.ROWS[name]
    tensors = families.tensors(row)
    for key in drop:
      del tensors[key]
    path = tmp_path / 'x.gguf'
    gguf_models.write(path, row, tensors, extra=extra, **changes)
    with gguf.File(str(path), 'x.gguf') as file:
      return gguf_config.config(file)

  return do


@pytest.fixture
def refusal(read):
  """Returns the message of a refusal."""

  def do(name, **changes):
    with pytest.raises(errors.InputError) as caught:
      read(name, **changes)
    message = str(caught.value)
    assert '\n' not in message
    assert message.startswith('x.gguf: ')
    return message

  return do


@pytest.mark.parametrize('name', gguf_models.ROWS)
def test_it_describes_the_model_of_the_config_json(name, read):
  row = gguf_models.ROWS[name]
  assert hf_config.from_hf(read(name)) == hf_config.from_hf(row)


@pytest.mark.parametrize('name', gguf_models.ROWS)
def test_transformers_knows_every_key(name, read):
  pytest.importorskip('torch')
  import transformers

  row = read(name)
  known = transformers.AutoConfig.for_model(**row)
  assert known.model_type == row['model_type']
  again = known.to_dict()
  # Transformers writes these two one layer at a time.
  apart = {'global_head_dim', 'num_global_key_value_heads'}
  for key in row.keys() - apart:
    assert again[key] == row[key], key


def test_numbers_have_the_digits_that_they_were_written_with(read):
  row = read('gemma2')
  # As float32, 1e-5 is 9.999999747378752e-06.
  assert row['rms_norm_eps'] == 1e-5
  written = families.ROWS['gemma2']['rope_parameters']['rope_theta']
  assert row['rope_parameters']['rope_theta'] == written


@pytest.mark.parametrize(
  ('shape', 'scalar'),
  [
    # Gemma 2 27B and Gemma 3 27B, whose depth a fine-tune may change.
    ((4608, 32, 128), 144),
    ((5376, 32, 128), 168),
    # Gemma 2 9B, Gemma 3 12B.
    ((3584, 16, 256), 256),
    ((3840, 16, 256), 256),
    # Neither.
    ((4608, 16, 128), 128),
  ],
)
@pytest.mark.parametrize('name', ['gemma2', 'gemma3'])
def test_query_scale_of_the_published_models(name, shape, scalar, read):
  width, heads, head_dim = shape
  row = read(
    name,
    embedding_length=width,
    attention__head_count=heads,
    attention__head_count_kv=heads,
    attention__key_length=head_dim,
    attention__value_length=head_dim,
  )
  assert row['query_pre_attn_scalar'] == scalar


def test_what_gemma2_files_leave_out(read):
  row = read(
    'gemma2',
    attn_logit_softcapping=None,
    final_logit_softcapping=None,
    attention__sliding_window=None,
    rope__freq_base=None,
  )
  assert row['attn_logit_softcapping'] == 50.0
  assert row['final_logit_softcapping'] == 30.0
  assert row['sliding_window'] == 4096
  assert row['layer_types'] == [_LOCAL, _GLOBAL, _LOCAL, _GLOBAL, _LOCAL]
  assert row['rope_parameters'] == {
    'rope_type': 'default',
    'rope_theta': 10_000.0,
  }


def test_what_gemma3_files_leave_out(read):
  row = read(
    'gemma3',
    attention__sliding_window_pattern=None,
    rope__freq_base=None,
    rope__freq_base_swa=None,
    rope__scaling__type=None,
    rope__scaling__factor=None,
  )
  assert row['layer_types'] == [_LOCAL] * 5 + [_GLOBAL, _LOCAL]
  assert row['rope_parameters'] == {
    _GLOBAL: {'rope_type': 'default', 'rope_theta': 1_000_000.0},
    _LOCAL: {'rope_type': 'default', 'rope_theta': 10_000.0},
  }
  assert row['final_logit_softcapping'] is None


def test_gemma3_without_a_window_has_no_local_layers(read):
  row = read('gemma3', attention__sliding_window=None)
  assert row['layer_types'] == [_GLOBAL] * 7
  hf_config.from_hf(row)


@pytest.mark.parametrize(
  ('pattern', 'wanted'),
  [
    (0, 'LLLLLLL'),
    (1, 'GGGGGGG'),
    (2, 'LGLGLGL'),
    ([True, False, False, True, True, True, False], 'LGGLLLG'),
    ([1, 0, 0, 1, 1, 1, 0], 'LGGLLLG'),
  ],
)
def test_patterns_of_local_layers(pattern, wanted, read):
  row = read('gemma3', attention__sliding_window_pattern=pattern)
  names = {_LOCAL: 'L', _GLOBAL: 'G'}
  assert ''.join(names[kind] for kind in row['layer_types']) == wanted


def test_a_factor_alone_scales_linearly(read):
  linear = {'rope_type': 'linear', 'factor': 4.0, 'rope_theta': 100.0}
  row = read('llama_plain', rope__scaling__factor=4.0)
  assert row['rope_parameters'] == linear
  row = read('llama_plain', rope__scale_linear=4.0)
  assert row['rope_parameters'] == linear
  row = read(
    'llama_plain', rope__scaling__type='none', rope__scaling__factor=4.0
  )
  assert row['rope_parameters']['rope_type'] == 'default'


def test_heads_may_be_as_wide_as_the_model_allows(read):
  row = read(
    'llama_plain',
    attention__key_length=None,
    attention__value_length=None,
    rope__dimension_count=8,
    attention__head_count_kv=None,
  )
  assert row['head_dim'] == 8
  assert row['num_key_value_heads'] == 4


def test_the_end_of_a_turn_is_an_end(read):
  assert read('gemma2')['eos_token_id'] == 1
  row = read('gemma2', tokenizer__ggml__eot_token_id=7)
  assert row['eos_token_id'] == [1, 7]
  row = read('gemma2', tokenizer__ggml__eot_token_id=1)
  assert row['eos_token_id'] == 1
  row = read('gemma2', tokenizer__ggml__eos_token_id=None)
  assert row['eos_token_id'] is None


def test_factors_of_one_scale_nothing(read):
  ones = {'rope_freqs.weight': np.ones(8, np.float32)}
  row = read('llama_plain', extra=ones)
  assert row['rope_parameters']['rope_type'] == 'default'


_FACTORS = np.float32([1, 1, 1, 1, 1.6, 8, 8, 8])


@pytest.mark.parametrize(
  ('name', 'factors', 'reason'),
  [
    ('llama', _FACTORS, 'wanted the factors of Llama 3.1'),
    ('llama', _FACTORS * np.nan, 'wanted the factors of Llama 3.1'),
    ('llama', -_FACTORS, 'wanted the factors of Llama 3.1'),
    ('llama', _FACTORS * np.inf, 'wanted the factors of Llama 3.1'),
    ('llama', _FACTORS[:7], 'wanted shape (8,), half a head; got (7,)'),
    ('gemma4_e', _FACTORS, 'wanted ones and then 1e30; got 1, 1, 1, 1, ..., 8'),
    ('gemma4_e', _FACTORS * np.nan, 'wanted ones and then 1e30'),
    ('gemma4_e', np.float32([1] * 9), 'wanted shape (8,), half a head'),
  ],
)
def test_other_factors_are_refused(name, factors, reason, refusal):
  message = refusal(name, extra={'rope_freqs.weight': factors})
  assert f'rope_freqs.weight: {reason}' in message


@pytest.mark.parametrize(
  ('name', 'changes', 'reason'),
  [
    ('llama', {'general__architecture': 'mamba'}, "got 'mamba'"),
    ('llama', {'split__count': 3}, 'wanted a whole model in one file; got one'),
    ('llama', {'block_count': 1000}, 'llama.block_count: wanted at most 31'),
    ('llama', {'block_count': 'many'}, 'wanted a whole number of at least 1'),
    ('llama', {'block_count': None}, 'wanted the metadata key llama.block_cou'),
    (
      'llama',
      {'context_length': 0},
      'llama.context_length: wanted a whole num',
    ),
    ('llama', {'embedding_length': True}, 'got True'),
    (
      'llama',
      {'attention__head_count': [4, 4, 2]},
      'wanted one number for all',
    ),
    ('llama', {'attention__head_count': [4, 4]}, '3 whole numbers of at least'),
    ('llama', {'attention__head_count_kv': [0, 1, 1]}, '3 whole numbers of at'),
    ('llama', {'attention__value_length': 8}, '16, the width of a key; got 8'),
    ('llama', {'rope__dimension_count': 8}, '16, the width of a key; got 8'),
    ('llama', {'rope__freq_base': float('nan')}, 'wanted a positive number'),
    ('llama', {'rope__freq_base': -1.0}, 'wanted a positive number; got -1.0'),
    ('llama', {'rope__scaling__factor': 2.0}, 'none beside rope_freqs.weight'),
    (
      'llama_plain',
      {'rope__scaling__type': 'yarn'},
      'none, or linear with a f',
    ),
    (
      'llama_plain',
      {'rope__scaling__type': 'linear'},
      'none, or linear with a',
    ),
    ('llama_plain', {'rope__scaling__type': 1}, 'wanted a name; got 1'),
    ('llama', {'attention__scale': 0.5}, 'wanted none, as it is not implement'),
    ('llama', {'logit_scale': 0.5}, 'wanted none, as it is not implemented'),
    ('llama', {'attention__causal': False}, 'wanted true; got False'),
    ('llama', {'expert_count': 8}, 'wanted a model without experts'),
    (
      'llama',
      {'tokenizer__ggml__eos_token_id': 64},
      'the id of a row of token',
    ),
    (
      'llama',
      {'tokenizer__ggml__bos_token_id': '1'},
      'the id of a row of token',
    ),
    ('gemma2', {'attn_logit_softcapping': 0.0}, 'wanted a positive number'),
    (
      'gemma3',
      {'attention__sliding_window_pattern': [True]},
      'wanted a number or 7 bools; got array([ True])',
    ),
    (
      'gemma3',
      {'attention__sliding_window_pattern': [0.5] * 7},
      'wanted a number or 7 bools',
    ),
    (
      'gemma4_e',
      {'attention__sliding_window_pattern': None},
      'wanted a number or 10 bools; got None',
    ),
    (
      'gemma4_e',
      {'attention__sliding_window_pattern': 0},
      "wanted a global last layer; got 'sliding_attention'",
    ),
    (
      'gemma4_e',
      {'attention__shared_kv_layers': 10},
      'wanted under 10; got 10',
    ),
    ('gemma4_e', {'attention__key_length_swa': None}, 'there is none'),
    ('gemma4_e', {'attention__value_length_swa': 4}, '8, the width of a key'),
    (
      'gemma4_e',
      {'feed_forward_length': [16, 32] * 5},
      'wanted one width, or twice that in the last 5 layers; got [16, 32]',
    ),
    (
      'gemma4_dense',
      {'attention__head_count_kv': [4, 4, 4, 4, 4, 2]},
      'wanted one number for all full_attention layers; got [2, 4]',
    ),
    (
      'gemma4_e',
      {'attention__head_count_kv': [2, 2, 2, 2, 1] * 2},
      'wanted 2 in all layers, as the global ones have an attn_v',
    ),
    ('gemma4_e', {'rope__scaling__factor': 2.0}, 'wanted none; got'),
    ('gemma4_moe', {'expert_used_count': None}, 'there is none'),
  ],
)
def test_what_cannot_be_is_named(name, changes, reason, refusal):
  message = refusal(name, **changes)
  assert reason in message
  (key,) = changes
  # A factor is refused by its kind.
  assert key.replace('__', '.').removesuffix('.factor') in message


def test_an_unknown_architecture_names_the_known_ones(refusal):
  message = refusal('llama', general__architecture='qwen3')
  for known in gguf_config.ARCHITECTURES:
    assert known in message


def test_values_that_only_some_global_layers_have_are_refused(refusal):
  values = np.zeros((32, 32), np.float32)
  message = refusal('gemma4_dense', extra={'blk.2.attn_v.weight': values})
  assert message.endswith(
    'attn_v in all global layers or in none; got it in some.'
  )
