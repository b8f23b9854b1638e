"""Modules as functions of their parameters."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from fedemb.core.rng import generator
from fedemb.core.types import Params

RUNNING_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""What a BatchNorm calls its buffers."""


def refuse_buffers(module: nn.Module) -> None:
    """Raise ValueError, naming the layer, if a module keeps state besides its parameters.

    Running statistics would carry private data past the clip: they are no part of the update whose norm is bounded.
    Tables of whole numbers and what is left out of a state dict (positions, frequencies) are constants: `call` gives
    the module a copy each time, so that nothing written there outlives the call.
    """
    for name, layer in module.named_modules():
        for buffer, value in layer.named_buffers(recurse=False):
            if _is_constant(layer, buffer, value):
                continue
            mend = "use GroupNorm instead (normalisation=group)" if buffer in RUNNING_STATISTICS else "remove it"
            raise ValueError(
                f"model {type(module).__name__}: layer '{name}' ({type(layer).__name__}) keeps the buffer '{buffer}', "
                f"which would bypass the clip; {mend}"
            )


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let a module's constructor draw from the run's seed: `with seeded(seed): backbone = Backbone(...)`.

    For the parameters that `fresh_params` cannot draw again; it has a stream of its own, so that no draw comes twice.
    """
    with _torch_drawing_from(generator(seed, "constructor")):
        yield


def fresh_params(module: nn.Module, seed: int) -> Params:
    """New parameters from each layer's own initialiser; the module itself is left alone.

    A parameter that no layer's reset_parameters() or _reset_parameters() covers keeps the value that the constructor
    gave it: make the module within `seeded`.
    """
    clone = copy.deepcopy(module).cpu()
    with _torch_drawing_from(generator(seed, "model")):
        for layer in reversed(list(clone.modules())):  # children first: a parent's rule has the last word
            reset = getattr(layer, "reset_parameters", getattr(layer, "_reset_parameters", None))
            if callable(reset):
                reset()
    return {name: value.detach().clone() for name, value in clone.named_parameters()}


def bring_constants(module: nn.Module, device: torch.device) -> None:
    """Move a module's buffers to the device, once: `call` copies them each time, and from another device that waits."""
    for layer in module.modules():
        for name, value in layer.named_buffers(recurse=False):
            layer._buffers[name] = value.to(device)


def call(module: nn.Module, params: Params, images: Tensor) -> Tensor:
    """module(images) with the given parameters in place of its own, and copies of its buffers."""
    constants = {name: value.to(images.device, copy=True) for name, value in module.named_buffers()}
    return torch.func.functional_call(module, {**params, **constants}, (images,), strict=True)  # type: ignore[no-any-return]


@contextmanager
def _torch_drawing_from(stream: np.random.Generator) -> Iterator[None]:
    """PyTorch's CPU generator seeded by a draw of the stream, and given back as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(stream.integers(2**32)))  # torch.manual_seed would reseed the GPUs
        yield


def _is_constant(layer: nn.Module, buffer: str, value: Tensor) -> bool:
    """A table of whole numbers, or what no state dict holds as the constructor makes it anew; no running statistics."""
    made_anew = buffer in layer._non_persistent_buffers_set
    return buffer not in RUNNING_STATISTICS and (made_anew or not value.is_floating_point())
