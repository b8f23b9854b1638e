#!/usr/bin/env bash
# Lint, types, tests, in the environment that scripts/environment.sh makes. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh

ruff check .
ruff format --check .
mypy
pytest "$@"
