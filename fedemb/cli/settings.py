"""Settings against the signatures that they are for: a value of another type is one line before anything is done."""

from __future__ import annotations

import inspect
import json
import os
import pydoc
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf

from fedemb.cli.quoting import quoted

_WORDS = {  # one, many
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a text", "texts"),
    bool: ("true or false", "true or false"),
    NoneType: ("null", "null"),
}


def check_settings(node: DictConfig | None) -> None:
    """Require every setting beside a `_target_`, here and below, to be of the type that its parameter has.

    Numbers, texts, true or false, null, lists and mappings of them are compared; whatever else an annotation says is
    left to the callee, and so is a `_target_` that cannot be imported.
    Raises: ValueError in one line with the key as it is typed on a command line.
    """
    if node is None:
        return
    hints = _hints(node["_target_"]) if "_target_" in node else {}
    plain: Any = OmegaConf.to_container(node, resolve=False)
    for key in node:
        if OmegaConf.is_missing(node, key):
            continue
        value = node[key]
        if key in hints and not (isinstance(value, DictConfig) and "_target_" in value):
            _check(_typed_key(node, str(key), plain[key]), _plain(value), hints[key], _origin(plain[key]))
        if isinstance(value, DictConfig):
            check_settings(value)


def text(cfg: DictConfig, key: str) -> str:
    """A setting that is a text, e.g. a path. Raises: ValueError in one line otherwise, as for source=5."""
    _check(key, _plain(cfg[key]), str)
    return str(cfg[key])


def path(cfg: DictConfig, key: str) -> Path:
    """A file or folder; an empty name would be the folder that the command is called in."""
    if cfg[key] is None or not text(cfg, key).strip():
        raise ValueError(f"{key}= is empty: pass {key}=<a folder>, or leave it out; the folder one is in is {key}=.")
    return Path(text(cfg, key)).expanduser()


def _check(key: str, value: object, hint: Any, remedy: str = "") -> None:
    if _admits(hint, value):
        return
    if isinstance(value, dict) and (item_hint := _item_hint(hint)) is not None:
        for name, item in value.items():
            _check(f"{key}.{name}", item, item_hint, remedy)
    if isinstance(value, int | float) and _admits(hint, ""):
        remedy += f"; type {quoted(key, _shown(value))} to have it as a text"
    raise ValueError(f"{key} must be {_words(hint)}, got {key}={_shown(value)}{remedy}")


def _hints(target: str) -> dict[str, Any]:
    """Parameter -> annotation of what Hydra will call; none where it cannot be told."""
    try:
        called = pydoc.locate(target)
        return get_type_hints(called.__init__ if inspect.isclass(called) else called)
    except (pydoc.ErrorDuringImport, NameError, TypeError):
        return {}


def _typed_key(node: DictConfig, key: str, written: object) -> str:
    """The key of the top level that a setting is taken from, or else its own full name."""
    taken = re.fullmatch(r"\$\{(\w+)\}", written) if isinstance(written, str) else None
    return taken[1] if taken else str(node._get_full_key(key))


def _origin(written: object) -> str:
    """Where the value is from, if another group's key is its default."""
    other = re.fullmatch(r"\$\{oc\.select:([\w.]+),.*\}", written) if isinstance(written, str) else None
    return f", which is {other[1]}: pass another" if other else ""


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _admits(hint: Any, value: object) -> bool:
    """Is the value of the annotation's type, as far as that is compared?"""
    kind, parts = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        return any(_admits(part, value) for part in parts)
    if kind is Sequence:
        return isinstance(value, list) and all(_admits(parts[0], item) for item in value)
    if kind is Mapping:
        return isinstance(value, dict) and all(
            _admits(parts[0], name) and _admits(parts[1], item) for name, item in value.items()
        )
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint in _WORDS:
        return type(value) is hint
    return kind is not os.PathLike  # a path is given as a text


def _item_hint(hint: Any) -> Any:
    """What a mapping's items must be, if the annotation admits a mapping."""
    mappings = [part for part in (hint, *get_args(hint)) if get_origin(part) is Mapping]
    return get_args(mappings[0])[1] if mappings else None


def _words(hint: Any, many: bool = False) -> str:
    """What an annotation admits."""
    kind, parts = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        told = dict.fromkeys(_words(part, many) for part in sorted(parts, key=lambda part: part is not NoneType))
        return " or ".join(told)
    if kind is Sequence:
        return f"a list [..., ...] of {_words(parts[0], many=True)}"
    if kind is Mapping:
        return f"a mapping {{...: ...}} of {_words(parts[0], many=True)} to {_words(parts[1], many=True)}"
    return _WORDS[hint if hint in _WORDS else str][many]


def _shown(value: object) -> str:
    """As YAML and Hydra write it."""
    return str(value) if isinstance(value, str | float) else json.dumps(value, ensure_ascii=False)
