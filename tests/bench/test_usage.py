"""What a family of processes takes, read off a made-up /proc."""

import os

import pytest

from fedemb.bench import usage


@pytest.fixture
def proc(tmp_path, monkeypatch):
    """Adds a process; its name has what would break a careless reader."""
    monkeypatch.setattr(usage, "_PROC", tmp_path)

    def add(pid, parent, *, peak, files, ticks):
        fields = ["S", parent, *["0"] * 9, *ticks, *["0"] * 4, "77", "0"]
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (a ) b) {' '.join(map(str, fields))}\n")
        text = f"Name:\tx\n\nVmHWM:\t{peak} kB\nVmRSS:\t1 kB\nRssFile:\t{files} kB\n"
        (tmp_path / str(pid) / "status").write_text(text)

    return add


def test_what_is_mapped_from_files_counts_once(proc):
    proc(10, 1, peak=500 * 1024, files=130 * 1024, ticks=(5, 5, 0, 0))
    proc(11, 10, peak=400 * 1024, files=100 * 1024, ticks=(1, 1, 1, 1))
    proc(12, 1, peak=10**9, files=0, ticks=(99, 0, 0, 0))  # somebody else's
    found = usage.usage(10)
    assert found.peak_megabytes == (500 - 130) + (400 - 100) + 130
    assert found.processor == 14 / os.sysconf("SC_CLK_TCK")
    assert usage.family(10) == {10: "77", 11: "77"}


def test_nothing_is_said_of_a_process_that_is_gone(proc):
    assert usage.usage(10) is None
    assert not usage.lives(10, "77")
