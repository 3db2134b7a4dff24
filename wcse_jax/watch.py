"""Serves the report of a study that may still run."""

import jax

from wcse_jax.report import following
from wcse_jax.study import design, settings
from wcse_jax.study import run as studies
from wcse_jax.study import stages as staging


def run(config: settings.StudyConfig, workdir: str, *, port: int = 0) -> None:
  """Serves the report of a run folder until the process is told to end.

  Raises:
    InputError: if the folder holds another study, or the port is taken.
  """
  # The accelerators are the study's.
  jax.config.update('jax_platforms', 'cpu')
  study = design.Study(config, workdir)
  study.check()
  stages = staging.Stages(study)
  following.serve(workdir, lambda: studies.snapshot(stages), port=port)
