"""A trained backbone as a folder: backbone.safetensors and config.json. No pickle.

from fedemb.models.exported import load_model
model = load_model("runs/omniglot/model")
embeddings = model(images)  # uint8 [n, Ch, H, W] -> unit vectors [n, D]
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fedemb.core.files import as_os_error
from fedemb.core.pixels import scale_pixels
from fedemb.core.types import Params
from fedemb.models.change import Change
from fedemb.models.functional import call

_WEIGHTS, _CONFIG = "backbone.safetensors", "config.json"
_HOW_HYDRA_READS = ("_convert_", "_recursive_")  # keys of a specification that say nothing about the module
_KINDS = {nn.Module: "torch module", Change: "fedemb.models.change.Change"}
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


def save_model(
    folder: Path,
    *,
    backbone: Mapping[str, Any],
    params: Params,
    about: Mapping[str, Any],
    changes: Sequence[Mapping[str, Any]] = (),
    images: Sequence[int] | None = None,
) -> None:
    """Write a model folder.

    backbone: {"_target_": importable class, keyword: plain value, ...}, enough to build the module again (a value
        may be such a mapping in its turn); `check_rebuilds` finds out beforehand.
    about: plain values for the reader of config.json (task, privacy claim).
    changes: mappings like `backbone`, of the `Change` that each made to the module, in their order.
    images: [Ch, H, W] of those that it was trained on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with as_os_error(folder / _WEIGHTS):
        save_file(on_cpu(params), folder / _WEIGHTS)
    more = {"changes": [dict(change) for change in changes], "images": list(images or ())}
    config = {"backbone": dict(backbone), **{key: value for key, value in more.items() if value}, "about": dict(about)}
    (folder / _CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def on_cpu(params: Params) -> Params:
    """Copies as a safetensors file takes them."""
    return {name: value.detach().cpu().contiguous() for name, value in params.items()}


def check_rebuilds(spec: Mapping[str, Any], backbone: nn.Module, changes: Sequence[Mapping[str, Any]] = ()) -> None:
    """Will `load_model` build the same module from this specification? To be asked before hours of training.

    spec, changes: as for `save_model`. backbone: the module that is trained, without adapters.
    Raises: ValueError in one line if it will not.
    """
    try:
        plain = json.loads(json.dumps({"backbone": dict(spec), "changes": [dict(change) for change in changes]}))
        _rebuilt(plain, dict(backbone.named_parameters()))
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
        raise _no_model(path, "a .safetensors file, a model folder or a run folder")
    try:
        return dict(load_file(found))
    except (SafetensorError, OSError) as error:
        raise ValueError(f"cannot read {found}: {error}; export the model again") from error


def model_folder(path: Path) -> Path:
    """The folder itself, or that of a run."""
    return path if (path / _CONFIG).is_file() else path / "model"


def image_shape(path: Path) -> list[int] | None:
    """[Ch, H, W] of the images that the model of a model folder or run folder was trained on; None if it isn't told."""
    try:
        found = json.loads((model_folder(path) / _CONFIG).read_text()).get("images")
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(f"cannot read {model_folder(path) / _CONFIG}: {_flat(error)}; name a finished run") from error
    return found if isinstance(found, list) else None


def load_model(path: Path | str) -> EmbeddingModel:
    """The model of a model folder or run folder, ready for inference on the CPU."""
    folder = model_folder(Path(path))
    if not folder.is_dir():
        raise _no_model(Path(path), "a model folder or a run folder")
    params = load_params(folder)
    try:
        backbone = _rebuilt(json.loads((folder / _CONFIG).read_text()), params)
    except (OSError, *_UNFIT) as error:
        mend = "export the model again"
        if isinstance(error, ModuleNotFoundError):
            mend = f"run this in the folder that {error.name} lies in, or add that folder to PYTHONPATH"
        raise ValueError(f"cannot build the model of {folder / _CONFIG}: {_flat(error)}; {mend}") from error
    return EmbeddingModel(backbone.eval())


def _no_model(path: Path, expected: str) -> ValueError:
    """What to say of a place without a model; a run's folder has its configuration from the first moment."""
    if (path / "config.yaml").is_file() and not (path / "report.json").is_file():
        return ValueError(
            f"the run {path} is not finished, so that it has no model yet: go on with the command that began it and "
            "resume=true"
        )
    return ValueError(f"no model at {path}: expected {expected}")


def _rebuilt(config: Any, params: Params) -> nn.Module:
    """The module of a configuration that was read from JSON, with these parameters. Raises one of _UNFIT."""
    spec = config["backbone"]
    if not isinstance(spec, dict) or "_target_" not in spec:
        raise ValueError("no _target_ names its class")
    with torch.random.fork_rng(devices=[]):  # the constructor's own draws are replaced
        backbone: nn.Module = _made(spec, nn.Module)
        for change in config.get("changes", ()):
            _made(change, Change).apply(backbone)
    try:
        absent, unknown = backbone.load_state_dict(params, strict=False)
    except RuntimeError as error:
        raise ValueError(f"weights do not fit {type(backbone).__name__}: {error}") from error
    constants = dict(backbone.named_buffers())
    if wrong := [*(name for name in absent if name not in constants), *unknown]:
        raise ValueError(f"weights do not fit {type(backbone).__name__}: missing or left over: {', '.join(wrong)}")
    return backbone


def _made(value: Any, kind: type) -> Any:
    """A plain value as it is, with each mapping that has a _target_ turned into the object that it names."""
    if isinstance(value, list):
        return [_made(item, kind) for item in value]
    if not isinstance(value, dict):
        return value
    made = {name: _made(item, kind) for name, item in value.items() if name not in _HOW_HYDRA_READS}
    return _class_of(made.pop("_target_"), kind)(**made) if "_target_" in made else made


def _class_of(target: str, kind: type) -> type:
    """The class of that dotted name. Raises TypeError for anything else: a stored model must not call any function."""
    module, _, name = target.rpartition(".")
    found = getattr(importlib.import_module(module), name)
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise TypeError(f"{target} is no {_KINDS[kind]} class")
    return found


def _flat(error: BaseException) -> str:
    """The message on one line."""
    return " ".join(str(error).split()) or type(error).__name__
