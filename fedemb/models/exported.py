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
_HOW_HYDRA_READS = ("_convert_", "_recursive_")  # keys of a specification that say nothing about the module
_UNFIT = (ValueError, KeyError, TypeError, AttributeError, ImportError, RuntimeError, AssertionError)


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

    backbone: {"_target_": importable class, keyword: plain value, ...}, enough to build the module again (a value
        may be such a mapping in its turn); `check_rebuilds` finds out beforehand.
    about: plain values for the reader of config.json (task, privacy claim).
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.detach().cpu().contiguous() for name, value in params.items()}, folder / _WEIGHTS)
    config = {"backbone": dict(backbone), "about": dict(about)}
    (folder / _CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def check_rebuilds(spec: Mapping[str, Any], backbone: nn.Module) -> None:
    """Will `load_model` build the same module from this specification? To be asked before hours of training.

    spec: as for `save_model`. backbone: the module that is trained.
    Raises: ValueError in one line if it will not.
    """
    try:
        _rebuilt(json.loads(json.dumps(dict(spec))), backbone.state_dict())
    except _UNFIT as error:
        raise ValueError(
            f"the trained model could not be loaded again from model={spec.get('_target_')}: {_flat(error)}; name an "
            "importable nn.Module class with plain values (wrap a function that makes one in a class)"
        ) from error


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
        backbone = _rebuilt(json.loads((folder / _CONFIG).read_text())["backbone"], params)
    except (OSError, *_UNFIT) as error:
        raise ValueError(
            f"cannot build the model of {folder / _CONFIG}: {_flat(error)}; export the model again"
        ) from error
    return EmbeddingModel(backbone.eval())


def _rebuilt(spec: Any, params: Params) -> nn.Module:
    """The module of a specification that was read from JSON, with these parameters. Raises one of _UNFIT."""
    if not isinstance(spec, dict) or "_target_" not in spec:
        raise ValueError("no _target_ names its class")
    with torch.random.fork_rng(devices=[]):  # the constructor's own draws are replaced
        backbone: nn.Module = _made(spec)
    try:
        backbone.load_state_dict(params)
    except RuntimeError as error:
        raise ValueError(f"weights do not fit {type(backbone).__name__}: {error}") from error
    return backbone


def _made(value: Any) -> Any:
    """A plain value as it is, with each mapping that has a _target_ turned into the module that it names."""
    if isinstance(value, list):
        return [_made(item) for item in value]
    if not isinstance(value, dict):
        return value
    made = {name: _made(item) for name, item in value.items() if name not in _HOW_HYDRA_READS}
    return _module_class(made.pop("_target_"))(**made) if "_target_" in made else made


def _module_class(target: str) -> type[nn.Module]:
    """The class of that dotted name. Raises TypeError for anything else: a stored model must not call any function."""
    module, _, name = target.rpartition(".")
    kind = getattr(importlib.import_module(module), name)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise TypeError(f"{target} is no torch module class")
    return kind


def _flat(error: BaseException) -> str:
    """The message on one line."""
    return " ".join(str(error).split()) or type(error).__name__
