"""What trackers are told, and that they cannot harm a run."""

import json
import math

import pytest
import torch

from fedemb.core.types import Diagnostics
from fedemb.tracking.tensorboard import TensorBoard
from fedemb.tracking.tracker import Track, TrackedRun, Tracker, require
from fedemb.tracking.tracking import Tracking


class Notes(Track, Tracker):
    """A tracker that remembers; it fails in the calls that it is told to."""

    keeps_times = False

    def __init__(self, *fails):
        self.fails, self.told, self.opened, self.identity = fails, [], [], "mine"

    def open(self, run):
        self._fail("open")
        self.opened.append(run)
        return self

    def write(self, round, numbers):
        self._fail("write")
        self.told.append((round, numbers))

    def close(self, facts, *, finished):
        self._fail("close")
        self.told.append((facts, finished))

    def _fail(self, name):
        if name in self.fails:
            raise RuntimeError(f"no {name}\nat all")


def run(folder):
    return TrackedRun(folder=folder, group="g", settings={"a": 1}, first_round=0, known=None, secret=False)


def tracking(warnings, **trackers):
    return Tracking(trackers=trackers, delta=1e-5, warn=warnings.append)


ROW = {"round": 2, "seconds": 7.5, "epsilon": 3.0, "epsilon_attack": 2.0, "recall@1": 0.5, "auc": None, "x": math.inf}


def test_metrics_and_epsilon_with_its_delta_are_told_and_no_time(tmp_path):
    notes = Notes()
    told = tracking([], notes=notes)
    told.start(run(tmp_path), tmp_path / "trackers.json")
    told.measured(ROW)
    told.close({"claim": "c"}, finished=True)
    expected = {"metrics/recall@1": 0.5, "privacy/epsilon": 3.0, "privacy/epsilon_attack": 2.0, "privacy/delta": 1e-5}
    assert notes.told == [(2, expected), ({"claim": "c"}, True)]


def test_exact_values_are_marked(tmp_path):
    notes = Notes()
    told = tracking([], notes=notes)
    told.start(run(tmp_path), tmp_path / "trackers.json")
    losses = torch.tensor([0.5, math.nan])
    exact = Diagnostics(norms=torch.tensor([1.0, 3.0]), losses=losses, examples=torch.tensor([4, 4]))
    told.exact(type("State", (), {"round": 1})(), exact)
    name = "diagnostics/exact_private"
    assert notes.told == [(1, {f"{name}/mean_local_loss": 0.5, f"{name}/mean_update_norm": 2.0})]


@pytest.mark.parametrize("call", ["open", "write", "close"])
def test_a_tracker_that_fails_is_one_warning_and_the_others_go_on(tmp_path, call):
    warnings, good, bad = [], Notes(), Notes(call)
    told = tracking(warnings, bad=bad, good=good)
    told.start(run(tmp_path), tmp_path / "trackers.json")
    for _ in range(3):
        told.measured(ROW)
    told.close({}, finished=False)
    assert warnings == [f"tracker bad failed and is told nothing more; training goes on: no {call} at all"]
    assert len(good.told) == 4


def test_a_later_process_opens_the_same_run(tmp_path):
    first, later = Notes(), Notes()
    first.identity = "run-7"
    for notes in (first, later):
        told = tracking([], notes=notes)
        told.start(run(tmp_path), tmp_path / "trackers.json")
    assert [first.opened[0].known, later.opened[0].known] == [None, "run-7"]
    (tmp_path / "trackers.json").write_text("{")
    with pytest.raises(ValueError, match=r"trackers\.json is damaged"):
        tracking([], notes=Notes()).start(run(tmp_path), tmp_path / "trackers.json")


def test_a_full_disk_is_one_warning(tmp_path):
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "tensorboard" / "events.out.tfevents.0000000000.fedemb").symlink_to("/dev/full")
    warnings = []
    told = tracking(warnings, tensorboard=TensorBoard())
    told.start(run(tmp_path), tmp_path / "trackers.json")
    told.measured(ROW)
    told.close({}, finished=True)
    (line,) = warnings
    assert "No space left on device" in line
    assert not (tmp_path / "trackers.json").exists()


def test_a_missing_package_names_its_extra():
    with pytest.raises(ValueError, match=r"^MLflow is not installed: pip install 'fedemb\[mlflow\]'$"):
        require("no_such_package", "MLflow", "mlflow")


def test_identities_are_json(tmp_path):
    told = tracking([], notes=Notes())
    told.start(run(tmp_path), tmp_path / "trackers.json")
    assert json.loads((tmp_path / "trackers.json").read_text()) == {"notes": "mine"}
