"""Figures of which a reader chooses one: radio buttons and a style sheet, so that it works without a script."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

MOST = 8


def choice(name: str, question: str, options: Sequence[tuple[str, str]]) -> str:
    """Buttons over one of several contents; the content alone where there is one.

    name: unique on the page. options: (label, HTML), the first is shown first; at most `MOST`.
    """
    if len(options) < 2:
        return "".join(content for _, content in options)
    buttons = []
    for place, (label, _) in enumerate(options[:MOST]):
        checked = " checked" if place == 0 else ""
        buttons.append(f'<input type="radio" name="{name}" id="{name}-{place}"{checked}>')
        buttons.append(f'<label for="{name}-{place}">{escape(label)}</label>')
    panels = "".join(f"<div>{content}</div>" for _, content in options[:MOST])
    return (
        f'<div class="choice" role="group" aria-label="{escape(question, quote=True)}">'
        f'<span class="question">{escape(question)}</span>{"".join(buttons)}<div class="panels">{panels}</div></div>'
    )


def rules() -> str:
    """Of the style sheet: which content the chosen button shows."""
    shown = ",\n".join(
        f".choice > input:nth-of-type({place + 1}):checked ~ .panels > :nth-child({place + 1})" for place in range(MOST)
    )
    return f".choice > .panels > * {{ display: none; }}\n{shown} {{ display: block; }}"
