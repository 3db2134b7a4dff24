"""Has a language model judge the reasoning of right samples: `DIR/judgements`.

  python launch/judge.py --workdir=runs/first --config.checkpoint=PATH

By a model of an OpenAI-compatible server, whose key, if it wants one, is in the
environment variable OPENAI_API_KEY (`--config.key_variable`):

  python launch/judge.py --workdir=runs/first \
    --config.server=http://localhost:8000/v1 --config.model=NAME
"""

import os

from wcse_jax import cli, judge, judgements


def run(config: judge.JudgeConfig, workdir: str) -> None:
  print(judgements.table(judge.judge(config, workdir)))


if __name__ == '__main__':
  cli.main(run, os.path.join(os.path.dirname(__file__), '../configs/judge.py'))
