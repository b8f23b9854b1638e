"""The Flower app on a real SuperLink with two SuperNodes on loopback, and on Flower's simulation, against one process.

Each is one run of one round in processes of its own: their start is most of the time.
"""

import importlib.util
import os
import signal
import socket
import subprocess
import sysconfig
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

APP = Path(__file__).parents[1] / "examples" / "flower"
OVERRIDES = (
    "recipe=synthetic rounds=1 users.num_users=24 users.examples_per_user=6 test_users=none users_per_round=8 "
    "users_per_client=2 embedding_width=8 client.learning_rate=0.01 clip_norm=0.1"
)


def environment(home):
    """As typed in this interpreter's environment; Flower's own folder apart from the user's; no telemetry."""
    scripts = sysconfig.get_path("scripts")
    found = {**os.environ, "PATH": os.pathsep.join([scripts, os.environ["PATH"]]), "FLWR_HOME": str(home)}
    return {**found, "OMP_NUM_THREADS": "1", "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}


def free_ports(count):
    """The first of `count` neighbouring free ports."""
    for port in range(20100, 60000, 97):
        with socket.socket() as probe:
            if all(probe.connect_ex(("127.0.0.1", port + i)) for i in range(count)):
                return port
    raise OSError("no free ports")


@contextmanager
def federation(folder, port):
    """What start.sh starts: a SuperLink and two SuperNodes."""
    with (folder / "federation.log").open("w") as log:
        started = subprocess.Popen(
            ["bash", str(APP / "start.sh")],
            cwd=folder,
            env={**environment(folder / "home"), "PORT": str(port)},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield folder / "federation.log"
        finally:
            os.killpg(started.pid, signal.SIGTERM)
            started.wait(30)


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.2)


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def state(run):
    (checkpoint,) = (run / "checkpoints").glob("*.safetensors")
    return load_file(checkpoint)


def assert_same_run(found, wanted):
    """The model to 1e-5, the ledger to the byte."""
    left, right = state(found), state(wanted)
    assert left.keys() == right.keys()
    for name, value in left.items():
        torch.testing.assert_close(value, right[name], rtol=0, atol=1e-5)
    assert (found / "ledger.jsonl").read_bytes() == (wanted / "ledger.jsonl").read_bytes()


@pytest.fixture
def alone(fedemb, tmp_path):
    """The same run by `sequential` in this process."""
    code, _, err = fedemb("train", *OVERRIDES.split(), f"run={tmp_path / 'alone'}")
    assert code == 0, err
    return tmp_path / "alone"


def test_the_app_on_a_superlink_with_two_supernodes(alone, tmp_path):
    run, port = tmp_path / "run", free_ports(3)
    with federation(tmp_path, port) as log:
        wait_for(lambda: all(map(listens, range(port, port + 3))), 60)
        config = f'run="{run}" timeout-seconds=120 overrides="{OVERRIDES}"'
        command = ["flwr", "run", ".", "--run-config", config]
        started = subprocess.run(
            command,
            cwd=APP,
            env=environment(tmp_path / "home"),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert started.returncode == 0, started.stdout + started.stderr
        try:
            wait_for((run / "report.json").exists, 150)
        except AssertionError as error:
            raise AssertionError(log.read_text()[-4000:]) from error
        sent = log.read_text().count("Sending: train message")
    assert sent == 2  # one round, one message a node
    assert_same_run(run, alone)


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Flower's simulation needs ray, not installed here")
def test_the_executor_on_flowers_simulation(alone, tmp_path):
    command = ["fedemb", "train", *OVERRIDES.split(), "executor=flower", f"run={tmp_path / 'run'}"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    assert_same_run(tmp_path / "run", alone)


def test_the_readme_starts_what_is_there():
    text = (APP / "README.md").read_text()
    assert all(word in text for word in ("bash start.sh", "flwr run . --stream", "FLWR_TELEMETRY_ENABLED=0"))
    assert "export FLWR_TELEMETRY_ENABLED=0" in (APP / "start.sh").read_text()
    files = [path for path in APP.rglob("*.*") if path.suffix in (".py", ".sh", ".toml") and path.stat().st_size > 100]
    assert len(files) == 4
    assert all(path.relative_to(APP).as_posix() in text for path in files)


def test_a_config_of_ones_own_is_left_alone(tmp_path):
    (tmp_path / "config.toml").write_text("[superlink]\n")
    done = subprocess.run(
        ["bash", str(APP / "start.sh")],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == f"{tmp_path}/config.toml is another one: set FLWR_HOME to a new folder\n"
    assert (tmp_path / "config.toml").read_text() == "[superlink]\n"
