"""Conformance checks: run them on your own UserDataset, CohortSampler, Task, ClientWork or Executor.

    from fedemb.testing import check_user_dataset
    check_user_dataset(MyUsers(root="..."))

Each check returns nothing, or raises AssertionError that says what is broken. fedemb's own parts pass them too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.func import grad, vmap
from torch.utils._pytree import tree_map

from fedemb.client.work import ClientState, ClientWork
from fedemb.core.params import flatten, norm
from fedemb.core.types import Batch, Cohort, Diagnostics, Params, VirtualClient
from fedemb.data.prefetch import LoadOne
from fedemb.data.sampling import CohortSampler
from fedemb.data.users import UserDataset
from fedemb.execution.executor import Executor, Sequential
from fedemb.privacy.clipping import FlatClipping
from fedemb.privacy.mechanism import Gaussian
from fedemb.tasks.task import Task


def check_user_dataset(users: UserDataset, *, sample: int = 8) -> None:
    """Shapes, types, counts, order, repeatability and threads, on up to `sample` users spread over the data set."""
    count = users.num_users
    _require(isinstance(count, int) and count >= 1, f"num_users must be an int of at least 1, got {count!r}")
    none = _of_nobody(users)
    _require({"image", "label"} <= none.keys(), f'load([]) must hold "image" and "label", got {sorted(none)}')
    shape = none["image"].shape[1:]
    _require(len(shape) == 3, f"load([]): images must be [0, Ch, H, W], got {list(none['image'].shape)}")
    picked = sorted({round(place * (count - 1) / max(1, sample - 1)) for place in range(sample)})
    alone = {user: users.load([user]) for user in picked}
    for user, batch in [(None, none), *alone.items()]:
        n = 0 if user is None else users.num_examples(user)
        image, label, who = batch["image"], batch["label"], f"user {user}"
        _require(
            batch.keys() == none.keys(), f"{who}: the names {sorted(batch)} differ from {sorted(none)} of load([])"
        )
        _require(image.dtype == torch.uint8, f"{who}: images must be uint8, got {image.dtype}")
        _require(label.dtype == torch.int64, f"{who}: labels must be int64, got {label.dtype}")
        _require(image.shape == (n, *shape), f"{who}: images must be {[n, *shape]}, got {list(image.shape)}")
        _require(label.shape == (n,), f"{who}: labels must be {[n]}, got {list(label.shape)}")
    backwards = picked[::-1]
    joint = {name: torch.cat([alone[user][name] for user in backwards]) for name in none}
    _same("load of several users, in the order asked for", users.load(backwards), joint, 0.0)
    with ThreadPoolExecutor(2) as threads:
        loading = {user: threads.submit(users.load, [user]) for user in picked}
    for user, loaded in loading.items():
        told = loaded.exception()
        _require(told is None, f"user {user}: load in another thread, beside others, raised {told!r}")
        _same(f"user {user}, loaded in another thread", loaded.result(), alone[user], 0.0)


def check_sampler(sampler: CohortSampler, *, num_users: int, rounds: int = 20) -> None:
    """Cohorts are pure in the round, users are disjoint, seeds differ, and the event keeps the release."""
    later_first = {round: sampler.cohort(round) for round in reversed(range(rounds))}
    seeds: set[int] = set()
    for round in range(rounds):
        cohort = sampler.cohort(round)
        _require(cohort == later_first[round], f"round {round}: the cohort depends on which rounds were asked before")
        told = {cohort.round, *(client.round for client in cohort.clients)}
        _require(told == {round}, f"round {round}: cohort or clients say that the round is {told}")
        users = [user for client in cohort.clients for user in client.users]
        _require(len(set(users)) == len(users), f"round {round}: a user is in the cohort twice")
        _require(all(0 <= user < num_users for user in users), f"round {round}: a user outside 0 .. {num_users - 1}")
        drawn = {client.seed for client in cohort.clients}
        _require(len(drawn) == len(cohort.clients), f"round {round}: two virtual clients share a seed")
        _require(seeds.isdisjoint(drawn), f"round {round}: a virtual client has the seed of an earlier round")
        seeds |= drawn
    planned = sampler.planned_clients
    _require(math.isfinite(planned) and planned > 0, f"planned_clients must be finite and above 0, got {planned}")
    events = [sampler.event(Gaussian(std=std).event(1.0), 0) for std in (1.0, 2.0)]
    _require(events[0] != events[1], "event(release) forgets the release")


def check_task(task: Task, batch: Batch, *, seed: int = 0) -> None:
    """Purity in the seed, names that do not clash, a loss that padding cannot move and that survives vmap.

    batch: [B, ...] as the task's loss wants it, with at least one real example.
    """
    before = torch.random.get_rng_state()
    start, local = task.init(seed), task.init_local(seed)
    _same("init, twice with one seed", task.init(seed), start, 0.0)
    _same("init_local, twice with one seed", task.init_local(seed), local, 0.0)
    _require(torch.equal(before, torch.random.get_rng_state()), "init or init_local moves the global random state")
    _require(any(task.is_shared(name) for name in start), "no global parameter is shared: nothing is trained")
    _require(start.keys().isdisjoint(local), f"names both global and local: {sorted(start.keys() & local.keys())}")
    leaving = [name for name in local if task.is_shared(name)]
    _require(not leaving, f"local parameters must not be shared, got {leaving}")
    if local:
        _require(not torch.equal(flatten(local), flatten(task.init_local(seed + 1))), "init_local ignores its seed")
    params = {**start, **local}
    loss = task.loss(params, batch)
    _require(loss.shape == () and bool(loss.isfinite()), f"the loss must be one finite number, got {loss}")
    padded = {name: torch.cat([value, value[:1], value[:1]]) for name, value in batch.items()}
    padded["mask"] = torch.cat([batch["mask"], batch["mask"].new_zeros(2)])
    for what, other, factor in (("two rows of padding", padded, 1.0), ("a mask of zeros only", _masked(batch), 0.0)):
        _same(f"loss with {what}", {"loss": task.loss(params, other)}, {"loss": factor * loss}, 1e-5)
        gradient, wanted = grad(task.loss)(params, other), grad(task.loss)(params, batch)
        _same(f"gradient with {what}", gradient, {name: factor * value for name, value in wanted.items()}, 1e-5)
    pair = {name: torch.stack([value, _masked(batch)[name]]) for name, value in batch.items()}
    mapped = vmap(task.loss, in_dims=(None, 0))(params, pair)
    _same("loss under vmap", {"loss": mapped}, {"loss": torch.stack([loss, loss * 0])}, 1e-5)


def check_work(work: ClientWork, shared: Params, client: VirtualClient, batches: Batch) -> None:
    """begin, step and finish are pure, idle clients send zero, only shared names leave, and vmap changes nothing.

    batches: [S, B, ...] of the client, S >= 1.
    """
    copies = {name: value.clone() for name, value in shared.items()}
    state, again = work.begin(shared, client), work.begin(shared, client)
    _same_state("begin, twice", again, state, 0.0)
    idle = work.finish(shared, state)
    _require(idle.keys() <= shared.keys(), f"names leave that are not global: {sorted(idle.keys() - shared.keys())}")
    _same("the update before any step", idle, {name: torch.zeros_like(shared[name]) for name in idle}, 0.0)
    batch = {name: value[0] for name, value in batches.items()}
    after = work.step(shared, state, batch)
    _same("the global parameters after a step", shared, copies, 0.0)
    _same_state("step, twice on the same state", work.step(shared, state, batch), after, 0.0)
    _same_state("the state that was handed to step", state, again, 0.0)
    _require(work.finish(shared, after).keys() == idle.keys(), "the update's names change with the number of steps")
    chunk = tree_map(lambda value: torch.stack([value, value]), (state, batch))
    mapped = vmap(work.step, in_dims=(None, 0, 0))(shared, *chunk)
    _same_state("step under vmap", tree_map(lambda value: value[1], mapped), after, 1e-5)


def check_executor(
    executor: Executor,
    work: ClientWork,
    shared: Params,
    cohort: Cohort,
    load: LoadOne,
    *,
    clip_norm: float,
    tolerance: float = 1e-5,
) -> None:
    """Equal to `Sequential` in any order of clients, bounded, and no client with a non-finite update harms another.

    load: a virtual client -> its batches, e.g. `Batcher.load`.
    """

    def run(by: Executor, clients: tuple[VirtualClient, ...], load: LoadOne) -> tuple[Params, Diagnostics]:
        chosen = Cohort(round=cohort.round, clients=clients)
        return by.clipped_sum(work, FlatClipping(clip_norm=clip_norm), shared, chosen, partial(map, load))

    reference = Sequential()
    wanted, exact = run(reference, cohort.clients, load)
    total, found = run(executor, cohort.clients, load)
    _require(all(value.dtype == torch.float64 for value in total.values()), "the sum must be float64")
    _same("the sum", total, wanted, tolerance)
    _same("diagnostics", vars(found), vars(exact), tolerance)
    bound = len(cohort.clients) * clip_norm
    _require(float(norm(total)) <= bound, f"the sum of {len(cohort.clients)} clients exceeds {bound}")
    _same("the sum of the clients in reverse", run(executor, cohort.clients[::-1], load)[0], wanted, tolerance)
    empty, nobody = run(executor, (), load)
    _same("the sum of nobody", empty, {name: torch.zeros_like(value) for name, value in wanted.items()}, 0.0)
    _require(all(len(value) == 0 for value in vars(nobody).values()), "diagnostics of nobody must be empty")
    spoilt = run(reference, cohort.clients, _Spoilt(load, cohort.clients, math.nan))[1].norms
    broken = (~spoilt.isfinite()).nonzero().flatten().tolist()  # clients that train, unless their work mends such data
    for value, slot in zip((math.nan, math.inf), broken[:1] + broken[-1:], strict=False):
        rotten = _Spoilt(load, cohort.clients[slot : slot + 1], value)
        total, found = run(executor, cohort.clients, rotten)
        others = cohort.clients[:slot] + cohort.clients[slot + 1 :]
        _same(f"the sum with {value} in client {slot}", total, run(reference, others, load)[0], tolerance)
        _require(len(found.norms) == len(cohort.clients), f"client {slot} with {value} lost its slot")
        _require(not bool(found.norms[slot].isfinite()), f"norms[{slot}] must tell that the update was not finite")


def _of_nobody(users: UserDataset) -> Batch:
    try:
        return users.load([])
    except Exception as error:
        wanted = 'empty tensors, "image" uint8 [0, Ch, H, W] and "label" int64 [0]'
        raise AssertionError(f"load([]) must return {wanted}, and raised {error!r}") from error


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def _same(what: str, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], tolerance: float) -> None:
    """Equal names, shapes and, within an absolute tolerance, values; nan equals nan."""
    _require(found.keys() == wanted.keys(), f"{what}: names {sorted(found)}, expected {sorted(wanted)}")
    for name, value in wanted.items():
        shapes = f"{list(found[name].shape)}, expected {list(value.shape)}"
        _require(found[name].shape == value.shape, f"{what}: '{name}' has shape {shapes}")
        close = torch.isclose(found[name].double(), value.double(), rtol=0.0, atol=tolerance, equal_nan=True)
        gap = (
            float((found[name].double() - value.double()).abs().nan_to_num(math.inf).max()) if not close.all() else 0.0
        )
        _require(bool(close.all()), f"{what}: '{name}' differs by up to {gap:.3g}, more than {tolerance:g}")


def _same_state(what: str, found: ClientState, wanted: ClientState, tolerance: float) -> None:
    _require(found.slots.keys() == wanted.slots.keys(), f"{what}: slots {sorted(found.slots)}, {sorted(wanted.slots)}")
    _same(f"{what}, params", found.params, wanted.params, tolerance)
    for slot, value in wanted.slots.items():
        _same(f"{what}, slot {slot}", found.slots[slot], value, tolerance)
    names = ClientState._fields[2:]
    _same(what, dict(zip(names, found[2:], strict=True)), dict(zip(names, wanted[2:], strict=True)), tolerance)


def _masked(batch: Batch) -> Batch:
    return {**batch, "mask": torch.zeros_like(batch["mask"])}


@dataclass(frozen=True)
class _Spoilt:
    """The same data, but all floating-point inputs of some clients are `value`; travels to other processes."""

    load: LoadOne
    victims: tuple[VirtualClient, ...]
    value: float

    def __call__(self, client: VirtualClient) -> Batch:
        batches = self.load(client)
        floats = [name for name, data in batches.items() if data.is_floating_point() and name != "mask"]
        spoilt = {name: torch.full_like(batches[name], self.value) for name in floats}
        return {**batches, **spoilt} if client in self.victims else batches
