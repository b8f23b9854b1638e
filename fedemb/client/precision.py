"""In which numbers a local step computes its loss and gradient. Parameters and updates keep theirs.

The clip and the sensitivity do not depend on it. An update is the difference of full-precision parameters, whatever the
gradients were rounded to that moved them; its norm is taken of that very difference, in float64; and what is clipped
has norm at most C for every input. So one user's data move the sum by at most what `Query.sensitivity` says: that holds
whatever function of the data an update is, and the same one with other rounding is such a function.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from fedemb.core.types import Batch, Params
from fedemb.tasks.task import Task


class Precision(ABC):
    """How a task's loss is computed."""

    @abstractmethod
    def loss(self, task: Task, params: Params, batch: Batch) -> Tensor:
        """task.loss(params, batch) []; its gradient has the dtypes of the parameters."""


@dataclass(frozen=True, kw_only=True)
class Full(Precision):
    """In the numbers of the parameters."""

    def loss(self, task: Task, params: Params, batch: Batch) -> Tensor:
        """As it is."""
        return task.loss(params, batch)


@dataclass(frozen=True, kw_only=True)
class Bfloat16(Precision):
    """Matrix products and convolutions of numbers with 8 significant bits, added up in float32.

    The rest is as PyTorch's autocast has it: losses and statistics of norms in float32. Parameters stay in float32,
    and so do the gradients that reach them, the optimizer's memory and the update: a small step is not lost in rounding
    (Micikevicius et al. 2018, "master copy of weights", arXiv:1710.03740).
    """

    def loss(self, task: Task, params: Params, batch: Batch) -> Tensor:
        """Float32."""
        # Without the cache of casts: it would outlive a trace.
        with torch.autocast(batch["mask"].device.type, dtype=torch.bfloat16, cache_enabled=False):
            return task.loss(params, batch).float()
