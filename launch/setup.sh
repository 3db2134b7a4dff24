# shellcheck shell=bash
# Sourced by the shell scripts here: makes .venv at the root of the checkout and
# installs the package into it, with the extras named in $1 (may be empty).
# Nothing is installed again while pyproject.toml and the extras are the same.

setup() {
  local root extras python candidate stamp
  root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  extras=${1:+[$1]}
  cd "$root" || return 1
  python=
  for candidate in python3 python3.13 python3.12 python3.11; do
    if "$candidate" -c '
import sys
sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; then
      python=$candidate
      break
    fi
  done
  if [ -z "$python" ]; then
    echo "setup: wanted Python 3.11 to 3.13 as python3; none was found." >&2
    return 2
  fi
  stamp=$( (cat pyproject.toml; echo "$extras") | sha256sum | cut -c1-16)
  if [ ! -e ".venv/.installed-$stamp" ]; then
    # An installation that was cut off is begun anew: pip cannot mend it.
    if [ -e .venv/.installing ]; then
      "$python" -m venv --clear .venv || return 1
    else
      "$python" -m venv .venv || return 1
    fi
    echo "installing into .venv (once, a few minutes)" >&2
    touch .venv/.installing
    .venv/bin/python -m pip install --quiet --disable-pip-version-check \
      --editable ".$extras" || return 1
    rm .venv/.installing
    touch ".venv/.installed-$stamp"
  fi
}
