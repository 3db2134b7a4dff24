"""Log-probabilities of given texts: a line of means, and an npz.

  python launch/score.py --input=texts.jsonl --output=scores.npz \
    --config.checkpoint=tiny-se

Rows of `{"tokens": [...]}` are used as given; rows of `{"prompt",
"completion"}` are encoded as for training.
"""

import os

from absl import flags

from wcse_jax import cli, score


_INPUT = flags.DEFINE_string('input', '', 'JSONL of texts.')
_OUTPUT = flags.DEFINE_string('output', '', 'The npz to write.')
_FULL_LOGITS = flags.DEFINE_bool(
  'full_logits', False, 'Whether to write the logits of every position, too.'
)
_CONFIG = os.path.join(os.path.dirname(__file__), '../configs/score.py')


def run(config: score.ScoreConfig, workdir: str) -> None:
  result = score.score(
    config,
    _INPUT.value,
    _OUTPUT.value,
    full_logits=_FULL_LOGITS.value,
    workdir=workdir,
  )
  print(f'{score.line(result)}: {_OUTPUT.value}')


if __name__ == '__main__':
  cli.main(run, _CONFIG, needs_workdir=False)
