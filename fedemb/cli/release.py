"""What mode=release asks of a configuration, beside secret randomness."""

from __future__ import annotations

from omegaconf import DictConfig

from fedemb.data.files import folder_users, table_users

_MEASURING = {f"{make.__module__}.{make.__qualname__}" for make in (folder_users, table_users)}


def check_size_is_given(users: DictConfig) -> None:
    """Raise ValueError if the image size would be that of a user's image: messages and the run's record tell it."""
    if users.get("_target_") in _MEASURING and users.get("size") is None:
        raise ValueError(
            "mode=release does not take the image size from a user's image, as the run's record tells it: say which "
            "size to read images in, e.g. users.size=[224,224]"
        )
