"""How the kernels of a step are run, and in which precision, from the command line."""

import json

import pytest

from fedemb.execution import compiler


@pytest.mark.parametrize("executor", ["sequential", "vectorised"])
def test_a_run_in_bfloat16_differs_by_its_rounding(fedemb, tiny, tmp_path, executor):
    """Norms of updates within a few per cent, and not the same."""
    norms = {}
    for precision in ("full", "bfloat16"):
        words = [*tiny, "rounds=1", f"executor={executor}", f"client_precision={precision}"]
        code, _, err = fedemb("train", *words, f"run={tmp_path}/{precision}")
        assert code == 0, err
        line = (tmp_path / precision / "diagnostics" / "rounds.jsonl").read_text().splitlines()[-1]
        norms[precision] = json.loads(line)["norms"]
    assert norms["bfloat16"] == pytest.approx(norms["full"], rel=0.05)
    assert norms["bfloat16"] != norms["full"]


@pytest.mark.parametrize(
    "words",
    [
        ["executor=vectorised", "executor/kernels=cuda_graphs"],
        ["executor=distributed", "executor/inner=vectorised", "executor/kernels@executor.inner.kernels=cuda_graphs"],
    ],
)
def test_graphs_without_a_gpu_are_refused_before_anything_is_written(fedemb, tiny, tmp_path, words):
    code, _, err = fedemb("train", *tiny, *words, "device=cpu", f"run={tmp_path}/run")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("fedemb: kernels=cuda_graphs needs a GPU, got parameters on device=cpu")
    assert not (tmp_path / "run").exists()


def test_no_compiler_is_found_out_before_anything_is_written(fedemb, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(compiler, "_missing", lambda device: "a C++ compiler")
    words = ["executor=vectorised", "executor/kernels=compiled", "device=cpu"]
    code, _, err = fedemb("train", *tiny, *words, f"run={tmp_path}/run")
    assert (code, err) == (2, "fedemb: kernels=compiled needs a C++ compiler, or take kernels=plain\n")
    assert not (tmp_path / "run").exists()
