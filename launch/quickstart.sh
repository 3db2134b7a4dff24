#!/usr/bin/env bash
# On a fresh machine: makes .venv, installs, and runs the study of
# configs/quickstart.py.  Killed, it goes on where it was.
#
#   bash launch/quickstart.sh [DIR] [--config.FIELD=VALUE ...]
set -euo pipefail

workdir=runs/quickstart
if [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; then
  workdir=$(realpath -m "$1")
  shift
fi
# shellcheck source=launch/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
setup ''
exec .venv/bin/python launch/study.py --config=configs/quickstart.py \
  --workdir="$workdir" "$@"
