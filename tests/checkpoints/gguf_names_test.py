import families
import gguf as reference
import gguf_models
import numpy as np
import pytest

from wcse_jax import errors
from wcse_jax.checkpoints import gguf, gguf_config, gguf_names


@pytest.fixture
def opened(tmp_path):
  """Opens a written file as (source, config.json)."""
  files = []

  def do(path):
    file = gguf.File(path)
    files.append(file)
    row = gguf_config.config(file)
    return gguf_names.Source(file, row), row

  yield do
  for file in files:
    file.close()


@pytest.mark.parametrize('name', gguf_models.ROWS)
def test_every_weight_comes_back_exactly(name, opened, tmp_path):
  row = gguf_models.ROWS[name]
  tensors = families.tensors(row)
  source, _ = opened(gguf_models.write(tmp_path / 'x.gguf', row, tensors))
  assert source.shapes == families.shapes(row)
  for key, want in tensors.items():
    got = source.read(key)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, want, err_msg=key)
  scaled = row['model_type'] == 'gemma4_text' or name in ('llama', 'llama_tied')
  assert source.unused == (['rope_freqs.weight'] if scaled else [])


@pytest.mark.parametrize('kind', ['Q8_0', 'Q4_0', 'Q5_1', 'F16', 'BF16'])
@pytest.mark.parametrize('name', ['gemma3', 'gemma4_moe', 'qwen2', 'llama'])
def test_shorter_types_come_back_as_what_they_hold(
  name, kind, opened, tmp_path
):
  row = gguf_models.ROWS[name]
  tensors = families.tensors(row)
  path = gguf_models.write(tmp_path / 'x.gguf', row, tensors, kind)
  source, _ = opened(path)
  block, _ = reference.GGML_QUANT_SIZES[reference.GGMLQuantizationType[kind]]
  changed = 0
  for key, exact in tensors.items():
    if exact.ndim < 2 or exact.shape[-1] % block:
      assert source.kind(key) == 'F32'
      want = exact
    else:
      assert source.kind(key) == kind
      # Rows are quantised one by one, in whatever order they are stored.
      code = reference.GGMLQuantizationType[kind]
      want = reference.dequantize(reference.quantize(exact, code), code)
      changed += (want != exact).any()
    got = source.read(key).astype(np.float32)
    np.testing.assert_array_equal(got, want, err_msg=key)
  assert changed or kind in ('F16', 'BF16')


@pytest.mark.parametrize('name', ['gemma2', 'gemma4_moe', 'llama'])
def test_rows_are_those_of_the_whole(name, opened, tmp_path):
  source, _ = opened(gguf_models.named(tmp_path / 'x.gguf', name, 'Q8_0'))
  for key, shape in source.shapes.items():
    whole = source.read(key)
    for start, stop in {
      (0, 1),
      (0, shape[0]),
      (shape[0] // 3, shape[0] // 2 + 1),
      (shape[0] - 1, shape[0]),
      (shape[0], shape[0]),
    }:
      if start <= stop:
        got = source.read(key, start, stop)
        np.testing.assert_array_equal(got, whole[start:stop], err_msg=key)


@pytest.mark.parametrize('bounds', [(2, 1), (-1, 1), (0, 10_000)])
@pytest.mark.parametrize('part', ['q_proj', 'v_proj'])
def test_rows_that_are_not_there_are_refused(bounds, part, opened, tmp_path):
  source, _ = opened(gguf_models.named(tmp_path / 'x.gguf', 'llama'))
  with pytest.raises(ValueError, match=r'rows|start and stop'):
    source.read(f'model.layers.0.self_attn.{part}.weight', *bounds)


def test_a_gain_of_a_short_type_is_made_in_float32(opened, tmp_path):
  row = gguf_models.ROWS['gemma']
  # Less one, it has more digits than a float16 can hold.
  stored = np.full(row['hidden_size'], 2.0**-13, np.float16)
  path = gguf_models.write(
    tmp_path / 'x.gguf',
    row,
    families.tensors(row),
    extra={'output_norm.weight': stored},
  )
  source, _ = opened(path)
  got = source.read('model.norm.weight')
  assert got.dtype == np.float32
  assert (got == 2.0**-13 - 1).all()


def test_a_source_says_where_and_closes(tmp_path):
  path = gguf_models.named(tmp_path / 'x.gguf', 'qwen2')
  file = gguf.File(path, 'gs://bucket/x.gguf')
  with gguf_names.Source(file, gguf_config.config(file)) as source:
    name = 'model.embed_tokens.weight'
    assert source.where(name) == 'gs://bucket/x.gguf'
    source.read(name, 0, 1)
  with pytest.raises(OSError, match='Bad file descriptor'):
    source.read(name, 0, 1)


def test_keys_of_layers_that_share_them_are_unused(opened, tmp_path):
  row = gguf_models.ROWS['gemma4_e']
  tensors = families.tensors(row)
  extra = {
    f'model.layers.9.self_attn.{part}.weight': tensors[
      f'model.layers.4.self_attn.{part}.weight'
    ]
    for part in ('k_proj', 'v_proj', 'k_norm')
  }
  path = gguf_models.write(tmp_path / 'x.gguf', row, tensors | extra)
  source, _ = opened(path)
  assert source.shapes == families.shapes(row)
  assert source.unused == [
    'blk.9.attn_k.weight',
    'blk.9.attn_k_norm.weight',
    'blk.9.attn_v.weight',
    'rope_freqs.weight',
  ]


@pytest.mark.parametrize(
  'name',
  [
    'blk.3.attn_q.weight',
    'blk.0.attn_q_norm.weight',
    'blk.00.attn_q.bias',
    'blk.0.attn_q.bias',
    'blk.0.ffn_gate_exps.weight',
    f'blk.{"9" * 5000}.attn_q.weight'[:60],
    'per_layer_token_embd.weight',
    'v.blk.0.attn_q.weight',
    'model.layers.0.self_attn.q_proj.weight',
  ],
)
def test_a_tensor_of_another_model_is_named(name, opened, tmp_path):
  row = gguf_models.ROWS['llama_plain']
  path = gguf_models.write(
    tmp_path / 'x.gguf',
    row,
    families.tensors(row),
    extra={name: np.zeros(4, np.float32)},
  )
  with pytest.raises(errors.InputError) as caught:
    opened(path)
  assert str(caught.value) == (
    f'{path}: tensor {name} is none of a llama model of 3 layers.'
  )


def test_rows_that_are_no_whole_heads_are_refused(opened, tmp_path):
  row = gguf_models.ROWS['llama']
  tensors = families.tensors(row)
  name = 'model.layers.1.self_attn.k_proj.weight'
  tensors[name] = np.concatenate([tensors[name], tensors[name][:4]])
  with pytest.raises(errors.InputError) as caught:
    opened(gguf_models.write(tmp_path / 'x.gguf', row, tensors))
  message = str(caught.value)
  assert 'blk.1.attn_k.weight: wanted 32 rows, 2 heads' in message
  assert message.endswith('got 36.')
