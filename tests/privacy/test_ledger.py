"""The ledger on disk: nothing that was charged is ever forgotten, and damage is never read over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from dp_accounting import (
    ComposedDpEvent,
    GaussianDpEvent,
    LaplaceDpEvent,
    NonPrivateDpEvent,
    NoOpDpEvent,
    PoissonSampledDpEvent,
    SampledWithoutReplacementDpEvent,
    SelfComposedDpEvent,
)
from hypothesis import given
from hypothesis import strategies as st

from fedemb.privacy.events import fixed_size_round, from_plain, noise_multiplier_of, poisson_round, to_plain
from fedemb.privacy.ledger import Ledger

ROUND = fixed_size_round(users=3856, users_per_round=64, noise_multiplier=2.0)
OTHER = poisson_round(sampling_rate=0.01, noise_multiplier=1.0)

LEAVES = st.one_of(
    st.just(NoOpDpEvent()),
    st.just(NonPrivateDpEvent()),
    st.floats(0, 1e6).map(GaussianDpEvent),
    st.tuples(st.integers(1, 10**7), st.floats(0, 50)).map(
        lambda pair: SampledWithoutReplacementDpEvent(10**7, pair[0], GaussianDpEvent(pair[1]))
    ),
    st.tuples(st.floats(1e-9, 1), st.floats(0, 50)).map(
        lambda pair: PoissonSampledDpEvent(pair[0], GaussianDpEvent(pair[1]))
    ),
)
EVENTS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(ComposedDpEvent),
        st.tuples(inner, st.integers(0, 5000)).map(lambda pair: SelfComposedDpEvent(*pair)),
    ),
    max_leaves=6,
)


def ledger_of(folder: Path, *events) -> Ledger:
    ledger = Ledger.create(folder / "ledger.jsonl")
    for event in events:
        ledger = ledger.charge(event)
    return ledger


@given(EVENTS)
def test_events_survive_json(event):
    assert from_plain(json.loads(json.dumps(to_plain(event), allow_nan=False))) == event


def test_events_hold_noise_over_sensitivity():
    """Substituting a user moves the sum by 2C: z = 2 is std / sensitivity = 1."""
    assert to_plain(ROUND)["release"]["noise_over_sensitivity"] == 1.0
    assert to_plain(OTHER)["release"]["noise_over_sensitivity"] == 0.5
    assert noise_multiplier_of(1.0) == 2.0


@pytest.mark.parametrize(
    "plain",
    [
        {},
        {"kind": "laplace"},
        {"kind": "gaussian"},
        {"kind": "gaussian", "noise_over_sensitivity": -1.0},
        {"kind": "gaussian", "noise_over_sensitivity": "1"},
        {"kind": "gaussian", "noise_over_sensitivity": 1.0, "extra": 1},
        {"kind": "without-replacement", "users": 10, "sampled": 11, "release": {"kind": "nothing"}},
        {"kind": "without-replacement", "users": 10.0, "sampled": 1, "release": {"kind": "nothing"}},
        {"kind": "poisson", "sampling_rate": 0.0, "release": {"kind": "nothing"}},
        {"kind": "repeated", "times": -1, "event": {"kind": "nothing"}},
        [],
    ],
)
def test_other_json_is_no_event(plain):
    with pytest.raises(ValueError, match="not an event"):
        from_plain(plain)


def test_an_event_without_a_form_is_refused():
    with pytest.raises(ValueError, match="no form"):
        Ledger().charge(LaplaceDpEvent(1.0))


def test_charges_are_counted_in_memory_and_on_disk(tmp_path):
    in_memory = Ledger().charge(ROUND).charge(OTHER).charge(ROUND)
    on_disk = ledger_of(tmp_path, ROUND, OTHER, ROUND)
    assert in_memory.events == on_disk.events == [(ROUND, 2), (OTHER, 1)]
    assert in_memory.entries == on_disk.entries == 3
    assert Ledger.read(tmp_path / "ledger.jsonl") == Ledger.resume(tmp_path / "ledger.jsonl") == on_disk
    lines = (tmp_path / "ledger.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"entry": number, "event": to_plain(event)} for number, event in enumerate((ROUND, OTHER, ROUND))
    ]


def test_a_charge_changes_no_earlier_value():
    before = Ledger().charge(ROUND)
    before.charge(ROUND)
    assert before.events == [(ROUND, 1)]


def test_a_charge_is_synced_before_it_returns(tmp_path, monkeypatch):
    """Would catch a missing fsync, or one before the line is written."""
    ledger = ledger_of(tmp_path)
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    charged = ledger.charge(ROUND)
    assert synced == [charged.length_bytes] == [(tmp_path / "ledger.jsonl").stat().st_size]


def test_a_new_ledger_is_durable_in_its_folder(tmp_path, monkeypatch):
    """A synced file whose name is lost with the folder is lost all the same."""
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    path = ledger_of(tmp_path).path
    assert synced == [path.stat().st_ino, tmp_path.stat().st_ino]


def test_a_line_cut_anywhere_costs_exactly_its_own_charge(tmp_path):
    """The round of a cut line never began; a complete line that lost its newline counts."""
    path = ledger_of(tmp_path, ROUND, OTHER).path
    whole = path.read_bytes()
    start = whole.index(b"\n") + 1
    for length in range(start, len(whole) + 1):
        path.write_bytes(whole[:length])
        expected = 2 if length >= len(whole) - 1 else 1
        assert Ledger.read(path).entries == expected
        assert path.read_bytes() == whole[:length]
        resumed = Ledger.resume(path).charge(ROUND)
        assert resumed.entries == expected + 1
        assert Ledger.read(path) == resumed


def test_a_tail_of_zeros_after_a_power_cut_is_removed(tmp_path):
    path = ledger_of(tmp_path, ROUND).path
    path.write_bytes(path.read_bytes() + b"\0" * 512)
    assert Ledger.resume(path).charge(OTHER).events == [(ROUND, 1), (OTHER, 1)]
    assert b"\0" not in path.read_bytes()


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: [lines[0], lines[1][:20], lines[2]],
        lambda lines: [lines[0], lines[2]],
        lambda lines: [lines[0], lines[0], lines[1]],
        lambda lines: [lines[0], "", lines[1]],
        lambda lines: [lines[0], lines[1].replace("64", "1e9"), lines[2]],
        lambda lines: [lines[0], lines[1].replace("1.0", "NaN"), lines[2]],
        lambda lines: [lines[0], "[1]", lines[2]],
        lambda lines: [lines[0], lines[1].replace("event", "evil"), lines[2]],
        lambda lines: [lines[0], "\udcff", lines[2]],
    ],
)
def test_damage_elsewhere_names_file_and_line(tmp_path, damage):
    """Would catch a reader that skips what it does not understand, and so under-reports."""
    path = ledger_of(tmp_path, ROUND, ROUND, ROUND).path
    text = "\n".join(damage(path.read_text().splitlines())) + "\n"
    path.write_bytes(text.encode(errors="surrogateescape"))
    for read in (Ledger.read, Ledger.resume):
        with pytest.raises(ValueError, match=r"ledger\.jsonl line 2 is damaged"):
            read(path)


def test_two_writers_notice_each_other(tmp_path):
    ledger = ledger_of(tmp_path, ROUND)
    ledger.charge(ROUND)
    with pytest.raises(ValueError, match="another process writes to it"):
        ledger.charge(ROUND)


def test_an_existing_or_missing_ledger_is_not_replaced(tmp_path):
    path = ledger_of(tmp_path, ROUND).path
    with pytest.raises(ValueError, match="exists already"):
        Ledger.create(path)
    assert Ledger.read(path).entries == 1
    for read in (Ledger.read, Ledger.resume):
        with pytest.raises(ValueError, match="there is no ledger"):
            read(tmp_path / "elsewhere.jsonl")


def test_many_charges_stay_cheap(tmp_path):
    """A charge carries distinct events and counts, not lines."""
    ledger = Ledger()
    for _ in range(5000):
        ledger = ledger.charge(ROUND)
    assert ledger.events == [(ROUND, 5000)]
    assert len(ledger.counts) == 1


CHARGE_FOREVER = """
import sys
from pathlib import Path
from fedemb.privacy.events import fixed_size_round
from fedemb.privacy.ledger import Ledger
path = Path(sys.argv[1])
ledger = Ledger.create(path)
while True:
    ledger = ledger.charge(fixed_size_round(users=100, users_per_round=10, noise_multiplier=1.0))
    print(ledger.entries, flush=True)
"""


def test_kill_forgets_nothing(tmp_path):
    path = tmp_path / "ledger.jsonl"
    command = [sys.executable, "-c", CHARGE_FOREVER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(20):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        told = [line for line in process.stdout.read().splitlines() if line]
    ledger = Ledger.resume(path)
    assert ledger.entries >= max([20, *map(int, told)])
    assert sum(count for _, count in ledger.charge(OTHER).events) == ledger.entries + 1


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from fedemb.privacy.events import fixed_size_round
from fedemb.privacy.ledger import Ledger
path, event = Path(sys.argv[1]), fixed_size_round(users=100, users_per_round=10, noise_multiplier=1.0)
ledger = Ledger.create(path).charge(event)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (ledger.length_bytes + 10, resource.RLIM_INFINITY))
for _ in range(2):
    try:
        ledger.charge(event)
    except OSError as error:
        print(path.stat().st_size == ledger.length_bytes)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(Ledger.read(path) == ledger, ledger.charge(event).entries)
"""


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path):
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "ledger.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "True", "2"]
