"""The embedded models: how `launch/make_tiny.py` trains each.

Command:   bash launch/make_tiny.sh
Hardware:  2 CPU cores
Time:      tens of minutes, most of them for tiny-se
Result:    docs/results/embedded.md
"""

from wcse_jax import pretrain
from wcse_jax.sft import settings


def _sft(steps: int, seed: int) -> settings.SftConfig:
  return settings.SftConfig(
    steps=steps,
    batch_size=64,
    accumulate=8,
    max_length=104,
    checkpoints=4,
    seed=seed,
    optimizer=settings.OptimizerConfig(
      learning_rate=3e-3, schedule='cosine', warmup_steps=50, weight_decay=0.01
    ),
  )


def get_config(name: str = 'tiny-wc') -> pretrain.PretrainConfig:
  models = {
    'tiny-wc': pretrain.PretrainConfig(
      name='tiny-wc',
      family='gemma2',
      d_model=48,
      d_ff=144,
      num_layers=3,
      num_heads=2,
      num_kv_heads=1,
      head_dim=24,
      sft=_sft(steps=2000, seed=1),
    ),
    'tiny-se': pretrain.PretrainConfig(
      name='tiny-se',
      family='gemma2',
      d_model=96,
      d_ff=160,
      num_layers=4,
      num_heads=4,
      num_kv_heads=1,
      head_dim=24,
      sft=_sft(steps=900, seed=2),
    ),
    'tiny-student': pretrain.PretrainConfig(
      name='tiny-student',
      family='gemma3_text',
      d_model=64,
      d_ff=160,
      num_layers=3,
      num_heads=2,
      num_kv_heads=1,
      head_dim=32,
      sft=_sft(steps=800, seed=3),
    ),
  }
  return models[name]
