"""The ServerApp: `fedemb train`, whose executor asks the nodes. It samples, charges the ledger, adds the noise."""

import shlex
from datetime import datetime
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedemb.cli.main import main as fedemb
from fedemb.cli.nodes import digest
from fedemb.execution.flower_simulation import serving

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """One run; its report, ledger and checkpoints are in the run folder."""
    config = context.run_config
    overrides = shlex.split(str(config["overrides"]))
    run = Path(str(config["run"]) or f"runs/fedemb-flower/{datetime.now():%Y-%m-%d_%H-%M-%S}").resolve()
    settings = [f"executor.nodes={config['nodes']}", f"executor.timeout_seconds={config['timeout-seconds']}"]
    with serving(grid, data=digest(overrides)):
        try:
            fedemb(["train", f"run={run}", *overrides, "executor=flower", *settings])
        except SystemExit as stop:
            raise RuntimeError("fedemb train did not finish: its last line says why") from stop
