"""Who may follow the sizes of users' data: simulations, wherever the work is done, and no release."""

import pytest
from hydra import compose, initialize_config_module

from fedemb.cli import build
from fedemb.cli.release import released
from fedemb.cli.sizes import following
from fedemb.execution.auto import Auto
from fedemb.execution.distributed import Distributed
from fedemb.execution.executor import Sequential
from fedemb.execution.vectorised import Vectorised


def examples(client):
    return len(client.users)


def test_sizes_reach_every_executor_that_can_use_them():
    assert following(examples, Vectorised()).examples is examples
    nested = following(examples, Distributed(inner=Vectorised(halvings=3)))
    assert nested.examples is nested.inner.examples is examples
    assert nested.inner.halvings == 3
    auto = following(examples, Auto(candidates={"one": Sequential(), "many": Vectorised()}))
    assert auto.candidates["many"].examples is examples
    assert following(examples, Sequential()) == Sequential()


def test_a_release_follows_no_sizes_whoever_asks_for_it():
    """Neighbours in a chunk are rounded together: who they are would tell how many images somebody has."""
    assert released(Vectorised(examples=examples)).examples is None
    assert released(Distributed(inner=Vectorised(examples=examples))).inner.examples is None


@pytest.mark.parametrize(("mode", "follows"), [("simulate", True), ("release", False)])
@pytest.mark.parametrize("words", [["executor=vectorised"], ["executor=distributed", "executor/inner=vectorised"]])
def test_a_run_follows_them_by_its_mode(tiny, mode, follows, words):
    with initialize_config_module("fedemb.conf", version_base="1.3"):
        cfg = compose("train", [*tiny, *words, f"mode={mode}", "noise_multiplier=1"])
    with (job := build.build(cfg)).load:
        executor = job.executor.inner if isinstance(job.executor, Distributed) else job.executor
        assert (executor.examples is not None) == follows
