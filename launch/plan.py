"""Plans from pilots: `DIR/plan.json` and a table.

  python launch/plan.py --workdir=runs/plan \
    --config.pilots="('runs/wc-pilot','runs/se-pilot')" --config.budget=10

Grades from anywhere, as JSON lines of problem_id, index and correct:

  python launch/plan.py --workdir=runs/plan \
    --config.pilots="('weak.jsonl','strong.jsonl')" --config.costs='(1.0,3.0)'
"""

import os

from wcse_jax import cli
from wcse_jax.plan import planner, settings, shown


def run(config: settings.PlanConfig, workdir: str) -> None:
  print(shown.table(planner.plan(config, workdir)))


if __name__ == '__main__':
  cli.main(run, os.path.join(os.path.dirname(__file__), '../configs/plan.py'))
