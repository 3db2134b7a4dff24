"""The study that tests/study_test.py kills."""

from wcse_jax.sampler import settings as sampler_settings
from wcse_jax.sft import settings as sft_settings
from wcse_jax.study import settings


def get_config() -> settings.StudyConfig:
  return settings.StudyConfig(
    problems=128,
    test=settings.TestSet(limit=64),
    validation_problems=16,
    budgets={'low': 1, 'high': 2},
    truth_samples=16,
    cost_ratios=(1.5, 4.0),
    setups={
      name: setup
      for name, setup in settings.usual_setups(('wc', 'se')).items()
      if name != 'se'
    },
    replicates=1,
    majority=(2,),
    sampler=sampler_settings.SamplerConfig(
      top_k=3, max_new_tokens=64, slots=64, prefill_batch=32
    ),
    sft=sft_settings.SftConfig(
      steps=12,
      batch_size=8,
      max_length=128,
      checkpoints=3,
      optimizer=sft_settings.OptimizerConfig(learning_rate=1e-3),
    ),
  )
