"""A preparation that is killed, stopped, or robbed of a worker ends in one line, and goes on when called again."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import slow_data_set
from stores import contents

from fedemb.data.manifest import read_manifest
from fedemb.data.preparation import Request

CONFIG = """# @package _global_
name: slow
seconds: 0
prepare:
  _target_: slow_data_set.prepare
  seconds: ${seconds}
"""
COMMAND = "import sys; from fedemb.cli.main import main; main(sys.argv[1:])"
BARE = """
import sys
from pathlib import Path
import slow_data_set
from fedemb.data.preparation import Request

if __name__ == "__main__":
    request = Request(source=None, out=Path("out"), workers=int(sys.argv[1]))
    slow_data_set.prepare(request, seconds=float(sys.argv[2]))
"""


SPOOLING = """
import time
from pathlib import Path
from fedemb.data.spool import spooling

with spooling(Path("out"), Path("all_data_0.json")) as spool:
    spool.write([bytes(1000)])
    print("spooled", flush=True)
    time.sleep(60)
"""


def start(folder, *words):
    """A process in a group of its own, as a shell's foreground job is."""
    return subprocess.Popen(
        [sys.executable, "-c", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(slow_data_set.__file__).parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def start_command(folder, *words):
    """`fedemb prepare slow …`."""
    (folder / "conf" / "dataset").mkdir(parents=True)
    (folder / "conf" / "dataset" / "slow.yaml").write_text(CONFIG)
    return start(folder, COMMAND, "prepare", "slow", "out=out", *words, "--config-dir", str(folder / "conf"))


def notes(folder):
    return list((folder / "noted").glob("*"))


def read(folder):
    """Units that were read since the last look, and by which processes."""
    told = [file.name.split() for file in notes(folder)]
    for file in notes(folder):
        file.unlink()
    return sorted(int(unit) for unit, _, _ in told), {int(process) for _, process, _ in told}


def wait_for(condition, process=None):
    limit = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < limit
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.01)


def whole_shards(folder):
    return len(list((folder / "out" / "train").glob(".*.json.partial")))


def is_gone(process):
    """Ended, or about to be removed from the list of processes."""
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().split()[2] == "Z"
    except FileNotFoundError:
        return True


def prepare(folder, name="out", workers=0):
    slow_data_set.prepare(Request(source=None, out=folder / name, workers=workers))


def assert_goes_on(folder):
    """Called again, it reads nothing of the whole shards, and the store is that of an undisturbed run."""
    done = whole_shards(folder)
    read(folder)
    prepare(folder)
    assert read(folder)[0] == list(range(5 * done, 40))
    prepare(folder, "undisturbed")
    assert contents(folder / "out" / "train") == contents(folder / "undisturbed" / "train")
    manifest = read_manifest(folder / "out" / "train")
    assert (manifest.users, [shard.users for shard in manifest.shards]) == (40, [5] * 8)


@pytest.mark.parametrize(("workers", "shards"), [(0, 0), (0, 3), (2, 1), (2, 6)])
def test_killed_after_some_whole_shards(tmp_path, workers, shards):
    process = start(tmp_path, BARE, str(workers), "0.02")
    wait_for(lambda: notes(tmp_path) and whole_shards(tmp_path) >= shards, process)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert read_manifest(tmp_path / "out" / "train") is None
    assert whole_shards(tmp_path) >= shards
    readers = read(tmp_path)[1]
    wait_for(lambda: all(map(is_gone, readers)))  # workers end with their parent
    assert_goes_on(tmp_path)


def test_a_killed_worker_is_told_in_one_line(tmp_path):
    process = start_command(tmp_path, "workers=2", "seconds=0.05")
    wait_for(lambda: whole_shards(tmp_path) >= 2, process)
    workers = read(tmp_path)[1]
    os.kill(next(iter(workers)), signal.SIGKILL)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 2
    assert err.startswith("fedemb: a worker process was killed by signal 9 (Killed)")
    assert err.count("\n") == 1
    wait_for(lambda: all(map(is_gone, workers)))
    assert_goes_on(tmp_path)


def test_ctrl_c_ends_at_once_without_orphans(tmp_path):
    """Ctrl-C reaches all processes of the foreground job; the slow readers are not waited for."""
    process = start_command(tmp_path, "workers=2", "seconds=30")
    wait_for(lambda: len(notes(tmp_path)) == 2, process)
    workers = read(tmp_path)[1]
    stopped = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=25)
    assert time.monotonic() - stopped < 15  # on a busy machine
    assert (process.returncode, err) == (130, "fedemb: interrupted\n")
    assert all(map(is_gone, workers))
    assert_goes_on(tmp_path)


def test_what_a_killed_run_has_spooled_is_removed_by_one_that_spools_nothing(tmp_path):
    """It may be as large as the data set. One in use stays: two runs may be at it."""
    process = start(tmp_path, SPOOLING)
    assert process.stdout.readline() == "spooled\n"
    prepare(tmp_path)
    (spool,) = (tmp_path / "out").glob(".*")
    assert spool.stat().st_size == 1000
    process.kill()
    process.communicate()
    prepare(tmp_path)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["train"]


def test_two_at_once(tmp_path):
    """The second is refused and harms nothing."""
    process = start(tmp_path, BARE, "0", "0.1")
    wait_for(lambda: whole_shards(tmp_path) >= 1, process)
    with pytest.raises(ValueError, match=r"^another fedemb prepare is writing .*/out/train: wait for it, or pass anot"):
        prepare(tmp_path)
    assert process.poll() is None
    process.communicate(timeout=60)
    assert process.returncode == 0
    read(tmp_path)
    prepare(tmp_path)
    assert read(tmp_path)[0] == []
