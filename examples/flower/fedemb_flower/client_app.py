"""The ClientApp: a node trains its share of a round's virtual clients and answers with one sum of clipped updates."""

import shlex

from flwr.app import Context

from fedemb.cli.nodes import worker
from fedemb.execution.flower import Worker, node_app


def this_node(context: Context) -> Worker:
    """The work and the data of the run's configuration."""
    return worker(tuple(shlex.split(str(context.run_config["overrides"]))))


app = node_app(this_node)
