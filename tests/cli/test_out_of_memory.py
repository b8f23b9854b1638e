"""A GPU's memory runs out: a simulation goes on in smaller chunks, a release does not; both say what to do."""

import json

import pytest
import torch

from fedemb.execution.vectorised import Vectorised

MODEL = ("~model", "+model={_target_: small.Line, inputs: 784, width: 8}", "executor.memory_gib=8")
INNER = ("executor=distributed", "executor/inner=vectorised", *MODEL[:2], "executor.inner.memory_gib=8")


@pytest.fixture
def words(tiny):
    return [*(word for word in tiny if not word.startswith("test_users.")), "test_users=none", "noise_multiplier=0"]


@pytest.fixture
def memory(monkeypatch):
    """Sets how many virtual clients fit at once; gives the sizes of those chunks that did."""

    def of(most):
        train, sizes = Vectorised._train, []

        def trained(self, work, shared, clients, batches):
            if len(clients) > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            sizes.append(len(clients))
            return train(self, work, shared, clients, batches)

        monkeypatch.setattr(Vectorised, "_train", trained)
        return sizes

    return of


@pytest.mark.parametrize("executor", [("executor=vectorised", *MODEL), INNER])
def test_a_simulation_goes_on_and_says_so_once(fedemb, words, tmp_path, memory, executor):
    sizes = memory(2)
    code, _, err = fedemb("train", *words, *executor, f"run={tmp_path}/run")
    assert code == 0
    assert err.count("\n") == err.count("out of memory with 4 virtual clients at once: at most 2 from now on") == 1
    assert sizes == [2, 2] * 3
    lines = (tmp_path / "run" / "diagnostics" / "rounds.jsonl").read_text().splitlines()
    assert [json.loads(line)["examples"] for line in lines] == [[12.0] * 4] * 3


@pytest.mark.parametrize("executor", [("executor=vectorised", *MODEL), INNER])
def test_a_release_does_not(fedemb, words, tmp_path, memory, executor):
    """How many clients fit follows how many images they have, and other users' updates round by it."""
    memory(2)
    words = [*words, "noise_multiplier=1", "mode=release"]
    code, _, err = fedemb("train", *words, *executor, f"run={tmp_path}/run")
    assert (code, err.count("\n")) == (2, 1)
    assert "4 virtual clients at once do not fit into the device's memory: lower executor.memory_gib" in err


def test_one_client_that_does_not_fit_is_one_line(fedemb, words, tmp_path, memory):
    memory(0)
    code, _, err = fedemb("train", *words, "executor=vectorised", *MODEL, f"run={tmp_path}/run")
    assert code == 2
    *halved, last = err.splitlines()
    assert len(halved) == 2  # 4 clients, then 2
    assert last.startswith(
        "fedemb: one virtual client does not fit into the device's memory: lower batching.batch_size"
    )
