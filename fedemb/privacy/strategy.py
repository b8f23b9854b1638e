"""Noise that is correlated from round to round, so that it partly cancels in the sum over the rounds.

T rounds with the answers x (one a row) release x + C^-1 Z: all that is learnt from C x + Z, a Gaussian mechanism with
independent N(0, std^2) in Z. C is lower triangular, no column longer than 1.
Source: Denisov et al. 2022 (arXiv:2202.08312): the answers may depend on earlier releases.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from fedemb.core import check
from fedemb.core.params import scale, sub
from fedemb.core.types import Params
from fedemb.privacy.mechanism import NoiseState

Fresh: TypeAlias = Callable[[], Params]
"""Draws an independent N(0, 1) for every entry, in float64; new ones at each call."""


class Strategy(ABC):
    """A matrix C, one row at a time."""

    @property
    @abstractmethod
    def span(self) -> int:
        """An answer of round j enters the rows of the rounds j .. j + span - 1 at most."""

    @property
    @abstractmethod
    def shortest(self) -> float:
        """The norm of the shortest column, but for the last span - 1 rounds, whose columns are cut off."""

    @abstractmethod
    def init(self, like: Params) -> NoiseState:
        """The state before round 0."""

    @abstractmethod
    def noise(self, fresh: Fresh, state: NoiseState) -> tuple[Params, NoiseState]:
        """(this round's row of C^-1 Z for Z of std 1, the next state). Calls `fresh` once."""

    @abstractmethod
    def column(self, round: int, rounds: int) -> NDArray[np.float64]:
        """The column of C [rounds] that the answer of a round enters with."""


@dataclass(frozen=True, kw_only=True)
class Tree(Strategy):
    """Binary trees over `rounds_per_tree` rounds each, one after the other (tree aggregation with restarts).

    Row t of C adds up the rounds of the node that ends at t: of the l rounds up to t within its tree, l the largest
    power of 2 that divides t (t counted from 1). These are the left children and the root, all that a prefix sum ever
    needs; the noise of a prefix sum is that of the at most log2(t) + 1 nodes that make it up. A round is in at most
    L = floor(log2(rounds_per_tree)) + 1 nodes, so C is divided by sqrt(L).
    State: the noise of the nodes that make up the present prefix, and how long that is.
    Source: Dwork et al. 2010; Kairouz et al. 2021 (arXiv:2103.00039), without Honaker's averaging over nodes.
    """

    rounds_per_tree: int

    def __post_init__(self) -> None:
        check.at_least("rounds_per_tree", self.rounds_per_tree, 1)

    @property
    def span(self) -> int:
        """A tree."""
        return self.rounds_per_tree

    @property
    def levels(self) -> int:
        """L, the most nodes that a round is in."""
        return self.rounds_per_tree.bit_length()

    @property
    def shortest(self) -> float:
        """The last round of a tree of 2^n rounds is in one node."""
        return 1 / math.sqrt(self.levels)

    def init(self, like: Params) -> NoiseState:
        """An empty prefix."""
        return {"prefix": {"rounds": torch.zeros((), dtype=torch.int64)}}

    def noise(self, fresh: Fresh, state: NoiseState) -> tuple[Params, NoiseState]:
        """The noise of this prefix sum minus that of the one before: the new node minus the nodes that it replaces."""
        prefix = int(state["prefix"]["rounds"]) + 1
        node = scale(fresh(), math.sqrt(self.levels))
        noise, nodes = node, {name: slot for name, slot in state.items() if name != "prefix"}
        new = (prefix & -prefix).bit_length() - 1
        for level in range(new):
            noise = sub(noise, nodes.pop(f"level{level}"))
        nodes[f"level{new}"] = node
        over = prefix == self.rounds_per_tree
        length = torch.tensor(0 if over else prefix)
        return noise, {"prefix": {"rounds": length}, **({} if over else nodes)}

    def column(self, round: int, rounds: int) -> NDArray[np.float64]:
        """1 / sqrt(L) in the rows of the nodes that the round is in."""
        column = np.zeros(rounds)
        first = round - round % self.rounds_per_tree
        end = round - first + 1
        while end <= self.rounds_per_tree and first + end <= rounds:
            column[first + end - 1] = 1 / math.sqrt(self.levels)
            end += end & -end
        return column
