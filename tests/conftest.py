"""Eight virtual CPU devices, strict shapes, and small checkpoints to load.

The environment is set before anything imports jax; processes that tests start
inherit it.
"""

import json
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy


os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['JAX_NUMPY_RANK_PROMOTION'] = 'raise'
os.environ['XLA_FLAGS'] = '--xla_force_host_platform_device_count=8'


# Windows far below the prompts, several key/value heads, and numbers of layers
# that leave a rest behind the last whole group.
_COMMON = {
  'vocab_size': 64,
  'hidden_size': 32,
  'intermediate_size': 48,
  'num_attention_heads': 8,
  'num_key_value_heads': 4,
  'head_dim': 8,
  'query_pre_attn_scalar': 6,
  'sliding_window': 7,
  'max_position_embeddings': 1024,
  'rms_norm_eps': 1e-5,
  'bos_token_id': 2,
  'eos_token_id': 1,
  'pad_token_id': 0,
}
_LOCAL, _GLOBAL = 'sliding_attention', 'full_attention'
_ROWS = {
  'gemma2': {
    **_COMMON,
    'model_type': 'gemma2',
    'architectures': ['Gemma2ForCausalLM'],
    'num_hidden_layers': 5,
    'layer_types': [_LOCAL, _GLOBAL, _LOCAL, _GLOBAL, _LOCAL],
    'attn_logit_softcapping': 2.0,
    'final_logit_softcapping': 3.0,
    'rope_parameters': {'rope_type': 'default', 'rope_theta': 500.0},
  },
  'gemma3': {
    **_COMMON,
    'model_type': 'gemma3_text',
    'architectures': ['Gemma3ForCausalLM'],
    'num_hidden_layers': 5,
    'layer_types': [_LOCAL, _GLOBAL, _LOCAL, _GLOBAL, _LOCAL],
    'rope_parameters': {
      _GLOBAL: {'rope_type': 'linear', 'factor': 8.0, 'rope_theta': 2000.0},
      _LOCAL: {'rope_type': 'default', 'rope_theta': 100.0},
    },
  },
}


def _tensors(row: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """Returns random weights by the names and shapes of transformers."""
  d, f, h = row['hidden_size'], row['intermediate_size'], row['head_dim']
  n, k = row['num_attention_heads'], row['num_key_value_heads']
  layer = {
    'self_attn.q_proj': (n * h, d),
    'self_attn.k_proj': (k * h, d),
    'self_attn.v_proj': (k * h, d),
    'self_attn.o_proj': (d, n * h),
    'mlp.gate_proj': (f, d),
    'mlp.up_proj': (f, d),
    'mlp.down_proj': (d, f),
    'input_layernorm': (d,),
    'post_attention_layernorm': (d,),
    'pre_feedforward_layernorm': (d,),
    'post_feedforward_layernorm': (d,),
  }
  if row['model_type'] == 'gemma3_text':
    layer |= {'self_attn.q_norm': (h,), 'self_attn.k_norm': (h,)}
  shapes = {'embed_tokens': (row['vocab_size'], d), 'norm': (d,)}
  for i in range(row['num_hidden_layers']):
    shapes |= {f'layers.{i}.{name}': shape for name, shape in layer.items()}
  # A seed whose greedy continuations do not end in a loop of one token.
  rng = np.random.default_rng(18)
  # Gains far from where a fresh model has them.
  return {
    f'model.{name}.weight': (
      rng.normal(size=shape) * (shape[-1] ** -0.5 if len(shape) == 2 else 0.3)
    ).astype(np.float32)
    for name, shape in shapes.items()
  }


def _write(
  folder: pathlib.Path,
  row: Mapping[str, Any],
  tensors: Mapping[str, np.ndarray],
  files: int = 1,
) -> str:
  """Writes a Hugging Face folder; several files have an index."""
  folder.mkdir(parents=True, exist_ok=True)
  (folder / 'config.json').write_text(json.dumps(row))
  names = sorted(tensors)
  where = {}
  for i in range(files):
    file = (
      'model.safetensors'
      if files == 1
      else f'model-{i + 1:05d}-of-{files:05d}.safetensors'
    )
    part = {name: tensors[name] for name in names[i::files]}
    where.update(dict.fromkeys(part, file))
    safetensors.numpy.save_file(part, folder / file, metadata={'format': 'pt'})
  if files > 1:
    index = {'metadata': {}, 'weight_map': where}
    (folder / 'model.safetensors.index.json').write_text(json.dumps(index))
  return str(folder)


@pytest.fixture(scope='session')
def hf_rows() -> dict[str, dict[str, Any]]:
  """The config.json of a small model by family; do not change it."""
  return _ROWS


@pytest.fixture(scope='session')
def hf_tensors() -> dict[str, dict[str, np.ndarray]]:
  """The float32 weights of the small models; do not change them."""
  return {family: _tensors(row) for family, row in _ROWS.items()}


@pytest.fixture(scope='session')
def write_hf() -> Callable[..., str]:
  """Writes (folder, config.json, tensors, files=1) as Hugging Face does."""
  return _write


@pytest.fixture(scope='session')
def hf_folders(tmp_path_factory, hf_tensors) -> dict[tuple[str, str], str]:
  """Folders of the small models by (family, dtype); do not change them.

  Those in bfloat16 have three files.
  """
  root = tmp_path_factory.mktemp('hf')
  folders = {}
  for family, row in _ROWS.items():
    tensors = hf_tensors[family]
    folders[family, 'float32'] = _write(
      root / family, {**row, 'dtype': 'float32'}, tensors
    )
    rounded = {k: v.astype(ml_dtypes.bfloat16) for k, v in tensors.items()}
    folders[family, 'bfloat16'] = _write(
      root / f'{family}-bfloat16', {**row, 'dtype': 'bfloat16'}, rounded, 3
    )
  return folders


@pytest.fixture(scope='session')
def _compiled() -> list[str]:
  import jax

  seen: list[str] = []

  def listen(event: str, *_, **__) -> None:
    if event == '/jax/core/compile/backend_compile_duration':
      seen.append(event)

  jax.monitoring.register_event_duration_secs_listener(listen)
  return seen


@pytest.fixture
def nothing_compiled(_compiled) -> Iterator[None]:
  """Fails the test if anything is compiled in it."""
  before = len(_compiled)
  yield
  assert len(_compiled) == before


@pytest.fixture(scope='session')
def tiny(tmp_path_factory):
  """The folder of an untrained model of two layers, with its tokenizer."""
  folder = str(tmp_path_factory.mktemp('checkpoint') / 'tiny')
  # Imported here, after the environment is set.
  from wcse_jax import pretrain

  config = pretrain.PretrainConfig(
    name='tiny',
    family='gemma2',
    d_model=16,
    d_ff=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    window=8,
  )
  pretrain._write_start(config, folder)
  return folder


@pytest.fixture(scope='session')
def loaded(tiny):
  """(model, tokenizer) on one device."""
  from wcse_jax import checkpoints

  return checkpoints.load(tiny)
