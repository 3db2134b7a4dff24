import json

import pytest

from wcse_jax import checkpoints, pretrain


@pytest.fixture(scope='session')
def tiny(tmp_path_factory):
  """The folder of an untrained model of two layers, with its tokenizer."""
  folder = str(tmp_path_factory.mktemp('checkpoint') / 'tiny')
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
  return checkpoints.load(tiny)


@pytest.fixture(scope='session')
def sums(tmp_path_factory):
  """A JSONL file of twelve sums with their results."""
  path = tmp_path_factory.mktemp('data') / 'train.jsonl'
  rows = [
    {'prompt': f'Q: {i} + {i % 5}?\nA:', 'completion': f' {i + i % 5}.'}
    for i in range(12)
  ]
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return str(path)
