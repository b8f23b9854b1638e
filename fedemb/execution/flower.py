"""Flower nodes as workers: each works through its share of a cohort and answers with one partial sum.

The loop, the ledger and the noise stay where the loop runs. Nodes are trusted, as the workers of one datacenter are:
they see which users were drawn and what these send. An answer counts once, for the question that it answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from fedemb.client.work import ClientWork
from fedemb.core import check
from fedemb.core.params import add, norm, to
from fedemb.core.types import Cohort, Diagnostics, Params
from fedemb.execution.executor import Executor, Load, Sequential, refuse_following_the_clock, zero_sum
from fedemb.execution.flower_api import ClientApp, Context, Grid, Message, MessageType
from fedemb.execution.flower_messages import PartialSum, Share
from fedemb.privacy.clipping import Clipping

_POLL_SECONDS = (0.02, 1.0)  # between two looks for answers: the first, and the longest


@dataclass(frozen=True, kw_only=True)
class Worker:
    """What a node works with: the same work on the same data as the loop's.

    data: digest of the users; "" for any.
    device: where the clients train; None for the GPU if this node sees one.
    """

    work: ClientWork
    load: Load
    within: Executor = field(default_factory=Sequential)
    data: str = ""
    device: torch.device | None = None

    def __post_init__(self) -> None:
        refuse_following_the_clock("executor", self.within)

    def partial_sum(self, share: Share) -> PartialSum:
        """The sum over the share's clients.

        Raises: ValueError for a share of another data set.
        """
        if share.data != self.data:
            raise ValueError("this node has other users than the loop: give both the same data set and settings")
        shared = to(share.shared, self.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        total, diagnostics = self.within.clipped_sum(self.work, share.clipping, shared, share.cohort, self.load)
        return PartialSum(total=total, diagnostics=diagnostics)


def node_app(worker: Callable[[Context], Worker]) -> ClientApp:
    """The ClientApp of a node. worker: called for every message; cache it if it is slow."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        answer = worker(context).partial_sum(Share.unpacked(message.content))
        return Message(answer.packed(), reply_to=message)

    return app


