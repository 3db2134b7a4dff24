#!/usr/bin/env bash
# On a fresh machine: makes .venv, installs, and runs every test that needs no
# accelerator.
#
#   bash launch/test.sh [--extras=parity,aot] [--slow] [PYTEST ARGUMENTS]
#
# --extras  adds extras of pyproject.toml: parity (comparison with transformers,
#           and of intervals with ppi-python),
#           aot (compiling for TPUs)
# --slow    runs the tests that take minutes, too
set -euo pipefail

extras='test'
select=(-m 'not slow')
rest=()
for argument in "$@"; do
  case $argument in
    --extras=*) extras="test,${argument#--extras=}" ;;
    --slow) select=() ;;
    *) rest+=("$argument") ;;
  esac
done
# shellcheck source=launch/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
setup "$extras"
.venv/bin/ruff check .
.venv/bin/ruff format --check .
exec .venv/bin/python -m pytest "${select[@]}" "${rest[@]}"
