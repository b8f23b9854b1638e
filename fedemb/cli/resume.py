"""Does a command agree with the run that it wants to go on with?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

WATCHING = ("objective", "tracker", "track_diagnostics")
"""Who is told of a run's public numbers, which makes it no other run."""
_CHANGEABLE = ("prefetch", *WATCHING)  # how data are read and the run is watched: the command's, where it says
_FREE = ("run", "resume", "name", "method", *_CHANGEABLE)  # where the run lies and what it is called, not what it is


def refuse_nothing_to_resume(cfg: DictConfig, overrides: list[str], folder: Path) -> None:
    """Raise ValueError if a command that only names a run to go on with finds none: a typo must start no training."""
    if cfg.resume and not _settings(overrides):
        raise ValueError(f"there is no run at {folder} to go on with: check run=, or name a recipe to start one")


def agreed_config(cfg: DictConfig, composed: DictConfig, saved: Path, overrides: list[str]) -> DictConfig:
    """The configuration of the run folder.

    composed: the command's configuration in the form that config.yaml has. overrides: what the command said. With
        nothing but run= and resume= the run folder's configuration is taken as it is; anything more must compose to
        the same configuration.
    Raises: ValueError that names the first keys that disagree.
    """
    try:
        stored = OmegaConf.load(saved)
    except YAMLError as error:
        raise ValueError(f"{saved} is damaged: {error}; start again in a new run folder") from error
    if not isinstance(stored, DictConfig):
        raise ValueError(f"{saved} is damaged: not a mapping; start again in a new run folder")
    if _settings(overrides):
        before, now = flat(stored), flat(composed)
        keys = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
        if keys:
            typed = [word.split("=")[0].lstrip("+~") for word in overrides]
            keys.sort(key=lambda key: not any(f"{key}.".startswith(f"{word}.") for word in typed))  # those first
            told = "; ".join(f"{key} was {before.get(key)}, now {now.get(key)}" for key in keys[:4])
            more = f"; and {len(keys) - 4} more" if len(keys) > 4 else ""
            raise ValueError(
                f"resume=true: the command disagrees with {saved}: {told}{more}; give run= and resume=true alone to go "
                "on as it was, or take another run="
            )
    stored.run, stored.seed = cfg.run, cfg.seed if stored.seed is None else stored.seed
    said = {key_of(word) for word in overrides}
    for key in _CHANGEABLE:
        if key not in stored or key in said:
            stored[key] = cfg[key]
    return stored


def _settings(overrides: list[str]) -> list[str]:
    """The overrides that say what the run is."""
    return [word for word in overrides if key_of(word) not in _FREE]


def key_of(word: str) -> str:
    """The first part of an override's key: prefetch for prefetch.workers=2."""
    return word.split("=")[0].lstrip("+~").split(".")[0]


def flat(cfg: DictConfig) -> dict[str, Any]:
    """Dotted key -> value, as written, without interpolation."""
    found: dict[str, Any] = {}

    def walk(prefix: str, node: Any) -> None:
        if isinstance(node, dict) and node:
            for key, value in node.items():
                walk(f"{prefix}.{key}" if prefix else str(key), value)
        elif prefix.split(".")[0] not in _FREE:
            found[prefix] = node

    walk("", OmegaConf.to_container(cfg, resolve=False))
    return found
