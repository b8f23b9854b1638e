"""Every command in the README runs, and every example in a docstring is true."""

import doctest
import importlib
import pkgutil
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import torch

import fedemb

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line.split("  #")[0].strip()
    for language, block in BLOCKS
    if language == "bash"
    for line in block.splitlines()
    if line.strip()
]
QUICK = ("recipe=synthetic", "rounds=2", "users_per_round=4", "users_per_client=2", "evaluate_every=2")


def test_the_readme_is_finished():
    assert "@@" not in README


def test_the_readme_has_commands():
    assert any(command.startswith("fedemb train") for command in COMMANDS)
    assert any(command.startswith("bash scripts/demo.sh") for command in COMMANDS)


@pytest.mark.parametrize("command", [c for c in COMMANDS if not c.startswith("fedemb ")])
def test_scripts_of_the_readme_exist_and_parse(command):
    program, script, *_ = shlex.split(command)
    assert program in ("bash", "python")
    assert (ROOT / script).is_file()
    if program == "bash":
        subprocess.run(["bash", "-n", str(ROOT / script)], check=True)


def test_commands_of_the_readme_run_in_their_order(fedemb, tmp_path, monkeypatch):
    """The real commands; training is cut short and done on synthetic users."""
    monkeypatch.chdir(tmp_path)
    for command in (c for c in COMMANDS if c.startswith("fedemb ")):
        words = shlex.split(command)[1:]
        if words[0] == "train" and "resume=true" not in words:
            words = [*(word for word in words if not word.startswith("recipe=")), *QUICK]
        code, _, err = fedemb(*words)
        assert code == 0, f"{command}: {err}"


def test_the_python_example_of_the_readme_runs(fedemb, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fedemb("train", *QUICK, "run=runs/a")
    (example,) = [block for language, block in BLOCKS if language == "python"]
    names = {"images": torch.zeros(3, 1, 28, 28, dtype=torch.uint8)}
    exec(example, names)
    torch.testing.assert_close(names["embeddings"].norm(dim=1), torch.ones(3))


def test_recipes_named_in_the_readme_exist():
    for recipe in re.findall(r"recipe=(\w+)", README):
        assert (ROOT / "conf" / "recipe" / f"{recipe}.yaml").is_file()


@pytest.mark.parametrize("path", re.findall(r"`((?:fedemb|conf|scripts|tests|data_prep)/[\w/.]+)`", README))
def test_files_named_in_the_readme_exist(path):
    assert (ROOT / path).exists()


def test_docstring_examples():
    modules = [info.name for info in pkgutil.walk_packages(fedemb.__path__, "fedemb.")]
    failures = [name for name in modules if doctest.testmod(importlib.import_module(name)).failed]
    assert not failures
