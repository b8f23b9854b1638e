"""Numbers as a reader wants them. None becomes a dash."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

DASH = "–"
_WEAK = 20  # e^20 is 5e8: the odds that an attacker may gain


def weak(epsilon: float | None) -> str:
    """What must be said of an epsilon beside it, if anything; None is infinite."""
    return f"An ε above {_WEAK} protects nobody in practice" if epsilon is None or epsilon > _WEAK else ""


def counted(count: int, thing: str) -> str:
    """1, "round" -> "1 round"; 1600, "round" -> "1,600 rounds"."""
    return f"{count:,} {thing}" + ("" if count == 1 else "s")


def upper(value: float, digits: int = 3) -> str:
    """So many significant digits, rounded up: a bound stays a bound. 11.3977 -> "11.4"."""
    return _directed(value, digits, ROUND_CEILING)


def lower(value: float, digits: int = 3) -> str:
    """So many significant digits, rounded down. 11.3663 -> "11.3"."""
    return _directed(value, digits, ROUND_FLOOR)


def small(value: float | None) -> str:
    """A δ, rounded up to two digits, so that what is printed holds: 0.00294 -> "3e-3"; three digits from 0.01 on."""
    if value is None:
        return DASH
    if value == 0 or abs(value) >= 0.01:
        return _directed(value, 3, ROUND_CEILING)
    shortest = Decimal(repr(value))
    rounded = shortest.quantize(Decimal(1).scaleb(shortest.adjusted() - 1), rounding=ROUND_CEILING)
    return f"{rounded.scaleb(-rounded.adjusted()).normalize()}e{rounded.adjusted()}"


def metric(value: float | None) -> str:
    """A fraction with four digits."""
    return DASH if value is None else f"{value:.4f}"


def share(value: float | None) -> str:
    """A fraction in percent: 0.034 -> "3.4%"."""
    return DASH if value is None else f"{100 * value:.1f}%"


def plain(value: Any) -> str:
    """Any scalar: whole numbers in groups of three, other numbers with four digits."""
    if value is None or value == "":
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return str(value)


def duration(seconds: float | None) -> str:
    """ "45 ms", "3.3 s", "12 min 5 s", "2 h 5 min"."""
    if seconds is None:
        return DASH
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left} min" if hours else f"{minutes} min {rest} s"


def memory(size_bytes: float | None) -> str:
    """ "665 MiB", "1.4 GiB"."""
    if size_bytes is None:
        return DASH
    return f"{size_bytes / 2**30:.1f} GiB" if size_bytes >= 2**30 else f"{size_bytes / 2**20:.0f} MiB"


def _directed(value: float, digits: int, rounding: str) -> str:
    if not math.isfinite(value):
        return "∞"
    if value == 0:
        return "0"
    exact = Decimal(repr(float(value)))  # 0.05 is 0.05, not the nearest binary number above it
    rounded = exact.quantize(Decimal(1).scaleb(exact.adjusted() - digits + 1), rounding=rounding)
    return f"{rounded.normalize():f}" if abs(rounded) >= Decimal("1e-4") else f"{rounded.normalize():.{digits}g}"
