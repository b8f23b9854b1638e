"""The suite of users: what is read from a run, in which order runs are, what is said of one that fails."""

import json
import os
import sys

import pytest

from fedemb.bench import users
from fedemb.bench.users import COHORTS, POPULATIONS, Point, Run
from fedemb.server.run_folder import RunFolder

SMALL = Point(users=1000, users_per_round=16)


def a_run(seconds, bytes=100):
    return Run(
        startup_seconds=2 * seconds,
        seconds_per_round=seconds,
        processor_seconds=9.0,
        peak_bytes=bytes,
        ledger_bytes_per_round=30.0,
        checkpoint_bytes=7,
    )


@pytest.fixture
def folder(tmp_path):
    """A run of five rounds, the first two of which took a minute each."""
    run = RunFolder(path=tmp_path)
    run.config.write_text("config")
    os.utime(run.config, (1000.0, 1002.5))
    run.metrics.write_text("round,seconds,epsilon\n0,0.5,0\n2,120.5,1\n4,122.5,1\n5,126.5,1\n")
    run.ledger.write_bytes(b"x" * 500)
    run.report.write_text(json.dumps({"timing": {"peak_memory_bytes": 9}, "privacy": {"rounds_charged": 5}}))
    run.checkpoints.mkdir()
    for name, size in (("latest.json", 3), ("round-5.safetensors", 40)):
        (run.checkpoints / name).write_bytes(b"x" * size)
    return run


def test_a_run_is_read_by_hand(folder):
    """Rounds 3 and 4 took 2 s together and round 5 took 4 s: the median of 1 and 4 is 2.5."""
    assert users.read(folder, started=1000.0, processor_seconds=1.5) == Run(
        startup_seconds=2.5,
        seconds_per_round=2.5,
        processor_seconds=1.5,
        peak_bytes=9,
        ledger_bytes_per_round=100.0,
        checkpoint_bytes=43,
    )


def test_points_take_turns(monkeypatch):
    asked = []

    def run(point, *, environment, seconds):
        asked.append(point)
        return a_run(float(len(asked)))

    monkeypatch.setattr(users, "run", run)
    first, second = POPULATIONS[:2]
    found = users.measure([first, second], range(2), environment={}, seconds=1.0)
    assert asked == [first, second, first, second]
    assert [run.seconds_per_round for run in found[second]] == [2.0, 4.0]


def test_a_record_has_medians_and_every_run():
    both = Point(users=10**7, users_per_round=64)
    assert both in POPULATIONS
    assert both in COHORTS
    found = {POPULATIONS[0]: [a_run(1.0)], both: [a_run(3.0, 100), a_run(1.0, 300), a_run(2.0, 200)]}
    record = json.loads(json.dumps(users.record(found)))
    assert [(row["users"], row["seconds_per_round"]) for row in record["populations"]] == [(1000, 1.0), (10**7, 2.0)]
    [row] = record["cohorts"]
    assert (row["users_per_round"], row["startup_seconds"], row["peak_bytes"]) == (64, 4.0, 200)
    assert [run["seconds_per_round"] for run in row["runs"]] == [3.0, 1.0, 2.0]


def test_a_point_is_a_run_of_its_own():
    run = users.run(SMALL, environment=os.environ, seconds=120.0)
    assert run.seconds_per_round > 0
    assert 0 < run.startup_seconds < 120
    assert 1 < run.processor_seconds < 120
    assert 1e8 < run.peak_bytes < 2e9
    assert 100 < run.ledger_bytes_per_round < 300
    assert run.checkpoint_bytes > 1e6


def test_a_run_that_fails_says_why_in_one_line(monkeypatch):
    broken = (sys.executable, "-c", "import sys; print('first', file=sys.stderr); sys.exit('the disk is full')")
    monkeypatch.setattr(users, "command", lambda point, folder: broken)
    with pytest.raises(ValueError, match=r"^fedemb train of 1,000 users, 16 a round, .* code 1: the disk is full$"):
        users.run(SMALL, environment=os.environ, seconds=60.0)


def test_a_run_that_takes_too_long_is_ended(monkeypatch):
    slow = (sys.executable, "-c", "import time; time.sleep(60)")
    monkeypatch.setattr(users, "command", lambda point, folder: slow)
    with pytest.raises(ValueError, match=r"16 a round, took more than 0\.2 s$"):
        users.run(SMALL, environment=os.environ, seconds=0.2)
