import dataclasses
import json

import pytest
import transformers

from wcse_jax import errors
from wcse_jax.models import config, hf_config, published


_CLASSES = {
  'gemma': transformers.GemmaConfig,
  'gemma2': transformers.Gemma2Config,
  'gemma3_text': transformers.Gemma3TextConfig,
  'gemma4_text': transformers.Gemma4TextConfig,
  'qwen2': transformers.Qwen2Config,
  'llama': transformers.LlamaConfig,
}
_TINY = {
  'vocab_size': 99,
  'hidden_size': 24,
  'intermediate_size': 40,
  'num_hidden_layers': 8,
  'num_attention_heads': 4,
  'num_key_value_heads': 2,
  'head_dim': 8,
  'query_pre_attn_scalar': 6,
  'sliding_window': 5,
  'max_position_embeddings': 64,
  'rms_norm_eps': 1e-5,
  'eos_token_id': [1, 7],
}
_LINEAR = {'rope_type': 'linear', 'factor': 8.0}


def _hf(model_type, **values):
  return {'model_type': model_type, **values}


def _as_transformers_reads_it(row):
  """Returns the full config of the row, with the defaults of its class."""
  values = {key: value for key, value in row.items() if key != 'model_type'}
  loaded = _CLASSES[row['model_type']].from_dict(values)
  return json.loads(json.dumps(loaded.to_dict()))


@pytest.mark.parametrize(
  'row',
  [
    _hf('gemma2'),
    _hf('gemma3_text'),
    _hf('gemma2', **_TINY),
    _hf('gemma3_text', **_TINY),
    _hf('gemma2', rope_theta=5000.0, tie_word_embeddings=False),
    _hf('gemma2', rope_parameters={'rope_theta': 7.0, 'rope_type': 'default'}),
    _hf('gemma2', final_logit_softcapping=None, attn_logit_softcapping=None),
    _hf('gemma2', **_TINY, layer_types=['full_attention'] * 8),
    _hf('gemma3_text', attn_logit_softcapping=20.0),
    _hf('gemma3_text', rope_theta=5.0, rope_local_base_freq=6.0),
    _hf('gemma3_text', rope_scaling=_LINEAR),
    _hf('gemma3_text', rope_scaling=None),
    _hf('gemma3_text', **_TINY, sliding_window_pattern=3),
    _hf('gemma3_text', **_TINY, sliding_window_pattern=1),
    _hf('gemma3_text', **_TINY, layer_types=['full_attention'] * 8),
    _hf(
      'gemma3_text',
      rope_parameters={
        'full_attention': {**_LINEAR, 'rope_theta': 3.0},
        'sliding_attention': {'rope_type': 'default', 'rope_theta': 2.0},
      },
    ),
    _hf(
      'gemma3_text',
      rope_parameters={'full_attention': _LINEAR},
      rope_theta=3.0,
      rope_local_base_freq=2.0,
    ),
    _hf('gemma3_text', rope_parameters={'sliding_attention': None}),
  ],
  ids=lambda row: ' '.join(map(str, list(row)[:3])) + str(len(row)),
)
def test_reads_what_transformers_reads(row):
  given = json.dumps(row)
  read = hf_config.from_hf(row)
  assert json.dumps(row) == given
  full = _as_transformers_reads_it(row)
  assert hf_config.from_hf(full) == read
  # And each field by itself, from the attributes of the transformers config.
  assert read.vocab_size == full['vocab_size']
  assert read.d_model == full['hidden_size']
  assert read.query_scale == full['query_pre_attn_scalar'] ** -0.5
  assert read.window == full['sliding_window']
  assert read.attn_softcap == full['attn_logit_softcapping']
  assert read.final_softcap == full['final_logit_softcapping']
  assert read.tie_embeddings == full['tie_word_embeddings']
  kinds = {'local': 'sliding_attention', 'global': 'full_attention'}
  assert [kinds[kind] for kind in read.layer_kinds] == full['layer_types']
  rope = full['rope_parameters']
  if row['model_type'] == 'gemma2':
    assert read.rope_global == read.rope_local
    assert read.rope_global == config.Rope(base=rope['rope_theta'])
  else:
    whole = rope['full_attention']
    assert read.rope_local.base == rope['sliding_attention']['rope_theta']
    assert read.rope_global == config.Rope(
      base=whole['rope_theta'], scale=whole.get('factor', 1.0)
    )


