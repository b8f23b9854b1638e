"""What mode=release asks of a configuration, beside secret randomness."""

from __future__ import annotations

from dataclasses import replace

from omegaconf import DictConfig

from fedemb.cli.sizes import following
from fedemb.data.files import folder_users, table_users
from fedemb.execution.distributed import Distributed
from fedemb.execution.executor import Executor
from fedemb.execution.vectorised import Vectorised

_MEASURING = {f"{make.__module__}.{make.__qualname__}" for make in (folder_users, table_users)}


def check_size_is_given(users: DictConfig) -> None:
    """Raise ValueError if the image size would be that of a user's image: messages and the run's record tell it."""
    if users.get("_target_") in _MEASURING and users.get("size") is None:
        raise ValueError(
            "mode=release does not take the image size from a user's image, as the run's record tells it: say which "
            "size to read images in, e.g. users.size=[224,224]"
        )


def released(executor: Executor) -> Executor:
    """The executor for a release: what it does must not follow the time or the memory that private data takes.

    Raises: ValueError in one line for an executor that cannot do without, or that leaves traces.
    """
    if executor.follows_the_clock:
        raise ValueError(
            "mode=release: this executor follows the time that private data takes; take executor=sequential or "
            "executor=vectorised"
        )
    if not executor.leaves_no_trace:
        raise ValueError(
            "mode=release: this executor may keep who was drawn and what they sent; take another executor="
        )
    return following(None, _in_chunks_of_one_size(executor))


def _in_chunks_of_one_size(executor: Executor) -> Executor:
    """The same without halving chunks that do not fit into memory."""
    if isinstance(executor, Distributed):
        return replace(executor, inner=_in_chunks_of_one_size(executor.inner))
    return replace(executor, halvings=0) if isinstance(executor, Vectorised) else executor
