"""Every YAML file composes, and what it configures runs two rounds."""

import json
import sys
from contextlib import ExitStack
from importlib.metadata import version
from itertools import groupby, zip_longest
from operator import itemgetter
from pathlib import Path

import fake_timm
import numpy as np
import pytest
from flower_grid import FakeGrid
from hydra import compose, initialize_config_module
from PIL import Image
from recorders import Playback

import fedemb.conf
from fedemb.cli.nodes import digest, worker
from fedemb.execution.compiler import TorchCompile
from fedemb.execution.flower import node_app
from fedemb.execution.flower_simulation import serving
from fedemb.execution.recorder import Gpu

CONF = Path(fedemb.conf.__file__).parent
RECIPES = sorted(path.stem for path in (CONF / "recipe").glob("*.yaml"))
NOT_FOR_TRAINING = {"dataset", "pricing"}
# Data that a user downloads: tests/data_prep trains their recipes on tiny archives in the published layout.
DOWNLOADED = {
    "att_faces": "att_faces",
    "cifar100_pachinko": "cifar100",
    "digiface": "digiface",
    "emnist": "emnist",
    "gld160k": "gld160k",
    "gld23k": "gld23k",
    "inaturalist": "inaturalist",
    "qmnist_central": "qmnist",
    "qmnist_dpsgd": "qmnist",
    "qmnist_examples": "qmnist",
    "qmnist_fedavg": "qmnist",
    "qmnist_one_user": "qmnist",
    "qmnist_writers": "qmnist",
}  # recipe -> its users
AFTERWARDS = {"everything", "landmarks", "one_shot"}  # evaluations that bring images of their own
STORES = {*DOWNLOADED.values(), "emnist_disjoint"}
# What a group's option needs beside it: options that stand in nobody's way are not listed.
NEEDS = {
    ("init", "public"): "start",
    ("init", "pretrained"): "start",
    ("unit", "example"): "a sampler by chance",  # neighbours are one person's images: no local head learns from them
    ("users", "omniglot"): "data",
    ("test_users", "omniglot"): "data",
    ("users", "store"): "a store",
    ("test_users", "store"): "a store",
    ("sampler", "poisson"): "single users",
    ("test_users", "none"): "no test users",
    ("test_users", "part"): "data",
    ("client", "head_first"): "several local steps",
    ("client", "gradient"): "no local steps",
    ("client_optimizer", "none"): "no local steps",
    ("client_schedule", "none"): "no local steps",
    ("task", "global_head"): "classes",
    ("mechanism", "discrete"): "whole numbers",
    ("executor", "auto"): "nothing else",  # it tries all executors: dear with an adapter and low precision
    ("executor", "flower"): "nodes",
    ("mechanism", "tree"): "users in turn",
    ("mechanism", "banded"): "users in turn",
    ("tracker", "mlflow"): "mlflow",
    ("tracker", "wandb"): "wandb",
    ("executor/inner", "sequential"): "ranks",
    ("executor/inner", "vectorised"): "ranks",
    ("executor/kernels", "plain"): "many at once",
    ("executor/kernels", "compiled"): "a stand-in for the compiler",
    ("executor/kernels", "cuda_graphs"): "a stand-in for a GPU",
    ("evaluation", "pairs"): "a pair file",
    ("model", "mobilenet"): "grey images",
    ("model", "mobilenet_small"): "grey images",
    ("model", "resnet50"): "few blocks",
    ("model", "vit"): "few patches",
    ("model", "transformers"): "a configuration",
    ("model", "timm"): "timm",
    ("init", "published"): "published weights",
    **{(group, option): "files" for group in ("users", "test_users") for option in ("folder", "table")},
}


def group_of(path):
    """executor/inner for conf/executor/inner/sequential.yaml; "." for a file at the top."""
    return path.parent.relative_to(CONF).as_posix()