_LLAMA3 = {
  'rope_type': 'llama3',
  'factor': 8.0,
  'low_freq_factor': 1.0,
  'high_freq_factor': 4.0,
  'original_max_position_embeddings': 32,
}
_SMALL = {k: v for k, v in _TINY.items() if k != 'query_pre_attn_scalar'}
_EXPERTS = {
  'enable_moe_block': True,
  'num_experts': 8,
  'top_k_experts': 3,
  'moe_intermediate_size': 16,
}


@pytest.mark.parametrize(
  ('row', 'want'),
  [
    (_hf('gemma'), {'qk_norm': False, 'post_norms': False, 'qkv_bias': False}),
    (_hf('gemma', **_SMALL), {'query_scale': 8**-0.5}),
    (_hf('gemma', hidden_act='gelu'), {'activation': 'gelu_tanh'}),
    (_hf('gemma', rope_theta=7.0), {'rope_local': config.Rope(base=7.0)}),
    # Keys that the class does not know change nothing.
    (
      _hf('gemma', attn_logit_softcapping=5.0, sliding_window=3),
      {'attn_softcap': None, 'window': 8192},
    ),
    (_hf('qwen2'), {'qkv_bias': True, 'norm_plus_one': False, 'bos_id': None}),
    (_hf('qwen2', sliding_window=5), {'layer_kinds': ('global',) * 32}),
    (
      _hf('qwen2', use_sliding_window=True, sliding_window=5),
      {'layer_kinds': ('global',) * 28 + ('local',) * 4, 'window': 5},
    ),
    (_hf('qwen2', head_dim=16), {'head_dim': 16, 'query_scale': 0.25}),
    (_hf('llama'), {'num_kv_heads': 32, 'activation': 'silu'}),
    (_hf('llama', **_SMALL), {'head_dim': 8, 'eos_ids': (1, 7)}),
    (
      _hf('llama', rope_theta=9.0, rope_scaling=_LLAMA3),
      {'rope_global': config.Rope(base=9.0, scale=8.0, smooth=(1.0, 4.0, 32))},
    ),
    (
      _hf('llama', rope_parameters={**_LINEAR, 'rope_theta': 3.0}),
      {'rope_global': config.Rope(base=3.0, scale=8.0)},
    ),
    (
      _hf('gemma4_text'),
      {
        'query_scale': 1.0,
        'global_head_dim': 512,
        'per_layer_dim': 256,
        'global_keys_as_values': False,
        'rope_global': config.Rope(base=1e6, rotated=0.25),
        'rope_local': config.Rope(base=1e4),
      },
    ),
    (
      _hf('gemma4_text', num_kv_shared_layers=10, use_double_wide_mlp=True),
      {'num_kv_shared_layers': 10, 'shared_d_ff': 2 * 9216},
    ),
    (_hf('gemma4_text', use_double_wide_mlp=True), {'shared_d_ff': 0}),
    (
      _hf(
        'gemma4_text',
        **_SMALL,
        **_EXPERTS,
        attention_k_eq_v=True,
        num_global_key_value_heads=1,
        hidden_size_per_layer_input=0,
      ),
      {
        'num_experts': 8,
        'experts_per_token': 3,
        'expert_d_ff': 16,
        'global_num_kv_heads': 1,
        'per_layer_dim': 0,
        # The last layer is global, whatever the pattern.
        'layer_kinds': ('local',) * 5 + ('global', 'local', 'global'),
      },
    ),
  ],
  ids=lambda value: ' '.join(map(str, list(value)[:3])) + str(len(value)),
)
def test_reads_the_other_families_as_transformers_does(row, want):
  read = hf_config.from_hf(row)
  assert {name: getattr(read, name) for name in want} == want
  full = _as_transformers_reads_it(row)
  assert hf_config.from_hf(full) == read
  assert read.d_ff == full['intermediate_size']
  assert read.num_kv_heads == full['num_key_value_heads']
  assert read.tie_embeddings == full['tie_word_embeddings']
  assert read.max_positions == full['max_position_embeddings']
  # And out again.
  written = json.loads(json.dumps(hf_config.to_hf(read)))
  assert hf_config.from_hf(written) == read
  assert hf_config.from_hf(_as_transformers_reads_it(written)) == read


