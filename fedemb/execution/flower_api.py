"""All that fedemb takes from Flower, in one place: another version of Flower fails here, in one line."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

FITTING = "flwr>=1.22,<2"
"""The versions whose Message API fedemb is written for."""


def _installed() -> str:
    """Which version of Flower is there, in words."""
    try:
        return f"flwr {version('flwr')} is installed"
    except PackageNotFoundError:
        return "flwr is not installed"


try:
    from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid, ServerApp
    from flwr.serverapp.strategy import Strategy
except ImportError as error:
    raise ValueError(f"{_installed()}, which does not fit: run pip install '{FITTING}'") from error

__all__ = [
    "ArrayRecord",
    "ClientApp",
    "ConfigRecord",
    "Context",
    "Grid",
    "Message",
    "MessageType",
    "MetricRecord",
    "RecordDict",
    "ServerApp",
    "Strategy",
]
