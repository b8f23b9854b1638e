"""Changes to a backbone between its making and its training."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable

from torch import nn


class Change(ABC):
    """Replaces some layers of a backbone. Parameters that stay keep their names."""

    @abstractmethod
    def apply(self, backbone: nn.Module) -> str:
        """Change the backbone in place; what was done, in one line.

        Raises: ValueError in one line if it cannot be done.
        """


def replace_layer(backbone: nn.Module, name: str, layer: nn.Module) -> None:
    """Put a layer in the place of the one with that dotted name."""
    parent, _, last = name.rpartition(".")
    setattr(backbone.get_submodule(parent), last, layer)


def summarised(names: Iterable[str]) -> str:
    """Names on one line: those that differ by numbers alone as one pattern with a count, `layer*.bn* (8)`."""
    counts = Counter(re.sub(r"\d+", "*", name) for name in names)
    return ", ".join(f"{pattern} ({count})" for pattern, count in counts.items())
