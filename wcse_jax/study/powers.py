"""What a study can find, told before it runs."""

from typing import Any

from wcse_jax.metrics import power


def expected(study) -> list[dict[str, Any]]:
  """Returns the smallest difference that each setup can be expected to find.

  That is what four studies of five would find, if students vary as the
  settings expect (`settings.Power`); None where nothing would be found, as
  with one replicate, whose noise nobody knows.
  """
  c = study.config
  found = []
  for name, setup in study.setups().items():
    for key, test in study.tests().items():
      problems = len(study.chosen(test))
      smallest = power.detectable(
        problems=problems,
        replicates=c.replicates,
        run_deviation=c.power.run_deviation,
        disagreement=c.power.disagreement,
        arms=max(2, len(setup.arms)),
      )
      found.append(
        {
          'setup': name,
          'test': key or test.task,
          'primary': not key,
          'problems': problems,
          'replicates': c.replicates,
          'detectable': smallest if smallest <= 1 else None,
          'wanted': c.power.wanted or None,
          'underpowered': bool(c.power.wanted) and smallest > c.power.wanted,
        }
      )
  return found


def of_data(study) -> dict[str, Any]:
  """Returns the smallest gap in coverage that the samples can show."""
  problems = len(study.problems)
  return {
    'problems': problems,
    'disagreement': study.config.power.disagreement,
    'detectable': power.detectable_gap(
      problems=problems, disagreement=study.config.power.disagreement
    )
    if problems > 1
    else None,
  }


def underpowered(study) -> str | None:
  """Returns a line on the setups that would miss what is wanted, or None."""
  rows = [row for row in expected(study) if row['underpowered']]
  own = [row for row in rows if row['primary']]
  if not own:
    return None
  wanted = 100 * study.config.power.wanted
  parts = ', '.join(
    f'{row["setup"]} {_points(row["detectable"])}' for row in own
  )
  return (
    f'Underpowered: differences of {wanted:g} points are worth finding, but '
    f'{study.config.replicates} replicates on {own[0]["problems"]} problems '
    f'are expected to find larger ones only: {parts}.'
  )


def _points(share: float | None) -> str:
  return 'none at all' if share is None else f'{100 * share:.1f} points'
