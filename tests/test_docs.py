"""Every command in the README and in docs/ runs, and every example in a page or a docstring is true.

Commands whose comment ends with "needs ..." run where that is there. What no test has (downloads, clusters) is composed
alone: groups, options and keys exist. Blocks that begin with "# <path>" are files, written before the commands run.
"""

import doctest
import importlib.util
import pkgutil
import re
import runpy
import shlex
import shutil
import subprocess
from itertools import pairwise, product
from pathlib import Path

import pytest
import torch
import yaml
from hydra import compose, initialize_config_module
from hydra.core.override_parser.overrides_parser import OverridesParser
from PIL import Image

import fedemb
from fedemb.cli.main import VERBS, overrides
from fedemb.testing import check_user_dataset

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
FOUND = sorted(path for path in ROOT.glob("docs/**/*.md") if "_build" not in path.parts)
PAGES = {page.relative_to(ROOT).as_posix(): page.read_text() for page in (README, *FOUND)}
BLOCKS = {name: re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL) for name, text in PAGES.items()}
NAMED = re.compile(r"(?:# @package \w+\n)?# ([\w/]+\.(?:py|yaml))\n")
FILES = {
    name: {found[1]: block for _, block in blocks if (found := NAMED.match(block))} for name, blocks in BLOCKS.items()
}

# What such a comment asks for: a module that may not be there; None where tests never have it.
NEEDED = {
    "fedemb[sweep]": "hydra_plugins.hydra_optuna_sweeper",
    "fedemb[transformers]": "transformers",
    "fedemb[mlflow]": "mlflow",
    "fedemb[wandb]": "wandb",
    "Slurm": None,
    "Flower's simulation": None,
    "a GPU": None,
    "a download": None,
    "environments of theirs": None,
    "minutes": None,
    "several machines": None,
    "several processes": None,
    "your images": None,
}


def lines_of(blocks):
    """(command, what it needs or None) for each line of the bash blocks."""
    for language, block in blocks:
        for line in block.splitlines() if language == "bash" else []:
            if line.strip():
                marked = re.search(r"  # (?:.*; )?needs (.+)$", line)
                yield line.split("  #")[0].strip(), marked and marked[1]


def can_run(need):
    """Is what a line needs here? An unknown need is a mistake of the page."""
    module = NEEDED[need] if need else "fedemb"
    if module is None or importlib.util.find_spec(module.split(".")[0]) is None:
        return False
    return importlib.util.find_spec(module) is not None


def own(page, command):
    """Does the command run a file that the page shows?"""
    return shlex.split(command)[1] in FILES[page]


COMMANDS = {name: [line for line, need in lines_of(blocks) if can_run(need)] for name, blocks in BLOCKS.items()}
COMPOSED = sorted({line for blocks in BLOCKS.values() for line, need in lines_of(blocks) if need and not NEEDED[need]})
SCRIPTS = sorted(
    {c for page, listed in COMMANDS.items() for c in listed if not c.startswith("fedemb ") and not own(page, c)}
)
PRINTED = sorted(
    {
        (last, text)
        for blocks in BLOCKS.values()
        for block, (following, text) in pairwise(blocks)
        if (block[0], following) == ("bash", "text")
        for last in [list(lines_of([block]))[-1][0]]
        if last.startswith("fedemb ")
    }
)
QUICK = ("recipe=synthetic", "rounds=2", "users_per_round=4", "users_per_client=2", "evaluate_every=2")
QUICK += ("batching.max_examples=12", "batching.batch_size=12")
FEW_CANARIES = ("canaries=60", "cohorts=60", "audited_rounds=5")


@pytest.mark.parametrize("page", PAGES)
def test_pages_are_finished(page):
    assert "@@" not in PAGES[page]


def test_the_readme_has_commands_and_is_four_screens():
    assert any(command.startswith("fedemb train") for command in COMMANDS["README.md"])
    assert any(command.startswith("bash scripts/demo.sh") for command in COMMANDS["README.md"])
    assert len(PAGES["README.md"].splitlines()) <= 120


def test_the_reference_has_every_verb():
    verbs = set(re.findall(r"^## (\w+)$", PAGES["docs/reference/cli.md"], re.MULTILINE))
    assert verbs == VERBS.keys()


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
def test_commands_of_a_page_run_in_their_order(page, fedemb, tmp_path, monkeypatch, request):
    """The real commands; training and audits are cut short, Omniglot is found prepared."""
    monkeypatch.chdir(tmp_path)
    if "fedemb prepare omniglot" in COMMANDS[page]:
        shutil.copytree(request.getfixturevalue("omniglot_store"), tmp_path / "data" / "omniglot")
    monkeypatch.syspath_prepend(tmp_path)
    for name, text in FILES[page].items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    shown = {command for command, _ in PRINTED}  # run by a test of their own
    for command in COMMANDS[page]:
        if own(page, command):
            runpy.run_path(shlex.split(command)[1])
        if command in shown or not command.startswith("fedemb "):
            continue
        words = shlex.split(command)[1:]
        if words[0] == "train" and ("resume=true" not in words or "-m" in words):
            words = [*(word for word in words if not word.startswith("recipe=")), *QUICK]
        words += FEW_CANARIES if words[0] == "audit" else ()
        code, _, err = fedemb(*words)
        assert code == 0, f"{command}: {err}"


