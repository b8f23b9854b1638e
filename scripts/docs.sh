#!/usr/bin/env bash
# docs/ and the docstrings to docs/_build/html/index.html; a warning is an error. Arguments go to sphinx-build.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh

sphinx-build -W --keep-going -q -b html docs docs/_build/html "$@"
echo "docs/_build/html/index.html"
