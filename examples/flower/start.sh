#!/usr/bin/env bash
# A SuperLink and two SuperNodes on the loopback of this machine, until Ctrl-C, and a FLWR_HOME where they are the default
# of `flwr run`. PORT and the two after it must be free.
set -euo pipefail
export FLWR_TELEMETRY_ENABLED=0 # Flower sends no usage data
export FLWR_HOME="${FLWR_HOME:-${TMPDIR:-/tmp}/fedemb-flower}"
port="${PORT:-8100}"
if [ -e "$FLWR_HOME/config.toml" ] && ! grep -q loopback "$FLWR_HOME/config.toml"; then
    echo "$FLWR_HOME/config.toml is another one: set FLWR_HOME to a new folder" >&2
    exit 2
fi
mkdir -p "$FLWR_HOME"
printf '[superlink]\ndefault = "loopback"\n\n[superlink.loopback]\naddress = "127.0.0.1:%s"\ninsecure = true\n' \
    "$port" > "$FLWR_HOME/config.toml"
trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT INT TERM
flower-superlink --insecure --disable-runtime-dependency-installation --host 127.0.0.1 --port "$port" &
for node in 1 2; do
    flower-supernode --insecure --superlink "127.0.0.1:$port" --host 127.0.0.1 --port "$((port + node))" &
done
echo "in another terminal: export FLWR_HOME=$FLWR_HOME FLWR_TELEMETRY_ENABLED=0; flwr run . --stream"
wait
