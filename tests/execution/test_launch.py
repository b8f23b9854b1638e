"""Lists of kernels that are compiled, or recorded and replayed."""

import os
from functools import partial

import pytest
import torch
from recorders import Playback
from small import RAGGED, Line, make_cohort, make_load, make_stream, make_task, make_users, make_work
from torch.utils._python_dispatch import TorchDispatchMode

from fedemb.execution import compiler
from fedemb.execution.capture import over_clients
from fedemb.execution.compiler import Compiler, TorchCompile
from fedemb.execution.executor import Sequential
from fedemb.execution.launch import Compiled, CudaGraphs, Plain
from fedemb.execution.memory import client_bytes
from fedemb.execution.recorder import Gpu
from fedemb.execution.vectorised import Vectorised
from fedemb.privacy.clipping import FlatClipping
from fedemb.testing import check_executor

WORK = make_work(task=make_task(backbone=Line()))


class Copies(TorchDispatchMode):
    """Counts copies from tensor to tensor."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten.copy_.default
        return func(*args, **(kwargs or {}))


def values(*starts):
    return [torch.arange(3.0) + start for start in starts]


def test_a_recording_takes_new_inputs_and_leaves_them_alone():
    run = over_clients(
        lambda common, own: (own * common["w"], own + 1),
        {"w": torch.ones(())},
        torch.zeros(3),
        launch=recorded(),
        spent=1,
    )
    for weight, start in ((2.0, 0.0), (3.0, 10.0)):
        [given] = values(start)
        before = given.clone()
        product, more = run(torch.tensor(weight), given)
        torch.testing.assert_close(product, before * weight, rtol=0, atol=0)
        torch.testing.assert_close(more, before + 1, rtol=0, atol=0)
        assert torch.equal(given, before)  # spent, but the recording has memory of its own


def recorded():
    return CudaGraphs(recorder=Playback())


def test_a_result_that_is_handed_back_is_not_moved():
    """A copy of all clients' parameters in each step would cost as much as the step of a small model."""
    run = over_clients(lambda common, own, more: own + more, {}, *values(0.0, 0.0), launch=recorded(), spent=1)
    state, more = values(0.0, 1.0)
    [state] = run(state, more)
    with Copies() as copies:
        [state] = run(state, more)
    assert copies.count == 1  # `more`
    torch.testing.assert_close(state, torch.arange(3.0) * 3 + 2, rtol=0, atol=0)


def test_results_that_come_back_in_each_others_place():
    """Moved one after the other, the first would write over the second."""
    run = over_clients(lambda common, own: (own[1] + 1, own[0] * 2), {}, values(0.0, 0.0), launch=recorded(), spent=1)
    left, right = wanted = values(1.0, 5.0)
    for _ in range(3):
        left, right = run(left, right)
        wanted = [wanted[1] + 1, wanted[0] * 2]
        torch.testing.assert_close([left, right], wanted, rtol=0, atol=0)


def test_two_recordings_hand_results_to_each_other():
    """As a step in which all have examples and one in which some rest do."""
    recordings = [
        over_clients(lambda common, own, n=n: own * n + 1, {}, torch.zeros(3), launch=recorded(), spent=1)
        for n in (2.0, 3.0)
    ]
    [state] = values(1.0)
    wanted = state.clone()
    for n in (2, 3, 3, 2):
        [state] = recordings[n - 2](state)
        wanted = wanted * n + 1
        torch.testing.assert_close(state, wanted, rtol=0, atol=0)


def test_inputs_with_gaps_in_memory():
    whole = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    run = over_clients(lambda common, own: own.flip(0) * 2, {}, whole[:, 2], launch=recorded())
    for step in (0, 4):
        torch.testing.assert_close(run(whole[:, step])[0], whole[:, step].flip(1) * 2, rtol=0, atol=0)


@pytest.mark.parametrize("examples", [None, lambda client: -client.seed])
def test_rounds_by_recordings_equal_sequential(examples):
    """Chunks of several sizes, both kinds of steps, several rounds; diagnostics outlive the chunk that they are of."""
    work, recorder = make_work(), Playback()
    executor = Vectorised(memory_gib=1e-3, kernels=CudaGraphs(recorder=recorder), examples=examples)
    check_executor(executor, work, work.task.init(1), RAGGED, make_load(), clip_norm=0.1)
    assert {device.type for device in recorder.devices} == {"cpu"}


