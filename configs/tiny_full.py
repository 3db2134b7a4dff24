"""The whole grid on the embedded models: every arm that a study can have.

Command:   python launch/study.py --workdir=runs/tiny-full \
             --config=configs/tiny_full.py
Hardware:  2 CPU cores, 3 GB of memory
Time:      see docs/results/tiny-full.md
"""

import dataclasses

from wcse_jax.study import recipes, settings


def get_config() -> settings.StudyConfig:
  config = dataclasses.replace(
    recipes.tiny(),
    title='The whole grid (embedded models)',
    budgets={'low': 1, 'mid': 3, 'high': 5},
    test=settings.TestSet(limit=1024),
    transfer={'hard': settings.TestSet(task='arith', split='hard', limit=512)},
    replicates=5,
    power=settings.Power(accuracy=0.25, disagreement=0.2, wanted=0.03),
  )
  config = dataclasses.replace(
    config,
    setups=config.setups
    | {
      'student_low': dataclasses.replace(
        config.setups['student'],
        title='Knowledge distillation, low budget',
        arms=('wc', 'se'),
        budgets=('low',),
      )
    },
  )
  config = recipes.equal_epochs(config, epochs=3)
  config = recipes.coverage_against_diversity(config)
  config = recipes.data_size(config, (0.25,))
  config = recipes.mixing(config, (0.5,))
  config = recipes.no_reference(config)
  config = recipes.hotter(config)
  config = recipes.prompts(config, shots=2)
  config = recipes.rounds(config)
  return recipes.planned(config, problems=96)
