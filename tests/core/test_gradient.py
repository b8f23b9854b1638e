"""The gradient by hand, the same with and without transforms, and without PyTorch's compiler in eager code."""

import subprocess
import sys

import pytest
import torch
from torch.func import vmap

from fedemb.core.gradient import gradient_and_value

PARAMS = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor(3.0), "unused": torch.tensor([5.0])}


def function(x):
    return lambda p: (x * p["a"] ** 2).sum() * p["b"]


def test_by_hand():
    """d (x a^2 b) = (2 x a b, x a^2)."""
    gradient, value = gradient_and_value(function(torch.tensor([1.0, 10.0])), PARAMS)
    assert {name: part.tolist() for name, part in gradient.items()} == {"a": [6, 120], "b": 41, "unused": [0]}
    assert float(value) == 123
    assert not any(part.requires_grad for part in [value, *gradient.values(), *PARAMS.values()])


def test_many_at_once_are_the_same():
    """Parameters in common or of each: neither needs to be what vmap goes over."""
    xs = torch.tensor([[1.0, 10.0], [2.0, 0.5]])
    gradients, values = vmap(lambda x: gradient_and_value(function(x), PARAMS))(xs)
    for slot, x in enumerate(xs):
        gradient, value = gradient_and_value(function(x), PARAMS)
        assert {name: part[slot].tolist() for name, part in gradients.items()} == {
            name: part.tolist() for name, part in gradient.items()
        }
        assert values[slot] == value


@torch.no_grad()
def test_a_constant_has_the_gradient_zero():
    gradient, value = gradient_and_value(lambda p: torch.tensor(7.0), PARAMS)
    assert {name: part.tolist() for name, part in gradient.items()} == {"a": [0, 0], "b": 0, "unused": [0]}
    assert float(value) == 7
    assert gradient_and_value(function(torch.ones(2)), PARAMS)[0]["b"] == 5  # grad mode is its own


@pytest.mark.parametrize("module", ["torch._dynamo", "sympy"])
def test_a_sequential_round_needs_no_compiler(module):
    """Their import takes longer than a small run."""
    script = f"""
import sys, torch
from fedemb.core.gradient import gradient_and_value
gradient_and_value(lambda p: p["a"].sum(), {{"a": torch.ones(2)}})
sys.exit({module!r} in sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
