"""DESIGN §2 from the source text: imports point down, heavy libraries stay in their corner, imports have no effect."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import fedemb

ROOT = Path(fedemb.__file__).parent
LEVELS = {
    "core": 0,
    **dict.fromkeys(("models", "privacy"), 1),
    "data": 2,  # a sampler states its share of the privacy event
    "tasks": 3,
    "client": 4,
    "execution": 5,
    **dict.fromkeys(("server", "evaluation"), 6),
    **dict.fromkeys(("report", "testing", "tracking"), 7),
    "bench": 8,
    "cli": 9,  # the commands make reports
    "__main__": 10,
}
CORNERS = {
    "hydra": ("cli/",),
    "omegaconf": ("cli/",),
    "dp_accounting": ("privacy/", "data/sampling.py", "data/cyclic.py"),
    "flwr": ("execution/flower", "bench/peers/"),  # scripts for another interpreter, imported by nobody
    "torch.distributed": ("execution/distributed.py",),
    "tensorboardX": ("tracking/tensorboard.py",),
    "mlflow": ("tracking/mlflow.py",),
    "wandb": ("tracking/wandb.py",),
}
FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))


def imported(text):
    """Dotted names that a source text imports, at any depth; `from a import b` gives a and a.b."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def imports_of(file):
    return frozenset(imported((ROOT / file).read_text()))


def package(file):
    """The package, or the module at top level, that a file or a dotted name without "fedemb." belongs to."""
    return file.removesuffix(".py").replace(".", "/").split("/")[0]


def inner(file):
    """The fedemb packages that a file imports, but its own."""
    names = {package(name.removeprefix("fedemb.")) for name in imports_of(file) if name.startswith("fedemb.")}
    return names - {package(file)}


def uses(file, library):
    return any(name == library or name.startswith(library + ".") for name in imports_of(file))


def test_the_reader_of_imports_sees_all_kinds():
    text = "import a.b as c\nfrom d import e\ndef f():\n    from torch import distributed\n"
    assert {"a.b", "d", "d.e", "torch.distributed"} <= set(imported(text))


def test_every_package_has_a_level():
    assert {package(file) for file in FILES} - {"__init__"} <= LEVELS.keys()
    assert len(FILES) > 40


@pytest.mark.parametrize("file", FILES)
def test_imports_point_down(file):
    own = package(file)
    for other in inner(file):
        assert own != "__init__"
        assert LEVELS[other] < LEVELS[own], f"{file} imports fedemb.{other}"


def test_no_two_packages_import_each_other():
    edges = {(package(file), other) for file in FILES for other in inner(file)}
    assert not [edge for edge in edges if edge[::-1] in edges]


def test_no_two_modules_import_each_other():
    modules = {f"fedemb.{file.removesuffix('.py').replace('/', '.')}": file for file in FILES}
    edges = {(name, other) for name, file in modules.items() for other in imports_of(file) & modules.keys()}
    assert not [edge for edge in edges if edge[::-1] in edges]


@pytest.mark.parametrize("library", CORNERS)
def test_heavy_libraries_stay_in_their_corner(library):
    outside = [file for file in FILES if uses(file, library) and not file.startswith(CORNERS[library])]
    assert not outside


def test_core_needs_torch_numpy_and_the_standard_library_only():
    names = {name.split(".")[0] for file in FILES if package(file) == "core" for name in imports_of(file)}
    assert names <= {"torch", "numpy", "fedemb"} | sys.stdlib_module_names


def test_importing_has_no_effect():
    """No seed set, no thread count, no default type, no file written, no flag flipped: any of them would surprise."""
    code = """
import importlib, os, pkgutil, random, sys
import flwr.app, numpy as np, rich.console, torch  # Flower sets GRPC_VERBOSITY, rich draws from the global generator

def look():
    return (
        random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state().numpy().tobytes(),
        torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark, sorted(os.environ.items()),
        sorted(os.listdir(".")), os.getcwd(), sys.path[:],
    )

import fedemb
before = look()
for module in pkgutil.walk_packages(fedemb.__path__, "fedemb."):
    if module.name.split(".")[1] in {packages} and not module.name.endswith("__main__"):
        importlib.import_module(module.name)
assert "fedemb.execution.vectorised" in sys.modules and "fedemb.privacy.pld" in sys.modules
after = look()
print([position for position, (a, b) in enumerate(zip(before, after)) if a != b])
""".replace("{packages}", repr(sorted(LEVELS)))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]", f"importing changed items {done.stdout}"
