"""Defaults of `launch/sample.py`: one sample a problem of `arith`.

Command:   python launch/sample.py --workdir=runs/first --config.limit=100
             --config.samples_per_problem=8
Hardware:  any; 2 CPU cores for the embedded models
Time:      11 s, start and compiling included
Result:    800 samples of tiny-wc in runs/first/samples/tiny-wc/
"""

from wcse_jax.sampler import inputs


def get_config() -> inputs.SampleConfig:
  return inputs.SampleConfig()
