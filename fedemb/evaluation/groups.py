"""A metric in each group of users, in the worst group, and the gap to the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from fedemb.core.types import UserId
from fedemb.data.formats.tables import open_table, read_rows
from fedemb.evaluation.embedded import Embedded, Measure, Metrics


class Grouping(Protocol):
    """Which group a user is in."""

    def groups(self, names: Mapping[UserId, str]) -> dict[UserId, str]:
        """User -> group, of the users that are in one. names: what the data set calls them."""


@dataclass(frozen=True, kw_only=True)
class NamePrefix:
    """What stands before the first separator of a user's name, e.g. the alphabet of Greek/character05."""

    separator: str

    def __post_init__(self) -> None:
        if not self.separator:
            raise ValueError("separator must be a text, e.g. separator=/, got an empty one")

    def groups(self, names: Mapping[UserId, str]) -> dict[UserId, str]:
        """Names without the separator are in no group."""
        return {user: name.split(self.separator)[0] for user, name in names.items() if self.separator in name}


@dataclass(frozen=True, kw_only=True)
class GroupTable:
    """A CSV file with the columns user and group, e.g. of age; users that it leaves out are in no group."""

    path: str

    def groups(self, names: Mapping[UserId, str]) -> dict[UserId, str]:
        """Raises: ValueError in one line if the file is broken or names a user that the data set does not have."""
        table = open_table(Path(self.path).parent, Path(self.path).name)
        users = {name: user for user, name in names.items()}
        found: dict[UserId, str] = {}
        for line, (name, group) in read_rows(table, ("user", "group")):
            if name not in users:
                raise ValueError(f"{table.where}, line {line}: {name!r} is no test user: write it as the data set does")
            if users[name] in found:
                raise ValueError(f"{table.where}, line {line}: user {name!r} again: remove one of the lines")
            found[users[name]] = group
        return found


@dataclass(frozen=True, kw_only=True)
class PerGroup:
    """`<metric>[<group>]`, `<metric>[worst]` and `<metric>[gap]`, the best minus the worst.

    A group is measured as a test set of its own: its images are compared with one another only. Groups with nothing
    to measure are left out of worst and gap; without two groups nothing is reported.

    measure: what is measured; of its metrics those named in `of`, for all of which more is better.
    """

    measure: Measure
    of: Sequence[str]
    grouping: Grouping

    @property
    def test_users_only(self) -> bool:
        """As the measure."""
        return self.measure.test_users_only

    def metrics(self, test: Embedded) -> Metrics:
        """In the order of the groups' names. Raises: ValueError in one line if `of` names no metric of the measure."""
        grouped = self.grouping.groups(test.user_names())
        names = sorted(set(grouped.values()))
        if len(names) < 2:
            return {}
        found: dict[str, Metrics] = {}
        for name in names:
            users = torch.tensor([user for user, group in grouped.items() if group == name], device=test.owners.device)
            found[name] = self.measure.metrics(test.subset(torch.isin(test.owners, users)))
        return {key: value for metric in self.of for key, value in _spread(metric, found).items()}


def _spread(metric: str, found: Mapping[str, Metrics]) -> Metrics:
    """One metric's lines."""
    for own in found.values():
        if metric not in own:
            raise ValueError(f"of= names {metric}, which is not measured: take some of {', '.join(own)}")
    values = [value for own in found.values() if (value := own[metric]) is not None]
    return {
        **{f"{metric}[{name}]": own[metric] for name, own in found.items()},
        f"{metric}[worst]": min(values, default=None),
        f"{metric}[gap]": max(values) - min(values) if len(values) > 1 else None,
    }
