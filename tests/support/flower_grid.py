"""Flower's network in memory: a Grid whose nodes answer at once, late, twice, wrongly or never."""

from collections.abc import Callable
from itertools import count

from flwr.app import Context, Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from fedemb.execution.executor import Executor
from fedemb.execution.flower import FlowerNodes, Worker, node_app


class FakeGrid(Grid):
    """Nodes run `apps[node](message, context)` when a question is sent; answers wait until they are pulled.

    tamper: (message, reply) -> the replies that arrive for it.
    """

    def __init__(self, apps, tamper=lambda message, reply: [reply]):
        TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, 1
        self.apps, self.tamper, self.numbers = apps, tamper, count()
        self.arrived, self.sent = [], []

    def set_run(self, run):
        raise NotImplementedError

    @property
    def run(self):
        raise NotImplementedError

    def create_message(self, *arguments, **others):
        raise NotImplementedError

    def get_node_ids(self):
        return list(self.apps)

    def push_messages(self, messages):
        names = []
        for message in messages:
            name = f"message {next(self.numbers)}"
            message.metadata.__dict__["_message_id"] = name
            node = message.metadata.dst_node_id
            context = Context(run_id=1, node_id=node, node_config={}, state=RecordDict(), run_config={})
            try:
                reply = self.apps[node](message, context)
            except Exception as error:
                reply = Message(Error(code=2, reason=str(error)), reply_to=message)
            self.sent.append(message)
            self.arrived += self.tamper(message, reply)
            names.append(name)
        return names

    def pull_messages(self, message_ids):
        """Everything that has arrived, asked for or not: a grid that is worse than Flower's."""
        arrived, self.arrived = self.arrived, []
        return arrived

    def send_and_receive(self, messages, *, timeout=None):
        list(self.push_messages(messages))
        return self.pull_messages([])


class OverFlower(Executor):
    """FlowerNodes whose nodes, in memory, have the work and the data of the call."""

    def __init__(self, nodes=2, timeout_seconds=30.0, tamper: Callable = lambda message, reply: [reply]):
        self.nodes, self.timeout_seconds, self.tamper = nodes, timeout_seconds, tamper

    def clipped_sum(self, work, clipping, shared, cohort, load):
        app = node_app(lambda context: Worker(work=work, load=load))
        self.grid = FakeGrid({7 + node: app for node in range(self.nodes)}, self.tamper)
        nodes = FlowerNodes(grid=self.grid, nodes=self.nodes, timeout_seconds=self.timeout_seconds)
        return nodes.clipped_sum(work, clipping, shared, cohort, load)
