"""Every family against the installed transformers, at every position.

Needs torch; tests/models/golden_test.py checks the same without it, by files.
"""

import json

import families
import numpy as np
import pytest
import references
import safetensors.numpy

from wcse_jax import checkpoints


# Nats.  What float32 leaves of two orders of summation is 6e-5 and less; a term
# left out or out of place is a hundred times that and more.
_LIMIT = 1e-4
# Nats a token, mean over positions.
_BFLOAT16_LIMIT = 1e-2

# Whose samples tests/models/golden_test.py draws anyway.
_QUICK = ('gemma4_e',)


@pytest.fixture(scope='module')
def theirs(goldens):
  """Returns the transformers model of (family, dtype), loaded once."""
  pytest.importorskip('torch')
  made = {}

  def get(family, dtype='float32'):
    if (family, dtype) not in made:
      made[family, dtype] = references.load(goldens[family].folder, dtype)
    return made[family, dtype]

  return get


def _each(quick=families.ROWS):
  return [
    pytest.param(f, marks=() if f in quick else pytest.mark.slow)
    for f in families.ROWS
  ]


@pytest.mark.parametrize('family', _each())
def test_logits_equal_transformers(family, goldens, ours, theirs):
  model = theirs(family)
  prompts, logits = goldens[family].prompts, ours.logits(family)
  assert max(map(len, prompts)) == 600
  for prompt_T, got_TV in zip(prompts, logits, strict=True):
    want_TV = references.logits(model, prompt_T)
    assert 1 < want_TV.std() < 4
    assert np.abs(got_TV - want_TV).max() <= _LIMIT


@pytest.mark.parametrize('family', _each(_QUICK))
def test_greedy_samples_equal_transformers(family, goldens, ours, theirs):
  model = theirs(family)
  for prompt_T, sample in zip(
    goldens[family].prompts, ours.samples(family), strict=True
  ):
    assert len(sample.tokens) == 64
    want_T = references.greedy(model, prompt_T, 64)
    assert list(sample.tokens) == want_T


@pytest.mark.slow
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('family', _each())
def test_bfloat16_stays_close_to_transformers(
  family, dtype, goldens, ours, theirs
):
  model = theirs(family, dtype)
  divergences = [
    references.divergence(references.logits(model, prompt_T), got_TV)
    for prompt_T, got_TV in zip(
      goldens[family].prompts, ours.logits(family, 'bfloat16'), strict=True
    )
  ]
  assert 0 < np.concatenate(divergences).mean() <= _BFLOAT16_LIMIT


def _gemma3(row):
  import transformers

  return transformers.Gemma3Config(
    text_config=row,
    vision_config={
      'hidden_size': 8,
      'intermediate_size': 8,
      'num_hidden_layers': 1,
      'num_attention_heads': 2,
      'image_size': 8,
      'patch_size': 4,
    },
    mm_tokens_per_image=4,
  )


def _gemma4(row):
  import transformers

  return transformers.Gemma4Config(
    text_config=row,
    vision_config={
      'hidden_size': 8,
      'intermediate_size': 8,
      'num_hidden_layers': 1,
      'num_attention_heads': 2,
      'num_key_value_heads': 2,
      'head_dim': 4,
      'position_embedding_size': 16,
    },
    audio_config={
      'hidden_size': 8,
      'num_hidden_layers': 1,
      'num_attention_heads': 2,
      'subsampling_conv_channels': [4, 4],
      'output_proj_dims': 8,
    },
  )


@pytest.mark.parametrize(
  ('family', 'name', 'config'),
  [
    ('gemma3', 'Gemma3ForConditionalGeneration', _gemma3),
    ('gemma4_e', 'Gemma4ForConditionalGeneration', _gemma4),
  ],
)
def test_text_model_is_read_out_of_a_multimodal_one(
  family, name, config, goldens, ours, tmp_path
):
  torch = pytest.importorskip('torch')
  import transformers

  golden = goldens[family]
  # `from_dict` of the text config changes what it is given.
  row = json.loads(json.dumps(golden.row))
  model = getattr(transformers, name)(config(row)).eval()
  state = model.state_dict()
  with torch.no_grad():
    for key, tensor in golden.tensors.items():
      inner = key.replace('model.', 'model.language_model.', 1)
      state[inner].copy_(torch.from_numpy(tensor))
  model.set_attn_implementation('eager')
  model.save_pretrained(tmp_path)
  families.write_tokenizer(tmp_path, golden.row['vocab_size'])
  # Published folders hold keys and values that nothing reads.
  path = tmp_path / 'model.safetensors'
  tensors = safetensors.numpy.load_file(path)
  if family == 'gemma4_e':
    (first,) = (k for k in tensors if k.endswith('.0.self_attn.k_proj.weight'))
    unread = first.replace('.0.', '.5.')
    assert unread not in tensors
    tensors[unread] = tensors[first]
    safetensors.numpy.save_file(tensors, path, metadata={'format': 'pt'})
  assert any('vision_tower' in key for key in tensors)

  ours_model, _ = checkpoints.load(str(tmp_path), scan=False)
  got_BTV = ours.forward(ours_model, references.padded(golden.prompts))
  for b, prompt_T in enumerate(golden.prompts):
    want_TV = references.logits(model, prompt_T)
    assert np.abs(got_BTV[b, : len(prompt_T)] - want_TV).max() <= _LIMIT
