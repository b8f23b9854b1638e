"""How the lines of a plot are told apart: by colour, and by the shape of their markers where colours are not seen.

Colours: Okabe and Ito (2008), safe for colour-blind readers, and for ordered settings a ramp from the viridis family.
"""

from __future__ import annotations

SHAPES = (
    "M-4.2,0a4.2,4.2 0 1,0 8.4,0a4.2,4.2 0 1,0 -8.4,0z",  # circle
    "M-3.9,-3.9h7.8v7.8h-7.8z",  # square
    "M0,-5.3L5,3.7H-5z",  # triangle
    "M0,-5.4L5.4,0L0,5.4L-5.4,0z",  # diamond
    "M0,5.3L5,-3.7H-5z",  # triangle on its tip
    "M-5,-1.7h3.3v-3.3h3.4v3.3h3.3v3.4h-3.3v3.3h-3.4v-3.3h-3.3z",  # cross
    "M-4.8,0L-2.4,-4.4H2.4L4.8,0L2.4,4.4H-2.4z",  # hexagon
)
"""Markers around (0, 0)."""

METHODS = 8
"""So many methods have a colour of their own; then colours come again, with other shapes."""
STEPS = 6
"""So many steps has the ramp of ordered settings."""

_LIGHT = ("#0072b2", "#d55e00", "#009e73", "#b5568f", "#c98a00", "#3a9bd0", "#333c48", "#8a6d3b")
_DARK = ("#56aee8", "#ff8a3d", "#2fc79a", "#e59ac6", "#f2b933", "#9bd6f7", "#dfe4ea", "#c9ab74")
_RAMP_LIGHT = ("#440154", "#3e4a89", "#27808e", "#1f9e89", "#5cb53c", "#b9a800")
_RAMP_DARK = ("#c58be0", "#8a9bf0", "#4fb8c9", "#3fd0b0", "#93dc5c", "#f4e04d")


def method(place: int) -> tuple[str, str]:
    """(class, marker) of the method at this place."""
    return f"s{place % METHODS}", SHAPES[place % len(SHAPES)]


def step(place: int, of: int) -> tuple[str, str]:
    """(class, marker) of a setting at this place of an ordered list; the ramp is used from end to end."""
    at = round(place * (STEPS - 1) / max(of - 1, 1))
    return f"q{at}", SHAPES[place % len(SHAPES)]


def colours(*, dark: bool) -> str:
    """The variables of the style sheet."""
    named = {f"s{i}": c for i, c in enumerate(_DARK if dark else _LIGHT)}
    named |= {f"q{i}": c for i, c in enumerate(_RAMP_DARK if dark else _RAMP_LIGHT)}
    return " ".join(f"--{name}: {colour};" for name, colour in named.items())


def rules() -> str:
    """A class of the style sheet for each colour."""
    names = [*(f"s{i}" for i in range(METHODS)), *(f"q{i}" for i in range(STEPS))]
    return "\n".join(
        f".line.{n} {{ stroke: var(--{n}); }} .mark.{n}, .shade.{n}, .column.{n} {{ fill: var(--{n}); }} "
        f".mark.loose.{n} {{ fill: var(--paper); stroke: var(--{n}); }}"
        for n in names
    )
