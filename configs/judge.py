"""Defaults of `launch/judge.py`: 500 right samples of each model.

Command:   python launch/judge.py --workdir=runs/first
             --config.checkpoint=PATH
Hardware:  what the judge takes; 2 CPU cores for one of 0.5B parameters
Time:      6 s a text for a judge of 0.5B parameters, compiling included
Result:    runs/first/judgements/<model>/<judge>/, and a table with the canaries
"""

from wcse_jax import judge


def get_config() -> judge.JudgeConfig:
  return judge.JudgeConfig()
