"""The workload on Flower (https://flower.ai): its simulation on Ray with two actors, DP by its own strategy.

Run by an interpreter that has flwr[simulation] from 1.22 on, and PyTorch.
"""

import json
import os
import sys
from contextlib import suppress

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
os.environ.update(FLWR_TELEMETRY_ENABLED="0", RAY_USAGE_STATS_ENABLED="0")
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - Ray's own spelling; as all other ways: Ray's own 15 would wait for whatever else runs here

from lines import Rounds

rounds = Rounds()
try:
    import flwr
    import ray
    import torch
    from flower_client import app
    from flwr.app import ArrayRecord, ConfigRecord
    from flwr.serverapp import ServerApp
    from flwr.serverapp.strategy import DifferentialPrivacyServerSideFixedClipping, FedAvg
    from flwr.simulation import run_simulation
    from model_file import model_of
except ImportError as error:
    rounds.missing(error)
    raise SystemExit(0) from None

ACTORS = 2


class Over(Exception):
    """No more rounds are asked for."""


class Turns(DifferentialPrivacyServerSideFixedClipping):
    """A round when it is asked for."""

    def configure_train(self, server_round, arrays, config, grid):
        if server_round == 1:
            rounds.ready(flwr=flwr.__version__, ray=ray.__version__, torch=torch.__version__)
        if not rounds.wait():
            raise Over
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(self, server_round, replies):
        arrays, metrics = super().aggregate_train(server_round, replies)
        if arrays is None:
            raise RuntimeError("Flower's clients did not answer")
        rounds.done()
        return arrays, metrics


def main(settings):
    torch.set_num_threads(settings["threads"])
    server = ServerApp()

    @server.main()
    def serve(grid, context):
        strategy = Turns(
            FedAvg(
                fraction_train=settings["clients"] / settings["users"],
                fraction_evaluate=0.0,
                min_train_nodes=settings["clients"],
                min_available_nodes=settings["users"],
            ),
            noise_multiplier=settings["noise_multiplier"],
            clipping_norm=settings["clip_norm"],
            num_sampled_clients=settings["clients"],
        )
        strategy.start(
            grid=grid,
            initial_arrays=ArrayRecord(model_of(settings).state_dict()),
            train_config=ConfigRecord({"settings": json.dumps(settings)}),
            num_rounds=10**9,
        )

    run_simulation(
        server_app=server,
        client_app=app,
        num_supernodes=settings["users"],
        backend_config={
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
            "init_args": {"num_cpus": ACTORS, "include_dashboard": False},
        },
    )


with suppress(Over):
    main(rounds.settings)
