"""fedemb export: a trained model as one file for other programs."""

from __future__ import annotations

import os
from pathlib import Path

from omegaconf import DictConfig

from fedemb.cli.settings import check_settings, path
from fedemb.core.files import made, sync
from fedemb.models.exported import image_shape, load_model
from fedemb.models.interchange import ONNX, PT2, SAFETENSORS, TORCHSCRIPT, export

CONFIG_PATH = "pkg://fedemb.conf"
CONFIG = "export"

_FORMATS = {"safetensors": SAFETENSORS, "torchscript": TORCHSCRIPT, "pt2": PT2, "onnx": ONNX}


def run(cfg: DictConfig) -> None:
    """Load, write, read again, compare, print."""
    check_settings(cfg)
    if cfg.format not in _FORMATS:
        raise ValueError(f"format must be one of {', '.join(_FORMATS)}, got format={cfg.format}")
    source, out = path(cfg, "run"), path(cfg, "out")
    if out.is_dir():
        raise ValueError(f"out={out} is a folder: name a file in it")
    if out.exists() and cfg.overwrite is not True:
        raise ValueError(f"{out} is there already: take another out=, or overwrite=true")
    model = load_model(source)
    shape = _shape(cfg, source)
    draft = out.with_name(f".{os.getpid()}.{out.name}")  # the suffix says which format it is in
    try:
        with made(out.parent):
            try:
                gap = export(_FORMATS[cfg.format], model, shape, draft)
                sync(draft)
                draft.replace(out)
                sync(out.parent)
            finally:
                draft.unlink(missing_ok=True)
    except OSError as error:
        raise ValueError(f"cannot write {out}: {error.strerror or error}; take another out=") from error
    images = " x ".join(map(str, shape))
    print(f"{out}: {cfg.format}, images of {images}; read again, it differs from the model by at most {gap:.0e}")


def _shape(cfg: DictConfig, source: Path) -> tuple[int, int, int]:
    """images=, or those that the model was trained on."""
    found = image_shape(source) if cfg.images is None else list(cfg.images)
    if found is None:
        raise ValueError(f"{source} does not say which images it was trained on: pass images=[channels,height,width]")
    if len(found) != 3 or not all(type(side) is int and side >= 1 for side in found):
        raise ValueError(f"images must be three whole numbers [channels,height,width], got images={found}")
    return (found[0], found[1], found[2])