HUB = "{model_type: convnext, num_channels: 1, patch_size: 14, num_stages: 1, hidden_sizes: [4], depths: [1]}"
FEW_PATCHES = ("model.size=28", "model.patch=14", "model.channels=1", "model.width=12", "model.depth=1")
FEW_TRIALS = ("evaluation=few_shot", "model=vit", *FEW_PATCHES)  # instead of all pairs of 13,180 images
SPANS = {"tree": "rounds_per_tree", "banded": "band"}
OPTIONS = sorted(
    (group_of(path), path.stem)
    for path in CONF.rglob("*.yaml")
    if group_of(path) not in NOT_FOR_TRAINING | {"recipe", "."} and path.stem not in STORES | AFTERWARDS
)


def sharing(options):
    """Runs of options of different groups that need the same, mostly nothing: the first ones of all groups, then the
    second ones, and so on."""
    needs = sorted({NEEDS.get(option, "") for option in options})
    for need in needs:
        alike = [option for option in options if NEEDS.get(option, "") == need]
        columns = [list(column) for _, column in groupby(alike, key=itemgetter(0))]
        yield from ([option for option in row if option] for row in zip_longest(*columns))


RUNS = list(sharing(OPTIONS))
BATCH = ("batching.max_examples=8", "batching.batch_size=8")
SMALL = ("users_per_round=4", "users_per_client=2", "rounds=2", "evaluate_every=2", *BATCH)


def own_images(folder, option):
    """Eight users with four grey images each, in folders or in a table."""
    rng = np.random.default_rng(0)
    names = [f"images/{user}/{number}.png" for user in range(8) for number in range(4)]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(256, size=(28, 28), dtype=np.uint8)).save(folder / name)
    if option == "folder":
        return folder / "images"
    rows = [f"{name.split('/')[1]},{name}" for name in names]
    (folder / "images.csv").write_text("\n".join(["user,path", *rows]))
    return folder / "images.csv"


