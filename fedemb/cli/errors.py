"""A user's mistake as one line and exit code 2; Ctrl-C as one line and 130; a pipe that nobody reads any more, 141."""

from __future__ import annotations

import difflib
import os
import re
import select
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from csv import Error as CsvError
from pathlib import Path
from typing import TypeVar

import hydra
from hydra.errors import ConfigCompositionException, HydraException, InstantiationException, MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from fedemb.cli.quoting import several_values, unreadable
from fedemb.core.worker_process import DeadWorkerError

Answer = TypeVar("Answer")
_CONFIGURES = (Path(__file__).parent, Path(hydra.__file__).parent)  # code that turns keys into arguments
INTERRUPTED, UNREAD = 130, 141  # exit codes after Ctrl-C, and of who writes to a closed pipe, as shells have them
_OUTPUT = 1  # the file descriptor of standard output
MISTAKES = (ValueError, OSError, DeadWorkerError, HydraException, OmegaConfBaseException, YAMLError, CsvError)
"""What a user or the machine can cause; anything else is a defect of fedemb and shows its traceback."""
_PLUGINS = {"hydra/sweeper": ("optuna",), "hydra/launcher": ("joblib", "submitit_local", "submitit_slurm")}
"""Options of Hydra's groups that a plug-in brings, all of them in the extra `sweep`."""


def guarded(run: Callable[[DictConfig], Answer]) -> Callable[[DictConfig], Answer]:
    """The same function with its mistakes reported in one line. What it returns is for a sweeper that optimises."""

    def job(cfg: DictConfig) -> Answer:
        with reported():
            return run(cfg)

    return job


@contextmanager
def reported() -> Iterator[None]:
    """Mistakes become one line on stderr and SystemExit(2), Ctrl-C one line and SystemExit(130).

    A closed pipe is no mistake: SystemExit(141) without a word.
    """
    try:
        yield
        sys.stdout.flush()  # here, as Python would complain about a closed pipe at its own end
    except KeyboardInterrupt as error:
        fail(error, INTERRUPTED)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _is_unread():
            raise SystemExit(UNREAD) from None
        if not is_mistake(error):
            raise
        fail(error)


def _is_unread() -> bool:
    """Has the reader of the output closed its pipe? What is still to be written then goes nowhere."""
    poll = select.poll()
    poll.register(_OUTPUT, 0)  # no event asked for: errors are told in any case
    if not poll.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), _OUTPUT)
    return True


def is_mistake(error: BaseException) -> bool:
    """Can a user or the machine have caused it? Anything else is a defect of fedemb."""
    full = type(error).__name__ == "OutOfMemoryError"  # PyTorch's, of a GPU, without an import of it
    return full or isinstance(error, MISTAKES) or (isinstance(error, TypeError) and _is_wrong_key(error))


def _is_wrong_key(error: TypeError) -> bool:
    """Does a constructor refuse the keys that the configuration hands it?

    A call with wrong arguments has no frame of its own: the last one is the caller's, here or in Hydra.
    """
    refused = re.search(r"unexpected keyword argument|missing \d+ required", str(error))
    caller = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    return refused is not None and any(folder in caller.parents for folder in _CONFIGURES)


def fail(error: BaseException, code: int = 2) -> None:
    """Print one line and leave with the exit code; with FEDEMB_TRACEBACK=1, raise instead."""
    if os.environ.get("FEDEMB_TRACEBACK") == "1":
        raise error
    print(f"fedemb: {one_line(error)}", file=sys.stderr)
    raise SystemExit(code)


def one_line(error: BaseException) -> str:
    """What is wrong, where, and how to mend it."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, InstantiationException):
        return _instantiation(error)
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} is missing: set {error.full_key}=..."
    if isinstance(error, HydraException) and (told := unreadable(sys.argv[1:]) or several_values(error)):
        return told
    if isinstance(error, MissingConfigException | ConfigCompositionException):
        return _composition(error)
    if isinstance(error, OSError) and error.filename:
        return f"{error.strerror}: {error.filename}"
    return _flat(error)


def _flat(error: BaseException) -> str:
    """The message on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _instantiation(error: InstantiationException) -> str:
    """The constructor's own words, with the key of the configuration that they are about."""
    key = re.search(r"full_key: (\S+)", str(error))
    cause = error.__cause__ or error.__context__
    words = _flat(cause) if cause is not None else _flat(error).split(" full_key:")[0]
    return f"{key[1]}: {words}" if key and not isinstance(cause, ValueError) else words


def _composition(error: Exception) -> str:
    """An unknown key, group or recipe, with the nearest known one."""
    text = _flat(error)
    if missing := re.search(
        r"Could not find '([^']+)/([^']+)'\s+Available options in '[^']+':\s+(.*?)\s+Config search", text
    ):
        group, name, options = missing[1], missing[2], missing[3].split()
        if name in _PLUGINS.get(group, ()):
            return f"{group}={name} is a plug-in that is not installed: pip install 'fedemb[sweep]'"
        return f"unknown {group} '{name}'; choose one of {', '.join(options)}{_near(name, options)}"
    if unknown := re.search(r"Could not override '([^']+)'", text):
        key, known = unknown[1], _known_keys(error)
        return f"unknown key '{key}'{_near(key, known)}; '{_command()} --cfg job' lists them all"
    return text


def _command() -> str:
    """The verb as it was typed, with the data set to prepare, without which it has no keys."""
    named = [word.removeprefix("dataset=") for word in sys.argv[1:] if word.startswith("dataset=")]
    return " ".join([sys.argv[0], *named])


def _near(word: str, known: list[str]) -> str:
    """A suggestion, if some known word is close."""
    close = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def _known_keys(error: BaseException) -> list[str]:
    """The keys beside the one that was not found."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConfigAttributeError) and isinstance(cause.object_type, dict | type):
            parent = cause.parent_node
            return [str(key) for key in parent] if isinstance(parent, DictConfig) else []
        cause = cause.__cause__ or cause.__context__
    return []
