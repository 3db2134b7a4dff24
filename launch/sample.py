"""Samples one model on one task into `DIR/samples/<model>/`.

  python launch/sample.py --workdir=runs/first \
    --config.checkpoint=tiny-wc --config.samples_per_problem=4

Follows a plan of `launch/plan.py`, and grades as it goes:

  python launch/sample.py --workdir=runs/planned
  --config.plan=runs/plan/plan.json
"""

import os

from wcse_jax import cli, follow
from wcse_jax.sampler import inputs
from wcse_jax.sampler import run as sampling


def run(config: inputs.SampleConfig, workdir: str) -> None:
  if config.plan:
    done = follow.follow(config, workdir)
    print(
      f'{done["solved"]} of {done["problems"]} problems solved for '
      f'{done["cost"]:.4g} of {done["budget"]:.4g} {done["currency"]}: '
      f'{workdir}/followed.json'
    )
    return
  cost = sampling.sample(config, workdir)
  rate = cost['decode_tokens'] / max(cost['chip_seconds'], 1e-9)
  print(
    f'{int(cost["decode_tokens"])} tokens drawn in '
    f'{cost["chip_seconds"]:.1f} chip-seconds, {rate:.0f} a second: '
    f'{workdir}/samples'
  )


if __name__ == '__main__':
  cli.main(
    run,
    os.path.join(os.path.dirname(__file__), '../configs/sample.py'),
    several=True,
  )
