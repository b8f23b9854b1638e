"""fedemb train from the outside: what it writes, what it refuses, what it resumes."""

import json
import math
import re
import time

import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

from fedemb.cli import progress
from fedemb.data.synthetic import SyntheticUsers
from fedemb.evaluation.evaluate import EmbeddingEvaluation
from fedemb.evaluation.users import embed_users
from fedemb.models.exported import load_model
from fedemb.server.run_folder import RunFolder

PRIVACY = {
    "epsilon", "epsilon_attack", "delta", "unit", "user", "relation", "sampling", "users", "users_per_round",
    "clients_per_round", "users_per_client", "rounds", "noise_multiplier", "clip_norm", "accountant", "claim",
}  # fmt: skip
TIMING = {
    "seconds", "seconds_per_round", "client_updates_per_second", "examples_per_second", "peak_memory_bytes",
    "waiting_for_data_fraction", "executor",
}  # fmt: skip


def floats(value):
    if isinstance(value, dict):
        return [number for item in value.values() for number in floats(item)]
    if isinstance(value, list):
        return [number for item in value for number in floats(item)]
    return [value] if isinstance(value, float) else []


def refused(result, *words):
    """Exit code 2 and one line on stderr that holds the words."""
    code, _, err = result
    assert code == 2
    assert err.count("\n") == 1, err
    assert err.startswith("fedemb: ")
    for word in words:
        assert word in err
    return True


def test_a_run_leaves_what_the_contract_promises(fedemb, tiny, tmp_path):
    run = tmp_path / "run"
    code, out, _ = fedemb("train", *tiny, f"run={run}", "noise_multiplier=1", "server.ema_decay=0.5")
    assert code == 0
    assert str(run / "report.html") in out
    names = {path.name for path in run.iterdir()} - {".lock"}
    assert names == {
        "config.yaml", "report.json", "report.html", "metrics.csv", "ledger.jsonl",
        "checkpoints", "model", "diagnostics", "train.log",
    }  # fmt: skip
    report = json.loads((run / "report.json").read_text())
    assert report["privacy"].keys() >= PRIVACY
    assert report["timing"].keys() >= TIMING
    assert report["method"] == "DP-FedEmb"
    assert all(math.isfinite(number) for number in floats(report))
    assert report["privacy"]["epsilon_attack"] <= report["privacy"]["epsilon"]
    assert (report["privacy"]["unit"], report["privacy"]["relation"]) == ("user", "substitute-one")
    assert report["data"] | {"checksum": None} == {
        "name": "synthetic", "users": 24, "examples": 24 * 6, "checksum": None,
    }  # fmt: skip
    assert len((run / "ledger.jsonl").read_text().splitlines()) == 3
    assert list(pd.read_csv(run / "metrics.csv")["round"]) == [0, 2, 3]
    assert re.search(r"^round 3/3 .* · ε ≤ [\d.]+ at round 3, δ ", (run / "train.log").read_text(), re.MULTILINE)


def test_the_exported_model_gives_the_reported_metrics_again(fedemb, tiny, tmp_path):
    run = tmp_path / "run"
    fedemb("train", *tiny, f"run={run}")
    reported = json.loads((run / "report.json").read_text())["metrics"]
    users = SyntheticUsers(num_users=6, examples_per_user=10, classes=50, seed=1)
    model = load_model(run / "model")
    measured = EmbeddingEvaluation().measure(*embed_users(model, users, torch.device("cpu")))
    code, out, _ = fedemb("evaluate", f"run={run}", "format=json")
    assert code == 0
    assert json.loads(out) == pytest.approx(reported)
    assert measured == pytest.approx(reported)


