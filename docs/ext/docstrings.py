"""fedemb's docstrings to reStructuredText: names in single backticks, `Args:` and the like in running text.

What such a docstring holds besides is plain text: stars, bars and underscores are escaped, so that none of them can
break the build.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import groupby

_LABEL = re.compile(r"([A-Z][a-z]+): (.*)")  # Returns: …, Source: …
_NAMED = re.compile(r"([a-z_]\w*(?:, [a-z_]\w*)*): (.*)")  # clip_norm: …
_RAISED = re.compile(r"(\w+)(?: in one line)? (.*)", re.DOTALL)
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
_COLUMNS = re.compile(r"\S {3,}\S")


def setup(app):
    """For Sphinx."""
    app.connect("autodoc-process-docstring", _processed)
    app.connect("autodoc-process-signature", _without_a_protocols)
    return {"parallel_read_safe": True}


def _processed(app, what, name, obj, options, lines):
    lines[:] = to_rst(lines)


def _without_a_protocols(app, what, name, obj, options, signature, result):
    """A protocol is not made, and its (*args, **kwargs) says nothing."""
    return ("", None) if getattr(obj, "_is_protocol", False) else None


def to_rst(lines: Iterable[str]) -> list[str]:
    """The docstring's lines as reStructuredText."""
    paragraphs = [list(group) for blank, group in groupby(lines, lambda line: not line.strip()) if not blank]
    return [line for paragraph in paragraphs for line in _paragraph(paragraph)]


def _paragraph(lines: list[str]) -> list[str]:
    if lines[0].startswith(">>>"):
        return [*lines, ""]
    head = lines[: next((i for i, line in enumerate(lines) if line.startswith(" ")), len(lines))]
    rest = lines[len(head) :]
    if rest and (not head or any(_COLUMNS.search(line) for line in rest)):  # code, formulas, a table
        return [*_items(head), "::", "", *(f"    {line}" for line in rest), ""]
    return _items(lines)


def _items(lines: list[str]) -> list[str]:
    """Running text, and what is said of one name each."""
    return [line for label, text in _split(lines) for line in _item(label, text)]


def _split(lines: list[str]) -> Iterator[tuple[str, str]]:
    label, words, in_args = "", list[str](), False
    for line in lines:
        text = line.strip()
        if line.startswith("Args: "):
            text, in_args = text.removeprefix("Args: "), True
        elif _LABEL.fullmatch(line):
            in_args = False
        found = _LABEL.fullmatch(line) if not in_args else None
        named = _NAMED.fullmatch(text) if in_args or not line.startswith(" ") else None
        if new := found or named:
            yield label, " ".join(words)
            label, words = new[1], [new[2]]
        else:
            words.append(text)
    yield label, " ".join(words)


def _item(label: str, text: str) -> list[str]:
    if not text:
        return []
    if not label:
        return [escaped(text), ""]
    if label[0].islower():
        names = ", ".join(f"``{name}``" for name in label.split(", "))
        return [f"* {names}: {escaped(text)}", ""]
    if label == "Returns":
        return [f":returns: {escaped(text)}", ""]
    if label == "Raises" and (told := _RAISED.fullmatch(text)):
        return [f":raises {told[1]}: {escaped(told[2])}", ""]
    return [f"**{label}:** {escaped(text)}", ""]


def escaped(text: str) -> str:
    """Plain text with `names` and arXiv numbers."""
    pieces = text.split("`")
    if len(pieces) % 2 == 0:
        return _plain(text.replace("`", "'"))
    return "".join(rf"\ ``{piece}``\ " if i % 2 and piece else _plain(piece) for i, piece in enumerate(pieces))


def _plain(text: str) -> str:
    special = re.sub(r"[\\*|_]", lambda found: f"\\{found[0]}", text)
    return _ARXIV.sub(r"`arXiv:\1 <https://arxiv.org/abs/\1>`__", special)
