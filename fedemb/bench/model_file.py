"""A model by the file of its class: other interpreters train the very same module without fedemb. PyTorch only."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any


def model_of(settings: Mapping[str, Any]) -> Any:
    """An instance of the class `model_class` in `model_file`, which imports nothing but PyTorch."""
    spec = importlib.util.spec_from_file_location("model_of_the_workload", settings["model_file"])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, settings["model_class"])()