def test_no_noise_is_reported_as_no_privacy(fedemb, tiny, tmp_path):
    fedemb("train", *tiny, f"run={tmp_path}/run", "noise_multiplier=0")
    privacy = json.loads((tmp_path / "run" / "report.json").read_text())["privacy"]
    assert privacy["epsilon"] is None
    assert "No privacy" in privacy["claim"]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("recipe=nosuch", ["unknown recipe 'nosuch'", "synthetic"]),
        ("clipnorm=1", ["unknown key 'clipnorm'", "clip_norm"]),
        ("users_per_round=25", ["users_per_round", "25", "24"]),
        ("users_per_client=3", ["users_per_client must divide"]),
        ("clip_norm=-1", ["clip_norm", "-1"]),
        ("clip_norm=0", ["clip_norm", "0"]),
        ("clip_norm=abc", ["clip_norm", "abc"]),
        ("noise_multiplier=-1", ["noise_multiplier", "-1"]),
        ("noise_multiplier=nan", ["noise_multiplier", "nan"]),
        ("delta=0.05", ["delta=0.05", "1/users", "allow_large_delta"]),
        ("delta=0", ["delta", "0"]),
        ("client.learning_rate=nan", ["learning_rate", "nan"]),
        ("server.learning_rate=inf", ["learning_rate", "inf"]),
        ("rounds=0", ["rounds", "0"]),
        ("rounds=two", ["rounds", "two"]),
        ("evaluate_every=0", ["evaluate_every", "0"]),
        ("seed=x", ["seed", "x"]),
        ("mode=loud", ["mode", "simulate", "release"]),
        ("device=tpu", ["device=tpu"]),
        ("device=meta", ["device=meta cannot be used here", "take auto or cpu"]),
        ("frozen=[conv9*]", ["conv9*", "conv1.weight"]),
        ("frozen=[*]", ["nothing is left to train"]),
        ("sampler=poisson", ["users_per_client=1", "sampler=fixed"]),
        ("model._target_=nosuch.Model", ["nosuch"]),
        ("batching.batch_size=0", ["batch_size", "0"]),
        ("budget.epsilon=-1", ["budget.epsilon", "-1"]),
        ("budget.epsilon=0.001", ["budget.epsilon=0.001", "no round"]),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(fedemb, tiny, tmp_path, monkeypatch, override, words):
    monkeypatch.setenv("FEDEMB_DATA", str(tmp_path / "nowhere"))
    assert refused(fedemb("train", *tiny, f"run={tmp_path}/run", "noise_multiplier=1", override), *words)
    assert not (tmp_path / "run").exists()


def test_data_that_were_never_prepared_say_how_to_prepare_them(fedemb, tmp_path, monkeypatch):
    monkeypatch.setenv("FEDEMB_DATA", str(tmp_path / "nowhere"))
    assert refused(fedemb("train", "recipe=omniglot", f"run={tmp_path}/run"), "nowhere", "fedemb prepare omniglot")
    assert not (tmp_path / "run").exists()


