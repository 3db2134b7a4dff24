"""The two ways a command ends other than by success or by a defect."""


class InputError(ValueError):
  """Bad arguments or input: one line on standard error, exit status 2.

  The message names the argument or file, what was wanted and what came.
  """


class Stopped(Exception):
  """The work was stopped and can be resumed: exit status 75."""
