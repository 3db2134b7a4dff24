"""Defaults of `launch/score.py`.

Command:   python launch/score.py --input=texts.jsonl --output=scores.npz
             --config.checkpoint=tiny-se
Hardware:  any; 2 CPU cores for the embedded models
"""

from wcse_jax import score


def get_config() -> score.ScoreConfig:
  return score.ScoreConfig()
