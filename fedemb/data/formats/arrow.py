"""pyarrow, which not every installation has, and its complaints in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any


def pyarrow_for(what: object) -> Any:
    """The module pyarrow, with pyarrow.parquet and pyarrow.ipc.

    what: for which file, for the message.
    Raises: ValueError in one line if it is not installed.
    """
    try:
        import_module("pyarrow.parquet")
        return import_module("pyarrow")
    except ImportError:
        raise ValueError(f"{what} needs pyarrow: pip install 'fedemb[parquet]'") from None


@contextmanager
def arrow_errors(what: str) -> Iterator[None]:
    """What pyarrow raises on broken files and full disks, in one line. what: e.g. "cannot read FILE"."""
    arrow_error: type[Exception] = import_module("pyarrow").ArrowException
    try:
        yield
    except (arrow_error, OSError) as error:
        raise ValueError(f"{what} ({' '.join(str(error).split()) or type(error).__name__})") from None
