"""The study of the embedded models, on any machine.

Command:   bash launch/quickstart.sh
Hardware:  2 CPU cores, 2 GB of memory
Time:      9 minutes, the install included
Result:    WC covers 6.8 points more of the problems at the high budget (95%
           interval 0.5 to 12.5); no difference between students is seen
"""

from wcse_jax.sampler import settings as sampler_settings
from wcse_jax.sft import settings as sft_settings
from wcse_jax.study import settings


def get_config() -> settings.StudyConfig:
  return settings.StudyConfig(
    title='Weaker and cheaper, or stronger and dearer? (embedded models)',
    problems=192,
    test=settings.TestSet(task='', limit=256),
    validation_problems=64,
    budgets={'low': 1, 'high': 5},
    truth_samples=128,
    pilot_problems=96,
    replicates=3,
    sampler=sampler_settings.SamplerConfig(
      temperature=0.7,
      top_k=3,
      max_new_tokens=80,
      slots=512,
      prefill_batch=64,
    ),
    sft=sft_settings.SftConfig(
      steps=80,
      batch_size=16,
      accumulate=2,
      max_length=128,
      checkpoints=2,
      optimizer=sft_settings.OptimizerConfig(
        learning_rate=1e-4, warmup_steps=10
      ),
    ),
  )
