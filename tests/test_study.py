"""scripts/study.py: equal ε by the library's own prices, words that compose, and going on where it stopped."""

import importlib
import json
import time
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module

from fedemb.core.files import write_atomically
from fedemb.privacy.accounting import default_delta, epsilon
from fedemb.privacy.events import fixed_size_round
from fedemb.privacy.extrapolation import Simulation, least_epsilon
from fedemb.privacy.persons import as_group

ROOT = Path(__file__).parents[1]


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("study")


@pytest.fixture
def every(study):
    """Two methods of one data set at two levels of noise, what is tried for them, and one ingredient."""
    names = ("fedemb", "central")
    return [
        p
        for p in study.points()
        if p.dataset.name == "qmnist"
        and p.method.name in names
        and (p.group == "tuning" or (p.seed == 0 and p.epsilon in (None, 1.0) and p.variant in ("", "k = 2")))
    ]


@pytest.mark.parametrize("target", [1.0, 8.0])
def test_equal_epsilon_is_that_of_users_and_of_all_images_of_a_user(study, target):
    points = importlib.import_module("study_points")
    users, rounds, images, each = points.DEPLOYED_USERS, 60, points.EXAMPLES, 20
    z = points.noise_multiplier(64, rounds, target)
    found = least_epsilon(Simulation(users_per_round=64, noise_multiplier=z, rounds=rounds), users=users).epsilon
    assert 0.995 * target < found <= target * (1 + 1e-9)
    z_all = points.noise_multiplier(images, rounds, target) * each * users / images
    event = fixed_size_round(users=each * users, users_per_round=each * users, noise_multiplier=z_all)
    group = epsilon(as_group([(event, rounds)], each), default_delta(users))
    assert group == pytest.approx(found, rel=1e-9)


def test_every_kind_of_point_composes_under_a_name_of_its_own(study):
    every = study.points()
    assert len({point.name for point in every}) == len(every)
    with initialize_config_module("fedemb.conf", version_base="1.3"):
        compose("train", study.public_start())
        for point in (p for p in every if p.seed == 0 and p.epsilon == (1.0 if p.method.private else None)):
            cfg = compose("train", point.command(point.method.candidates[0], "runs/start"))
            assert (cfg.rounds, cfg.users_per_round) == (point.dataset.rounds, point.method.sampled)
            assert (cfg.noise_multiplier > 0) == (point.epsilon is not None)
            assert cfg.users_per_round % cfg.users_per_client == 0
            assert (cfg.method == "DP-FedEmb") == (point.method.name == "fedemb" and not point.variant)


def fake(calls, broken=()):
    """Runs that finish at once; the utility is the learning rate."""

    def launch(command, log):
        words = dict(word.lstrip("+").split("=", 1) for word in command if "=" in word)
        run, rate = Path(words["run"]), float(words.get("server.learning_rate", words.get("client.learning_rate", 1)))
        calls.append(run)
        log.write_text("fedemb: out of luck\n" if str(run).endswith(broken or ("-",)) else "fine\n")
        if str(run).endswith(broken or ("-",)):
            return 2
        run.mkdir(parents=True)
        report = {
            "metrics": {"recall@far=0.001": rate / 100, "recall@1": rate / 50},
            "privacy": {"noise_multiplier": float(words["noise_multiplier"]), "epsilon": 5.0},
            "extrapolation": [{"users": 10**6, "least_epsilon": 0.4}],
            "timing": {"seconds": 1.0},
            "command": " ".join(command),
        }
        (run / "metrics.csv").write_text("round,recall@far=0.001,recall@1\n0,0.02,0.3\n20,0.5,0.6\n")
        write_atomically(run / "report.json", json.dumps(report))  # as runs do: another thread looks for it
        return 0

    return launch


def finish(study, every, out, launch):
    state = study.Study(out=out, launch=launch)
    study.run(state, every, 2, time.monotonic() + 60)
    return state


def test_the_best_candidate_trains_the_rest_and_finished_points_are_kept(study, every, tmp_path):
    calls = []
    state = finish(study, every, tmp_path, fake(calls))
    assert len(calls) == len(every)
    assert not state.failed
    runs = {point.name: state.summary(point.name) for point in every if point.group != "tuning"}
    rates = {name: run.metric("recall@far=0.001") for name, run in runs.items()}
    assert rates == {name: pytest.approx(0.002 if "central" in name else 0.06) for name in rates}
    finish(study, every, tmp_path, fake(calls))
    assert len(calls) == len(every)  # nothing ran again
    page = study.write(state, every, tmp_path / "docs").read_text()
    assert "| DP-FedEmb | – | 0.060 (n = 1) | – | 0.060 (n = 1) |" in page
    assert "| Before the first round |  |  |  | 0.020 (n = 1) |" in page
    assert "| k = 2 | 0.060 (n = 1) | 0.120 (n = 1) | +0 % |" in page
    assert (tmp_path / "docs" / "study" / "points.csv").read_text().count("\n") == len(every) + 1


def test_failed_points_are_listed_and_sink_nothing_else(study, every, tmp_path):
    """A candidate that fails is out of the choice; a point that fails is tried again by the next call."""
    calls = []
    state = finish(study, every, tmp_path, fake(calls, broken=("learning_rate_6", "k_2/eps1/seed0")))
    assert len(calls) == len(every)
    assert len(state.failed) == 3
    assert all("exit code 2: fedemb: out of luck" in why for why in state.failed.values())
    assert state.summary("qmnist/fedemb/methods/clean/seed0").metric("recall@far=0.001") == pytest.approx(0.03)
    assert not finish(study, every, tmp_path, fake(calls)).failed
    assert len(calls) == len(every) + 3
