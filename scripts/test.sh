#!/usr/bin/env bash
# Lint, types, tests in two processes, in the environment that scripts/environment.sh makes. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh

ruff check .
ruff format --check .
mypy
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" # each of the processes has a core
pytest -n 2 --dist worksteal "$@"
