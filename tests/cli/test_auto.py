"""executor=auto from the outside, and what the report says of time spent waiting for data."""

import json
from dataclasses import replace
from pathlib import Path

import paced
import pytest
import torch
from paced import Turned

from fedemb.cli.progress import Progress
from fedemb.core.types import Diagnostics
from fedemb.execution.executor import Sequential
from fedemb.privacy.ledger import Ledger
from fedemb.server import checkpoint
from fedemb.server.run_folder import RunFolder

ROUNDS = 6
NESTED = "{_target_: fedemb.execution.auto.Auto, _convert_: all, candidates: {a: {_target_: paced.Paced}}}"


class KilledError(BaseException):
    """Stands for kill -9: nothing in fedemb may catch it."""


@pytest.fixture
def words(tiny):
    """The second candidate is fast, and its sums are the exact ones times 1.001: it can be told who answered."""
    plain = "sequential: {_target_: paced.Turned, turn: at first}"
    marked = "marked: {_target_: paced.Turned, turn: later, factor: 1.001}"
    settings = f"candidates: {{{plain}, {marked}}}, clock: {{_target_: hydra.utils.get_object, path: paced.CLOCK}}"
    model = ["noise_multiplier=0", "~model", "+model={_target_: small.Line, inputs: 784, width: 8}", "test_users=none"]
    executor = ["~executor", f"+executor={{_target_: fedemb.execution.auto.Auto, _convert_: all, {settings}}}"]
    others = [word for word in tiny if not word.startswith(("rounds=", "test_users."))]
    return [*others, f"rounds={ROUNDS}", *model, *executor]


def report(run):
    return json.loads((Path(run) / "report.json").read_text())


def final(run):
    folder = RunFolder(path=Path(run))
    state, progress = checkpoint.load(folder.checkpoints, Ledger.read(folder.ledger))
    return state, progress


def assert_same(left, right):
    assert left.round == right.round == ROUNDS
    assert all(torch.equal(value, right.server.params[name]) for name, value in left.server.params.items())


def test_the_fastest_is_taken_told_and_reported(fedemb, words, tmp_path):
    code, out, err = fedemb("train", *words, f"run={tmp_path}/run")
    assert (code, err) == (0, "")
    assert out.count("executor marked, the fastest in 3 measured rounds; client updates/s: sequential ") == 1
    found = report(tmp_path / "run")["timing"]["executor"]
    assert (found["name"], found["chosen"], found["measured_rounds"]) == ("Auto", "marked", 3)
    assert found["client_updates_per_second"] == {"sequential": 4.0, "marked": 8.0}  # four virtual clients a round
    assert "marked, the fastest in 3 measured rounds" in (tmp_path / "run" / "report.html").read_text()


def test_measuring_charges_each_round_once_and_keeps_the_diagnostics(fedemb, words, tmp_path):
    fedemb("train", *words, f"run={tmp_path}/auto")
    plain = [word for word in words if "executor" not in word]  # executor=sequential
    fedemb("train", *plain, f"run={tmp_path}/plain")
    assert Ledger.read(tmp_path / "auto" / "ledger.jsonl").entries == ROUNDS
    lines = [(tmp_path / run / "diagnostics" / "rounds.jsonl").read_text().splitlines() for run in ("auto", "plain")]
    assert [json.loads(line)["round"] for line in lines[0]] == list(range(1, ROUNDS + 1))
    assert lines[0][:4] == lines[1][:4]  # rounds 1 to 3 by Sequential, the fourth from the same parameters
    assert lines[0][4] != lines[1][4]  # after a release by the marked executor


@pytest.mark.parametrize(("killed_after", "every"), [(1, 1), (2, 4), (3, 4), (5, 4)])
def test_a_killed_run_goes_on_as_if_it_had_not_been(fedemb, words, tmp_path, capfd, monkeypatch, killed_after, every):
    """What was chosen before the kill holds, though another candidate would be chosen now."""
    words = [*words, f"checkpoint_every={every}"]
    fedemb("train", *words, f"run={tmp_path}/whole")
    run = tmp_path / "killed"

    def dying(self, state, diagnostics):
        if state.round == killed_after:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "__call__", dying)
        with pytest.raises(KilledError):
            fedemb("train", *words, f"run={run}")
    assert not (run / "report.json").exists()
    capfd.readouterr()
    if killed_after >= 3:
        monkeypatch.setattr(paced, "SLOW", "later")
    code, out, err = fedemb("train", f"run={run}", "resume=true")
    assert code == 0, err
    assert ("executor marked" in out) == (killed_after < 3)
    assert_same(final(tmp_path / "whole")[0], final(run)[0])
    assert report(run)["timing"]["executor"]["measured_rounds"] == 3


