"""Processor time and memory of a process with all that it has started, from /proc: Linux only."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_PARENT, _TICKS, _START = 1, slice(11, 15), 19
"""What follows the name in /proc/PID/stat: parent, time of its own and of ended children, when it started."""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """processor: seconds so far. peak_megabytes: each process's own peak, added up.

    What processes have mapped from files, which are mostly the same libraries, counts once: as much as the one with
    the most of it has now.
    """

    processor: float
    peak_megabytes: float


def family(pid: int) -> dict[int, str]:
    """Number -> start of the process and of its descendants; {} where they cannot be known."""
    known = {}
    for folder in _PROC.glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            known[int(folder.name)] = _stat(int(folder.name))
    members = [pid]
    for member in members:
        members += [child for child, fields in known.items() if fields[_PARENT] == str(member)]
    return {member: known[member][_START] for member in members if member in known}


def lives(pid: int, start: str) -> bool:
    """Is this number still the process that started then?"""
    try:
        return _stat(pid)[_START] == start
    except OSError:
        return False


def usage(pid: int) -> Usage | None:
    """Of the family as it is now."""
    ticks, own, mapped = 0, 0, [0]
    for member in family(pid):
        with suppress(OSError):
            ticks += sum(map(int, _stat(member)[_TICKS]))
            peak, files = _kilobytes(member)
            own += peak - files
            mapped.append(files)
    if not own:
        return None
    return Usage(processor=ticks / os.sysconf("SC_CLK_TCK"), peak_megabytes=(own + max(mapped)) / 1024)


def _kilobytes(pid: int) -> tuple[int, int]:
    """(the peak of its memory, how much of it is mapped from files now); 0 for a process that is ending."""
    lines = (line.split() for line in (_PROC / str(pid) / "status").read_text().splitlines())
    sizes = {line[0]: int(line[1]) for line in lines if line and line[0] in ("VmHWM:", "RssFile:")}
    return sizes.get("VmHWM:", 0), sizes.get("RssFile:", 0)


def _stat(pid: int) -> list[str]:
    """The fields behind the name, which may hold anything."""
    return (_PROC / str(pid) / "stat").read_text().rpartition(") ")[2].split()
