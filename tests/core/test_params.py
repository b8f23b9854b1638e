"""Arithmetic on dictionaries of tensors."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedemb.core import params

PARAMS = st.dictionaries(
    st.text("abc.", min_size=1, max_size=4),
    st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=5).map(torch.tensor),
    max_size=6,
)


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@given(PARAMS, st.sets(st.sampled_from("abc.")))
def test_merge_of_split_is_the_whole(whole, letters):
    inside, outside = params.split(whole, lambda name: name[0] in letters)
    assert all(name[0] in letters for name in inside)
    assert not any(name[0] in letters for name in outside)
    assert same(params.merge(inside, outside), whole)


@given(PARAMS)
def test_arithmetic_identities(p):
    assert same(params.sub(params.add(p, p), p), p)
    assert same(params.scale(p, 2.0), params.add(p, p))
    assert same(params.sub(p, p), params.zeros_like(p))
    assert same(params.lerp(p, params.scale(p, 3.0), 0.0), p)


@given(PARAMS)
def test_norm_is_the_length_of_the_flat_vector(p):
    wanted = math.hypot(*(entry for value in p.values() for entry in value.tolist()))
    length = params.norm(p)
    assert length.dtype == torch.float64
    assert float(length) == pytest.approx(wanted, rel=1e-12, abs=1e-300)
    if p:
        assert float(params.flatten(p).double().norm()) == pytest.approx(wanted, rel=1e-6, abs=1e-30)


def test_norm_is_summed_in_double_precision():
    """1 + 1e-10 many times: float32 would lose every small entry, and squares of 1e30 would overflow."""
    many = {"a": torch.tensor([1.0]), "b": torch.full((10_000,), 1e-5)}
    assert float(params.norm(many)) == pytest.approx(math.sqrt(1 + 1e-6), rel=1e-9)
    assert float(params.norm({"a": torch.tensor([3e30, 4e30])})) == pytest.approx(5e30, rel=1e-6)
    assert float(params.norm({})) == 0


def test_merge_refuses_common_names():
    """Silently preferring one of them would hide that a head overwrites a backbone layer."""
    with pytest.raises(ValueError, match="'b'"):
        params.merge({"a": torch.zeros(1), "b": torch.zeros(1)}, {"b": torch.ones(1)})


def test_lerp_by_hand():
    mixed = params.lerp({"a": torch.tensor([1.0, 4.0])}, {"a": torch.tensor([3.0, 0.0])}, 0.25)
    assert mixed["a"].tolist() == [1.5, 3.0]


def test_stack_and_flatten_keep_order():
    items = [{"b": torch.tensor([float(i)]), "a": torch.tensor([[10.0 * i]])} for i in range(3)]
    assert params.stack(items)["b"].tolist() == [[0], [1], [2]]
    assert params.stack(items)["a"].shape == (3, 1, 1)
    assert params.flatten(items[2]).tolist() == [20, 2]  # by name, not by insertion


def test_types_and_zeros():
    p = {"a": torch.ones(2)}
    assert params.zeros_like(p, dtype=torch.float64)["a"].dtype == torch.float64
    assert params.zeros_like(p)["a"].tolist() == [0, 0]
    assert params.to(p, dtype=torch.float64)["a"].dtype == torch.float64
    assert p["a"].dtype == torch.float32


def test_arguments_are_left_alone():
    p, q = {"a": torch.tensor([1.0])}, {"a": torch.tensor([2.0])}
    for result in (params.add(p, q), params.sub(p, q), params.scale(p, 3.0), params.lerp(p, q, 0.5)):
        result["a"].add_(100)
    assert (p["a"].item(), q["a"].item()) == (1.0, 2.0)


@pytest.mark.parametrize(
    "shape", [(), (0,), (0, 3), (3, 0), (5,), (2**18,), (3, 2**16 + 1), (300, 1000), (7, 5, 100, 100)]
)
def test_pieces_are_views_that_together_are_the_value(shape):
    value = torch.zeros(shape)
    parts = params.pieces(value)
    for part in parts:
        part.add_(1.0)
    assert value.eq(1.0).all()  # what is done to all pieces is done to the value, once
    assert sum(part.numel() for part in parts) == value.numel()
    most = 2**16 if value.dim() and value[:1].numel() <= 2**16 else value[:1].numel() if value.dim() else 1
    assert max(part.numel() for part in parts) <= most


def test_pieces_of_another_layout_are_views_too():
    value = torch.zeros(64, 32, 9, 9).to(memory_format=torch.channels_last)
    for part in params.pieces(value):
        part.add_(1.0)
    assert value.eq(1.0).all()


def test_norm_over_many_pieces_is_that_of_the_whole():
    value = torch.randn(300, 1000, generator=torch.Generator().manual_seed(0))
    assert float(params.norm({"a": value})) == pytest.approx(float(value.double().norm()), rel=1e-12)
