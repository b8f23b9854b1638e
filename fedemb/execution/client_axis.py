"""One client's computation, given as a graph, done for c clients at once in the layouts that kernels like.

Shapes: c clients, N images a client, C channels. A value of every client has shape [c, ...] and any strides.

torch.func.vmap does the same and lays out the inputs of a convolution anew each time. Here they are woven once,
[N, c C, H, W] with all clients' channels side by side, which a grouped convolution, a pool or a group norm takes as it
is and leaves for the next layer. What has no rule here goes to vmap, so that any graph can be run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import getitem
from typing import Any

import torch
from torch import Tensor, fx
from torch.func import vmap
from torch.fx.passes.shape_prop import TensorMetadata
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

aten = torch.ops.aten


@dataclass(frozen=True)
class PerClient:
    """A value [c, ...] of which every client has its own; other tensors are the same for all."""

    value: Tensor


class OverClients(fx.Interpreter):
    """Runs one client's graph of aten operators, without mutations, for c clients.

    Takes and returns `PerClient` wherever a value is not the same for all.
    """

    def __init__(self, graph: fx.GraphModule, clients: int) -> None:
        super().__init__(graph)
        self._clients = clients

    def run_node(self, n: fx.Node) -> Any:
        """In the dtype that one client's result has: vmap takes some operators apart, and mixed ones then widen."""
        found, one = super().run_node(n), n.meta.get("tensor_meta")
        if isinstance(found, PerClient) and isinstance(one, TensorMetadata) and found.value.dtype != one.dtype:
            return PerClient(found.value.to(one.dtype))
        return found

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The operator over all clients."""
        if torch.Tag.nondeterministic_seeded in getattr(target, "tags", ()):
            raise ValueError(f"a local step draws random numbers ({target}); draw them in begin or when loading")
        leaves, spec = tree_flatten((args, kwargs))
        if target is getitem or not any(isinstance(leaf, PerClient) for leaf in leaves):
            return super().call_function(target, args, kwargs)
        rule = _RULES.get(target)
        if rule is not None and not kwargs and rule.fits(args):
            return rule.run(self._clients, *args)
        return _mapped(target, leaves, spec)


def _mapped(target: Any, leaves: list[Any], spec: TreeSpec) -> Any:
    """vmap of the operator over the leaves that clients have of their own."""
    own = [place for place, leaf in enumerate(leaves) if isinstance(leaf, PerClient)]
    results: list[tuple[list[Any], TreeSpec]] = []

    def one(*values: Tensor) -> list[Tensor]:
        filled = list(leaves)
        for place, value in zip(own, values, strict=True):
            filled[place] = value
        args, kwargs = tree_unflatten(filled, spec)
        found, shape = tree_flatten(target(*args, **kwargs))
        results.append((found, shape))
        return [item for item in found if isinstance(item, Tensor)]

    tensors = iter(vmap(one)(*(leaves[place].value for place in own)))
    [(found, shape)] = results
    return tree_unflatten([PerClient(next(tensors)) if isinstance(item, Tensor) else item for item in found], shape)


def weave(own: PerClient) -> Tensor:
    """[c, N, C, ...] to [N, c C, ...], images with channels last where kernels like that; no copy if woven before."""
    value = own.value
    if value.dim() == 5 and _prefers_channels_last(value):
        return _channels_last(value.permute(1, 3, 4, 0, 2).contiguous().flatten(3).permute(0, 3, 1, 2))
    return value.movedim(0, 1).flatten(1, 2)


def unweave(woven: Tensor, clients: int) -> PerClient:
    """[N, c C, ...] to [c, N, C, ...], a view."""
    return PerClient(torch.unflatten(woven, 1, (clients, -1)).movedim(1, 0))


def _prefers_channels_last(value: Tensor) -> bool:
    """CPU kernels are fastest so, and a GPU's matrix units, which take 16 bits; its others, with groups, are not."""
    return value.device.type == "cpu" or value.dtype in (torch.bfloat16, torch.float16)


def _weights(own: PerClient) -> Tensor:
    """[c, O, C, h, w] to [c O, C, h, w], in memory as the images."""
    joined = own.value.flatten(0, 1)
    if not _prefers_channels_last(joined):
        return joined
    return _channels_last(joined.contiguous(memory_format=torch.channels_last))


def _channels_last(value: Tensor) -> Tensor:
    """[N, C, H, W] with the channels last in memory, said so by its strides: those of one channel could be either."""
    _, channels, height, width = value.shape
    return value.as_strided(value.shape, (height * width * channels, 1, width * channels, channels))


def _joined(own: PerClient | None) -> Tensor | None:
    """[c, O, ...] to [c O, ...]."""
    return None if own is None else own.value.flatten(0, 1)


def _parted(joined: Tensor | None, clients: int) -> PerClient | None:
    """[c O, ...] to [c, O, ...]."""
    return None if joined is None else PerClient(torch.unflatten(joined, 0, (clients, -1)))


@dataclass(frozen=True, kw_only=True)
class _Rule:
    """fits: do these arguments suit the rule? run: (c, the operator's arguments) -> its result."""

    fits: Callable[[tuple[Any, ...]], bool]
    run: Callable[..., Any]


