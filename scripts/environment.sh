# Sourced by the other scripts: a virtual environment with fedemb and its development tools, made once.
# FEDEMB_VENV names another place for it, FEDEMB_PYTHON another Python (3.11 or newer).
venv="${FEDEMB_VENV:-$PWD/.venv}"
python="${FEDEMB_PYTHON:-python3}"

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "fedemb needs Python 3.11 or newer, $python is $("$python" --version 2>&1); set FEDEMB_PYTHON" >&2
    exit 2
}
wanted="$(cat setup.cfg pyproject.toml | cksum)"
if [ "$(cat "$venv/.fedemb-installed" 2>/dev/null)" != "$wanted" ]; then
    echo "installing into $venv"
    "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
    echo "$wanted" > "$venv/.fedemb-installed"
fi
export PATH="$venv/bin:$PATH"