@pytest.mark.parametrize("command", COMPOSED)
def test_commands_that_need_more_compose(command):
    """Every group, option and key is there; the values of a sweep are left out, and so are Hydra's own keys."""
    words = shlex.split(command)
    verb, *rest = words[words.index("fedemb") + 1 :]
    given = [word for word in overrides(verb, rest) if word != "-m"]
    parsed = OverridesParser.create().parse_overrides(given)
    kept = [
        word
        for word, override in zip(given, parsed, strict=True)
        if not override.is_sweep_override() and not override.key_or_group.startswith("hydra")
    ]
    with initialize_config_module("fedemb.conf", version_base="1.3"):
        compose(verb, kept)


@pytest.mark.parametrize(("command", "text"), PRINTED)
def test_a_command_prints_what_the_page_shows_below_it(command, text, fedemb, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = fedemb(*shlex.split(command)[1:])
    assert code == 0
    for line in text.splitlines():
        assert line in out


def test_commands_for_your_images_run_on_images_in_that_layout(fedemb, tmp_path, monkeypatch):
    """The first that the page gives, `FACES/<user>/<file>`, and photographs of several sizes."""
    monkeypatch.chdir(tmp_path)
    rows = ["patient_id,path"]
    for user, number in product(range(4), range(2)):
        file = Path("FACES", f"ann{user}", f"{number}.png")
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32 + user, 32), (50 * user, 40 * number, 0)).save(file)
        rows.append(f"ann{user},{file}")
    Path("FACES.csv").write_text("\n".join(rows))
    for command in (line for line, need in lines_of(BLOCKS["docs/howto/data.md"]) if need == "your images"):
        verb, *words = shlex.split(command)[1:]
        quick = [*QUICK, "model=lenet", "model.channels=3", "model.size=112"] if verb == "train" else []
        code, _, err = fedemb(verb, *words, *quick)
        assert code == 0, f"{command}: {err}"


@pytest.mark.parametrize("page", PAGES)
def test_sessions_of_a_page_are_true(page):
    source = "\n".join(block for language, block in BLOCKS[page] if language == "python")
    session = doctest.DocTestParser().get_doctest(source, {}, page, page, 0)
    assert doctest.DocTestRunner().run(session).failed == 0


def test_the_python_examples_of_the_quick_start_run(fedemb, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fedemb("train", *QUICK, "run=runs/a")
    names = {"images": torch.zeros(3, 1, 28, 28, dtype=torch.uint8)}
    for example in (block for language, block in BLOCKS["docs/quickstart.md"] if language == "python"):
        exec(example, names)
    torch.testing.assert_close(names["embeddings"].norm(dim=1), torch.ones(3))
    assert names["means"].shape == (1, 2)


def test_the_class_that_the_page_shows_passes_the_check_that_it_recommends():
    names = {}
    exec(FILES["docs/howto/data.md"]["my_patients.py"], names)
    for settings in (file for name, file in FILES["docs/howto/data.md"].items() if name.endswith("patients.yaml")):
        arguments = yaml.safe_load(settings)
        assert arguments.pop("_target_") == "my_patients.Patients"
        check_user_dataset(names["Patients"](**arguments))


@pytest.mark.parametrize("page", PAGES)
def test_recipes_named_in_a_page_exist(page):
    for recipe in re.findall(r"recipe=(\w+)", PAGES[page]):
        assert (ROOT / "conf" / "recipe" / f"{recipe}.yaml").is_file()


@pytest.mark.parametrize("page", PAGES)
def test_files_named_in_a_page_exist(page):
    for path in re.findall(r"`((?:fedemb|conf|scripts|tests|data_prep|docs|examples)/[\w/.]+)`", PAGES[page]):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page_lead_to_files(page):
    """As a code forge follows them, from the page's own folder. Sphinx checks headings too."""
    for path in re.findall(r"\]\((?!https?:)([^)#\s]+)", PAGES[page]):
        assert (ROOT / page).parent.joinpath(path).is_file(), path


@pytest.mark.filterwarnings("ignore")  # Sphinx's own; what it has to say of the pages are errors
def test_the_site_builds_without_a_warning(tmp_path, capfd):
    """Without writing it, and without what Hydra prints for each verb: these take a while, and make no links."""
    build = pytest.importorskip("sphinx.cmd.build")
    code = build.build_main(["-W", "-q", "-b", "dummy", "-D", "verb_help=0", str(ROOT / "docs"), str(tmp_path)])
    assert code == 0, capfd.readouterr().err


def test_the_site_shows_what_a_verb_prints():
    printed = pytest.importorskip("verb_help").printed
    assert "Exit code: 0 all done" in printed(["bench"])


def test_docstring_examples():
    modules = [info.name for info in pkgutil.walk_packages(fedemb.__path__, "fedemb.")]
    failures = [name for name in modules if doctest.testmod(importlib.import_module(name)).failed]
    assert not failures
