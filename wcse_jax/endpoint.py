"""Where a model is served, and how it is asked: what may be written down."""

import math
import re
import urllib.parse

from wcse_jax import errors


_VARIABLE = re.compile(r'[A-Za-z_][A-Za-z0-9_]*')


def check(
  url: str,
  model: str,
  key_variable: str,
  concurrency: int,
  retries: int,
  timeout: float,
) -> None:
  """Raises InputError for the first one that `server.Server` cannot take."""
  check_url(url)
  if not model:
    raise errors.InputError(
      'model: wanted the name of a model of the server; got nothing.'
    )
  try:
    model.encode('utf-8')
  except UnicodeEncodeError:
    raise errors.InputError(
      f'model: wanted UTF-8 text; got {model!r}.'
    ) from None
  if key_variable and not _VARIABLE.fullmatch(key_variable):
    # What came is not shown: it may be the key itself.
    raise errors.InputError(
      'key_variable: wanted the name of an environment variable; got something '
      'else.'
    )
  for name, value, least in (
    ('concurrency', concurrency, 1),
    ('retries', retries, 0),
  ):
    if value < least:
      raise errors.InputError(
        f'{name}: wanted a count >= {least}; got {value}.'
      )
  if not 0 < timeout < math.inf:
    raise errors.InputError(f'timeout: wanted seconds > 0; got {timeout}.')


def check_url(url: str) -> None:
  """Raises InputError if it is no URL that may be written down."""
  try:
    parts = urllib.parse.urlsplit(url)
    fine = parts.scheme in ('http', 'https') and bool(parts.hostname)
    _ = parts.port
  except ValueError:
    fine = False
  # What came is not shown where it may hold a password.
  secret = '@' in url or '?' in url or '#' in url
  if secret or not fine:
    raise errors.InputError(
      'server: wanted http://HOST/v1 or https://HOST/v1 without user name, '
      f'password or query; got {"one with them" if secret else repr(url)}.'
    )
