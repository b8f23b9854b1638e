"""Ranks: how clients are dealt out, what the sum is, and what the one who asks is told when a rank fails."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ranks import Failing, Mirror, defect, free_port, in_parts, missing, world
from small import RAGGED, make_stream, make_work

from fedemb.core.params import flatten
from fedemb.core.worker_process import DeadWorkerError
from fedemb.execution import distributed
from fedemb.execution.distributed import Distributed, balanced, joined
from fedemb.execution.executor import Sequential
from fedemb.execution.vectorised import Vectorised
from fedemb.privacy.clipping import FlatClipping
from fedemb.privacy.discrete import GridClipping

CLIPPING = FlatClipping(clip_norm=0.3)


@given(st.lists(st.integers(0, 50), max_size=12), st.integers(1, 5))
def test_every_client_goes_to_one_rank_and_ranks_have_about_equally_many_examples(sizes, ranks):
    shares = balanced(sizes, ranks)
    assert len(shares) == ranks
    assert sorted(itertools.chain(*shares)) == list(range(len(sizes)))
    assert all(share == sorted(share) for share in shares)
    loads = [sum(sizes[position] for position in share) for share in shares]
    assert max(loads) - min(loads) <= max(sizes, default=0)


def test_the_largest_client_goes_first_and_equal_ones_are_dealt_out_in_turn():
    assert balanced([1, 9, 1, 5, 4], 2) == [[0, 1], [2, 3, 4]]  # 9, 1 and 5, 4, 1
    assert balanced([1] * 7, 3) == [[0, 3, 6], [1, 4], [2, 5]]
    assert balanced([0] * 4, 2) == [[0, 2], [1, 3]]  # nobody's data: still a turn each
    assert balanced([3], 3) == [[0], [], []]


def total_of(executor, cohort=RAGGED, load=None, work=None):
    work = work or make_work()
    return executor.clipped_sum(work, CLIPPING, work.task.init(0), cohort, load or make_stream())


def test_a_process_that_was_started_alone_is_all_the_ranks():
    mine, wanted = total_of(Distributed(inner=Sequential())), total_of(Sequential())
    assert torch.equal(flatten(mine[0]), flatten(wanted[0]))
    torch.testing.assert_close(vars(mine[1]), vars(wanted[1]), rtol=0, atol=0, equal_nan=True)


class Inner(Sequential):
    """Notes that it was closed, and keeps a trace."""

    leaves_no_trace = False
    closed = False

    def close(self):
        Inner.closed = True


def test_what_the_inner_executor_leaves_behind_counts():
    executor = Distributed(inner=Inner())
    assert not executor.leaves_no_trace
    assert Distributed(inner=Sequential()).leaves_no_trace
    executor.close()
    assert Inner.closed


def test_half_an_environment_is_one_line(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    line = "^RANK and WORLD_SIZE are set, but not MASTER_ADDR, MASTER_PORT: start with torchrun$"
    with pytest.raises(ValueError, match=line), joined():
        pass


def test_a_rank_that_never_comes_is_not_waited_for_forever(monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_PORT", str(free_port()))
    monkeypatch.setattr(distributed, "_SECONDS_TO_JOIN", 1.0)
    with pytest.raises(DeadWorkerError), joined():
        pass


@pytest.fixture(scope="module")
def two():
    with world(2) as others:
        yield others


@pytest.mark.parametrize("sizes", [[1] * 5, [20, 0, 1, 16, 11]])
def test_how_clients_are_dealt_out_changes_nothing_but_rounding(two, sizes):
    by_seed = {client.seed: size for client, size in zip(RAGGED.clients, sizes, strict=True)}
    mine, found = total_of(in_parts(examples=lambda client: by_seed[client.seed]))
    wanted, exact = total_of(Sequential())
    torch.testing.assert_close(flatten(mine), flatten(wanted), rtol=0, atol=1e-14)
    torch.testing.assert_close(vars(found), vars(exact), rtol=0, atol=0, equal_nan=True)


def test_parameters_of_several_types_arrive_as_they_are(two):
    stream = torch.Generator().manual_seed(0)
    shared = {
        "b": torch.randn(2, 3, generator=stream),
        "a": torch.randn(4, generator=stream, dtype=torch.float64),
        "c": torch.randn(3, 1, 2, generator=stream).bfloat16(),
        "scalar": torch.tensor(0.1),
    }
    far = FlatClipping(clip_norm=100.0)  # clips nothing
    total, _ = in_parts().clipped_sum(Mirror(), far, shared, RAGGED, make_stream())
    assert total.keys() == shared.keys()
    for name, value in shared.items():
        torch.testing.assert_close(total[name], 5 * value.double(), rtol=1e-15, atol=0)


def test_integer_sums_stay_exact(two):
    """Values beyond 2^53: any way through floating point would round them."""
    clipping = GridClipping(clip_norm=1.0, grid=2.0**-58)
    mine, wanted = (e.clipped_sum(make_work(), clipping, start(), RAGGED, make_stream())[0] for e in both())
    assert flatten(wanted).dtype == torch.int64
    assert torch.equal(flatten(mine), flatten(wanted))


def both():
    return in_parts(), Sequential()


def start():
    return make_work().task.init(0)


def test_the_cause_on_another_rank_is_told_with_the_rank(two):
    """Clients 100, 102, 104 are rank 0's, the others rank 1's; later rounds work."""
    for seed in (101, 103):
        with pytest.raises(ValueError, match=r"^rank 1 on \S+: \[Errno 2\] No such file or directory: 'user7.png'"):
            total_of(in_parts(), load=Failing(load=make_stream(), seed=seed, how=missing))
    with pytest.raises(RuntimeError, match=r"^rank 1 on \S+: 'imgae'") as caught:
        total_of(in_parts(), load=Failing(load=make_stream(), seed=101, how=defect))
    assert "in defect" in "".join(caught.value.__notes__)
    for seed in (100, 102, 104):
        with pytest.raises(FileNotFoundError):
            total_of(in_parts(), load=Failing(load=make_stream(), seed=seed, how=missing))
    torch.testing.assert_close(flatten(total_of(in_parts())[0]), flatten(total_of(Sequential())[0]), rtol=0, atol=1e-14)


def test_an_inner_executor_works_through_the_share(two):
    mine, wanted = total_of(in_parts(Vectorised())), total_of(Sequential())
    torch.testing.assert_close(flatten(mine[0]), flatten(wanted[0]), rtol=0, atol=1e-5)


def test_settings_that_cannot_be_are_refused_in_one_line():
    for backend in ("carrier-pigeon", "GLOO", "undefined"):
        with pytest.raises(
            ValueError, match=rf"^executor.backend={backend} does not exist in this PyTorch: take gloo$"
        ):
            Distributed(inner=Sequential(), backend=backend)
    with pytest.raises(ValueError, match=r"^executor.timeout_seconds must be above 0"):
        Distributed(inner=Sequential(), timeout_seconds=0)
    with pytest.raises(ValueError, match=r"^executor.timeout_seconds must be at most 8.64e\+07, got .*=1e\+11$"):
        Distributed(inner=Sequential(), timeout_seconds=1e11)  # clocks count nanoseconds in 64 bits: it would hang


def test_a_backend_for_gpus_is_refused_on_a_cpu(two, monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_backend_available", lambda name: True)
    with pytest.raises(ValueError, match=r"^executor.backend=nccl is for GPUs, got device=cpu: take gloo"):
        Distributed(inner=Sequential(), backend="nccl").clipped_sum(
            make_work(), CLIPPING, start(), RAGGED, make_stream()
        )
