"""LEAF's JSON: {"users": [u], "num_samples": [n], "user_data": {u: {"x": [[pixel]], "y": [label]}}}.

Source: Caldas et al. 2018, "LEAF: A Benchmark for Federated Settings", arXiv:1812.01097, data/femnist.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

_AGAIN = "copy or make the file again"


def leaf_users(path: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(user, x [n, D] float32, y [n] int64) of one file, or of all *.json of a folder in the order of their names.

    One file is in memory at a time. A user that two files hold comes twice: whoever reads joins the parts.
    Raises: ValueError in one line, naming file and user, if there is no file, a file is no JSON or not LEAF's, or its
        num_samples disagree with its data.
    """
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise ValueError(f"no *.json in {path}")
    for file in files:
        yield from _users_of(file)


def _users_of(file: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    users, sizes, data = _parts(file)
    for user, size in zip(users, sizes, strict=True):
        one, where = data.pop(user), f"{file}: user {user!r}"
        if not isinstance(one, dict) or not {"x", "y"} <= one.keys():
            raise ValueError(f"{where} has no x and y; {_AGAIN}")
        x, y = _array(one["x"], f"{where}: x", "iuf", 2), _array(one["y"], f"{where}: y", "i", 1)
        if not len(x) == len(y) == size:
            raise ValueError(f"{where} has {len(x)} images and {len(y)} labels, num_samples says {size}; {_AGAIN}")
        with np.errstate(over="ignore"):
            pixels = x.astype(np.float32)
        if not np.isfinite(pixels).all():
            raise ValueError(f"{where}: x holds numbers that are not finite; {_AGAIN}")
        yield user, pixels, y.astype(np.int64)


def _parts(file: Path) -> tuple[list[str], list[int], dict[str, Any]]:
    """(users, num_samples, user_data), which fit together."""
    try:
        with file.open(encoding="utf-8") as stream:
            # Pixels take few values: an object for each value, not for each pixel, saves three quarters of the memory.
            content = json.load(stream, parse_float=lru_cache(maxsize=4096)(float))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is no JSON: {error}; {_AGAIN}") from None
    names = ("users", "num_samples", "user_data")
    parts: list[Any] = [content.get(name) for name in names] if isinstance(content, dict) else []
    if [type(part) for part in parts] != [list, list, dict]:
        raise ValueError(f"{file} holds no LEAF data, a mapping with users, num_samples and user_data")
    users, sizes, data = parts
    if len(users) != len(sizes) or len(users) != len(data) or {str(user) for user in users} != data.keys():
        counts = f"{len(users)} users, {len(sizes)} num_samples and {len(data)} user_data"
        raise ValueError(f"{file}: {counts} do not fit together; {_AGAIN}")
    return [str(user) for user in users], sizes, data


def _array(values: Any, what: str, kinds: str, dimensions: int) -> np.ndarray:
    """A list of numbers as an array; an empty one has no width."""
    if values == []:
        return np.zeros((0,) * dimensions, np.int64)
    try:
        array = np.asarray(values)
    except (ValueError, OverflowError):
        array = np.empty(0, object)
    if array.ndim != dimensions or array.dtype.kind not in kinds:
        raise ValueError(f"{what} is no list of {'rows of ' if dimensions == 2 else ''}numbers of one length; {_AGAIN}")
    return array
