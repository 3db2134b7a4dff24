"""Makes the embedded models: a random start, then the project's own training.

The rows are problems of `arith` that occur in none of its splits, with worked
solutions, in the prompt format of every later stage.  The top levels are left
out, so that they stay hard.
"""

import dataclasses
import itertools
import re

import jax.numpy as jnp
from flax import nnx

from wcse_jax import checkpoints, storage
from wcse_jax import tokenizer as tokenizers
from wcse_jax.models import config as model_config
from wcse_jax.models import hf_config, transformer
from wcse_jax.sft import data, settings, train
from wcse_jax.tasks import arith


@dataclasses.dataclass(kw_only=True)
class PretrainConfig:
  """One embedded model.

  Attributes:
    name: of the checkpoint.
    family: `gemma2` or `gemma3_text`, as `model_type` of config.json.
    d_model, d_ff, num_layers, num_heads, num_kv_heads, head_dim: sizes.
    window: tokens that a local layer sees.
    levels: levels of `arith` in the training rows.
    sft: the training run; its checkpoint and data are filled in.
  """

  name: str
  family: str
  d_model: int
  d_ff: int
  num_layers: int
  num_heads: int
  num_kv_heads: int
  head_dim: int
  window: int = 48
  levels: tuple[int, ...] = (1, 2, 3, 4)
  sft: settings.SftConfig = dataclasses.field(
    default_factory=settings.SftConfig
  )


def make(config: PretrainConfig, workdir: str, target: str) -> None:
  """Trains one embedded model and exports it to the folder `target`."""
  workdir = workdir.rstrip('/')
  start = storage.join(workdir, 'start')
  rows = storage.join(workdir, 'train.jsonl')
  _write_start(config, start)
  sft = dataclasses.replace(config.sft, checkpoint=start, train=rows)
  if not storage.exists(rows):
    count = sft.steps * sft.batch_size
    stream = arith.stream(f'pretrain {config.name}', levels=config.levels)
    task = arith.Arith()
    data.write(
      rows,
      [
        data.example(task, problem, problem.solution)
        for problem in itertools.islice(stream, count)
      ],
    )
  train.run(sft, storage.join(workdir, 'run'))
  model, tokenizer = checkpoints.load(storage.join(workdir, 'run', 'model'))
  checkpoints.export(model, tokenizer, target)


def vocabulary() -> list[str]:
  """Returns every word that `arith` can write."""
  found: set[str] = set()
  for problem in itertools.islice(arith.stream('vocabulary'), 4000):
    found.update(re.findall(r'[A-Za-z]+', problem.question))
    found.update(re.findall(r'[A-Za-z]+', problem.solution))
  return sorted(found)


def architecture(
  config: PretrainConfig, vocab_size: int
) -> model_config.ModelConfig:
  """Returns the model of these sizes in its family."""
  period = 2 if config.family == 'gemma2' else 3
  described = {
    'model_type': config.family,
    'vocab_size': vocab_size,
    'hidden_size': config.d_model,
    'intermediate_size': config.d_ff,
    'num_hidden_layers': config.num_layers,
    'num_attention_heads': config.num_heads,
    'num_key_value_heads': config.num_kv_heads,
    'head_dim': config.head_dim,
    'query_pre_attn_scalar': config.head_dim,
    'sliding_window': config.window,
    'layer_types': [
      'full_attention' if i % period == period - 1 else 'sliding_attention'
      for i in range(config.num_layers)
    ],
    'max_position_embeddings': 8192,
    'hidden_activation': 'gelu_pytorch_tanh',
    'rms_norm_eps': 1e-6,
    'tie_word_embeddings': True,
    'bos_token_id': 2,
    'eos_token_id': 1,
    'pad_token_id': 0,
  }
  return hf_config.from_hf(described)


def _write_start(config: PretrainConfig, folder: str) -> None:
  """Writes the untrained model with its tokenizer."""
  if storage.exists(storage.join(folder, 'manifest.json')):
    return
  storage.publish(
    storage.join(folder, 'tokenizer.json'),
    tokenizers.word_tokenizer(vocabulary()),
  )
  storage.publish_json(
    storage.join(folder, 'tokenizer_config.json'),
    {
      'tokenizer_class': 'PreTrainedTokenizerFast',
      'bos_token': '<bos>',
      'eos_token': '<eos>',
      'pad_token': '<pad>',
      'unk_token': '<unk>',
      'clean_up_tokenization_spaces': False,
    },
  )
  tokenizer = tokenizers.load(folder)
  # Rounded up, so that a mesh can split the vocabulary.
  rows = -(-tokenizer.size // 16) * 16
  model = transformer.Transformer(
    architecture(config, rows),
    dtype=jnp.float32,
    rngs=nnx.Rngs(config.sft.seed),
  )
  checkpoints.export(model, tokenizer, folder)
