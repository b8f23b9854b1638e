"""Tables as HTML; every text from a run is escaped here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from fedemb.report.numbers import plain


def pairs_table(title: str, rows: Sequence[tuple[str, str]]) -> str:
    """A heading over (what, value) lines; "" without a line."""
    if not rows:
        return ""
    lines = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in rows)
    return f'<div><h3>{escape(title)}</h3><table class="pairs"><tbody>{lines}</tbody></table></div>'


def grid_table(header: Sequence[str], rows: Sequence[Sequence[str]], style: str) -> str:
    """A table with a header line. style: "numbers" (the first column names the line) or "wide"."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    first = '<th scope="row">{}</th>' if style == "numbers" else "<td>{}</td>"
    lines = "".join(
        f"<tr>{first.format(escape(row[0]))}{''.join(f'<td>{escape(cell)}</td>' for cell in row[1:])}</tr>"
        for row in rows
    )
    body = f'<table class="{style}"><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>'
    return f'<div class="scroll">{body}</div>'


def labelled(values: Mapping[str, Any], labels: Mapping[str, str], skip: Sequence[str] = ()) -> list[tuple[str, str]]:
    """(label, value) for known keys in the order of `labels`, then unknown scalars under their own name."""
    known = [(label, plain(values[key])) for key, label in labels.items() if key in values]
    rest = [
        (key.replace("_", " "), plain(value))
        for key, value in values.items()
        if key not in labels and key not in skip and not isinstance(value, Mapping | list)
    ]
    return known + rest
