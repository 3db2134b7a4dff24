"""Defaults of `launch/score.py`.

Command:   python launch/score.py --input=texts.jsonl --output=scores.npz
             --config.checkpoint=tiny-se
Hardware:  any; 2 CPU cores for the embedded models
Time:      6 s for 20 texts of up to 150 tokens and tiny-wc, start and
           compiling included
Result:    the log-probability of every token in scores.npz
"""

from wcse_jax import score


def get_config() -> score.ScoreConfig:
  return score.ScoreConfig()
