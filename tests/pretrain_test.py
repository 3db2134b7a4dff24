"""The embedded models are made by the project's own loop."""

import importlib.util
import pathlib

from wcse_jax import checkpoints, pretrain, storage
from wcse_jax.sft import settings


CONFIGS = pathlib.Path(__file__).parents[1] / 'configs' / 'tiny.py'
_SPEC = importlib.util.spec_from_file_location('tiny', CONFIGS)
tiny = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(tiny)


def test_a_model_is_made_from_nothing(tmp_path):
  config = pretrain.PretrainConfig(
    name='tiny',
    family='gemma3_text',
    d_model=16,
    d_ff=16,
    num_layers=3,
    num_heads=2,
    num_kv_heads=1,
    head_dim=8,
    sft=settings.SftConfig(
      steps=3, batch_size=8, max_length=104, checkpoints=1
    ),
  )
  target = str(tmp_path / 'tiny')
  pretrain.make(config, str(tmp_path / 'work'), target)
  model, tokenizer = checkpoints.load(target)
  assert model.config.num_layers == 3
  assert tokenizer.end_ids == (1,)
  assert storage.exists(storage.join(target, 'manifest.json'))
  rows = storage.read_text(str(tmp_path / 'work' / 'train.jsonl'))
  assert len(rows.splitlines()) == 24
  # Killed and begun again, it takes what is there.
  before = storage.sha256(storage.join(target, 'model.safetensors'))
  pretrain.make(config, str(tmp_path / 'work'), target)
  assert storage.sha256(storage.join(target, 'model.safetensors')) == before


def test_training_rows_leave_the_top_levels_out():
  for name in checkpoints.EMBEDDED:
    assert max(tiny.get_config(name).levels) == 4


def test_committed_models_have_the_committed_architecture():
  for name in checkpoints.EMBEDDED:
    found = checkpoints.read_config(name)
    wanted = pretrain.architecture(tiny.get_config(name), found.vocab_size)
    assert found == wanted