def test_layers_of_one_model_may_differ():
  cfg = published.configs()['gemma4-e2b']
  first, shared, last = cfg.layers[4], cfg.layers[15], cfg.layers[34]
  assert first == config.Layer(
    kind='global',
    num_kv_heads=1,
    head_dim=512,
    d_ff=6144,
    shares_kv=False,
    keys_as_values=False,
  )
  assert shared.shares_kv
  assert (shared.kind, shared.head_dim, shared.d_ff) == ('local', 256, 12288)
  assert (last.kind, last.head_dim, last.d_ff) == ('global', 512, 12288)
  moe = published.configs()['gemma4-26b-a4b'].layers
  assert [(moe[i].num_kv_heads, moe[i].keys_as_values) for i in (4, 5)] == [
    (8, False),
    (2, True),
  ]


def test_layers_alternate_as_published():
  gemma2 = hf_config.from_hf(_hf('gemma2'))
  assert gemma2.layer_kinds == ('local', 'global') * 13
  gemma3 = hf_config.from_hf(_hf('gemma3_text'))
  period = ('local',) * 5 + ('global',)
  assert gemma3.layer_kinds == period * 4 + ('local',) * 2
  assert gemma3.qk_norm
  assert not gemma2.qk_norm


def test_multimodal_gives_its_text_model():
  text = _hf('gemma3_text', **_TINY)
  del text['eos_token_id']
  row = _hf('gemma3', text_config=text, eos_token_id=[1, 9], vision_config={})
  got = hf_config.from_hf(row)
  assert got.eos_ids == (1, 9)
  assert got.d_model == 24
  assert got.architecture == 'Gemma3ForCausalLM'
  assert hf_config.from_hf(_hf('gemma3')) == hf_config.from_hf(
    _hf('gemma3_text')
  )


def _round_trips():
  tiny = {
    'tiny-gemma2': hf_config.from_hf(
      _hf('gemma2', **_TINY, rope_theta=300.0, tie_word_embeddings=False)
    ),
    'tiny-gemma3': hf_config.from_hf(
      _hf('gemma3_text', **_TINY, rope_scaling=_LINEAR, rope_theta=11.0)
    ),
    'no-ends': dataclasses.replace(
      published.configs()['gemma3-1b'], eos_ids=(), bos_id=None
    ),
  }
  return {**published.configs(), **tiny}


@pytest.mark.parametrize('name', _round_trips())
def test_written_config_loads_back_the_same(name):
  cfg = _round_trips()[name]
  row = json.loads(json.dumps(hf_config.to_hf(cfg)))
  assert hf_config.from_hf(row) == cfg
  # Through transformers: what it makes of the file is the same model.
  assert hf_config.from_hf(_as_transformers_reads_it(row)) == cfg
  # Readers of before transformers 5 find the same in the older keys.
  del row['rope_parameters']
  assert hf_config.from_hf(row) == cfg


@pytest.mark.parametrize(
  ('change', 'named'),
  [
    ({'qk_norm': True}, 'qk_norm'),
    ({'architecture': 'Other'}, 'architecture'),
    ({'post_norms': False}, 'post_norms'),
    ({'embed_scale': False}, 'embed_scale'),
    ({'rope_local': config.Rope(base=1.0)}, 'rope_local'),
    ({'rope_global': config.Rope(base=1e4, scale=8.0)}, 'rope_scaling'),
    ({'query_scale': 0.3}, 'query_scale'),
  ],
)
def test_refuses_to_write_what_the_class_cannot_say(change, named):
  cfg = hf_config.from_hf(_hf('gemma2', **_TINY))
  with pytest.raises(ValueError, match=named):
    hf_config.to_hf(dataclasses.replace(cfg, **change))


