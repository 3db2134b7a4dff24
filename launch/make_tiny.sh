#!/usr/bin/env bash
# Trains the three embedded models anew and puts them into the package.  Tens of
# minutes on 2 cores.  Killed, it goes on where it was.
#
#   bash launch/make_tiny.sh [DIR]
set -euo pipefail

workdir=$(realpath -m "${1:-runs/tiny}")
# shellcheck source=launch/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
setup ''
for name in tiny-wc tiny-se tiny-student; do
  .venv/bin/python launch/make_tiny.py --config=configs/tiny.py:$name \
    --workdir="$workdir/$name" --target="wcse_jax/embedded/$name"
done
