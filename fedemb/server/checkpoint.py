"""Atomic checkpoints: tensors in safetensors, the rest in JSON, no pickle.

`latest.json` is the commit: it is replaced last and in one step, so that a killed process leaves the old or the new
checkpoint, never half of one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fedemb.core.files import as_os_error, sha256, sync, write_atomically
from fedemb.core.types import Params
from fedemb.privacy.ledger import Ledger
from fedemb.server.optimizer import ServerState
from fedemb.server.plan import RunState

_FORMAT = 1


def _tensors(state: RunState) -> Params:
    """Every tensor of the state under a path-like name."""
    server = state.server
    parts = {"params": server.params, "average": server.average, "query": state.query}
    parts |= {f"slots/{slot}": value for slot, value in server.slots.items()}
    parts |= {f"noise/{slot}": value for slot, value in state.noise.items()}
    return {
        f"{part}/{name}": value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for part, group in parts.items()
        for name, value in group.items()
    }


def save(folder: Path, state: RunState, progress: dict[str, Any]) -> None:
    """Write a checkpoint, then drop the one before it. progress: plain values of the loop, e.g. seconds so far."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"round-{state.round:08d}.safetensors"
    draft = folder / f".{name}.draft"
    with as_os_error(draft):
        save_file(_tensors(state), draft)
    sync(draft)
    draft.replace(folder / name)
    sync(folder)  # the tensors' name is on disk before the commit that points to it
    record = {
        "format": _FORMAT,
        "round": state.round,
        "updates": state.server.updates,
        "tensors": name,
        "sha256": sha256(folder / name),
        "progress": progress,
    }
    write_atomically(folder / "latest.json", json.dumps(record) + "\n")
    for old in folder.glob("*round-*"):
        if old.name != name:
            old.unlink()


def _group(tensors: dict[str, Tensor], prefix: str) -> Params:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _slots(tensors: dict[str, Tensor], prefix: str) -> dict[str, Params]:
    names = {name.removeprefix(prefix).split("/", 1)[0] for name in tensors if name.startswith(prefix)}
    return {slot: _group(tensors, f"{prefix}{slot}/") for slot in sorted(names)}


def load(folder: Path, ledger: Ledger, device: torch.device | str = "cpu") -> tuple[RunState, dict[str, Any]] | None:
    """(the latest state, its progress), or None if nothing was saved yet.

    The ledger is the run's own, which may hold more rounds than the checkpoint: those are spent all the same.
    Raises: ValueError in one line if the checkpoint is damaged.
    """
    commit = folder / "latest.json"
    if not commit.exists():
        return None
    try:
        record = json.loads(commit.read_text())
        if sha256(folder / record["tensors"]) != record["sha256"]:
            raise ValueError(f"the checksum of {record['tensors']} does not match")
        tensors = load_file(folder / record["tensors"], device=str(device))
        server = ServerState(
            params=_group(tensors, "params/"),
            slots=_slots(tensors, "slots/"),
            average=_group(tensors, "average/"),
            updates=int(record["updates"]),
        )
        state = RunState(
            round=int(record["round"]),
            server=server,
            query={name: value.cpu() for name, value in _group(tensors, "query/").items()},
            noise=_slots(tensors, "noise/"),
            ledger=ledger,
        )
        progress = dict(record["progress"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ValueError(f"checkpoint {commit} is damaged: {error}; start again in a new run folder") from error
    return state, progress
