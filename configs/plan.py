"""Defaults of `launch/plan.py`.

Command:   python launch/plan.py --workdir=runs/plan \
             --config.pilots="('runs/wc','runs/se')" --config.budget=10
Hardware:  one CPU core
Time:      seconds; see docs/results/planner.md
Result:    runs/plan/plan.json, and a table
"""

from wcse_jax.plan import settings


def get_config() -> settings.PlanConfig:
  return settings.PlanConfig()
