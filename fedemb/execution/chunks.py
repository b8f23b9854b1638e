"""Which virtual clients work side by side, and until which local step: what is padded is computed for nothing.

Shapes: c clients in a chunk, S local steps of the longest of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

_PARTS = (4, 2, 1)  # a chunk's first quarter, half, or all: each size has kernels of its own to get ready


def equal_chunks(clients: int, most: int) -> int:
    """The size of the fewest equal chunks of at most `most` (and at least one) that hold all clients."""
    chunks = -(-clients // max(most, 1))
    return -(-clients // chunks)


def longest_first(sizes: Sequence[int]) -> list[int]:
    """Positions by falling size, equal ones as they stand: consecutive clients are then about equally long."""
    return sorted(range(len(sizes)), key=lambda position: -sizes[position])


def widths(active_cS: Tensor) -> list[int]:
    """How many clients, from the first on, a step is done for: [S], never rising.

    active_cS: has the client a real example in this step? All that have one, now or later, are among those; the others
    are spared where a quarter or half of the chunk is enough, which is often if the longest come first.
    """
    clients, steps = active_cS.shape
    found, needed = list[int](), 0
    for step in reversed(range(steps)):
        last = active_cS[:, step].nonzero().flatten().tolist()[-1:]
        needed = max([needed, *(place + 1 for place in last)])
        found.append(next(size for part in _PARTS if (size := -(-clients // part)) >= needed))
    return found[::-1]
