"""Our pure optimizers against torch.optim on the same stream of gradients."""

import pytest
import torch
from torch.func import vmap

from fedemb.core.optim import SGD, Adam

START = {"a": torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64), "b": torch.tensor(0.5, dtype=torch.float64)}


def gradients(steps):
    stream = torch.Generator().manual_seed(0)
    return [
        {name: torch.randn(value.shape, generator=stream, dtype=torch.float64) for name, value in START.items()}
        for _ in range(steps)
    ]


def ours(optimizer, rate, steps):
    params, slots = START, optimizer.init(START)
    for gradient in gradients(steps):
        direction, slots = optimizer.direction(gradient, slots)
        params = {name: value - rate * direction[name] for name, value in params.items()}
    return params


def torchs(make, steps):
    params = {name: value.clone().requires_grad_() for name, value in START.items()}
    optimizer = make(list(params.values()))
    for gradient in gradients(steps):
        for name, value in params.items():
            value.grad = gradient[name].clone()
        optimizer.step()
    return {name: value.detach() for name, value in params.items()}


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_sgd_equals_torch(momentum, steps):
    wanted = torchs(lambda p: torch.optim.SGD(p, lr=0.1, momentum=momentum), steps)
    torch.testing.assert_close(ours(SGD(momentum=momentum), 0.1, steps), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize(("beta1", "beta2", "epsilon"), [(0.9, 0.99, 1e-8), (0.5, 0.999, 0.1), (0.0, 0.9, 1e-3)])
def test_adam_equals_torch(beta1, beta2, epsilon, steps):
    wanted = torchs(lambda p: torch.optim.Adam(p, lr=0.1, betas=(beta1, beta2), eps=epsilon), steps)
    found = ours(Adam(beta1=beta1, beta2=beta2, epsilon=epsilon), 0.1, steps)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)  # our step counter is float32


def test_defaults_are_the_papers():
    """Client Adam with beta2 = 0.99."""
    assert (Adam().beta1, Adam().beta2) == (0.9, 0.99)


@pytest.mark.parametrize("optimizer", [SGD(), SGD(momentum=0.9), Adam()])
def test_direction_is_pure(optimizer):
    slots = optimizer.init(START)
    [gradient] = gradients(1)
    first, _ = optimizer.direction(gradient, slots)
    second, _ = optimizer.direction(gradient, slots)
    assert all(torch.equal(first[name], second[name]) for name in START)
    assert not any(value.any() for slot in slots.values() for value in slot.values())


@pytest.mark.parametrize("optimizer", [SGD(momentum=0.9), Adam()])
def test_works_under_vmap(optimizer):
    """Three clients with gradients g, 2 g, 3 g: each as if alone."""
    [gradient] = gradients(1)
    factors = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    many = {name: torch.stack([f * value for f in factors]) for name, value in gradient.items()}
    slots = {
        slot: {name: torch.stack([v] * 3) for name, v in value.items()} for slot, value in optimizer.init(START).items()
    }
    direction, _ = vmap(optimizer.direction)(many, slots)
    for position, factor in enumerate(factors):
        alone, _ = optimizer.direction({n: factor * v for n, v in gradient.items()}, optimizer.init(START))
        torch.testing.assert_close({n: v[position] for n, v in direction.items()}, alone)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: SGD(momentum=1.0), "momentum"),
        (lambda: SGD(momentum=-0.1), "momentum"),
        (lambda: Adam(beta1=1.0), "beta1"),
        (lambda: Adam(beta2=float("nan")), "beta2"),
        (lambda: Adam(epsilon=0.0), "epsilon"),
    ],
)
def test_bad_numbers_are_named(make, name):
    with pytest.raises(ValueError, match=name):
        make()
