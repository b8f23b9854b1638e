"""Libraries that only some models and file formats need."""

from __future__ import annotations

import importlib
from typing import Any


def library(name: str, *, extra: str) -> Any:
    """The module of that name. Raises: ValueError in one line if it is not installed. extra: of fedemb, that has it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(f"{name} is needed and cannot be imported ({error}): pip install 'fedemb[{extra}]'") from error