def test_clients_that_are_done_keep_their_updates_while_narrower_recordings_replay():
    """Full steps at two widths are recorded first, then one in which a client rests: its results are in their way."""
    steps = [5] * 4 + [3] * 4 + [5] * 4 + [4] + [3] * 3
    users = make_users(counts=[4 * count for count in steps for _ in range(2)])
    cohort, work = make_cohort(*((2 * pair, 2 * pair + 1) for pair in range(16))), make_work(learning_rate=0.05)
    order = {client.seed: -place for place, client in enumerate(cohort.clients)}  # chunks as written
    memory = 8.5 * client_bytes(work, work.task.init(0), cohort.clients[0], make_load(users)(cohort.clients[0])) / 2**30
    by, clipping = partial(map, make_load(users)), FlatClipping(clip_norm=0.5)
    wanted, _ = Sequential().clipped_sum(work, clipping, work.task.init(1), cohort, by)
    executor = Vectorised(memory_gib=memory, kernels=recorded(), examples=lambda client: order[client.seed])
    found, _ = executor.clipped_sum(work, clipping, work.task.init(1), cohort, by)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


def test_what_no_kernel_reads_is_not_copied():
    run = over_clients(lambda common, own: own + 1, {"idle": torch.ones(5)}, torch.zeros(3), launch=recorded(), spent=1)
    [given] = values(1.0)
    with Copies() as copies:
        [result] = run(torch.full((5,), 7.0), given)
    assert copies.count == 1  # `given`
    torch.testing.assert_close(result, given + 1, rtol=0, atol=0)


def test_a_layout_is_recorded_once():
    """In every step some of the five rest: one kind of step, whatever the number of rounds."""
    recorder = Playback()
    executor = Vectorised(memory_gib=8.0, kernels=CudaGraphs(recorder=recorder))
    for _ in range(2):
        executor.clipped_sum(WORK, FlatClipping(clip_norm=1.0), WORK.task.init(0), RAGGED, make_stream())
    assert recorder.recorded == 1


def test_a_recording_needs_a_gpu():
    with pytest.raises(ValueError, match=r"^kernels=cuda_graphs needs a GPU, got .*device=cpu: .* kernels=plain$"):
        CudaGraphs().check(torch.device("cpu"))


class Plainly(Compiler):
    """Compiles nothing; notes where it was to work."""

    def __init__(self):
        self.devices, self.graphs = [], 0

    def check(self, device):
        self.devices.append(device)

    def compiled(self, graph):
        self.graphs += 1
        return graph


def test_what_is_compiled_is_recorded_where_both_are_wanted():
    """The compiler gets a graph that writes over nothing, as it would have to take that back."""
    by = Plainly()
    launch = CudaGraphs(of=Compiled(compiler=by), recorder=Playback())
    executor = Vectorised(kernels=launch)
    check_executor(executor, WORK, WORK.task.init(1), RAGGED, make_load(), clip_norm=0.1)
    assert by.devices
    assert by.graphs == launch.recorder.recorded > 0


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # PyTorch's own
@pytest.mark.parametrize(
    "backend",
    [
        "aot_eager",  # all of torch.compile but the C++ compiler
        pytest.param(
            "inductor",
            marks=pytest.mark.skipif(
                "FEDEMB_TEST_COMPILER" not in os.environ, reason="FEDEMB_TEST_COMPILER asks for a minute of g++"
            ),
        ),
    ],
)
def test_a_compiled_list_equals_the_plain_one(backend):
    def one(common, own, more):
        return (own * common["w"] + more).relu().sum(0), own

    common, inputs = {"w": torch.tensor(0.5)}, [torch.randn(3, 4), torch.randn(3, 4)]
    launches = Plain(), Compiled(compiler=TorchCompile(backend=backend))
    plain, fast = (over_clients(one, common, *inputs, launch=launch, spent=1) for launch in launches)
    for shift in (0.0, 1.0):
        given = [torch.tensor(2.0), inputs[0] + shift, inputs[1]]
        torch.testing.assert_close(fast(*given), plain(*(value.clone() for value in given)), rtol=1e-6, atol=1e-6)


def test_without_a_compiler_it_is_one_line(monkeypatch):
    monkeypatch.setattr(compiler, "_missing", lambda device: f"a compiler for {device}")
    with pytest.raises(ValueError, match=r"^kernels=compiled needs a compiler for cpu, or take kernels=plain$"):
        Vectorised(kernels=Compiled()).clipped_sum(
            WORK, FlatClipping(clip_norm=1.0), WORK.task.init(0), RAGGED, make_stream()
        )


def test_what_is_missing_is_named(monkeypatch):
    from torch._inductor import cpp_builder, exc

    def none():
        raise exc.InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", none)
    assert "CXX" in compiler._missing.__wrapped__("cpu")
    monkeypatch.setattr("torch.utils._triton.has_triton", lambda: False)
    assert "Triton for device=cuda" in compiler._missing.__wrapped__("cuda")
    monkeypatch.setattr("torch.utils._triton.has_triton", lambda: True)
    assert compiler._missing.__wrapped__("cuda") is None


def test_recordings_by_a_gpu_and_inductor_are_the_defaults():
    assert CudaGraphs().recorder == Gpu()
    assert Compiled().compiler == TorchCompile(backend="inductor")
