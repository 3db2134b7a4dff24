"""Which figure of the data tells the better student, on the embedded models.

Command:   python launch/proxies.py --workdir=runs/proxies
Hardware:  2 CPU cores
Result:    210 students, and `proxies.json`; see docs/results/proxies.md
"""

from wcse_jax import proxies
from wcse_jax.sampler import settings as sampler_settings
from wcse_jax.sft import settings as sft_settings


def get_config() -> proxies.ProxiesConfig:
  return proxies.ProxiesConfig(
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
      checkpoints=1,
      optimizer=sft_settings.OptimizerConfig(
        learning_rate=1e-4, warmup_steps=10
      ),
    ),
  )
