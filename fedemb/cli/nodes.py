"""What the nodes of a Flower app need of a configuration: overrides of `fedemb train` in, work and data out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from hydra import compose, initialize_config_module
from omegaconf import DictConfig

from fedemb.cli.build import build, users_of
from fedemb.data.users import digest_of
from fedemb.execution.flower import Worker


def digest(overrides: Sequence[str]) -> str:
    """That of the users that these overrides of `fedemb train` name, as far as they tell."""
    return digest_of(users_of(_composed(tuple(overrides))))


@lru_cache(maxsize=1)
def worker(overrides: tuple[str, ...]) -> Worker:
    """Work and data of a node: executor= says how it works through its share.

    Raises: ValueError for a mistake in the overrides.
    """
    job = build(_composed(overrides))
    return Worker(work=job.work, load=job.load, within=job.executor, data=digest_of(job.users), device=job.device)


def _composed(overrides: tuple[str, ...]) -> DictConfig:
    with initialize_config_module("fedemb.conf", version_base="1.3"):
        return compose("train", list(overrides))
