"""fedemb VERB key=value ...: finds the verb, hands its overrides to Hydra, turns mistakes into one line."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version

import hydra

from fedemb.cli.errors import guarded, reported
from fedemb.cli.sweep_end import concluded

VERBS = {
    "train": "train a recipe: fedemb train recipe=omniglot rounds=50; -m sweeps",
    "account": "certified epsilon of given settings or of a run's ledger",
    "calibrate": "noise multiplier, rounds or users_per_round for a target epsilon",
    "extrapolate": "what a run's signal-to-noise ratio would cost at 10^4 to 10^8 users",
    "audit": "canaries attack a recipe to see whether its epsilon can be true: fedemb audit recipe=synthetic",
    "prepare": "a data set's archives to a store: fedemb prepare omniglot",
    "evaluate": "measure a trained model: fedemb evaluate run=FOLDER",
    "export": "a trained model as one file: fedemb export run=FOLDER format=onnx out=FILE",
    "report": "a page and figures of one run or a sweep: fedemb report runs=FOLDER out=FOLDER",
    "bench": "how fast rounds are on this machine: fedemb bench suite=peers",
}


def usage() -> str:
    """The list of verbs."""
    lines = [f"  {verb:<12} {line}" for verb, line in VERBS.items()]
    return "\n".join(
        [
            "usage: fedemb VERB [key=value ...]",
            "",
            *lines,
            "",
            "fedemb VERB --help lists the keys of a verb, fedemb --version says which this is.",
        ]
    )


def overrides(verb: str, arguments: Sequence[str]) -> list[str]:
    """Arguments as Hydra reads them: a bare word after `prepare` names the data set; a second, or after `account` the
    first, the action. After `train`, sweep= is Hydra's key for it, and objective= may hold a metric's own = sign.
    """
    if verb == "train":
        return [_spelled_out(word) for word in arguments]
    keys = {"prepare": ["dataset", "action"], "account": ["action"]}.get(verb, [])
    bare = [word for word in arguments[: len(keys)] if "=" not in word and not word.startswith("-")]
    named = [f"{key}={word}" for key, word in zip(keys, bare, strict=False)]
    return [*named, *(word for word in arguments if word not in bare)]


def _spelled_out(word: str) -> str:
    key, _, value = word.partition("=")
    if key == "objective" and re.fullmatch(r"[\w./@=-]+", value):
        return f'objective="{value}"'
    return f"hydra.sweep.dir={value}" if key == "sweep" else word


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command. Exit code 0 only if the job was done; 2 for a mistake in the input."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help", "--version"):
        with reported():
            print(f"fedemb {version('fedemb')}" if words == ["--version"] else usage())
        raise SystemExit(0 if words else 2)
    verb = words[0]
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # mistakes reach `fail` as they are
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # what a lost connection raises is told in one line
    with reported(), concluded():
        # As `python -m` does, so that _target_: mything.MyUsers finds mything.py where the command is typed.
        if not {"", os.getcwd()} & set(sys.path):
            sys.path.insert(0, os.getcwd())
        if verb not in VERBS:
            raise ValueError(f"unknown verb '{verb}'; choose one of {', '.join(VERBS)}")
        module = importlib.import_module(f"fedemb.cli.{verb}")
        sys.argv = [f"fedemb {verb}", *overrides(verb, words[1:])]
        app = hydra.main(version_base="1.3", config_path=module.CONFIG_PATH, config_name=module.CONFIG)
        _started(verb, app(guarded(module.run)))


def _started(verb: str, command: Callable[[], None]) -> None:
    """Run the command; as one of several processes if torchrun started them."""
    if {"RANK", "WORLD_SIZE"} <= os.environ.keys():
        from fedemb.cli.ranks import lead_or_follow  # other commands need no PyTorch

        lead_or_follow(verb, command)
    else:
        command()
