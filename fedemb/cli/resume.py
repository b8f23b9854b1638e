"""Does a command agree with the run that it wants to go on with?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

_FREE = ("run", "resume", "name")  # where the run lies, not what it is


def agreed_config(cfg: DictConfig, saved: Path, overrides: list[str]) -> DictConfig:
    """The configuration of the run folder.

    overrides: what the command said. With nothing but run= and resume= the run folder's configuration is taken as it
        is; anything more must compose to the same configuration.
    Raises: ValueError that names the first keys that disagree.
    """
    stored = OmegaConf.load(saved)
    if not isinstance(stored, DictConfig):
        raise ValueError(f"{saved} is damaged: not a mapping; start again in a new run folder")
    said = [word.split("=")[0].lstrip("+~") for word in overrides]
    if any(key not in _FREE for key in said):
        before, now = _flat(stored), _flat(cfg)
        keys = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
        if keys:
            told = "; ".join(f"{key} was {before.get(key)}, now {now.get(key)}" for key in keys[:4])
            raise ValueError(
                f"resume=true: the command disagrees with {saved}: {told}; leave it out or take another run="
            )
    OmegaConf.update(stored, "run", cfg.run)
    return stored


def _flat(cfg: DictConfig) -> dict[str, Any]:
    """Dotted key -> value, as written, without interpolation."""
    found: dict[str, Any] = {}

    def walk(prefix: str, node: Any) -> None:
        if isinstance(node, dict) and node:
            for key, value in node.items():
                walk(f"{prefix}.{key}" if prefix else str(key), value)
        elif prefix not in _FREE:
            found[prefix] = node

    walk("", OmegaConf.to_container(cfg, resolve=False))
    return found
