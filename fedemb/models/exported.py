"""A trained backbone as a folder: backbone.safetensors and config.json. No pickle.

from fedemb.models.exported import load_model
model = load_model("runs/omniglot/model")
embeddings = model(images)  # uint8 [n, Ch, H, W] -> unit vectors [n, D]
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fedemb.core.pixels import scale_pixels
from fedemb.core.types import Params
from fedemb.models.functional import call

_WEIGHTS, _CONFIG = "backbone.safetensors", "config.json"


class EmbeddingModel(nn.Module):
    """Pixels in, unit vectors out: [n, Ch, H, W] uint8 -> [n, D] float32."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        """L2-normalised embeddings."""
        return torch.nn.functional.normalize(self.backbone(scale_pixels(images)), dim=-1)


def embed(backbone: nn.Module, params: Params, images: Tensor) -> Tensor:
    """The same for a backbone whose parameters are held apart: [n, Ch, H, W] uint8 -> [n, D]."""
    return torch.nn.functional.normalize(call(backbone, params, scale_pixels(images)), dim=-1)


def save_model(folder: Path, *, backbone: Mapping[str, Any], params: Params, about: Mapping[str, Any]) -> None:
    """Write a model folder.

    backbone: {"_target_": importable class, keyword: plain value, ...}, enough to build the module again.
    about: plain values for the reader of config.json (task, privacy claim).
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.detach().cpu().contiguous() for name, value in params.items()}, folder / _WEIGHTS)
    config = {"backbone": dict(backbone), "about": dict(about)}
    (folder / _CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def load_params(path: Path) -> Params:
    """The tensors of a model folder, of a run folder that holds one, or of a .safetensors file.

    Raises: ValueError in one line if there is no such file or it cannot be read.
    """
    tried = [path, path / _WEIGHTS, path / "model" / _WEIGHTS]
    found = next((candidate for candidate in tried if candidate.is_file()), None)
    if found is None:
        raise ValueError(f"no model at {path}: expected a .safetensors file, a model folder or a run folder")
    try:
        return dict(load_file(found))
    except (SafetensorError, OSError) as error:
        raise ValueError(f"cannot read {found}: {error}; export the model again") from error


def load_model(path: Path | str) -> EmbeddingModel:
    """The model of a model folder or run folder, ready for inference on the CPU."""
    folder = Path(path)
    folder = folder if (folder / _CONFIG).is_file() else folder / "model"
    params = load_params(folder)
    try:
        spec = dict(json.loads((folder / _CONFIG).read_text())["backbone"])
        kind = _module_class(spec.pop("_target_"))
        backbone = kind(**spec)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise ValueError(f"cannot build the model of {folder / _CONFIG}: {error}; export the model again") from error
    try:
        backbone.load_state_dict(params)
    except RuntimeError as error:
        raise ValueError(f"{folder}: weights do not fit {kind.__name__}: {' '.join(str(error).split())}") from error
    return EmbeddingModel(backbone.eval())


def _module_class(target: str) -> type[nn.Module]:
    """The class of that dotted name. Raises TypeError for anything else: a stored model must not call any function."""
    module, _, name = target.rpartition(".")
    kind = getattr(importlib.import_module(module), name)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise TypeError(f"{target} is no torch module")
    return kind
