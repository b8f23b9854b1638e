"""All ways do the same work, and the scripts for other interpreters find what they need without fedemb."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import small_bench
import torch
from small_bench import SMALL, SMALL_RECIPE

from fedemb.bench import model_file
from fedemb.bench.interleave import measure
from fedemb.bench.plain_loop import trainer
from fedemb.bench.serve import WAYS
from fedemb.bench.ways import FOREIGN, OWN, PLAIN, VARIANTS, foreign, own
from fedemb.bench.workload import client_side, start
from fedemb.bench.workloads import PEERS
from fedemb.core.params import norm, sub
from fedemb.core.types import Cohort, VirtualClient
from fedemb.execution.compiler import TorchCompile
from fedemb.execution.executor import Sequential
from fedemb.privacy.clipping import FlatClipping
from fedemb.privacy.ledger import Ledger
from fedemb.server.round import run_round


def test_the_plain_loop_and_the_executors_send_the_same_sum():
    """One batch a user: its order does not matter."""
    side = client_side(SMALL)
    params, users = side.task.init(0), (4, 1, 3)
    cohort = Cohort(round=0, clients=tuple(VirtualClient(round=0, seed=u, users=(u,)) for u in users))
    wanted, _ = Sequential().clipped_sum(side.work, FlatClipping(clip_norm=0.01), params, cohort, side.load)
    found = trainer(replace(SMALL, clip_norm=0.01))(list(params.values()), users)
    for name, value in zip(params, found, strict=True):
        torch.testing.assert_close(value.double(), wanted[name], rtol=1e-4, atol=1e-8)


def test_the_rounds_of_the_recipes_train():
    plan, state = start(SMALL_RECIPE, Sequential(), Ledger())
    after, diagnostics = run_round(plan, state)
    assert diagnostics.examples.tolist() == [6, 6]
    assert float(norm(sub(after.server.params, state.server.params))) > 0
    assert (len(plan.sampler.cohort(0).clients), after.ledger.entries) == (2, 1)


def test_every_way_has_a_label():
    assert WAYS.keys() == OWN.keys() | VARIANTS.keys()
    assert set(PLAIN) < OWN.keys()


@pytest.mark.parametrize("name", [name for name in WAYS if name != "vectorised_cuda_graphs"])
def test_every_way_runs_rounds(name, monkeypatch):
    for variable in ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK", "LOCAL_WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.setenv(variable, "")  # so that what the ranks set is undone
    monkeypatch.setattr(TorchCompile, "compiled", lambda self, graph: graph)  # it takes a minute
    with WAYS[name](SMALL) as run:
        run()
        run()


def test_recordings_are_for_a_gpu():
    with (
        WAYS["vectorised_cuda_graphs"](SMALL) as run,
        pytest.raises(ValueError, match=r"needs a GPU, got .*device=cpu"),
    ):
        run()


def test_the_device_reaches_the_process_and_the_parameters():
    assert own("vectorised")("tiny", 1, "cuda:1").settings["device"] == "cuda:1"
    _, state = start(replace(SMALL, device="meta"), Sequential(), Ledger())
    assert {value.device.type for value in state.server.params.values()} == {"meta"}


def test_a_way_is_served_by_a_process():
    way = own("sequential")("tiny", 1, "cpu")
    assert way.command == [sys.executable, "-m", "fedemb.bench.serve"]
    found = measure([replace(way, command=[sys.executable, small_bench.__file__])], range(3), 120.0)["sequential"]
    assert (len(found.rounds), found.failure) == (1, None)
    assert found.versions["torch"] == torch.__version__


def test_a_script_in_another_interpreter_says_what_is_missing_there(tmp_path):
    """Without site packages there is no pfl, no Flower and no NumPy."""
    for name in FOREIGN:
        way = foreign(name, sys.executable)("tiny", 1, "cpu")
        assert "PYTHONPATH" not in way.environment
        done = subprocess.run(
            [sys.executable, "-S", way.command[1]],
            input=json.dumps(dict(way.settings)) + "\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={key: value for key, value in way.environment.items() if not key.startswith("PYTHON")},
        )
        assert json.loads(done.stdout)["missing"].startswith("No module named"), done.stderr


def test_the_same_model_without_fedemb(tmp_path):
    settings = json.loads(json.dumps(PEERS["tiny"].settings()))
    code = f"""
import json, sys
sys.path.append({str(Path(model_file.__file__).parent)!r})
from model_file import model_of
model = model_of(json.loads({json.dumps(settings)!r}))
print(sum(value.numel() for value in model.parameters()), any(name.startswith("fedemb") for name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.split() == ["7834", "False"]
    assert (settings["shape"], settings["clients"], settings["clip_norm"]) == ([3, 32, 32], 50, 0.4)
