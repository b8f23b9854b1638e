"""Every command in the README and in docs/ runs, and every example in a page or a docstring is true."""

import doctest
import importlib.util
import pkgutil
import re
import shlex
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
import torch

import fedemb

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = {page.relative_to(ROOT).as_posix(): page.read_text() for page in (README, *sorted(ROOT.glob("docs/*.md")))}
BLOCKS = {name: re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL) for name, text in PAGES.items()}


# What a command that is marked "  # needs ..." needs: a module that may not be there; None where tests never have it.
NEEDED = {
    "fedemb[sweep]": "hydra_plugins.hydra_optuna_sweeper",
    "fedemb[mlflow]": "mlflow",
    "fedemb[wandb]": "wandb",
    "Slurm": None,
}


def commands(block):
    """The commands of a bash block, without comments."""
    return [line.split("  #")[0].strip() for line in block.splitlines() if line.strip() and can_run(line)]


def can_run(line):
    """Is what the line needs here? An unknown need is a mistake of the page."""
    marked = re.search(r"  # needs (\S+)$", line)
    module = NEEDED[marked[1]] if marked else "fedemb"
    if module is None or importlib.util.find_spec(module.split(".")[0]) is None:
        return False
    return importlib.util.find_spec(module) is not None


COMMANDS = {
    name: [command for language, block in blocks if language == "bash" for command in commands(block)]
    for name, blocks in BLOCKS.items()
}
SCRIPTS = sorted({c for listed in COMMANDS.values() for c in listed if not c.startswith("fedemb ")})
PRINTED = [
    (commands(block)[-1], text)
    for blocks in BLOCKS.values()
    for (language, block), (following, text) in pairwise(blocks)
    if (language, following) == ("bash", "text") and commands(block)[-1].startswith("fedemb ")
]
QUICK = ("recipe=synthetic", "rounds=2", "users_per_round=4", "users_per_client=2", "evaluate_every=2")


@pytest.mark.parametrize("page", PAGES)
def test_pages_are_finished(page):
    assert "@@" not in PAGES[page]


def test_the_readme_has_commands():
    assert any(command.startswith("fedemb train") for command in COMMANDS["README.md"])
    assert any(command.startswith("bash scripts/demo.sh") for command in COMMANDS["README.md"])


@pytest.mark.parametrize("command", SCRIPTS)
def test_scripts_of_the_pages_exist_and_parse(command):
    """They take minutes; what they compute has tests of its own."""
    program, script, *_ = shlex.split(command)
    assert program in ("bash", "python")
    assert (ROOT / script).is_file()
    if program == "bash":
        subprocess.run(["bash", "-n", str(ROOT / script)], check=True)
    else:
        compile((ROOT / script).read_text(), script, "exec")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # in the extras' packages
@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page_run_in_their_order(page, fedemb, tmp_path, monkeypatch):
    """The real commands; training is cut short and done on synthetic users."""
    monkeypatch.chdir(tmp_path)
    for command in (c for c in COMMANDS[page] if c.startswith("fedemb ")):
        words = shlex.split(command)[1:]
        if words[0] == "train" and ("resume=true" not in words or "-m" in words):
            words = [*(word for word in words if not word.startswith("recipe=")), *QUICK]
        code, _, err = fedemb(*words)
        assert code == 0, f"{command}: {err}"


@pytest.mark.parametrize(("command", "text"), PRINTED)
def test_a_command_prints_what_the_page_shows_below_it(command, text, fedemb, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, out, _ = fedemb(*shlex.split(command)[1:])
    for line in text.splitlines():
        assert line in out


@pytest.mark.parametrize("page", PAGES)
def test_sessions_of_a_page_are_true(page):
    source = "\n".join(block for language, block in BLOCKS[page] if language == "python")
    session = doctest.DocTestParser().get_doctest(source, {}, page, page, 0)
    assert doctest.DocTestRunner().run(session).failed == 0


def test_the_python_example_of_the_readme_runs(fedemb, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fedemb("train", *QUICK, "run=runs/a")
    (example,) = [block for language, block in BLOCKS["README.md"] if language == "python"]
    names = {"images": torch.zeros(3, 1, 28, 28, dtype=torch.uint8)}
    exec(example, names)
    torch.testing.assert_close(names["embeddings"].norm(dim=1), torch.ones(3))


@pytest.mark.parametrize("page", PAGES)
def test_recipes_named_in_a_page_exist(page):
    for recipe in re.findall(r"recipe=(\w+)", PAGES[page]):
        assert (ROOT / "conf" / "recipe" / f"{recipe}.yaml").is_file()


@pytest.mark.parametrize("page", PAGES)
def test_files_named_in_a_page_exist(page):
    for path in re.findall(r"`((?:fedemb|conf|scripts|tests|data_prep|docs)/[\w/.]+)`", PAGES[page]):
        assert (ROOT / path).exists(), path


def test_docstring_examples():
    modules = [info.name for info in pkgutil.walk_packages(fedemb.__path__, "fedemb.")]
    failures = [name for name in modules if doctest.testmod(importlib.import_module(name)).failed]
    assert not failures