@pytest.mark.parametrize(
  ('row', 'named'),
  [
    (
      _hf('mistral'),
      'model_type: wanted one of gemma, gemma2, gemma3_text, gemma4_text, ',
    ),
    (_hf(['gemma2']), 'model_type: wanted one of'),
    ({}, 'model_type'),
    (_hf('gemma2', attention_bias=True), 'attention_bias'),
    (_hf('llama', attention_bias=True), 'attention_bias'),
    (_hf('llama', mlp_bias=True), 'mlp_bias'),
    (_hf('llama', hidden_act='gelu'), 'hidden_act: wanted silu'),
    (_hf('llama', rope_scaling={'rope_type': 'yarn', 'factor': 2}), 'yarn'),
    (
      _hf('llama', rope_scaling={**_LLAMA3, 'high_freq_factor': 1.0}),
      'low_freq_factor',
    ),
    (
      _hf('llama', rope_scaling={'rope_type': 'llama3', 'factor': 8.0}),
      'low_freq_factor',
    ),
    (_hf('llama', per_layer_config={'0': {}}), 'per_layer_config'),
    (_hf('gemma4_text', per_layer_config={'1': {}}), 'per_layer_config'),
    (
      _hf('gemma4_text', per_layer_config={5: {}, 'x': {}}),
      'per_layer_config',
    ),
    (_hf('gemma4_text', enable_moe_block=True), 'num_experts'),
    (
      _hf('gemma4_text', **{**_EXPERTS, 'top_k_experts': 9}),
      'experts_per_token',
    ),
    (_hf('gemma4_text', num_kv_shared_layers=27), 'num_kv_shared_layers'),
    (_hf('gemma4_text', global_head_dim=511), 'global_head_dim'),
    (_hf('gemma4', text_config=_hf('gemma3_text')), 'text_config'),
    (_hf('qwen2', num_key_value_heads=5), 'num_key_value_heads'),
    (
      _hf('gemma3_text', use_bidirectional_attention=True),
      'use_bidirectional_attention',
    ),
    (_hf('gemma3', text_config={'attention_bias': True}), 'attention_bias'),
    (_hf('gemma3', text_config=_hf('llama')), 'text_config'),
    (_hf('gemma2', quantization_config={'bits': 4}), 'quantization_config'),
    (_hf('gemma2', auto_map={'AutoModel': 'own.Model'}), 'auto_map'),
    (_hf('gemma3', auto_map={'AutoModel': 'own.Model'}), 'auto_map'),
    (_hf('gemma2', hidden_activation='silu'), 'hidden_activation'),
    (_hf('gemma2', hidden_activation=None), 'hidden_activation'),
    (_hf('gemma2', rope_scaling=_LINEAR), 'rope_scaling'),
    (_hf('gemma3_text', rope_scaling={'type': 'yarn', 'factor': 2}), 'yarn'),
    (_hf('gemma3_text', rope_scaling={'rope_type': 'linear'}), 'factor'),
    (_hf('gemma3_text', rope_parameters=_LINEAR), 'rope_parameters'),
    (
      _hf('gemma3_text', rope_parameters={'sliding_attention': _LINEAR}),
      'sliding_attention',
    ),
    (
      _hf('gemma2', rope_parameters={'partial_rotary_factor': 0.5}),
      'rope_parameters',
    ),
    (_hf('gemma2', rope_theta=-1), 'rope_theta'),
    (_hf('gemma2', rope_theta=float('nan')), 'rope_theta'),
    (_hf('gemma2', hidden_size='24'), 'hidden_size'),
    (_hf('gemma2', hidden_size=None), 'hidden_size'),
    (_hf('gemma2', hidden_size=True), 'hidden_size'),
    (_hf('gemma2', num_hidden_layers=0), 'num_hidden_layers'),
    (_hf('gemma2', num_key_value_heads=3), 'num_key_value_heads'),
    (_hf('gemma2', head_dim=7), 'head_dim'),
    (_hf('gemma2', tie_word_embeddings='yes'), 'tie_word_embeddings'),
    (_hf('gemma2', layer_types=['full_attention']), 'layer_types'),
    (_hf('gemma2', layer_types=['chunked_attention'] * 26), 'layer_types'),
    (_hf('gemma2', layer_types=[['x']] * 26), 'layer_types'),
    (_hf('gemma3_text', sliding_window_pattern=0), 'sliding_window_pattern'),
    (_hf('gemma2', sliding_window=None), 'sliding_window'),
    (_hf('gemma2', rms_norm_eps=0), 'rms_norm_eps'),
    (_hf('gemma2', attn_logit_softcapping='50'), 'attn_logit_softcapping'),
    (_hf('gemma2', eos_token_id=[1, -2]), 'eos_token_id'),
    (_hf('gemma2', eos_token_id=256_000), 'eos_token_id'),
    (_hf('gemma2', bos_token_id='2'), 'bos_token_id'),
  ],
  ids=lambda value: str(value)[:60],
)
def test_names_the_field_that_it_refuses(row, named):
  with pytest.raises(errors.InputError) as caught:
    hf_config.from_hf(row)
  assert named in str(caught.value)
  assert '\n' not in str(caught.value)


