"""Puts what `fedemb VERB --help` prints in place of `<!-- help: VERB -->`, which a page without Sphinx does not show."""

import re
from contextlib import redirect_stdout, suppress
from io import StringIO

from fedemb.cli.main import main
from hydra.core.global_hydra import GlobalHydra

_MARK = re.compile(r"<!-- help: (.+?) -->")


def setup(app):
    """For Sphinx."""
    app.connect("source-read", _filled)
    return {"parallel_read_safe": True}


def _filled(app, docname, source):
    source[0] = _MARK.sub(lambda found: f"```text\n{printed(found[1].split())}\n```", source[0])


def printed(words: list[str]) -> str:
    """What the command says of itself."""
    text = StringIO()
    with redirect_stdout(text), suppress(SystemExit):
        main([*words, "--help"])
    GlobalHydra.instance().clear()
    return text.getvalue().strip()
