"""The run folder: names by the contract, one process at a time, nothing overwritten."""

import subprocess
import sys

import pytest

from fedemb.server.run_folder import RunFolder


def test_names_are_the_contract(tmp_path):
    folder = RunFolder(path=tmp_path)
    files = [folder.config, folder.ledger, folder.checkpoints, folder.metrics, folder.diagnostics, folder.model]
    names = [path.relative_to(tmp_path).as_posix() for path in [*files, folder.report, folder.log]]
    assert names == [
        *("config.yaml", "ledger.jsonl", "checkpoints", "metrics.csv", "diagnostics", "model"),
        *("report.json", "train.log"),
    ]


def test_a_new_run_starts_with_its_configuration(tmp_path):
    folder = RunFolder(path=tmp_path / "run")
    assert not folder.is_used()
    with folder.locked():
        folder.create("a: 1\n")  # the lock file is no obstacle
    assert folder.is_used()
    assert folder.config.read_text() == "a: 1\n"


def test_a_used_folder_is_refused(tmp_path):
    (tmp_path / "config.yaml").write_text("old")
    with pytest.raises(ValueError, match="holds a run already"):
        RunFolder(path=tmp_path).create("new")
    assert (tmp_path / "config.yaml").read_text() == "old"


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match="not empty"):
        RunFolder(path=tmp_path).create("new")
    with pytest.raises(ValueError, match="not empty"):
        RunFolder(path=tmp_path / "thesis.tex").refuse_if_used()


def test_a_second_process_is_kept_out_and_the_lock_dies_with_its_process(tmp_path):
    hold = (
        "import sys, time; from pathlib import Path; from fedemb.server.run_folder import RunFolder\n"
        "with RunFolder(path=Path(sys.argv[1])).locked(): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", hold, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match="in use by another process"), RunFolder(path=tmp_path).locked():
            pass
    finally:
        holder.kill()
        holder.communicate()
    with RunFolder(path=tmp_path).locked():
        pass
