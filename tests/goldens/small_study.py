"""The small study of tests/study/run_test.py."""

from wcse_jax.sampler import settings as sampler_settings
from wcse_jax.sft import settings as sft_settings
from wcse_jax.study import settings


def get_config() -> settings.StudyConfig:
  return settings.StudyConfig(
    problems=24,
    test=settings.TestSet(limit=24),
    validation_problems=8,
    budgets={'low': 1, 'high': 2},
    truth_samples=8,
    pilot_problems=16,
    pilot_samples=4,
    cost_ratios=(1.5, 4.0),
    setups={'student': settings.usual_setups()['student']},
    replicates=1,
    majority=(2,),
    sampler=sampler_settings.SamplerConfig(
      top_k=3, max_new_tokens=64, slots=64, prefill_batch=32
    ),
    sft=sft_settings.SftConfig(
      steps=4,
      batch_size=8,
      max_length=128,
      checkpoints=2,
      optimizer=sft_settings.OptimizerConfig(learning_rate=1e-3),
    ),
  )
