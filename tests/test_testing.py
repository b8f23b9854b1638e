"""Each public check catches a planted violation: a check that passes everything is worth nothing."""

import random
import threading
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from dp_accounting import GaussianDpEvent
from small import RAGGED, make_load, make_task, make_users, make_work

from fedemb.core.params import scale
from fedemb.core.types import Cohort
from fedemb.data.sampling import FixedSizeSampler
from fedemb.execution.executor import Sequential
from fedemb.testing import check_executor, check_sampler, check_task, check_user_dataset, check_work

USERS, LOAD, WORK = make_users(), make_load(), make_work()
SHARED = WORK.task.init(1)
BATCH = {name: value[0] for name, value in LOAD(RAGGED.clients[3]).items()}


class Spy:
    """Another object with some of its methods replaced."""

    def __init__(self, base: Any, **methods: Any) -> None:
        self._base = base
        self.__dict__.update(methods)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._base, name)


def counting():
    """0, 1, 2, ...: state that survives from call to call."""
    return iter(range(10**9)).__next__


def changed(batch, **values):
    return {**batch, **values}


def of_one_thread(users):
    """As a connection to a database may be: it serves the thread that opened it."""
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("opened in another thread")
    return USERS.load(users)


NEXT = counting()
DATA_FAULTS = {
    "uint8": {"load": lambda users: changed(USERS.load(users), image=USERS.load(users)["image"].float())},
    "int64": {"load": lambda users: changed(USERS.load(users), label=USERS.load(users)["label"].int())},
    "images must be": {"num_examples": lambda user: USERS.num_examples(user) + 1},
    "at least 1": {"num_users": 0},
    "in the order asked for": {"load": lambda users: USERS.load(sorted(users))},
    "must hold": {"load": lambda users: {"image": USERS.load(users)["image"]}},
    "Ch, H, W": {"load": lambda users: changed(USERS.load(users), image=USERS.load(users)["image"][:, 0])},
    "must return empty tensors": {"load": lambda users: torch.stack([USERS.load([user])["image"] for user in users])},
    "in another thread, beside others": {"load": of_one_thread},
    "differs by": {"load": lambda users: changed(USERS.load(users), label=USERS.load(users)["label"] + NEXT())},
}


@pytest.mark.parametrize("message", DATA_FAULTS)
def test_data_set(message):
    with pytest.raises(AssertionError, match=message):
        check_user_dataset(Spy(USERS, **DATA_FAULTS[message]))


SAMPLER = FixedSizeSampler(num_users=30, users_per_round=8, users_per_client=2, seed=3)


def with_clients(cohort, change):
    return Cohort(round=cohort.round, clients=tuple(change(slot, c) for slot, c in enumerate(cohort.clients)))


SAMPLER_FAULTS = {
    "in the cohort twice": lambda r: with_clients(SAMPLER.cohort(r), lambda s, c: replace(c, users=(0, s + 1))),
    "share a seed": lambda r: with_clients(SAMPLER.cohort(r), lambda s, c: replace(c, seed=1)),
    "seed of an earlier round": lambda r: with_clients(SAMPLER.cohort(r), lambda s, c: replace(c, seed=s)),
    "outside": lambda r: with_clients(SAMPLER.cohort(r), lambda s, c: replace(c, users=(100 + s,))),
    "asked before": lambda r: SAMPLER.cohort(r + 1000 * random.randrange(10**6)),
    "say that the round is": lambda r: SAMPLER.cohort(0),
}


@pytest.mark.parametrize("message", SAMPLER_FAULTS)
def test_sampler(message):
    with pytest.raises(AssertionError, match=message):
        check_sampler(Spy(SAMPLER, cohort=SAMPLER_FAULTS[message]), num_users=30)


def test_sampler_whose_event_forgets_the_release():
    sampler = Spy(SAMPLER, event=lambda release, round: SAMPLER.event(GaussianDpEvent(1.0), round))
    with pytest.raises(AssertionError, match="forgets the release"):
        check_sampler(sampler, num_users=30)


TASK = make_task()


def unmasked(params, batch):
    return TASK.loss(params, {**batch, "mask": torch.ones_like(batch["mask"])})