# Millions: embedding and the rest, as the reports print them.  Gemma:
# arXiv:2403.08295, table 2 (which pads the embedding by 128 rows); Gemma 2:
# arXiv:2408.00118, table 2; Gemma 3: arXiv:2503.19786, table 1, and the model
# card of the 270M.  The reports' embedding figures of Gemma 3 4B, 12B and 27B
# are half a per cent above the matrix that is stored.
_REPORTED = {
  'gemma-2b': (525, 1982),
  'gemma-7b': (787, 7751),
  'gemma2-2b': (590, 2024),
  'gemma2-9b': (918, 8324),
  'gemma2-27b': (1180, 26047),
  'gemma3-270m': (168, 100),
  'gemma3-1b': (302, 698),
  'gemma3-4b': (675, 3209),
  'gemma3-12b': (1012, 10759),
  'gemma3-27b': (1416, 25600),
}


# Billions in all, and of them active, as the model cards print them; Qwen2.5:
# arXiv:2412.15115, section 2; Gemma 4's cards call active what is effective.
_TOTALS = {
  'gemma4-e2b': (None, 2.3),
  'gemma4-e4b': (7.5, None),
  'gemma4-26b-a4b': (25.2, 3.8),
  'gemma4-31b': (30.7, 30.7),
  'qwen2.5-0.5b': (0.5, 0.5),
  'qwen2.5-1.5b': (1.5, 1.5),
  'qwen2.5-3b': (3.1, 3.1),
  'qwen2.5-7b': (7.6, 7.6),
  'llama3.1-8b': (8.0, 8.0),
  'llama3.1-70b': (70.6, 70.6),
  'llama3.2-1b': (1.2, 1.2),
  'llama3.2-3b': (3.2, 3.2),
  'smollm2-135m': (0.1345, 0.1345),
}


@pytest.mark.parametrize('name', _REPORTED)
def test_published_models_have_the_published_sizes(name):
  cfg = published.configs()[name]
  embedding, rest = _REPORTED[name]
  assert cfg.embedding_parameters() / 1e6 == pytest.approx(embedding, rel=0.01)
  others = cfg.parameters() - cfg.embedding_parameters()
  assert others / 1e6 == pytest.approx(rest, abs=1)


@pytest.mark.parametrize('name', _TOTALS)
def test_published_models_have_the_published_totals(name):
  cfg = published.configs()[name]
  for got, want in zip(
    (cfg.parameters(), cfg.active_parameters()), _TOTALS[name]
  ):
    assert want is None or got / 1e9 == pytest.approx(want, abs=0.05)


def test_published_names_are_all_checked():
  assert published.configs().keys() == _REPORTED.keys() | _TOTALS.keys()
  assert published.configs()['gemma2-9b'].parameters() == 9_241_705_984


def test_parameters_equal_a_sum_over_the_arrays():
  cfg = hf_config.from_hf(
    _hf('gemma3_text', **_TINY, tie_word_embeddings=False)
  )
  layer = [
    (24, 4 * 8),  # query
    (24, 2 * 8),  # key
    (24, 2 * 8),  # value
    (4 * 8, 24),  # output
    (24, 40),  # gate
    (24, 40),  # up
    (40, 24),  # down
  ]
  matrices = sum(rows * columns for rows, columns in layer)
  assert cfg.matrix_parameters() == 8 * matrices
  norms = 4 * 24 + 2 * 8
  assert cfg.embedding_parameters() == 2 * 99 * 24
  assert cfg.parameters() == 2 * 99 * 24 + 8 * (matrices + norms) + 24


@pytest.mark.parametrize(
  ('change', 'named'),
  [
    ({'num_layers': 7}, 'layer_kinds'),
    ({'layer_kinds': ('near',) * 8}, 'layer_kinds'),
    ({'num_kv_heads': 3}, 'num_kv_heads'),
    ({'head_dim': 7}, 'head_dim'),
    ({'activation': 'relu'}, 'activation'),
    ({'num_kv_shared_layers': 7}, 'num_kv_shared_layers'),
    ({'experts_per_token': 1}, 'experts_per_token'),
  ],
)
def test_a_config_that_contradicts_itself_is_refused(change, named):
  cfg = hf_config.from_hf(_hf('gemma2', **_TINY))
  with pytest.raises(ValueError, match=named):
    dataclasses.replace(cfg, **change)


def test_can_be_a_static_argument():
  assert hash(published.configs()['gemma2-2b'])
