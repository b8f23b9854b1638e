"""What every task asks of the backbone that it trains. Shapes: Ch x H x W pixels, D embedding width."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from fedemb.core.types import Params
from fedemb.models.functional import refuse_buffers

HEAD = "head."
"""What the names of a head's parameters start with."""


def check_backbone(backbone: nn.Module, trained: Sequence[str], frozen: Sequence[str]) -> None:
    """Raise ValueError in one line for a backbone that has buffers, names like a head's, or nothing (left) to train."""
    refuse_buffers(backbone)
    names = [name for name, _ in backbone.named_parameters()]
    if not names:
        raise ValueError(f"{type(backbone).__name__} has no parameter: there is nothing to train; take another model=")
    if clash := [name for name in names if name.startswith(HEAD)]:
        raise ValueError(
            f"the backbone's parameter '{clash[0]}' would be taken for the head's, which start with "
            f"'{HEAD}'; rename the layer 'head' of {type(backbone).__name__}, or remove it"
        )
    for setting, patterns in (("trained", trained), ("frozen", frozen)):
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ValueError(
                    f"{setting} pattern '{pattern}' matches no parameter; the backbone has {', '.join(names)}"
                )
    if not any(is_trained(name, trained, frozen) for name in names):
        only = "" if list(trained) == ["*"] else f" of trained={list(trained)}"
        raise ValueError(f"frozen={list(frozen)} freezes every parameter{only}: nothing is left to train")


def is_trained(name: str, trained: Sequence[str], frozen: Sequence[str]) -> bool:
    """Does the name match one of the trained patterns (* and ?), and none of the frozen ones?"""
    return any(fnmatchcase(name, pattern) for pattern in trained) and not any(
        fnmatchcase(name, pattern) for pattern in frozen
    )


def backbone_params(backbone: nn.Module, params: Params) -> Params:
    """The backbone's own out of a task's global parameters: a head that is among them is left behind."""
    return {name: params[name] for name, _ in backbone.named_parameters()}


def check_images(backbone: nn.Module, embedding_width: int, shape: Sequence[int]) -> None:
    """Try the backbone on one black image.

    shape: (Ch, H, W) of the data's images.
    Raises: ValueError in one line if the backbone does not take them or does not give `embedding_width` numbers.
    """
    model, image = type(backbone).__name__, " x ".join(map(str, shape))
    with torch.no_grad(), torch.random.fork_rng(devices=[]):  # dropout draws
        try:
            embedding = backbone(torch.zeros(1, *shape))
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
            raise ValueError(
                f"{model} does not take images of {image}: {' '.join(str(error).split())}; give the model the "
                "data's channels and size (LeNet: model.channels, model.size) or prepare images that fit it"
            ) from error
    found = list(embedding.shape) if isinstance(embedding, Tensor) else type(embedding).__name__
    if found != [1, embedding_width]:
        raise ValueError(
            f"{model} turns one image of {image} into {found} and embedding_width={embedding_width} needs "
            f"[1, {embedding_width}]; set embedding_width= to the model's width or change its last layer"
        )