def test_a_run_that_ends_before_the_choice_says_so(fedemb, words, tmp_path):
    fedemb("train", *words, "rounds=2", f"run={tmp_path}/run")
    found = report(tmp_path / "run")["timing"]["executor"]
    assert (found["chosen"], found["measured_rounds"]) == (None, 2)


def test_other_executors_are_reported_by_name(fedemb, words, tmp_path):
    plain = [word for word in words if "executor" not in word]
    fedemb("train", *plain, f"run={tmp_path}/a", "rounds=1", "executor=vectorised")
    fedemb("train", *plain, f"run={tmp_path}/b", "rounds=1", "executor=distributed", "executor/inner=vectorised")
    assert report(tmp_path / "a")["timing"]["executor"] == {"name": "Vectorised"}
    assert report(tmp_path / "b")["timing"]["executor"] == {"name": "Distributed", "inner": {"name": "Vectorised"}}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["executor=auto", "mode=release"],
            ["mode=release", "time", "take executor=sequential or executor=vectorised"],
        ),
        (["executor=distributed", "executor/inner=auto"], ["auto", "sequential, vectorised"]),
        (
            ["~executor", f"+executor={{_target_: fedemb.execution.distributed.Distributed, inner: {NESTED}}}"],
            ["executor/inner", "Auto", "take executor/inner=sequential"],
        ),
        (["executor=auto", "executor.rounds=0"], ["executor.rounds", "0"]),
        (["executor=auto", "executor.clients=none"], ["executor.clients", "none"]),
        (["executor=auto", "executor.candidates.sequential=5"], ["executor.candidates.sequential", "executor"]),
        (["executor=auto", "executor.candidates=null"], ["executor.candidates"]),
        (["executor=auto", "executor.candidate=null"], ["unknown key 'executor.candidate'"]),
    ],
)
def test_what_cannot_be_is_one_line(fedemb, tiny, tmp_path, words, told):
    code, _, err = fedemb("train", *tiny, *words, f"run={tmp_path}/run")
    assert code == 2
    assert err.count("\n") == 1, err
    for word in told:
        assert word in err
    assert not (tmp_path / "run").exists()


def test_an_audit_of_a_release_refuses_too(fedemb, tiny):
    code, _, err = fedemb("audit", *tiny, "executor=auto", "mode=release")
    assert (code, err.count("\n")) == (2, 1)
    assert "take executor=sequential" in err


def test_an_audit_works_with_it(fedemb, tiny):
    words = ["canaries=60", "cohorts=60", "audited_rounds=5", "executor=auto", "format=json"]
    code, out, err = fedemb("audit", *tiny, *words)
    assert (code, json.loads(out)["verdict"]) == (0, "ok"), err


def test_the_share_of_time_spent_waiting_for_data_survives_a_resume(fedemb, words, tmp_path):
    words = [word for word in words if "executor" not in word]
    fedemb("train", *words, "prefetch=none", f"run={tmp_path}/run")
    timing = report(tmp_path / "run")["timing"]
    assert 0 < timing["waiting_for_data_fraction"] < 1
    progress = final(tmp_path / "run")[1]
    assert timing["waiting_for_data_fraction"] == pytest.approx(progress["waiting"] / progress["training"])
    (tmp_path / "run" / "report.json").unlink()
    _, out, _ = fedemb("train", f"run={tmp_path}/run", "resume=true")  # no round is left
    again = report(tmp_path / "run")["timing"]
    assert again["waiting_for_data_fraction"] == timing["waiting_for_data_fraction"]
    assert f"{100 * timing['waiting_for_data_fraction']:.1f}% of the rounds' time" in out


def test_who_has_loaded_nothing_has_not_waited(fedemb, words, tmp_path, monkeypatch):
    """As beside Flower nodes, which load for themselves."""
    monkeypatch.setattr(Turned, "clipped_sum", _sum_of_nothing)
    fedemb("train", *words, f"run={tmp_path}/run", "rounds=1")
    assert report(tmp_path / "run")["timing"]["waiting_for_data_fraction"] is None


def _sum_of_nothing(self, work, clipping, shared, cohort, load):
    total, _ = Sequential().clipped_sum(work, clipping, shared, replace(cohort, clients=()), load)
    zeros = torch.zeros(len(cohort.clients))
    return total, Diagnostics(norms=zeros, losses=zeros, examples=zeros)
