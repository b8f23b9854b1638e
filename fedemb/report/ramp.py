"""Settings of several methods as few lines of one chart: equal ones together, the others evenly spread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from fedemb.report import looks

_Item = TypeVar("_Item")

Owner = tuple[str, str]
"""(method, what its setting is called)."""


def spread(items: Sequence[_Item]) -> list[_Item]:
    """At most so many of them as a chart can show, evenly, the first and the last among them."""
    most = looks.STEPS
    if len(items) <= most:
        return list(items)
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]


def together(owners: Sequence[Owner]) -> str:
    """A label of all that share a line: what they are set to, or who they are."""
    methods, labels = dict.fromkeys(name for name, _ in owners), dict.fromkeys(label for _, label in owners)
    if len(labels) == 1 and (label := next(iter(labels))):
        return label if len(methods) == 1 else f"{label} ({len(methods)} methods)"
    others = f" and {len(owners) - 1} more" if len(owners) > 1 else ""
    return ", ".join(filter(None, owners[0])) + others
