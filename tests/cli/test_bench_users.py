"""fedemb bench suite=users as its command calls it: keys in, table and figure out."""

import json
import os

import pytest
from omegaconf import OmegaConf

from fedemb.bench import users
from fedemb.bench.users import COHORTS, POPULATIONS, Run
from fedemb.cli import bench_users
from fedemb.cli.main import main

KEYS = {"timeout_seconds": 60, "threads": 2, "runs": 2}
MACHINE = {"cores": 2, "cpu": "a processor"}


@pytest.fixture
def asked(monkeypatch):
    """What runs were asked for; none is made."""
    calls = []

    def run(point, *, environment, seconds):
        calls.append((point, environment["OMP_NUM_THREADS"], environment["PATH"], seconds))
        return Run(
            startup_seconds=2.0,
            seconds_per_round=point.users_per_round / 64,
            processor_seconds=5.0,
            peak_bytes=5 * 10**8,
            ledger_bytes_per_round=150.0,
            checkpoint_bytes=10**6,
        )

    monkeypatch.setattr(users, "run", run)
    return calls


def test_every_point_is_run_so_often_and_shown_once(asked, capsys):
    answer = bench_users.measure(OmegaConf.create(KEYS))
    points = {*POPULATIONS, *COHORTS}
    assert answer["complete"]
    assert len(asked) == 2 * len(points)
    assert {(point, *rest) for point, *rest in asked} == {(point, "2", os.environ["PATH"], 60.0) for point in points}
    bench_users.table(answer)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(points)
    assert any(line.split()[:4] == ["100,000,000", "64", "2.0", "s"] for line in lines)
    assert max(map(len, lines)) <= 80  # nothing is cut off where the width is not known


def test_the_command_writes_record_and_figure(asked, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["fedemb", "bench", "suite=users", "runs=2", "threads=2", f"out={tmp_path}"])
    monkeypatch.setattr("fedemb.cli.bench.machine", lambda: MACHINE)
    main()
    assert "Medians of 2 runs in turn, 2 threads, 2 cores, a processor" in (tmp_path / "bench.svg").read_text()
    record = json.loads((tmp_path / "bench.json").read_text())
    assert record["settings"]["runs"] == 2
    assert record["train"][0] == "recipe=procedural"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"runs": 0}, "runs"),
        ({"runs": 1.5}, "runs"),
        ({"threads": "many"}, "threads"),
        ({"timeout_seconds": 0}, "timeout"),
    ],
)
def test_bad_keys_are_refused_before_anything_runs(asked, change, words):
    with pytest.raises(ValueError, match=words):
        bench_users.measure(OmegaConf.create({**KEYS, **change}))
    assert not asked
