"""User-level differential privacy as a Strategy for any Flower app in which every node is one user.

In place of FedAvg: nodes train and send back the model, as they do for FedAvg. What they call num-examples is not used:
the mean is unweighted, over the planned number of users, whoever answers.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import torch

from fedemb.core import check
from fedemb.core.optim import SGD, Optimizer
from fedemb.core.params import add, scale, sub, to, zeros_like
from fedemb.core.rng import NoiseSource, SecretNoise, SeededNoise, generator
from fedemb.core.types import Cohort, Diagnostics, Params
from fedemb.data.sampling import FixedSizeSampler
from fedemb.execution.flower_api import (
    ArrayRecord,
    ConfigRecord,
    Grid,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
    Strategy,
)
from fedemb.privacy.accounting import PrivacySpend, check_delta, default_delta, spend
from fedemb.privacy.clipping import Clipping, FlatClipping
from fedemb.privacy.ledger import Ledger
from fedemb.privacy.mechanism import Event, Gaussian
from fedemb.privacy.query import ClippedSum

_LOG = logging.getLogger("flwr")


class UserLevelDP(Strategy):
    """DP-FedAvg with fixed-size sampling: theta <- theta + rate direction((sum of clipped updates + N(0, (zC)^2)) / M).

    A round draws M of the N nodes without replacement, and is charged before a message leaves. A node that fails, is
    late or away adds zero and keeps its slot; a second or an old answer is dropped. Under the substitution of one user
    the sum moves by at most 2C, so that noise over sensitivity is z / 2. The guarantee is against whoever sees the
    models, and needs the cohorts and the noise to be secret: the SuperLink and the ServerApp are trusted. Training
    metrics of nodes would be exact values of their data: they are dropped, and nodes are not asked to evaluate.
    Source: McMahan et al. 2018, arXiv:1710.06963; the sensitivity is in docs/accounting.md.
    """

    def __init__(
        self,
        *,
        num_users: int,
        users_per_round: int,
        clip_norm: float,
        noise_multiplier: float,
        learning_rate: float = 1.0,
        optimizer: Optimizer | None = None,
        delta: float | None = None,
        ledger: Path | None = None,
        seed: int | None = None,
        arrays_key: str = "arrays",
        timeout_seconds: float = 600.0,
    ) -> None:
        """Nothing is asked or written before the first round, except that an existing ledger is read.

        num_users: N, public and fixed: the first round waits for exactly so many nodes.
        users_per_round: M <= N. clip_norm: C. noise_multiplier: z, the noise on the sum over C.
        optimizer, learning_rate: of the server; SGD at 1 adds the mean update.
        delta: None is N^-1.1. ledger: a file that outlives a crash, or None. A file that exists is gone on with.
        seed: for a simulation only, as it makes noise and cohorts predictable; None takes the system's entropy.
        arrays_key: the name under which nodes look for the model.
        Raises: ValueError in one line for a number out of range.
        """
        self._sampler = FixedSizeSampler(
            num_users=num_users,
            users_per_round=users_per_round,
            seed=secrets.randbits(128) if seed is None else seed,
        )
        self._clipping, self._planned = FlatClipping(clip_norm=clip_norm), self._sampler.planned_clients
        self._mechanism = Gaussian.from_multiplier(noise_multiplier=noise_multiplier, bound=self._clipping.bound)
        check.positive("learning_rate", learning_rate)
        check.positive("timeout_seconds", timeout_seconds)
        self._learning_rate, self._optimizer = learning_rate, optimizer or SGD()
        self._delta = default_delta(num_users) if delta is None else delta
        check_delta(self._delta)
        self._seed, self._key, self._timeout_seconds = seed, arrays_key, timeout_seconds
        self._ledger_path, self._ledger = ledger, Ledger()
        if ledger is not None and ledger.exists():
            self._ledger = Ledger.resume(ledger)
        self._nodes, self._slots, self._global = list[int](), dict[str, Params](), dict[str, torch.Tensor]()
        self._asked = set[int]()

    @property
    def event(self) -> Event:
        """What one round costs."""
        sensitivity = self._query([]).sensitivity(self._sampler.relation)
        return self._sampler.event(self._mechanism.event(sensitivity), 0)

    def privacy(self) -> PrivacySpend:
        """The interval of epsilon, for a user under substitute-one, after all that was charged."""
        return spend(self._ledger.events, self._delta)

    def summary(self) -> None:
        """Log what is guaranteed."""
        _LOG.info("user-level DP: one round is %s, relation substitute-one, delta %g", self.event, self._delta)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Draw the cohort, charge the round, then write the messages."""
        self._global = _floating(arrays)
        self._slots = self._slots or self._optimizer.init(self._global)
        self._nodes = self._nodes or self._population(grid)
        if self._ledger_path is not None and self._ledger.path is None:
            self._ledger = Ledger.create(self._ledger_path)
        self._round = self._ledger.entries
        self._ledger = self._ledger.charge(self.event)
        drawn = [self._nodes[user] for client in self._sampler.cohort(self._round).clients for user in client.users]
        self._asked, config["server-round"] = set(drawn), server_round
        content = RecordDict({self._key: arrays, "config": config})
        online = set(grid.get_node_ids())
        return [Message(content, node, MessageType.TRAIN, group_id=self._group) for node in drawn if node in online]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The next model; epsilon and delta as its only metrics."""
        shared = self._global
        updates = [sub(model, shared) for model in self._answers(replies)]
        value, _ = self._query(updates).answer({}, shared, Cohort(round=self._round, clients=()))
        release, _ = self._mechanism.release(value, {}, self._noise())
        mean = {name: (total / self._planned).to(shared[name].dtype) for name, total in release.items()}
        direction, self._slots = self._optimizer.direction(mean, self._slots)
        spent = self.privacy()
        model = add(shared, scale(direction, self._learning_rate))
        return ArrayRecord(model), MetricRecord({"epsilon": spent.epsilon, "delta": spent.delta})

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Nobody: what nodes measure on their own data is not covered. Use `evaluate_fn` with public data."""
        return []

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Nothing."""
        return None

    @property
    def _group(self) -> str:
        """What marks the answers of this round."""
        return f"fedemb round {self._round}"

    def _query(self, updates: list[Params]) -> ClippedSum:
        """The question to these updates."""
        return ClippedSum(
            sum_updates=partial(_clipped_sum, updates), planned_clients=self._planned, clipping=self._clipping
        )

    def _noise(self) -> NoiseSource:
        """Fresh for every charge."""
        return SecretNoise() if self._seed is None else SeededNoise(generator(self._seed, "noise", self._round))

    def _population(self, grid: Grid) -> list[int]:
        """The ids of all N nodes, in order.

        Raises: TimeoutError if there are fewer after a while, ValueError if there are more.
        """
        users, end = self._sampler.num_users, time.monotonic() + self._timeout_seconds
        while len(found := sorted(grid.get_node_ids())) < users and time.monotonic() < end:
            time.sleep(min(1.0, self._timeout_seconds))
        if len(found) < users:
            raise TimeoutError(f"{len(found)} of num_users={users} nodes connected within {self._timeout_seconds:g} s")
        if len(found) > users:
            raise ValueError(f"{len(found)} nodes are connected, but num_users={users}: each node is a user, so set N")
        return found

    def _answers(self, replies: Iterable[Message]) -> list[Params]:
        """One model for each node that was asked and answered in this round.

        Raises: ValueError that names a node whose model is another one.
        """
        models = []
        for reply in replies:
            node = reply.metadata.src_node_id
            if reply.metadata.group_id != self._group or node not in self._asked:
                _LOG.warning("an answer of node %s is not counted: it is late, or a second one", node)
                continue
            self._asked.remove(node)
            if reply.has_error():
                _LOG.warning("node %s adds nothing to this round: %s", node, reply.error.reason)
            else:
                models.append(self._model(reply))
        return models

    def _model(self, reply: Message) -> Params:
        """What a node sent."""
        found = [record.to_torch_state_dict() for record in reply.content.array_records.values()]
        shapes = [{name: value.shape for name, value in model.items()} for model in found]
        if shapes != [{name: value.shape for name, value in self._global.items()}]:
            raise ValueError(f"node {reply.metadata.src_node_id} did not answer with one model of the global shapes")
        return to(found[0], dtype=torch.float64)


def _floating(arrays: ArrayRecord) -> Params:
    """The model. Raises: ValueError for integers, which are counters of BatchNorm."""
    params: Params = arrays.to_torch_state_dict()
    whole = [name for name, value in params.items() if not value.is_floating_point()]
    if whole:
        raise ValueError(f"{whole[0]} is no parameter: buffers cannot be noised, take GroupNorm in place of BatchNorm")
    return params


def _clipped_sum(
    updates: list[Params], clipping: Clipping, shared: Params, cohort: Cohort
) -> tuple[Params, Diagnostics]:
    """The sum of clipped updates; no diagnostics are kept."""
    total = zeros_like(shared, dtype=torch.float64)
    for update in updates:
        clipping.add_to(total, {name: value[None] for name, value in update.items()})
    return total, Diagnostics(norms=torch.zeros(0), losses=torch.zeros(0), examples=torch.zeros(0))
