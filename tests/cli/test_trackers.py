"""tracker= from the outside: what real trackers hold of a run afterwards."""

import json
import math

import pandas as pd
import pytest

SMALL = ("rounds=2", "users_per_round=2", "users.examples_per_user=2", "test_users.num_users=2", "noise_multiplier=2")
METRICS = {"recall@far=0.001", "recall@far=0.1", "auc", "recall@1", "recall@5", "map@r"}


def scalars(run):
    """Tag -> [(step, value, wall time)], by TensorBoard's own reader."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return {
        tag: [(event.step, event.value, event.wall_time) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }, {tag: events.Tensors(tag)[-1].tensor_proto.string_val[0].decode() for tag in events.Tags()["tensors"]}


def test_tensorboard_holds_metrics_epsilon_and_the_claim_and_a_resumed_run_goes_on(fedemb, tiny, tmp_path):
    run = tmp_path / "run"
    words = [*tiny, *SMALL, f"run={run}", "tracker=tensorboard"]
    assert fedemb("train", *words)[0] == 0
    rows = pd.read_csv(run / "metrics.csv")
    found, texts = scalars(run)
    assert {tag.split("/", 1)[0] for tag in found} == {"metrics", "privacy"}
    assert {tag.removeprefix("metrics/") for tag in found if tag.startswith("metrics/")} == set(rows.columns) - {
        "round", "seconds", "epsilon", "epsilon_attack",
    }  # fmt: skip
    report = json.loads((run / "report.json").read_text())
    for column in ("epsilon", "epsilon_attack"):
        told = [value for _, value, _ in found[f"privacy/{column}"]]
        assert told == pytest.approx([value for value in rows[column] if math.isfinite(value)], rel=1e-6)
    assert [step for step, _, _ in found["metrics/recall@1"]] == list(rows["round"]) == [0, 2]
    deltas = [value for _, value, _ in found["privacy/delta"]]
    assert deltas == pytest.approx([report["privacy"]["delta"]] * 2, rel=1e-6)
    assert texts["privacy/claim/text_summary"] == report["privacy"]["claim"]
    assert "| clip_norm | 1.0 |" in texts["settings/text_summary"]

    (run / "report.json").unlink()
    (run / "metrics.csv").write_text("".join((run / "metrics.csv").read_text().splitlines(keepends=True)[:-1]))
    assert fedemb("train", f"run={run}", "resume=true")[0] == 0  # measures round 2 again
    assert [step for step, _, _ in scalars(run)[0]["metrics/recall@1"]] == [0, 2]
    assert len(list((run / "tensorboard").iterdir())) == 2


def test_a_release_tells_neither_times_nor_its_seed(fedemb, tiny, tmp_path):
    run = tmp_path / "run"
    words = [*tiny, *SMALL, f"run={run}", "tracker=tensorboard", "mode=release", "seed=918273645"]
    assert fedemb("train", *words)[0] == 0
    found, _ = scalars(run)
    assert {(step, wall) for events in found.values() for step, _, wall in events} == {(0, 0.0), (2, 2.0)}
    assert not [tag for tag in found if "diagnostics" in tag or "seconds" in tag]
    (events,) = (run / "tensorboard").iterdir()
    assert b"918273645" not in events.read_bytes()


def test_a_simulation_may_tell_exact_values_if_asked_to(fedemb, tiny, tmp_path):
    run = tmp_path / "run"
    words = [*tiny, *SMALL, f"run={run}", "tracker=tensorboard", "track_diagnostics=true"]
    assert fedemb("train", *words)[0] == 0
    found, _ = scalars(run)
    lines = [json.loads(line) for line in (run / "diagnostics" / "rounds.jsonl").read_text().splitlines()]
    told = [value for _, value, _ in found["diagnostics/exact_private/mean_update_norm"]]
    assert told == pytest.approx([sum(line["norms"]) / len(line["norms"]) for line in lines], rel=1e-5)


@pytest.mark.parametrize(
    ("words", "told", "package"),
    [
        (["mode=release", "track_diagnostics=true"], "mode=release tells nobody exact private values", "torch"),
        (["mode=release", "tracker=wandb"], "tracker=wandb would learn when each number comes", "wandb"),
        (
            ["mode=release", "tracker=mlflow", "tracker.mlflow.uri=https://example.org"],
            "tracker=mlflow would learn when each number comes",
            "mlflow",
        ),
        (["tracker=wandb", "tracker.wandb.mode=live"], "tracker.wandb.mode must be one of offline, online", "wandb"),
        (["tracker=nosuch"], "unknown tracker 'nosuch'; choose one of mlflow, none, tensorboard, wandb", "torch"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(fedemb, tiny, tmp_path, words, told, package):
    pytest.importorskip(package)
    code, _, err = fedemb("train", *tiny, *SMALL, f"run={tmp_path}/run", *words)
    assert (code, err.count("\n")) == (2, 1), err
    assert told in err
    assert not (tmp_path / "run").exists()


def test_a_lost_server_costs_the_tracker_and_not_the_run(fedemb, tiny, tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = "tracker.mlflow.uri=http://127.0.0.1:9"  # nobody listens there
    code, _, err = fedemb("train", *tiny, *SMALL, f"run={tmp_path}/run", "tracker=mlflow", uri)
    assert code == 0
    assert err.count("fedemb: tracker mlflow failed and is told nothing more; training goes on: ") == 1
    assert (tmp_path / "run" / "report.json").exists()


@pytest.mark.filterwarnings("ignore")  # of SQLAlchemy, about MLflow
@pytest.mark.parametrize("mode", ["simulate", "release"])
def test_mlflow_holds_the_run_and_goes_on_with_it(fedemb, tiny, tmp_path, mode):
    mlflow = pytest.importorskip("mlflow")
    run, uri = tmp_path / "run", f"sqlite:///{tmp_path}/mlflow.db"
    words = [*tiny, *SMALL, f"run={run}", f"mode={mode}", "seed=918273645", "resume=true"]
    words += ["tracker=mlflow", f"tracker.mlflow.uri={uri}"]
    code, _, err = fedemb("train", *words)
    assert (code, "failed" in err) == (0, False), err
    client = mlflow.MlflowClient(tracking_uri=uri)
    (found,) = client.search_runs([client.get_experiment_by_name("synthetic").experiment_id])
    report = json.loads((run / "report.json").read_text())
    assert found.data.metrics["metrics/recall_at_1"] == report["metrics"]["recall@1"]
    assert found.data.metrics["privacy/epsilon"] == pytest.approx(report["privacy"]["epsilon"])
    assert found.data.params["clip_norm"] == "1.0"
    assert found.data.tags["privacy/claim"] == report["privacy"]["claim"]
    assert found.info.status == "FINISHED"
    assert not [name for name in found.data.metrics if "seconds" in name or "loss" in name]
    history = client.get_metric_history(found.info.run_id, "metrics/recall_at_1")
    assert [metric.step for metric in history] == [0, 2]
    if mode == "release":
        assert {metric.timestamp for metric in history} == {found.info.start_time} == {found.info.end_time} == {1}
        assert b"918273645" not in (tmp_path / "mlflow.db").read_bytes()
        return
    (run / "report.json").unlink()
    assert fedemb("train", *words)[0] == 0
    assert len(client.search_runs([found.info.experiment_id])) == 1


@pytest.mark.filterwarnings("ignore")
def test_wandb_offline_holds_public_numbers_only(fedemb, tiny, tmp_path):
    pytest.importorskip("wandb")
    run = tmp_path / "run"
    code, _, err = fedemb("train", *tiny, *SMALL, f"run={run}", "tracker=wandb")
    assert (code, "failed" in err) == (0, False), err
    (log,) = run.glob("wandb/offline-run-*/run-*.wandb")
    assert json.loads((run / "trackers.json").read_text())["wandb"] in log.name
    content = log.read_bytes()
    assert b"metrics/recall@1" in content
    assert b"privacy/claim" in content
    for private in (b"loss 0", b"rounds/s", b"diagnostics", b"seconds"):
        assert private not in content
