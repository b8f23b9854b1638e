"""Any vision model of Hugging Face transformers as a backbone. Shapes: B images, Ch x H x W pixels, D width."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fedemb.core import check
from fedemb.core.types import Params
from fedemb.models.optional import library
from fedemb.models.published import pooled

_BODY = "body."
_SIZE = 64  # of the image that the width is found with, where the configuration names none


class TransformersModel(nn.Module):
    """The model's pooled output and a linear layer: [B, Ch, H, W] -> [B, D]. No dropout, also when it trains.

    name: a folder that save_pretrained wrote, or a name on the Hugging Face Hub; None: `config` says it all.
    config: replaces values of the model's own configuration, e.g. {image_size: 28, num_channels: 1}; without a name the
        whole of it, with model_type, e.g. {model_type: vit, hidden_size: 192}.
    local_files_only: False to download what is not there yet.
    The constructor reads the configuration alone; `published` reads the weights. No code from elsewhere is run.
    """

    def __init__(
        self,
        *,
        embedding_width: int,
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        local_files_only: bool = True,
    ) -> None:
        """Raises ValueError in one line for an unknown model or key, and for what takes no images."""
        super().__init__()
        check.at_least("embedding_width", embedding_width, 1)
        transformers = library("transformers", extra="transformers")
        self._name, self._local_files_only = name, local_files_only
        where = "model.config" if name is None else f"model.name={name}"
        with _one_line(where):
            configuration = _configuration(transformers, name, dict(config or {}), local_files_only)
            self.body = transformers.AutoModel.from_config(
                configuration, attn_implementation="eager", trust_remote_code=False
            )
        if (takes := self.body.main_input_name) != "pixel_values":
            raise ValueError(f"{where}: {type(self.body).__name__} takes {takes}, not images")
        self.body.eval()
        self.embedding = nn.Linear(self._width(), embedding_width)

    def train(self, mode: bool = True) -> TransformersModel:
        """The body stays as it is for inference: dropout would draw random numbers in a local step."""
        super().train(mode)
        self.body.eval()
        return self

    def reset_parameters(self) -> None:
        """The library's own initialiser has the last word."""
        for part in self.body.modules():
            part._is_hf_initialized = False
        self.body.init_weights()

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings, not normalised."""
        return self.embedding(self._features(images))  # type: ignore[no-any-return]

    def settings(self) -> Mapping[str, Any]:
        """The whole configuration in place of the name."""
        return {"name": None, "config": self.body.config.to_diff_dict() | {"model_type": self.body.config.model_type}}

    def published(self) -> Params:
        """All of the body's that the file holds; heads of other tasks are left behind."""
        if self._name is None:
            raise ValueError("the model has no published weights without a name: set model.name, or take init=random")
        transformers = library("transformers", extra="transformers")
        with _one_line(f"weights of model.name={self._name}"), _quiet(transformers), torch.random.fork_rng(devices=[]):
            body, found = transformers.AutoModel.from_pretrained(
                self._name,
                config=self.body.config,
                attn_implementation="eager",
                local_files_only=self._local_files_only,
                trust_remote_code=False,
                use_safetensors=True,  # no pickle
                output_loading_info=True,
                dtype=torch.float32,
            )
        missing = set(found["missing_keys"])
        return {_BODY + name: value.detach() for name, value in body.named_parameters() if name not in missing}

    def _features(self, images: Tensor) -> Tensor:
        """[B, C], as the model pools, or the mean of what it gives."""
        answer = self.body(pixel_values=images, return_dict=True)
        found = answer.get("pooler_output")
        return pooled(answer.last_hidden_state if found is None else found)

    def _width(self) -> int:
        """C."""
        configuration = self.body.config
        size = getattr(configuration, "image_size", None) or _SIZE
        height, width = size if isinstance(size, list | tuple) else (size, size)
        with torch.no_grad():
            return self._features(torch.zeros(1, getattr(configuration, "num_channels", 3), height, width)).shape[1]


def _configuration(transformers: Any, name: str | None, changes: dict[str, Any], local_files_only: bool) -> Any:
    """The library's configuration of the image part of a model."""
    if name is None:
        if "model_type" not in changes:
            raise ValueError("set model.name, or model.config={model_type: ..., ...} for a new model")
        return transformers.AutoConfig.for_model(**changes)
    found = transformers.AutoConfig.from_pretrained(name, local_files_only=local_files_only, trust_remote_code=False)
    found = getattr(found, "vision_config", found)  # of a model of images and texts
    if unknown := [key for key in changes if not hasattr(found, key)]:
        raise ValueError(f"model.config.{unknown[0]} is no key of {type(found).__name__}")
    return type(found).from_dict({**found.to_dict(), **changes})


@contextmanager
def _one_line(what: str) -> Iterator[None]:
    """Whatever the library says of a file, a key or the network, as a ValueError."""
    try:
        yield
    except Exception as error:  # an index, a division: a wrong configuration ends in errors of all types
        raise ValueError(f"{what}: {' '.join(str(error).split()) or type(error).__name__}") from error


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """No bars and no list of the heads that are left behind."""
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
