"""Defaults of `launch/compile.py`: Gemma 2 9B on eight v5e chips.

Command:   python launch/compile.py --config.model=gemma2-27b \
             --config.topology=v5e:4x4
Hardware:  any CPU, with libtpu (pip install -e '.[aot]')
Time:      half a minute on 2 CPU cores; a third of it with
           --config.largest_slots=false
Result:    JSON on standard output: docs/results/tpu.md
"""

from wcse_jax.aot import compile as aot


def get_config() -> aot.CompileConfig:
  return aot.CompileConfig(fill=0.5)
