"""Fine-tunes one model; the best goes to `DIR/model/`, a Hugging Face folder.

  python launch/sft.py --workdir=runs/tuned --config.checkpoint=tiny-student \
    --config.train=runs/first --config.task=arith
"""

import os

from absl import flags

from wcse_jax import cli
from wcse_jax.sft import grid, settings


_PROFILE = flags.DEFINE_integer(
  'profile', 0, 'Steps of which a profiler trace is written to DIR/profile/.'
)


def run(config: settings.SftConfig, workdir: str) -> None:
  config.profile = config.profile or _PROFILE.value
  result = grid.run(config, workdir)
  print(
    f'best of {len(result["scores"])} checkpoints by {result["chosen_by"]}: '
    f'step {result["best_step"]} of {result["steps"]}: {workdir}/model'
  )


if __name__ == '__main__':
  cli.main(
    run,
    os.path.join(os.path.dirname(__file__), '../configs/sft.py'),
    several=True,
  )
