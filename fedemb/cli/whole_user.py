"""What rounds about single examples guarantee to a whole user, by group privacy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fedemb.data.users import ExampleAsUser, UserDataset
from fedemb.privacy.accounting import Events, PrivacySpend, counted, epsilon
from fedemb.privacy.persons import as_group
from fedemb.report.numbers import small, upper


def conversion(users: UserDataset, events: Events, delta: float) -> dict[str, Any]:
    """For report.json: nothing where users are users, else how many examples one is and the certified epsilon of them.

    examples_per_user: a public number, None where none was set; user_epsilon: inf where nothing is proven.
    """
    if not isinstance(users, ExampleAsUser):
        return {}
    most = users.examples_per_user
    user_epsilon = math.inf if most is None else epsilon(as_group(counted(events), most), delta)
    return {"examples_per_user": most, "user_epsilon": user_epsilon}


def words(found: Mapping[str, Any], spent: PrivacySpend) -> str:
    """What follows a claim about single examples; "" where there is none to convert."""
    if not found or math.isinf(spent.epsilon):
        return ""
    most, user_epsilon = found["examples_per_user"], found["user_epsilon"]
    if most is None:
        return " It says nothing about whole users: unit.examples_per_user would set how many examples one is."
    whole = f" For a whole user, who is up to {most} examples, group privacy "
    if math.isinf(user_epsilon):
        return whole + "proves no finite ε."
    return whole + f"gives ε ≤ {upper(user_epsilon)} at δ = {small(spent.delta)}."
