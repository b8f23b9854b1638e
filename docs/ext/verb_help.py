"""Puts what `fedemb VERB --help` prints in place of `<!-- help: VERB -->`, which a code forge does not show."""

import re
import sys
from contextlib import redirect_stdout, suppress
from io import StringIO

from hydra.core.global_hydra import GlobalHydra

from fedemb.cli.main import main

_MARK = re.compile(r"<!-- help:(.*?) -->")


def setup(app):
    """For Sphinx; -D verb_help=0 leaves them out, as Hydra takes a second for each."""
    app.add_config_value("verb_help", True, "env", [bool])
    app.connect("source-read", _filled)
    return {"parallel_read_safe": True}


def _filled(app, docname, source):
    if app.config.verb_help:
        source[0] = _MARK.sub(lambda found: f"```text\n{printed(found[1].split())}\n```", source[0])


def printed(words: list[str]) -> str:
    """What the command says of itself."""
    text, argv = StringIO(), sys.argv
    try:
        with redirect_stdout(text), suppress(SystemExit):
            main([*words, "--help"])
    finally:
        sys.argv = argv
        GlobalHydra.instance().clear()
    return text.getvalue().strip()
