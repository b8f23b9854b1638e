"""Words of a command line as Hydra reads them, and how to write one whose value it would read as something else."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException


def quoted(key: str, value: str) -> str:
    """What to type in a shell so that a key's value is this text: 'source="/a/b[1].zip"'."""
    text = re.sub(r'(\\*)("|\Z)', lambda found: found[1] * 2 + ('\\"' if found[2] else ""), value)
    return shlex.quote(f'{key}="{text}"')


def unreadable(words: Iterable[str]) -> str | None:
    """What is wrong with the first key=value that Hydra cannot read, and how to write it; None if it can read all."""
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or _is_readable(word):
            continue
        better = quoted(key, value)
        if not _is_readable(*shlex.split(better)):
            return f"cannot read {word!r}: write key=value with one of the keys that --help lists"
        return f"cannot read {word}: brackets, accents, = and the like need quotes around the value: type {better}"
    return None


def several_values(error: HydraException) -> str | None:
    """Whether the error is about a comma that makes a sweep of a value, and how to write it; else None."""
    found = re.search(r"Ambiguous value for argument '([^=]+)=(.*)'\s+1\.", str(error))
    if found is None:
        return None
    key, value = found.groups()
    return (
        f"{key}={value} reads as several values: type {quoted(key, value)} for one text, "
        f"{shlex.quote(f'{key}=[{value}]')} for a list, or add -m to run each"
    )


def _is_readable(word: str) -> bool:
    try:
        OverridesParser.create().parse_override(word)
    except HydraException:
        return False
    return True
