"""The records that flow through a round.

Shapes: B images in a batch, S local steps, m virtual clients.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

Params = dict[str, Tensor]
"""name -> tensor: a plain state dict."""

Batch = dict[str, Tensor]
"""name -> tensor [B, ...]; "mask" [B] is 1 for a real example and 0 for padding."""

UserId = int
"""Position of a user in its data set, 0 .. num_users - 1."""


@dataclass(frozen=True, kw_only=True)
class VirtualClient:
    """Users that train together in one round and send one update.

    seed: entropy for this client's local randomness (shuffles, fresh head); independent of all data.
    users: may repeat no user; may include users without data.
    """

    round: int
    seed: int
    users: tuple[UserId, ...]


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """The virtual clients of one round; no user is in two of them."""

    round: int
    clients: tuple[VirtualClient, ...]


@dataclass(frozen=True, kw_only=True)
class Diagnostics:
    """Exact values of private data: never a metric, never in a report. Shapes [m], in cohort order.

    norms: l2 norm of each update before clipping (nan or inf where it was not finite).
    losses: mean local loss of each virtual client over its real examples (nan where it had none).
    examples: number of real examples that each virtual client trained on.
    """

    norms: Tensor
    losses: Tensor
    examples: Tensor