@dataclass(frozen=True, kw_only=True)
class FlowerNodes(Executor):
    """The nodes behind a Grid. The work and the data are the nodes' own: see `node_app`.

    nodes: how many take part; it waits for them. timeout_seconds: for nodes to connect, and for their answers.
    data: digest of the users, which nodes compare with their own; "" for any.
    """

    grid: Grid
    nodes: int
    timeout_seconds: float
    data: str = ""

    def __post_init__(self) -> None:
        check.at_least("executor.nodes", self.nodes, 1)
        check.positive("executor.timeout_seconds", self.timeout_seconds)

    def clipped_sum(
        self, work: ClientWork, clipping: Clipping, shared: Params, cohort: Cohort, load: Load
    ) -> tuple[Params, Diagnostics]:
        """The same sum as `Sequential`: client k is worked through by node k modulo nodes.

        Raises: TimeoutError that names the nodes that are late; ValueError that names one that failed or answered
            with something else. Nothing is added up before all have answered.
        """
        total, device = zero_sum(work, shared, clipping), next(iter(shared.values())).device
        parts = [cohort.clients[first :: self.nodes] for first in range(min(self.nodes, len(cohort.clients)))]
        shares = [
            Share(shared=shared, cohort=Cohort(round=cohort.round, clients=part), clipping=clipping, data=self.data)
            for part in parts
        ]
        answers = self._ask(shares, total)
        for answer in answers:
            total = add(total, to(answer.total, device))
        return total, _in_order([answer.diagnostics for answer in answers], len(cohort.clients))

    def _ask(self, shares: Sequence[Share], like: Params) -> list[PartialSum]:
        """One answer for each share, in the order of the shares."""
        questions = [
            Message(share.packed(), node, MessageType.TRAIN, group_id=str(share.cohort.round))
            for share, node in zip(shares, self._connected() if shares else [], strict=False)
        ]
        sent = list(self.grid.push_messages(questions))
        nodes = [question.metadata.dst_node_id for question in questions]
        if len(sent) < len(questions) or None in sent:
            raise ValueError(f"Flower did not take the messages to nodes {_names(nodes)}: are they too large for it?")
        waiting = {name: (slot, node) for slot, (name, node) in enumerate(zip(sent, nodes, strict=True))}
        answers: dict[int, PartialSum] = {}
        for reply in self._replies(waiting):
            slot, node = waiting.pop(reply.metadata.reply_to_message_id)
            answers[slot] = _answer(reply, node, shares[slot], like)
        return [answers[slot] for slot in range(len(shares))]

    def _connected(self) -> list[int]:
        """The ids of so many nodes."""
        for _ in self._until(time.monotonic() + self.timeout_seconds):
            found = sorted(self.grid.get_node_ids())
            if len(found) >= self.nodes:
                return found[: self.nodes]
        raise TimeoutError(
            f"{len(found)} of {self.nodes} Flower nodes connected within {self.timeout_seconds:g} s: start the "
            "others, or lower executor.nodes"
        )

    def _replies(self, waiting: dict[str, tuple[int, int]]) -> Iterator[Message]:
        """Answers to the questions in `waiting`, which the caller takes out; any others are dropped."""
        looks = self._until(time.monotonic() + self.timeout_seconds)
        while waiting:
            if next(looks, None) is None:
                late = [node for _, node in waiting.values()]
                raise TimeoutError(
                    f"Flower nodes {_names(late)} did not answer within {self.timeout_seconds:g} s: look "
                    "after them, or raise executor.timeout_seconds, and go on with resume=true"
                )
            for reply in self.grid.pull_messages(list(waiting)):
                if reply.metadata.reply_to_message_id in waiting:
                    yield reply

    @staticmethod
    def _until(end: float) -> Iterator[float]:
        """Looks at ever longer intervals, at least one."""
        pause, longest = _POLL_SECONDS
        yield pause
        while time.monotonic() < end:
            time.sleep(min(pause, max(end - time.monotonic(), 0.0)))
            pause = min(1.5 * pause, longest)
            yield pause


def _answer(reply: Message, node: int, share: Share, like: Params) -> PartialSum:
    """What a reply says, if it can be true."""
    if reply.has_error():
        raise ValueError(f"Flower node {node} failed: {reply.error.reason}")
    try:
        answer = PartialSum.unpacked(reply.content)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"Flower node {node} answered without a sum ({error}): does it run this app?") from error
    shapes = {name: (value.shape, value.dtype) for name, value in answer.total.items()}
    if shapes != {name: (value.shape, value.dtype) for name, value in like.items()}:
        raise ValueError(f"Flower node {node} answered for another model: give it the settings of the loop")
    clients = len(share.cohort.clients)
    if any(len(value) != clients for value in vars(answer.diagnostics).values()):
        raise ValueError(f"Flower node {node} did not answer for its {clients} virtual clients")
    if not float(norm(answer.total)) <= clients * share.clipping.bound:
        raise ValueError(f"Flower node {node} answered with more than {clients} clipped updates can add up to")
    return answer


def _in_order(parts: Sequence[Diagnostics], clients: int) -> Diagnostics:
    """The diagnostics of all clients [m] from those of every n-th."""
    whole = {name: torch.zeros(clients, dtype=torch.float32) for name in ("norms", "losses", "examples")}
    for name in whole:
        values = [getattr(part, name) for part in parts]
        if values:
            whole[name] = whole[name].to(values[0].dtype)
        for first, value in enumerate(values):
            whole[name][first :: len(parts)] = value
    return Diagnostics(**whole)


def _names(nodes: Sequence[int]) -> str:
    return ", ".join(map(str, nodes))
