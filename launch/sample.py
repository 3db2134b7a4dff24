"""Samples one model on one task into `DIR/samples/<model>/`.

  python launch/sample.py --workdir=runs/first \
    --config.checkpoint=tiny-wc --config.samples_per_problem=4

Samples a model of an OpenAI-compatible server, whose key, if it wants one, is
in the environment variable OPENAI_API_KEY (`--config.key_variable`):

  python launch/sample.py --workdir=runs/served \
    --config.server=http://localhost:8000/v1 --config.model=NAME

Follows a plan of `launch/plan.py`, and grades as it goes:

  python launch/sample.py --workdir=runs/planned
  --config.plan=runs/plan/plan.json
"""

import os

from wcse_jax import cli
from wcse_jax.sampler import inputs, remote


def run(config: inputs.SampleConfig, workdir: str) -> None:
  if config.server:
    cost = remote.sample(config, workdir)
    usd = f', for {cost["usd"]:.4g} USD' if 'usd' in cost else ''
    print(
      f'{int(cost["decode_tokens"])} tokens drawn, '
      f'{int(cost["prefill_tokens"])} read{usd}: {workdir}/samples'
    )
    return
  # With jax, which a server's model does not need.
  from wcse_jax import follow
  from wcse_jax.sampler import run as sampling

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
    several=lambda config: not config.server,
  )
