"""Defaults of `launch/export.py`.

Command:   python launch/export.py --workdir=runs/exported
             --config.train=runs/first
Hardware:  one CPU core
Time:      3 s for the samples of configs/sample.py; 75 s and 0.8 GB for 200,000
             rows chosen of 400,000 samples
Result:    runs/exported/dataset/: Parquet, JSON lines, a card
"""

from wcse_jax.exports import run


def get_config() -> run.ExportConfig:
  return run.ExportConfig()
