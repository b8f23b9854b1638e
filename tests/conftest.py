"""One thread a process: tests are reproducible and do not fight for cores."""

import sys

import absl.logging
import pytest
import torch
from filelock import FileLock
from hydra.core.global_hydra import GlobalHydra
from hypothesis import settings

from fedemb.cli.main import main

torch.set_num_threads(1)
settings.register_profile("fedemb", deadline=None, derandomize=True)  # no failure by a busy machine or by chance
settings.load_profile("fedemb")
# absl, which dp-accounting imports, closes the stream of its log handler when Hydra configures logging, unless that
# stream is the interpreter's own: here it would be pytest's.
absl.logging.get_absl_handler().python_handler.stream = sys.__stderr__


TINY = (
    "recipe=synthetic",
    "users.num_users=24",
    "test_users.num_users=6",
    "users_per_round=8",
    "users_per_client=2",
    "embedding_width=8",
    "users.examples_per_user=6",
    "batching.batch_size=12",
    "client.learning_rate=0.01",
    "rounds=3",
    "evaluate_every=2",
    "checkpoint_every=1",
)


@pytest.fixture
def tiny():
    """Overrides of a run that takes a second."""
    return TINY


@pytest.fixture
def fedemb(capfd):
    """Run `fedemb ...` in this process: (exit code, stdout, stderr)."""

    def call(*words):
        argv = sys.argv
        try:
            main([str(word) for word in words])
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        finally:
            sys.argv = argv
            GlobalHydra.instance().clear()
        out, err = capfd.readouterr()
        return code, out, err

    return call


@pytest.fixture(scope="session")
def omniglot_store(tmp_path_factory, worker_id):
    """The real data set, prepared once for all processes of the session."""
    from fedemb.data.preparation import Request
    from fedemb.data_prep.omniglot import prepare

    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "data" / "omniglot"
    with FileLock(f"{folder.parent}.lock"):
        if not folder.exists():
            prepare(Request(source=None, out=folder))
    return folder
