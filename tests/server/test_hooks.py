"""What happens between rounds: metrics by round, checkpoints, the clock, diagnostics."""

import json

import pandas as pd
import pytest
import torch

from fedemb.core.types import Diagnostics
from fedemb.privacy.accounting import PrivacySpend
from fedemb.privacy.ledger import Ledger
from fedemb.server import checkpoint
from fedemb.server.hooks import Checkpoint, Clock, Evaluate, MetricsLog, WriteDiagnostics
from fedemb.server.optimizer import ServerState
from fedemb.server.plan import RunState
from fedemb.server.run_folder import RunFolder

EXACT = Diagnostics(
    norms=torch.tensor([1.5, float("nan"), float("inf")]),
    losses=torch.tensor([0.25, float("nan"), 2.0]),
    examples=torch.tensor([4.0, 0.0, 6.0]),
)


def state_at(round, average=None):
    server = ServerState(params={"w": torch.tensor(float(round))}, slots={}, average=average or {}, updates=round)
    return RunState(round=round, server=server, query={}, noise={}, ledger=Ledger(entries=round))


def test_reopened_log_drops_the_rows_of_rounds_that_run_again(tmp_path):
    """A resumed run would otherwise show rounds twice, or results that no checkpoint holds."""
    path = tmp_path / "metrics.csv"
    log = MetricsLog(path=path)
    for round in (2, 4, 6):
        log.append({"round": round, "recall": round / 10, "gap": None})
    again = MetricsLog.reopen(path, up_to_round=4)
    assert [(row["round"], row["recall"], row["gap"]) for row in again.rows] == [(2, 0.2, None), (4, 0.4, None)]
    again.append({"round": 6, "recall": 0.9, "gap": None})
    frame = pd.read_csv(path)
    assert frame["round"].tolist() == [2, 4, 6]
    assert frame["recall"].tolist() == [0.2, 0.4, 0.9]


def test_log_of_a_new_run_is_empty(tmp_path):
    assert MetricsLog.reopen(tmp_path / "none.csv", up_to_round=7).rows == []


def test_a_log_is_read_as_it_was_written(tmp_path):
    """Whole numbers, infinity, numbers of every size and gaps; a column that came later is empty before."""
    rows = [{"round": 0, "epsilon": float("inf"), "a": None}, {"round": 10, "epsilon": 1 / 3, "a": 1e-7, "b": 1e20}]
    log = MetricsLog(path=tmp_path / "metrics.csv")
    for row in rows:
        log.append(row)
    assert log.path.read_text() == "round,epsilon,a,b\n0,inf,,\n10,0.3333333333333333,1e-07,1e+20\n"
    assert MetricsLog.reopen(log.path, up_to_round=10).rows == [{**rows[0], "b": None}, rows[1]]


@pytest.mark.parametrize("text", ["round,a\n1,x\n", "a\n1\n", "round,a\n,1\n", "round,a\n1,2,3\n"])
def test_a_damaged_log_is_named(tmp_path, text):
    path = tmp_path / "metrics.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"^[^\n]*metrics\.csv is damaged \([^\n]*\): restore[^\n]*$"):
        MetricsLog.reopen(path, up_to_round=7)


def test_a_round_measured_twice_has_one_row(tmp_path):
    log = MetricsLog(path=tmp_path / "metrics.csv")
    log.append({"round": 1, "recall": 0.1})
    log.append({"round": 1, "recall": 0.2})
    assert pd.read_csv(log.path)["recall"].tolist() == [0.2]


def test_evaluation_happens_on_time_and_in_the_last_round(tmp_path):
    log = MetricsLog(path=tmp_path / "metrics.csv")
    hook = Evaluate(
        every=3,
        last_round=7,
        measure=lambda params: {"value": float(params["w"])},
        public=lambda query: {"clip_norm": 0.5},
        spend=lambda ledger: PrivacySpend(epsilon=2.0 * ledger.entries, epsilon_attack=ledger.entries, delta=1e-5),
        clock=Clock(),
        log=log,
    )
    for round in range(1, 8):
        hook(state_at(round, average={"w": torch.tensor(100.0 + round)}), EXACT)
    frame = pd.read_csv(log.path)
    assert frame["round"].tolist() == [3, 6, 7]
    assert frame["value"].tolist() == [3, 6, 7]
    assert frame["ema/value"].tolist() == [103, 106, 107]
    assert frame["clip_norm"].tolist() == [0.5] * 3
    assert frame["epsilon"].tolist() == [6, 12, 14]
    assert frame["epsilon_attack"].tolist() == [3, 6, 7]
    assert not {"norms", "losses", "loss", "norm"} & set(frame.columns)  # exact values of private data stay out


def test_checkpoint_hook_saves_every_so_many_rounds(tmp_path):
    folder = RunFolder(path=tmp_path)
    hook = Checkpoint(every=2, folder=folder, progress=Clock(elapsed=5.0, examples=0.0).record)
    for round in (1, 2, 3):
        hook(state_at(round), EXACT)
    state, progress = checkpoint.load(folder.checkpoints, Ledger())
    assert state.round == 2
    assert 5.0 <= progress["elapsed"] < 60.0


def test_clock_counts_every_example():
    clock = Clock(examples=0.0)
    clock.lap(state_at(1), EXACT)
    clock.mark(state_at(1), EXACT)
    clock.lap(state_at(2), EXACT)
    record = clock.record()
    assert record["examples"] == 20
    assert 0 <= record["training"] <= record["elapsed"]
    later = Clock(**record)
    assert later.seconds() >= record["elapsed"]
    assert later.examples == 20


def test_clock_adds_up_what_was_waited_for_over_processes():
    """The loader's seconds are since its own start, and None before anything was asked of it."""
    waited = iter([None, 2.0, 5.0, None, 4.0])
    clock = Clock(examples=0.0, waited=lambda: next(waited))
    clock.lap(state_at(1), EXACT)
    assert clock.record()["waiting"] is None
    clock.lap(state_at(2), EXACT)
    clock.lap(state_at(3), EXACT)
    assert clock.record()["waiting"] == 5.0
    later = Clock(**clock.record(), waited=lambda: next(waited))
    later.lap(state_at(4), EXACT)
    assert later.record()["waiting"] == 5.0
    later.lap(state_at(5), EXACT)
    assert later.record()["waiting"] == 9.0


def test_clock_without_leave_to_count_keeps_nothing():
    clock = Clock()
    clock.lap(state_at(1), EXACT)
    assert clock.record() == {}
    assert clock.public_seconds() is None


def test_diagnostics_are_one_line_a_round_and_plain_json(tmp_path):
    """nan and Infinity are no JSON: a reader of the file would stop there."""
    hook = WriteDiagnostics(folder=tmp_path / "diagnostics")
    hook(state_at(1), EXACT)
    hook(state_at(2), EXACT)
    lines = (tmp_path / "diagnostics" / "rounds.jsonl").read_text().splitlines()
    first = json.loads(lines[0], parse_constant=pytest.fail)
    assert first == {"round": 1, "norms": [1.5, None, None], "losses": [0.25, None, 2.0], "examples": [4, 0, 6]}
    assert json.loads(lines[1])["round"] == 2
