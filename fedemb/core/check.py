"""One-line validators: each raises ValueError with the name, the value and the bound."""

from __future__ import annotations

import math


def finite(name: str, value: float) -> None:
    """Require a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {name}={value}")


def positive(name: str, value: float) -> None:
    """Require a finite value > 0."""
    finite(name, value)
    if value <= 0:
        raise ValueError(f"{name} must be above 0, got {name}={value}")


def non_negative(name: str, value: float) -> None:
    """Require a finite value >= 0."""
    finite(name, value)
    if value < 0:
        raise ValueError(f"{name} must be 0 or above, got {name}={value}")


def fraction(name: str, value: float) -> None:
    """Require 0 <= value < 1."""
    finite(name, value)
    if not 0 <= value < 1:
        raise ValueError(f"{name} must lie in [0, 1), got {name}={value}")


def at_least(name: str, value: int, bound: int) -> None:
    """Require an integer value >= bound."""
    if isinstance(value, bool) or not isinstance(value, int) or value < bound:
        raise ValueError(f"{name} must be an integer of at least {bound}, got {name}={value}")


def phrase(name: str, value: object) -> None:
    """Require a few printable words in one line, without a full stop."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable() or value.endswith("."):
        raise ValueError(f"{name} must be a noun phrase in one line, e.g. {name}='a writer', got {name}={value!r}")
