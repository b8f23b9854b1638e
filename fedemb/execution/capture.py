"""A function of one client as a list of kernel calls for c of them: no autograd, no vmap and no modules at run time.

The list is taken once from shapes alone and run, in whatever way, whenever they return.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor
from torch.func import functionalize
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from fedemb.core.types import Params
from fedemb.execution.client_axis import OverClients, PerClient
from fedemb.execution.launch import Kernels, Launch
from fedemb.execution.layouts import empty_alike
from fedemb.execution.pools import pool_before_relu
from fedemb.execution.simplify import simplified

Result = TypeVar("Result")

OneClient: TypeAlias = Callable[..., Any]
"""(shared parameters, what a client has of its own, ...) -> its result: trees of tensors. Pure."""

_MOST = 32  # lists of kernel calls that are kept
_NOT_TOGETHER = ("value out of a tracing tensor", "dynamic shape", "batching rule", "data-dependent control flow")


def over_clients(one: OneClient, shared: Params, *own: Any, launch: Launch, spent: int = 0) -> Kernels:
    """`one` for c clients at once: the tensors of all arguments one by one, those of clients with an axis [c], to those
    of the results [c, ...]. For inputs with the shapes and strides of these; results are contiguous.

    own: with the axis [c]. Their values do not matter: they are taken as zeros, and control flow that depends on
        values is an error, as under vmap.
    launch: how the kernels are run.
    spent: of `own`, so many from the first on have memory that the call may write over: what goes in is lost, and
        what comes out shares no memory with anything else that goes in.
    Raises: ValueError in one line for what cannot be done for several clients at once.
    """
    leaves, spec = tree_flatten((shared, *own))
    common = len(shared)
    leaves = [*leaves[:common], *(empty_alike(leaf).zero_() for leaf in leaves[common:])]
    clients = len(leaves[-1])

    def flat(*leaves: Tensor) -> list[Tensor]:
        return tree_leaves(one(*tree_unflatten(list(leaves), spec)))

    with _one_line():
        graph = make_fx(functionalize(flat))(*leaves[:common], *(leaf[0].contiguous() for leaf in leaves[common:]))
        pool_before_relu(graph.graph)
        graph.recompile()

    def batched(*leaves: Tensor) -> list[Tensor]:
        found = OverClients(graph, clients).run(*leaves[:common], *map(PerClient, leaves[common:]))
        return [_own(value, clients).contiguous() for value in found]

    with torch.no_grad(), _one_line():
        written = range(common, common + len(tree_leaves(own[:spent])))
        return launch.ready(simplified(make_fx(batched)(*leaves), leaves, written), leaves, written)


@contextmanager
def _one_line() -> Iterator[None]:
    """What PyTorch says of code that needs values, or that it has no rule for, as a ValueError."""
    try:
        yield
    except RuntimeError as error:
        if not any(words in str(error) for words in _NOT_TOGETHER):
            raise
        raise ValueError(
            f"a local step does what cannot be done for several clients at once ({str(error).splitlines()[0]}): take "
            "executor=sequential, or write it without control flow and shapes that depend on values"
        ) from error


class Captured:
    """What follows from shapes and is dear to find out, kept from round to round."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, Any] = {}

    def __reduce__(self) -> tuple[type[Captured], tuple[()]]:
        """Another process captures anew."""
        return Captured, ()

    def forget(self) -> None:
        """All of it, and the memory that lists of kernel calls may hold."""
        self._kept.clear()

    def get(
        self, what: str, about: object, names: Hashable, inputs: Sequence[Tensor], make: Callable[[], Result]
    ) -> Result:
        """make(), or what it gave before for the same purpose, object, names of the inputs, shapes and strides.

        about: what `make` depends on beside its inputs, compared by identity.
        """
        layouts = tuple((value.shape, value.stride(), value.dtype, value.device) for value in inputs)
        key = (what, id(about), names, layouts)
        if key not in self._kept:
            if len(self._kept) == _MOST:
                self.forget()  # all at once: recordings work in one memory, and one cannot leave it alone
            self._kept[key] = about, make()  # `about` lives as long as its id is a key
        found: Result = self._kept[key][1]
        return found


def _own(value: PerClient | Tensor, clients: int) -> Tensor:
    """[c, ...], also of a value that is the same for all."""
    return value.value if isinstance(value, PerClient) else value.expand(clients, *value.shape)
