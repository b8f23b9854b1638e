"""Metrics as a reader calls them."""

from __future__ import annotations

_LABELS = {"auc": "AUC", "map@r": "mAP@R"}


def metric_label(name: str) -> str:
    """ "recall@far=0.001" -> "Recall at FAR 0.001"; unknown names stay."""
    if name.startswith("recall@far="):
        return f"Recall at FAR {name.removeprefix('recall@far=')}"
    return _LABELS.get(name, name.replace("recall@", "Recall@"))
