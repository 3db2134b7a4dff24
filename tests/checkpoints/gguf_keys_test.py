import gguf as reference
import numpy as np
import pytest

from wcse_jax import errors
from wcse_jax.checkpoints import gguf, gguf_keys


@pytest.fixture
def keys(tmp_path):
  """Returns the keys of a file with these values, of an embedding of 5 rows."""

  def do(arch='llama', **values):
    path = tmp_path / 'x.gguf'
    writer = reference.GGUFWriter(path, arch)
    for name, value in values.items():
      key = f'{arch}.{name.replace("__", ".")}'
      kind = {
        int: reference.GGUFValueType.INT64,
        float: reference.GGUFValueType.FLOAT64,
        np.float32: reference.GGUFValueType.FLOAT32,
        str: reference.GGUFValueType.STRING,
        list: reference.GGUFValueType.ARRAY,
      }[type(value)]
      writer.add_key_value(key, value, kind)
    writer.add_uint32('tokenizer.ggml.eos_token_id', 4)
    writer.add_uint32('tokenizer.ggml.bos_token_id', 5)
    writer.add_tensor('token_embd.weight', np.zeros((5, 2), np.float32))
    writer.add_tensor('output_norm.weight', np.zeros(2, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with gguf.File(str(path), 'x.gguf') as file:
      return gguf_keys.Keys(file, ['llama', 'gemma'])

  return do


def test_values_of_each_form(keys):
  found = keys(a=3, b=0.5, c=[1, 2, 3], d=[4, 4], block_count=2)
  assert found.arch == 'llama'
  assert found.get('a') == found.count('a') == 3
  assert found.count('missing', 7) == 7
  assert found.count('missing', 0) == 0
  assert found.number('b') == 0.5
  assert found.number('a') == 3.0
  assert found.number('missing', None) is None
  assert found.per_layer('c', 3) == [1, 2, 3]
  assert found.per_layer('a', 2) == [3, 3]
  assert found.same('d') == 4
  assert found.rows('token_embd.weight') == 5
  assert found.token('eos_token_id') == 4
  assert found.token('eot_token_id') is None


def test_only_a_float32_is_shortened(keys):
  found = keys(short=np.float32(1e-6), long=1e-6, far=1e300, near=0.1 + 1e-12)
  assert found.number('short') == found.number('long') == 1e-6
  assert found.number('far') == 1e300
  assert found.number('near') == 0.1 + 1e-12


@pytest.mark.parametrize(
  ('call', 'reason'),
  [
    (lambda k: k.get('b'), 'wanted the metadata key llama.b; there is none'),
    (
      lambda k: k.count('zero'),
      'llama.zero: wanted a whole number of at least',
    ),
    (
      lambda k: k.count('huge'),
      'llama.huge: wanted a whole number of at least',
    ),
    (
      lambda k: k.count('text'),
      "wanted a whole number of at least 1; got 'a b'",
    ),
    (
      lambda k: k.number('text'),
      "llama.text: wanted a positive number; got 'a",
    ),
    (lambda k: k.number('zero'), 'llama.zero: wanted a positive number; got 0'),
    (lambda k: k.per_layer('list', 3), 'llama.list: wanted 3 whole numbers of'),
    (lambda k: k.same('list'), 'wanted one number for all layers; got [1, 2]'),
    (lambda k: k.token('bos_token_id'), 'the id of a row of token_embd.weight'),
    (
      lambda k: k.rows('output_norm.weight'),
      'wanted a matrix output_norm.weig',
    ),
    (
      lambda k: k.rows('output.weight'),
      'wanted a matrix output.weight; got no',
    ),
    (lambda k: k.scaling(), 'none, or linear with a factor; got '),
  ],
)
def test_what_is_wrong_is_named(call, reason, keys):
  found = keys(
    zero=0,
    huge=2**40,
    text='a b',
    list=[1, 2],
    block_count=2,
    rope__scaling__type='longrope',
  )
  with pytest.raises(errors.InputError) as caught:
    call(found)
  assert str(caught.value).startswith('x.gguf: ')
  assert reason in str(caught.value)


def test_a_long_value_is_cut(keys):
  found = keys(text='x\n' * 10_000)
  with pytest.raises(errors.InputError) as caught:
    found.count('text')
  assert len(str(caught.value)) < 200
  assert '\n' not in str(caught.value)


def test_another_architecture_is_refused(keys):
  with pytest.raises(errors.InputError) as caught:
    keys(arch='qwen3')
  assert str(caught.value) == (
    "x.gguf: general.architecture: wanted one of llama, gemma; got 'qwen3'."
  )