@pytest.fixture
def needs(tiny, fedemb, tmp_path, request, monkeypatch):
    """What makes options of different groups work that need the same: the words of a run, by what they need."""

    def words(need, options):
        chosen = [f"{group}={option}" for group, option in options]
        groups, names = {group for group, _ in options}, {option for _, option in options}
        if need == "data":
            monkeypatch.setenv("FEDEMB_DATA", str(request.getfixturevalue("omniglot_store").parent))
            return ["recipe=synthetic", *SMALL, *chosen, *(FEW_TRIALS if "test_users" in groups else [])]
        if need == "a store":
            store = [f"users.path={request.getfixturevalue('omniglot_store')}"]
            few = FEW_TRIALS if "test_users" in groups else []
            return ["recipe=synthetic", *SMALL, "users=store", *chosen, *store, *few]
        if need == "start":
            fedemb("train", *tiny, f"run={tmp_path}/start", "rounds=1")
            return [*tiny, *chosen, f"path={tmp_path}/start", "provenance=public"]
        if need == "single users":
            return [*tiny, *chosen, "users_per_client=1", "local_classes=2", "+users.labels_per_user=2"]
        if need == "whole numbers":
            return [*tiny, *chosen, "query=grid"]
        if need == "nodes":
            ready = worker(tiny)
            app = node_app(lambda context: ready)
            served = ExitStack()
            served.enter_context(serving(FakeGrid({1: app, 2: app}), data=digest(tiny)))
            request.addfinalizer(served.close)
            return [*tiny, *chosen]
        if need == "users in turn":
            spans = [f"mechanism.strategy.{SPANS[name]}=2" for name in names]
            return [*tiny, *chosen, "sampler=cyclic", *spans]
        if need == "no local steps":
            words = [word for word in tiny if not word.startswith("client.")]
            return [*words, "client=gradient", "client_optimizer=none", "client_schedule=none"]
        if need == "classes":
            return [*tiny, *chosen, "classes=200"]
        if need == "several local steps":
            return [*tiny, *chosen, "batching.batch_size=4"]
        if need == "grey images":
            return [*tiny, *chosen, "model.channels=1"]
        if need == "few blocks":
            small = ("channels=1", "filters=8", "groups=8", "blocks=[1,1,1,1]")
            return [*tiny, *chosen, *(f"model.{word}" for word in small)]
        if need == "few patches":
            return [*tiny, *chosen, *FEW_PATCHES]
        if need == "a configuration":
            pytest.importorskip("transformers")
            return [*tiny, *chosen, f"model.config={HUB}"]
        if need in ("timm", "published weights"):
            monkeypatch.setitem(sys.modules, "timm", fake_timm)
            words = ["model=timm", "model.name=fake", "model.channels=1", "normalisation=group"]
            return [*tiny, *words, *(["init=published", "provenance=public"] if need == "published weights" else [])]
        if need == "files":
            (option,) = names
            key = "root" if option == "folder" else "path"
            own = [f"users={option}", f"users.{key}={own_images(tmp_path, option)}", "users.channels=1"]
            own += [f"test_users={option}", "test_users.split=null"] if "test_users" in groups else []
            others = ("users.", *(f"{group}." for group in groups))
            return [*(word for word in tiny if not word.startswith(others)), *own]
        if need == "a pair file":
            own = [word for word in tiny if not word.startswith("test_users.")]
            own += ["test_users=folder", f"test_users.root={own_images(tmp_path, 'folder')}"]
            own += ["test_users.split=null", "test_users.channels=1", "test_users.classes=null"]
            (tmp_path / "pairs.txt").write_text("2 1\n0 1 2\n0 1 1 2\n3 1 4\n3 2 7 2\n")
            return [*own, *chosen, f"evaluation.measures.pairs.path={tmp_path}/pairs.txt"]
        if need in ("mlflow", "wandb"):
            pytest.importorskip(need)
            return [*tiny, *chosen, *([f"tracker.mlflow.uri=sqlite:///{tmp_path}/db"] * (need == "mlflow"))]
        if need == "ranks":
            return [*tiny, "executor=distributed", *chosen]
        if need == "many at once":
            return [*tiny, "executor=vectorised", *chosen]
        if need == "a stand-in for the compiler":  # which takes a minute; tests/execution compiles something small
            monkeypatch.setattr(TorchCompile, "compiled", lambda self, graph: graph)
            return [*tiny, "executor=vectorised", *chosen]
        if need == "a stand-in for a GPU":
            playback = Playback()
            monkeypatch.setattr(Gpu, "check", lambda self, device: None)
            monkeypatch.setattr(Gpu, "record", lambda self, run: playback.record(run))
            return [*tiny, "executor=vectorised", *chosen]
        if need == "no test users":
            return [*(word for word in tiny if not word.startswith("test_users.")), *chosen]
        return [*tiny, *chosen]

    return words


def test_every_group_is_covered():
    groups = {group_of(path) for path in CONF.rglob("*.yaml")} - {"."}
    assert groups - NOT_FOR_TRAINING - {"recipe"} == {group for group, _ in OPTIONS}


@pytest.mark.parametrize("options", RUNS, ids=lambda options: f"{'='.join(options[0])}+{len(options) - 1}")
def test_every_option_trains_two_rounds(fedemb, needs, tmp_path, options):
    """If a run of several options fails, each is tried alone to tell whose fault it is."""
    need = NEEDS.get(options[0])
    wrong = fault(fedemb, needs(need, options), tmp_path / "run")
    if wrong and len(options) > 1:
        alone = [fault(fedemb, needs(need, [one]), tmp_path / str(number)) for number, one in enumerate(options)]
        found = [f"{one}: {why}" for one, why in zip(options, alone, strict=True) if why]
        wrong = "\n".join(found) or f"each trains alone, but not all together: {options}: {wrong}"
    assert not wrong, wrong


