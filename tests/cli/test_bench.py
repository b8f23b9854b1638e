"""`bench` as a user calls it: its table, record and figure, ways that break off, mistakes as one line."""

import json
import sys
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from small_bench import SMALL

from fedemb.bench.workloads import WORKLOADS

GOOD = """
import json, sys
LAST = 99
settings = json.loads(sys.stdin.readline())
print(json.dumps({"ready": {"peer": "1.0"}}), flush=True)
for turn, line in enumerate(sys.stdin):
    if turn == LAST: sys.exit("out of luck")
    print(json.dumps({"done": True}), flush=True)
"""
DYING = GOOD.replace("LAST = 99", "LAST = 1")
LACKING = 'print(\'{"missing": "No module named pfl"}\')'


@pytest.fixture
def interpreter(tmp_path):
    """A program that runs this text whatever script it is given, as an environment's python would run its own."""

    def make(name, text):
        script, program = tmp_path / f"{name}.py", tmp_path / name
        script.write_text(text)
        program.write_text(f"#!/bin/sh\nexec {sys.executable} {script}\n")
        program.chmod(0o755)
        return program

    return make


def test_two_simulators_in_turn(fedemb, interpreter, tmp_path):
    out = tmp_path / "new" / "out"
    words = [f"peers.{name}={interpreter(name, GOOD)}" for name in ("pfl", "flower")]
    code, printed, _ = fedemb("bench", "ways=[flower,pfl]", "models=[tiny,cnn]", "rounds=3", *words, f"out={out}")
    assert code == 0
    assert "tiny: 7,834 parameters, 3 rounds of 50 clients, 1 thread a process; times as fast as Flower" in printed
    record = json.loads((out / "bench.json").read_text())
    assert [model["model"] for model in record["models"]] == ["tiny", "cnn"]
    assert [model["parameters"] for model in record["models"]] == [7_834, 1_626_442]
    first, second = record["models"][0]["ways"]
    assert (first["way"], first["wall_ratio"], second["way"], len(second["rounds"])) == ("flower", 1.0, "pfl", 3)
    assert first["versions"] == {"peer": "1.0"}
    assert record["machine"]["cores"] >= 1
    assert {"fedemb", "torch", "python"} <= record["versions"].keys()
    assert record["settings"]["rounds"] == 3
    svg = ElementTree.fromstring((out / "bench.svg").read_text())
    words = [text.text for text in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert {"cnn: 1,626,442 parameters", "pfl-research"} <= set(words)


def test_a_simulator_that_dies_is_told_and_the_other_goes_on(fedemb, interpreter):
    words = (f"peers.pfl={interpreter('pfl', DYING)}", f"peers.flower={interpreter('flower', GOOD)}")
    code, printed, _ = fedemb("bench", "ways=[pfl,flower]", "models=tiny", "rounds=2", *words)
    assert code == 1
    assert "pfl-research: died in a round: out of luck" in printed
    code, printed, _ = fedemb("bench", "ways=[pfl,flower]", "models=tiny", "rounds=2", "format=json", *words)
    died, good = json.loads(printed)["models"][0]["ways"]
    assert (died["client_updates_per_second"], good["failure"], len(good["rounds"])) == (None, None, 2)


def test_the_parts_of_a_round(fedemb, monkeypatch, tmp_path):
    monkeypatch.setitem(WORKLOADS, "tiny", replace(SMALL, noise_multiplier=1.0))
    code, printed, _ = fedemb("bench", "suite=engine", "models=[tiny]", "rounds=3", f"out={tmp_path}", "format=json")
    assert code == 0
    sequential, vectorised = json.loads(printed)["models"]
    assert (sequential["way"], vectorised["way"], vectorised["clients"]) == ("sequential", "vectorised", 4)
    parts = {part["part"]: part["seconds"] for part in vectorised["parts"]}
    assert list(parts) == ["sampling", "clip and sum", "noise", "server", "ledger", "checkpoint", "together"]
    assert all(seconds > 0 for seconds in parts.values())
    assert parts["together"] > parts["checkpoint"]
    assert {name: len(seconds) for name, seconds in sequential["rounds"].items()} == dict.fromkeys(
        ["round", *list(parts)[:-1]], 3
    )
    assert (tmp_path / "bench.svg").is_file()
    code, printed, _ = fedemb("bench", "suite=engine", "models=[tiny]", "rounds=1", "ways=[sequential]")
    assert "tiny, 7,834 parameters, sequential: a round of 4 clients takes" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["suite=speed"], "suite must be one of peers, recipes, engine, users, got suite=speed"),
        (["ways=[warp]"], "ways must list some of plain, plain_2, sequential"),
        (["ways=5"], "ways must list some of"),
        (["ways=[plain,plain]"], "each once"),
        (["ways=pfl"], "pfl needs peers.pfl="),
        (["suite=recipes", "ways=[plain]"], "ways must list some of sequential, vectorised, distributed_2"),
        (["suite=recipes", "models=[tiny]"], "models must list some of lenet, mobilenet, resnet50, vit"),
        (["suite=engine", "ways=[plain]"], "ways must list some of sequential, vectorised"),
        (["models=[]"], "models must list some of tiny, cnn"),
        (["rounds=0"], "rounds must be a whole number of at least 1"),
        (["device=tpu"], "device=tpu cannot be used here"),
        (["suite=engine", "device=tpu"], "device=tpu cannot be used here"),
        (["threads=0"], "threads must be a whole number of at least 1"),
        (["timeout_seconds=0"], "timeout_seconds must be above 0"),
        (["peers.pfl=/nowhere/python"], "peers.pfl=/nowhere/python is no program"),
        (["peers.flower=/"], "peers.flower=/ is no program"),
        (["format=xml"], "format must be one of table, json"),
        (["out=/dev/null/x"], "cannot write /dev/null/x: Not a directory"),
    ],
)
def test_mistakes_are_one_line(fedemb, words, message):
    code, _, err = fedemb("bench", *words)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


def test_an_environment_without_the_simulator_is_a_mistake_and_leaves_nothing(fedemb, interpreter, tmp_path):
    words = ("ways=[pfl]", "models=tiny", "rounds=1", f"out={tmp_path / 'out'}")
    code, _, err = fedemb("bench", f"peers.pfl={interpreter('pfl', LACKING)}", *words)
    assert code == 2
    assert err.splitlines()[-1].endswith("No module named pfl; install there: pip install 'pfl==0.6.*' torch")
    assert not (tmp_path / "out").exists()
