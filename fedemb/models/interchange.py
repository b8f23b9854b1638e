"""A trained model as one file for other programs: uint8 images [n, Ch, H, W] in, unit vectors [n, D] out, any n.

All that is between, scaling of pixels and length of the vectors included, is in the file.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TypeAlias

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from fedemb.core.files import as_os_error
from fedemb.models.exported import EmbeddingModel, on_cpu
from fedemb.models.optional import library

Embed: TypeAlias = Callable[[Tensor], Tensor]
"""uint8 [n, Ch, H, W] -> [n, D]."""

TOLERANCE = 1e-5  # of an entry of a unit vector, between the file and the model


@dataclass(frozen=True, kw_only=True)
class Format:
    """write: (model, images [2, Ch, H, W], file). read: (model, file) -> what the file computes.

    Both raise ValueError in one line where a library is missing.
    """

    write: Callable[[EmbeddingModel, Tensor, Path], None]
    read: Callable[[EmbeddingModel, Path], Embed]


def export(form: Format, model: EmbeddingModel, shape: tuple[int, int, int], file: Path) -> float:
    """Write the file and read it again; the largest difference of an entry, over batches of one and of three images.

    shape: Ch, H, W of the images.
    Raises: ValueError in one line if it cannot be written, or the difference is above TOLERANCE.
    """
    model = copy.deepcopy(model).cpu().eval()
    stream = torch.Generator().manual_seed(0)
    images = torch.randint(256, (3, *shape), generator=stream, dtype=torch.uint8)
    with torch.no_grad():
        _sure(lambda: form.write(model, images[:2], file), "the model cannot be written in this format")
        found = _sure(lambda: form.read(model, file), "the file cannot be read again")
        gaps = [float((found(images[:n]) - model(images[:n])).abs().max()) for n in (1, 3)]
    if not max(gaps) <= TOLERANCE:
        raise ValueError(f"the exported model differs from the trained one by {max(gaps):.1e}: take another format")
    return max(gaps)


def _sure(act: Callable[[], Embed | None], what: str) -> Embed:
    """Its result; whatever the exporters say, and they say a lot, as one line."""
    try:
        with _quiet():
            return act()  # type: ignore[return-value]
    except (ValueError, OSError):
        raise
    except Exception as error:
        told = str(error).strip().splitlines() or [""]
        raise ValueError(f"{what}: {type(error).__name__}: {told[0][:200]}; take another format") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """torch.jit is deprecated, and the ONNX exporter warns of itself and of libraries that are not there."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _write_safetensors(model: EmbeddingModel, images: Tensor, file: Path) -> None:
    with as_os_error(file):
        save_file(on_cpu(dict(model.backbone.named_parameters())), file)


def _read_safetensors(model: EmbeddingModel, file: Path) -> Embed:
    again = copy.deepcopy(model)
    again.backbone.load_state_dict(load_file(file), strict=False)
    return again


def _write_torchscript(model: EmbeddingModel, images: Tensor, file: Path) -> None:
    torch.jit.trace(model, (images,)).save(str(file))  # type: ignore[no-untyped-call]


def _read_torchscript(model: EmbeddingModel, file: Path) -> Embed:
    loaded: Embed = torch.jit.load(str(file))  # type: ignore[no-untyped-call]
    return loaded


def _write_pt2(model: EmbeddingModel, images: Tensor, file: Path) -> None:
    program = torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    packed = BytesIO()  # on a full disk PyTorch's own writer ends the process
    torch.export.save(program, packed)
    file.write_bytes(packed.getbuffer())


def _read_pt2(model: EmbeddingModel, file: Path) -> Embed:
    return torch.export.load(file).module()


def _write_onnx(model: EmbeddingModel, images: Tensor, file: Path) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        library(name, extra="onnx")
    program = torch.onnx.export(
        model,
        (images,),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
        input_names=["images"],
        output_names=["embeddings"],
        verbose=False,
    )
    assert program is not None  # for dynamo=True
    program.save(str(file))


def _read_onnx(model: EmbeddingModel, file: Path) -> Embed:
    session = library("onnxruntime", extra="onnx").InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


SAFETENSORS = Format(write=_write_safetensors, read=_read_safetensors)
"""The backbone's weights alone."""
TORCHSCRIPT = Format(write=_write_torchscript, read=_read_torchscript)
"""For torch.jit.load, in C++ too; PyTorch recommends PT2 instead from 2.9 on."""
PT2 = Format(write=_write_pt2, read=_read_pt2)
"""For torch.export.load and AOTInductor."""
ONNX = Format(write=_write_onnx, read=_read_onnx)
"""For ONNX Runtime and others: input "images", output "embeddings"."""