def fault(fedemb, words, run):
    """What is wrong with a run of two rounds; None if it trains."""
    code, _, err = fedemb("train", *words, "rounds=2", f"run={run}")
    if code != 0:
        return err
    if not (run / "report.json").exists():
        return "no report"
    rounds = (run / "diagnostics" / "rounds.jsonl").read_text().splitlines()
    trained = all(norm > 0 for norm in json.loads(rounds[-1])["norms"])
    return None if trained else "updates are zero: nothing is trained"


@pytest.mark.parametrize("option", sorted(AFTERWARDS))
def test_evaluations_with_images_of_their_own_are_for_later(fedemb, tiny, tmp_path, option):
    """A report says that metrics are functions of the test users' images; a released run may have seen others."""
    assert (CONF / "evaluation" / f"{option}.yaml").is_file()
    files = [f"evaluation.measures.landmarks.{key}=x" for key in ("solution", "queries", "index")]
    words = [*tiny, f"evaluation={option}", *(files if option == "landmarks" else [])]
    for mode in ("simulate", "release"):
        code, _, err = fedemb("train", *words, f"mode={mode}", f"run={tmp_path}/run")
        assert (code, err.count("\n")) == (2, 1)
        assert "fedemb train measures on test users alone" in err
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("recipe", sorted(set(RECIPES) - DOWNLOADED.keys()))
def test_every_recipe_trains_two_rounds(fedemb, tmp_path, omniglot_store, monkeypatch, recipe):
    monkeypatch.setenv("FEDEMB_DATA", str(omniglot_store.parent))
    small = [*SMALL, "test_users=synthetic"]
    code, _, err = fedemb("train", f"recipe={recipe}", *small, f"run={tmp_path}/run")
    assert code == 0, err


@pytest.mark.parametrize("recipe", DOWNLOADED)
def test_recipes_of_downloaded_data_are_trained_by_their_own_tests(recipe):
    texts = [path.read_text() for path in (Path(__file__).parent / "data_prep").glob("test_*.py")]
    assert any(f"recipe={recipe}" in text or f'"{recipe}"' in text for text in texts)
    with initialize_config_module("fedemb.conf", version_base="1.3"):
        composed = compose("train", [f"recipe={recipe}"])
    assert composed.users.path.endswith(f"/{DOWNLOADED[recipe]}")


@pytest.mark.parametrize("group", ["users", "test_users"])
@pytest.mark.parametrize("option", sorted(STORES))
def test_a_store_that_is_not_there_is_one_line_with_the_remedy(fedemb, tiny, tmp_path, monkeypatch, group, option):
    monkeypatch.setenv("FEDEMB_DATA", str(tmp_path))
    words = [word for word in tiny if not word.startswith(("users.", "+users.", "test_users.", "+test_users."))]
    code, _, err = fedemb("train", *words, f"{group}={option}", f"run={tmp_path}/run")
    assert code == 2
    assert err == f"fedemb: no store at {tmp_path}/{option}: run 'fedemb prepare {option} out={tmp_path}/{option}'\n"


@pytest.mark.parametrize("verb", ["train", "account", "calibrate", "audit", "prepare", "evaluate", "export", "report"])
def test_every_verb_explains_itself(fedemb, verb):
    words = ["omniglot", "--help"] if verb == "prepare" else ["--help"]
    code, out, _ = fedemb(verb, *words)
    assert code == 0
    assert f"fedemb {verb}" in out


def test_the_version_is_told(fedemb):
    assert fedemb("--version")[:2] == (0, f"fedemb {version('fedemb')}\n")


def test_recipes_say_what_they_reproduce_and_how_long_it_takes():
    for recipe in RECIPES:
        lines = (CONF / "recipe" / f"{recipe}.yaml").read_text().splitlines()
        header = [line for line in lines[1:] if line.startswith("#")]
        assert lines[0] == "# @package _global_"
        assert header, recipe