TASK_FAULTS = {
    "init, twice": {"init": lambda seed: scale(TASK.init(seed), 1.0 + NEXT())},
    "init_local ignores": {"init_local": lambda seed: TASK.init_local(0)},
    "global random state": {"init_local": lambda seed: (torch.rand(1), TASK.init_local(seed))[1]},
    "both global and local": {"init_local": lambda seed: {"conv.weight": torch.zeros(1)}},
    "must not be shared": {"is_shared": lambda name: True},
    "nothing is trained": {"is_shared": lambda name: False},
    "one finite number": {"loss": lambda p, b: TASK.loss(p, b).log() * torch.nan},
    "padding": {"loss": unmasked},
    "zeros only": {"loss": lambda p, b: TASK.loss(p, b) + 1.0},
}


@pytest.mark.parametrize("message", TASK_FAULTS)
def test_task(message):
    with pytest.raises(AssertionError, match=message):
        check_task(Spy(TASK, **TASK_FAULTS[message]), BATCH)


def test_task_that_breaks_under_vmap():
    """Reading a value out of a tensor works for one client and not for a chunk of them."""
    task = Spy(TASK, loss=lambda p, b: TASK.loss(p, b) * (float(b["mask"].sum()) > 0))
    with pytest.raises(RuntimeError, match=r"vmap|item"):
        check_task(task, BATCH)


def in_place(shared, state, batch):
    shared["conv.bias"].add_(1e-3)
    return WORK.step(shared, state, batch)


WORK_FAULTS = {
    "begin, twice": {"begin": lambda s, c: WORK.begin(s, replace(c, seed=NEXT()))},
    "names leave": {"finish": lambda shared, state: state.params},
    "before any step": {"finish": lambda shared, state: {n: state.params[n] for n in shared}},
    "global parameters": {"step": in_place},
    "step, twice": {"step": lambda s, st, b: WORK.step(s, st._replace(rate=st.rate * (1 + NEXT())), b)},
}


@pytest.mark.parametrize("message", WORK_FAULTS)
def test_work(message):
    client = RAGGED.clients[0]
    with pytest.raises(AssertionError, match=message):
        check_work(Spy(WORK, **WORK_FAULTS[message]), WORK.task.init(1), client, LOAD(client))


@dataclass(frozen=True)
class Faulty:
    """Sequential with one fault."""

    fault: str

    def clipped_sum(self, work, clipping, shared, cohort, load):
        clients = cohort.clients
        if self.fault == "the sum of nobody":
            clients = clients or RAGGED.clients[:1]
        if self.fault == "in reverse" and clients != RAGGED.clients:
            clients = clients[:-1]
        if self.fault == "the sum:":
            clients = clients[:-1]
        total, exact = Sequential().clipped_sum(work, clipping, shared, Cohort(round=0, clients=clients), load)
        if self.fault == "float64":
            total = {name: value.float() for name, value in total.items()}
        if self.fault == "nan in client" and not exact.norms.isfinite().all():
            total = scale(total, float("nan"))
        if self.fault == "lost its slot" and not exact.norms.isfinite().all():
            exact = type(exact)(**{name: value[exact.norms.isfinite()] for name, value in vars(exact).items()})
        if self.fault == "diagnostics, *":
            exact = replace(exact, examples=exact.examples + 1)
        if self.fault == "was not finite":
            exact = replace(exact, norms=exact.norms.nan_to_num(0.0))
        return total, exact


FAULTS = ["the sum:", "in reverse", "the sum of nobody", "float64", "nan in client", "lost its slot", "was not finite"]


@pytest.mark.parametrize("fault", FAULTS)
def test_executor(fault):
    with pytest.raises(AssertionError, match=fault):
        check_executor(Faulty(fault), WORK, SHARED, RAGGED, LOAD, clip_norm=0.3)


def test_executor_with_wrong_diagnostics():
    with pytest.raises(AssertionError, match="diagnostics: 'examples' differs"):
        check_executor(Faulty("diagnostics, *"), WORK, SHARED, RAGGED, LOAD, clip_norm=0.3)