def test_batchnorm_is_refused_by_name_of_the_layer(fedemb, tiny, tmp_path, monkeypatch):
    (tmp_path / "mything.py").write_text(
        "from torch import nn\n"
        "class Normed(nn.Sequential):\n"
        "    def __init__(self):\n"
        "        super().__init__(nn.Flatten(), nn.BatchNorm1d(784), nn.Linear(784, 8))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    words = ["model._target_=mything.Normed", "~model.channels", "~model.size", "~model.embedding_width"]
    result = fedemb("train", *tiny, f"run={tmp_path}/run", *words)
    assert refused(result, "layer '1'", "BatchNorm1d", "GroupNorm")
    assert not (tmp_path / "run").exists()


def test_a_used_run_folder_is_refused(fedemb, tiny, tmp_path):
    fedemb("train", *tiny, f"run={tmp_path}/run")
    before = (tmp_path / "run" / "report.json").read_text()
    assert refused(fedemb("train", *tiny, f"run={tmp_path}/run"), "holds a run already", "resume=true")
    assert (tmp_path / "run" / "report.json").read_text() == before


def test_a_folder_with_other_files_is_refused(fedemb, tiny, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("precious")
    assert refused(fedemb("train", *tiny, f"run={tmp_path}/run"), "not empty")


def test_an_unwritable_run_folder_is_refused(fedemb, tiny, tmp_path):
    (tmp_path / "file").write_text("")
    assert refused(fedemb("train", *tiny, f"run={tmp_path}/file/run"), "run folder", "take another run=")


def test_a_run_in_use_is_refused(fedemb, tiny, tmp_path):
    with RunFolder(path=tmp_path / "run").locked():
        assert refused(
            fedemb("train", *tiny, f"run={tmp_path}/run"), "in use by another process: wait", "take another run="
        )


def test_a_disagreeing_resume_is_refused(fedemb, tiny, tmp_path):
    fedemb("train", *tiny, f"run={tmp_path}/run")
    result = fedemb("train", *tiny, f"run={tmp_path}/run", "resume=true", "noise_multiplier=3")
    assert refused(result, "noise_multiplier was 1.0, now 3")


def test_a_resume_that_disagrees_names_what_was_typed_first_and_counts_the_rest(fedemb, tiny, tmp_path):
    fedemb("train", *tiny, f"run={tmp_path}/run")
    result = fedemb("train", f"run={tmp_path}/run", "resume=true", "rounds=4")  # of the default recipe
    assert refused(result, "config.yaml: rounds was ", "more; give run= and resume=true alone to go on")


def test_a_resume_that_finds_nothing_says_that_it_starts(fedemb, tiny, tmp_path):
    """As one that a scheduler started again must, and a typo in run= should not go unseen."""
    said = f"run folder {tmp_path}/run, from the start: no checkpoint to resume is there"
    code, out, _ = fedemb("train", *tiny, f"run={tmp_path}/run", "resume=true", "rounds=1")
    assert (code, out.splitlines()[0]) == (0, said)
    assert fedemb("train", f"run={tmp_path}/run", "resume=true")[1].splitlines()[0] == f"run folder {tmp_path}/run"


def test_a_name_stays_in_its_folder(fedemb, tiny):
    assert refused(fedemb("train", *tiny, "name=../../x"), "name=../../x is no name of a folder", "set run=")


@pytest.mark.parametrize(("seconds", "left"), [(1.0, "0:10 left"), (5.9999, "0:59 left"), (42.0, "7:00 left")])
def test_the_time_left_has_sixty_seconds_a_minute(tmp_path, seconds, left):
    shown = progress.Progress(
        rounds=11, first_round=0, delta=0.1, epsilon=None, show_private=True, metrics=None, log=None, console=None
    )
    assert shown.speed(1, seconds).endswith(left)


@pytest.mark.parametrize("words", [["prefetch=none"], ["prefetch=processes", "prefetch.workers=1"], []])
def test_how_data_are_read_may_change_on_resume(fedemb, tiny, tmp_path, words):
    """A dead worker's message says to take fewer; and a run of a version without prefetching has no word of it."""
    code, out, err = fedemb("train", *tiny, f"run={tmp_path}/run", "rounds=1")
    assert code == 0, err
    assert "synthetic: 1 round\n" in re.sub(r" +\n", "\n", out)
    config = tmp_path / "run" / "config.yaml"
    saved = OmegaConf.load(config)
    del saved.prefetch
    OmegaConf.save(saved, config)
    code, _, err = fedemb("train", f"run={tmp_path}/run", "resume=true", *words)
    assert code == 0, err


def test_a_changed_data_set_is_refused_on_resume(fedemb, tiny, tmp_path):
    run = tmp_path / "run"
    fedemb("train", *tiny, f"run={run}", "noise_multiplier=1")
    config = (run / "config.yaml").read_text()
    assert "num_users: 24" in config
    (run / "config.yaml").write_text(config.replace("num_users: 24", "num_users: 48"))
    assert refused(fedemb("train", f"run={run}", "resume=true"), "ledger.jsonl", "other settings")


def test_a_damaged_ledger_is_refused_on_resume(fedemb, tiny, tmp_path):
    run = tmp_path / "run"
    fedemb("train", *tiny, f"run={run}", "noise_multiplier=1")
    lines = (run / "ledger.jsonl").read_text().splitlines(keepends=True)
    (run / "ledger.jsonl").write_text("".join(lines[:1]))
    assert refused(fedemb("train", f"run={run}", "resume=true"), "fewer charges than the checkpoint")


def test_the_budget_stops_before_the_round_that_would_exceed_it(fedemb, tiny, tmp_path):
    run = tmp_path / "run"
    fedemb("train", *tiny, f"run={run}", "noise_multiplier=2", "rounds=20", "budget.epsilon=4")
    privacy = json.loads((run / "report.json").read_text())["privacy"]
    assert 0 < privacy["rounds"] < 20
    assert privacy["epsilon"] <= 4
    settings = ["users=24", "users_per_round=8", "noise_multiplier=2", f"delta={privacy['delta']!r}", "format=json"]
    _, out, _ = fedemb("account", *settings, f"rounds={privacy['rounds'] + 1}")
    assert json.loads(out)["epsilon"] > 4


def test_a_crash_that_used_up_the_budget_still_ends_with_metrics(fedemb, tiny, tmp_path):
    """One charge too many, as a killed round leaves it: no round is left to pay for, and none was measured last."""
    run = tmp_path / "run"
    words = [*tiny, "evaluate_every=1000", f"run={run}", "noise_multiplier=2", "rounds=20", "budget.epsilon=4"]
    fedemb("train", *words)
    rounds = json.loads((run / "report.json").read_text())["privacy"]["rounds"]
    lines = (run / "ledger.jsonl").read_text().splitlines()
    extra = json.loads(lines[-1]) | {"entry": len(lines)}
    (run / "ledger.jsonl").write_text("\n".join([*lines, json.dumps(extra)]) + "\n")
    log = (run / "metrics.csv").read_text().splitlines()
    (run / "metrics.csv").write_text("\n".join(log[:-1]) + "\n")
    (run / "report.json").unlink()
    assert fedemb("train", f"run={run}", "resume=true")[0] == 0
    report = json.loads((run / "report.json").read_text())
    assert report["privacy"]["rounds"] == rounds
    assert report["privacy"]["rounds_charged"] == rounds + 1
    assert report["metrics"]["recall@1"] is not None


def test_a_missing_charge_is_noticed_after_a_warm_start_too(fedemb, tiny, tmp_path):
    fedemb("train", *tiny, f"run={tmp_path}/a", "noise_multiplier=1", "rounds=1")
    start = ["init=pretrained", f"path={tmp_path}/a", "provenance=dp", "noise_multiplier=1"]
    fedemb("train", *tiny, f"run={tmp_path}/b", *start)
    lines = (tmp_path / "b" / "ledger.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "b" / "ledger.jsonl").write_text("".join(lines[:-1]))
    assert refused(fedemb("train", f"run={tmp_path}/b", "resume=true"), "fewer charges")


def test_a_typo_in_the_run_folder_starts_no_training(fedemb, tmp_path):
    assert refused(fedemb("train", f"run={tmp_path}/typo", "resume=true"), "no run at", "typo")
    assert not (tmp_path / "typo").exists()


def test_the_report_is_about_the_rounds_as_they_were(fedemb, tiny, tmp_path):
    """Noise that the configuration names and the mechanism does not add must not show up, nor be extrapolated."""
    fedemb("train", *tiny, f"run={tmp_path}/a", "mechanism=none", "noise_multiplier=1")
    report = json.loads((tmp_path / "a" / "report.json").read_text())
    assert report["privacy"]["noise_multiplier"] == 0
    assert report["extrapolation"] == []
    single = ["users_per_client=1", "local_classes=2", "sampler=poisson", "users_per_round=2.5", "noise_multiplier=1"]
    assert fedemb("train", *tiny, f"run={tmp_path}/b", *single)[0] == 0
    assert json.loads((tmp_path / "b" / "report.json").read_text())["extrapolation"] == []


def test_the_report_names_the_command_that_began_the_run(fedemb, tiny, tmp_path):
    fedemb("train", *tiny, f"run={tmp_path}/a")
    fedemb("train", f"run={tmp_path}/a", "resume=true")
    command = json.loads((tmp_path / "a" / "report.json").read_text())["command"]
    assert command == " ".join(["fedemb train", *tiny, f"run={tmp_path}/a"])


def test_speed_counts_the_rounds_and_not_the_measuring(fedemb, tiny, tmp_path, monkeypatch):
    measure = EmbeddingEvaluation.measure

    def slow(self, embeddings, labels):
        time.sleep(2.0)
        return measure(self, embeddings, labels)

    monkeypatch.setattr(EmbeddingEvaluation, "measure", slow)
    fedemb("train", *tiny, f"run={tmp_path}/a", "rounds=1")
    timing = json.loads((tmp_path / "a" / "report.json").read_text())["timing"]
    assert timing["seconds"] - timing["seconds_per_round"] > 3.9  # two measurements, neither in the round


def test_diverging_clients_neither_stop_nor_skip_a_round(fedemb, tiny, tmp_path):
    run = tmp_path / "run"
    code, _, _ = fedemb("train", *tiny, f"run={run}", "client.learning_rate=1e30", "batching.batch_size=4")
    assert code == 0
    lines = [json.loads(line) for line in (run / "diagnostics" / "rounds.jsonl").read_text().splitlines()]
    assert [line["round"] for line in lines] == [1, 2, 3]
    assert any(norm is None for line in lines for norm in line["norms"])  # the premise: some update was not finite
    assert all(value.isfinite().all() for value in load_file(run / "model" / "backbone.safetensors").values())


def test_a_sweep_gives_every_point_its_own_run_and_ledger(fedemb, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, _ = fedemb("train", "-m", *tiny, "noise_multiplier=1,2", "rounds=1")
    assert code == 0
    reports = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("runs/synthetic/*/*/report.json"))]
    assert [report["privacy"]["noise_multiplier"] for report in reports] == [1, 2]
    assert reports[0]["privacy"]["epsilon"] > reports[1]["privacy"]["epsilon"]


def test_a_released_run_keeps_no_seed_and_no_diagnostics(fedemb, tiny, tmp_path):
    run = tmp_path / "run"
    code, out, _ = fedemb("train", *tiny, f"run={run}", "mode=release", "noise_multiplier=1", "seed=918273645")
    assert code == 0
    assert "loss" not in out
    assert "loss" not in (run / "train.log").read_text()
    assert not (run / "diagnostics").exists()
    report = json.loads((run / "report.json").read_text())
    assert report["seed"] is None
    assert report["data"]["checksum"] is None
    assert "simulation" not in report["privacy"]["claim"]
    for path in run.rglob("*"):
        if path.is_file() and path.name != "report.json":
            assert b"918273645" not in path.read_bytes()


def test_a_released_run_writes_no_exact_private_number(fedemb, tiny, tmp_path, monkeypatch):
    """How many images the drawn users had, and how long that took, are outside the guarantee.

    Every round is due by the clock to be shown, none to be priced: what is written must follow from neither.
    """
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", -1.0)
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_PRICES", math.inf)
    run = tmp_path / "run"
    words = [*tiny, f"run={run}", "mode=release", "noise_multiplier=1", "rounds=7", "evaluate_every=3"]
    _, out, _ = fedemb("train", *words)
    assert len(re.findall(r"^round \d/7 .* rounds/s", out, re.MULTILINE)) == 7
    assert json.loads((run / "checkpoints" / "latest.json").read_text())["progress"] == {}
    log = (run / "train.log").read_text()
    assert re.findall(r"^round (\d)/7 .* at round (\d), δ [^·]*$", log, re.MULTILINE) == [(n, n) for n in "367"]
    assert len(log.splitlines()) == 3
    report = json.loads((run / "report.json").read_text())
    assert set(report["timing"].values()) == {None}
    assert report["data"]["examples"] is None
    assert pd.read_csv(run / "metrics.csv")["seconds"].isna().all()
    assert "rounds/s" not in (run / "train.log").read_text()


def test_a_released_run_resumes_by_its_own_command(fedemb, tiny, tmp_path):
    words = [*tiny, f"run={tmp_path}/run", "mode=release", "noise_multiplier=1", "resume=true"]
    assert fedemb("train", *words)[0] == 0
    (tmp_path / "run" / "report.json").unlink()
    code, _, err = fedemb("train", *words)
    assert code == 0, err
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert (report["privacy"]["rounds"], set(report["timing"].values())) == (3, {None})


def test_a_release_does_not_start_from_a_simulation(fedemb, tiny, tmp_path):
    """Whoever knows the simulation's seed knows its users: composing its ledger would certify a lie."""
    fedemb("train", *tiny, f"run={tmp_path}/a", "noise_multiplier=1")
    start = ["init=pretrained", f"path={tmp_path}/a", "provenance=dp", "mode=release", "noise_multiplier=1"]
    assert refused(fedemb("train", *tiny, f"run={tmp_path}/b", *start), "mode=release cannot start from")
    assert not (tmp_path / "b").exists()


def test_a_continued_run_draws_other_noise_and_cohorts(fedemb, tiny, tmp_path):
    """With the streams of the first run its noise would cancel out of the difference of the two releases."""
    fedemb("train", *tiny, f"run={tmp_path}/a", "noise_multiplier=5", "rounds=1", "server.optimizer.momentum=0")
    start = ["init=pretrained", f"path={tmp_path}/a", "provenance=dp", "noise_multiplier=5", "rounds=1"]
    fedemb("train", *tiny, f"run={tmp_path}/b", *start, "server.optimizer.momentum=0")
    first, second = (load_file(tmp_path / name / "model" / "backbone.safetensors") for name in ("a", "b"))
    fedemb("train", *tiny, f"run={tmp_path}/zero", "client.learning_rate=1e-9", "rounds=1")
    origin = load_file(tmp_path / "zero" / "model" / "backbone.safetensors")
    moves = [torch.cat([(b[n] - a[n]).flatten() for n in a]) for a, b in ((origin, first), (first, second))]
    assert abs(torch.corrcoef(torch.stack(moves))[0, 1]) < 0.05


def test_two_released_runs_differ(fedemb, tiny, tmp_path):
    for name in ("a", "b"):
        fedemb("train", *tiny, f"run={tmp_path}/{name}", "mode=release", "rounds=1")
    left, right = (load_file(tmp_path / name / "model" / "backbone.safetensors") for name in ("a", "b"))
    assert any(not torch.equal(left[name], right[name]) for name in left)


def test_public_start_with_frozen_layers(fedemb, tiny, tmp_path):
    fedemb("train", *tiny, f"run={tmp_path}/a", "noise_multiplier=1")
    words = ["init=public", f"path={tmp_path}/a", "provenance=public", "frozen=[conv*]", "noise_multiplier=1"]
    code, _, _ = fedemb("train", *tiny, f"run={tmp_path}/b", *words)
    assert code == 0
    left, right = (load_file(tmp_path / name / "model" / "backbone.safetensors") for name in ("a", "b"))
    moved = {name for name in left if not torch.equal(left[name], right[name])}
    assert moved == {"embedding.weight", "embedding.bias"}


def test_a_warm_start_costs_what_its_provenance_says(fedemb, tiny, tmp_path):
    def epsilon(name, *words):
        fedemb("train", *tiny, f"run={tmp_path}/{name}", "noise_multiplier=2", *words)
        return json.loads((tmp_path / name / "report.json").read_text())["privacy"]["epsilon"]

    first = epsilon("first", "rounds=3")
    six = epsilon("six", "rounds=6")
    start = ["init=pretrained", f"path={tmp_path}/first"]
    assert epsilon("public", *start, "provenance=public") == pytest.approx(first)
    assert epsilon("dp", *start, "provenance=dp") == pytest.approx(six)
    assert epsilon("private", *start, "provenance=private") is None


def test_a_warm_start_that_does_not_fit_is_refused(fedemb, tiny, tmp_path):
    fedemb("train", *tiny, f"run={tmp_path}/a", "rounds=1")
    start = ["init=public", f"path={tmp_path}/a"]
    result = fedemb("train", *tiny, f"run={tmp_path}/b", *start, "embedding_width=16")
    assert refused(result, "embedding", "[8, ", "[16, ")
    result = fedemb("train", *tiny, f"run={tmp_path}/b", "init=public", f"path={tmp_path}/nowhere")
    assert refused(result, "no model at")
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("words", [[], ["dance"], ["evaluate", "run=/nowhere"], ["evaluate"], ["train", "seed"]])
def test_wrong_commands_exit_2(fedemb, words):
    assert fedemb(*words)[0] == 2


@pytest.mark.parametrize(
    ("words", "key"),
    [(["evaluate"], "run"), (["export", "run=a"], "format"), (["train", "users=folder"], "users.root")],
)
def test_a_missing_value_is_told_with_its_key(fedemb, words, key):
    assert fedemb(*words) == (2, "", f"fedemb: {key} is missing: set {key}=...\n")