def _are_own(*places: int, dims: int | None = None) -> Callable[[tuple[Any, ...]], bool]:
    """The arguments at these places are PerClient or None, the first of them with so many dimensions beside c."""

    def fits(args: tuple[Any, ...]) -> bool:
        present = [args[place] for place in places if args[place] is not None]
        own = all(isinstance(value, PerClient) for value in present)
        return own and (dims is None or present[0].value.dim() == dims + 1)

    return fits


def _convolution(clients: int, images: PerClient, weight: PerClient, bias: PerClient | None, *rest: Any) -> PerClient:
    *how, groups = rest
    weights = _weights(weight)
    return unweave(aten.convolution(weave(images), weights, _joined(bias), *how, groups * clients), clients)


def _convolution_backward(
    clients: int, gradient: PerClient, images: PerClient, weight: PerClient, bias_sizes: list[int] | None, *rest: Any
) -> tuple[PerClient | None, ...]:
    *how, groups, wanted = rest
    sizes = bias_sizes and [clients * size for size in bias_sizes]
    weights = _weights(weight)
    to_images, to_weight, to_bias = aten.convolution_backward(
        weave(gradient), weave(images), weights, sizes, *how, groups * clients, wanted
    )
    moved = None if to_images is None else unweave(to_images, clients)
    return moved, _parted(to_weight, clients), _parted(to_bias, clients)


def _for_norms(woven: Tensor) -> Tensor:
    """A GPU's group norm takes no channels last: its forward refuses them, and its backward computes nonsense."""
    return woven if woven.device.type == "cpu" else woven.contiguous()


def _group_norm(
    clients: int, images: PerClient, weight: PerClient | None, bias: PerClient | None, *sizes: Any
) -> tuple[PerClient, ...]:
    batch, channels, pixels, groups, epsilon = sizes
    sizes = batch, channels * clients, pixels, groups * clients
    found = aten.native_group_norm(_for_norms(weave(images)), _joined(weight), _joined(bias), *sizes, epsilon)
    return tuple(unweave(value, clients) for value in found)


def _group_norm_backward(
    clients: int,
    gradient: PerClient,
    images: PerClient,
    mean: PerClient,
    inverse_std: PerClient,
    weight: PerClient | None,
    *sizes: Any,
) -> tuple[PerClient | None, ...]:
    batch, channels, pixels, groups, wanted = sizes
    to_images, to_weight, to_bias = aten.native_group_norm_backward(
        *(_for_norms(weave(value)) for value in (gradient, images, mean, inverse_std)),
        _joined(weight),
        batch,
        channels * clients,
        pixels,
        groups * clients,
        wanted,
    )
    moved = None if to_images is None else unweave(to_images, clients)
    return moved, _parted(to_weight, clients), _parted(to_bias, clients)


def _plane_by_plane(operator: Any) -> Callable[..., Any]:
    """The rule of an operator that treats every channel of every image by itself."""

    def run(clients: int, *args: Any) -> Any:
        found = operator(*(weave(value) if isinstance(value, PerClient) else value for value in args))
        if isinstance(found, Tensor):
            return unweave(found, clients)
        return tuple(unweave(value, clients) for value in found)

    return run


def _linear(clients: int, bias: PerClient, left: PerClient, right: PerClient) -> PerClient:
    """bias + left right; a product with few rows is taken as that with few columns, which kernels do up to twice as
    fast."""
    biases_c1n, rows, columns = bias.value.unsqueeze(1), left.value.shape[1], right.value.shape[2]
    if rows >= columns:
        return PerClient(torch.baddbmm(biases_c1n, left.value, right.value))
    turned_cnm = torch.baddbmm(biases_c1n.mT, right.value.mT, left.value.mT)
    return PerClient(turned_cnm.mT)


def _view(clients: int, own: PerClient, shape: list[int]) -> PerClient:
    """A copy where one client's view is none here."""
    return PerClient(own.value.reshape(clients, *shape))


_RULES: dict[Any, _Rule] = {
    aten.convolution.default: _Rule(fits=_are_own(0, 1, 2, dims=4), run=_convolution),
    aten.convolution_backward.default: _Rule(fits=_are_own(0, 1, 2, dims=4), run=_convolution_backward),
    aten.native_group_norm.default: _Rule(fits=_are_own(0, 1, 2), run=_group_norm),
    aten.native_group_norm_backward.default: _Rule(fits=_are_own(0, 1, 2, 3, 4), run=_group_norm_backward),
    aten.addmm.default: _Rule(fits=lambda args: _are_own(0, 1, 2)(args) and args[0].value.dim() == 2, run=_linear),
    aten.view.default: _Rule(fits=_are_own(0), run=_view),
    aten._unsafe_view.default: _Rule(fits=_are_own(0), run=_view),
    **{
        operator: _Rule(fits=_are_own(*places, dims=4), run=_plane_by_plane(operator))
        for operator, places in {
            aten.max_pool2d_with_indices.default: (0,),
            aten.max_pool2d_with_indices_backward.default: (0, 1, 7),
            aten.avg_pool2d.default: (0,),
            aten.avg_pool2d_backward.default: (0, 1),
        }.items()
    },
}
