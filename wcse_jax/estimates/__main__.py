"""Prints what the paper's study would cost on TPU slices.

    python -m wcse_jax.estimates --task=math --topologies=v5e:4x4,v5e:8x8

Each stage is on the first of the slices that it fits.
"""

import argparse
import json
import os
import sys

from wcse_jax import errors, prices
from wcse_jax.estimates import figures, paper, tpu


def main() -> None:
  parser = argparse.ArgumentParser(
    prog='python -m wcse_jax.estimates', description=__doc__.split('\n')[0]
  )
  parser.add_argument('--task', choices=list(paper.TASKS), default='math')
  parser.add_argument('--topologies', default='v5e:4x4,v5e:8x8')
  parser.add_argument('--replicas', type=int, default=1)
  parser.add_argument('--share', type=float, default=1.0)
  parser.add_argument('--rates', type=int, default=paper.RATES)
  parser.add_argument('--replicates', type=int, default=1)
  parser.add_argument('--most_question', type=int, default=0)
  parser.add_argument('--cores', type=int, default=os.cpu_count() or 1)
  parser.add_argument('--prices', default='')
  parser.add_argument('--json', action='store_true')
  given = parser.parse_args()
  try:
    prices.use(given.prices)
    found = []
    for job in paper.study(
      given.task,
      rates=given.rates,
      replicates=given.replicates,
      cores=given.cores,
      most_question=given.most_question,
    ):
      print(f'{job.stage}: {job.name}', file=sys.stderr)
      found.append(
        tpu.on_first(
          job,
          given.topologies.split(','),
          replicas=given.replicas,
          share=given.share,
        )
      )
  except errors.InputError as error:
    print(f'{parser.prog}: {error}', file=sys.stderr)
    sys.exit(2)
  if given.json:
    print(json.dumps(figures.report(found), indent=2))
  else:
    print(figures.text(found))


if __name__ == '__main__':
  main()
