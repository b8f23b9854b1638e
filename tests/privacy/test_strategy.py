"""Tree aggregation as a matrix, against the definition of its nodes and dense linear algebra."""

import math

import numpy as np
import pytest
import torch
from matrices import dense, prefix_errors, streamed

from fedemb.privacy.strategy import Tree

SIZES = (1, 2, 3, 4, 5, 7, 8)


def active_nodes(prefix):
    """(first, last) of the aligned intervals of lengths 2^n that make up 1 .. prefix, longest first."""
    nodes, start = [], 1
    for level in reversed(range(prefix.bit_length())):
        if prefix >> level & 1:
            nodes.append((start, start + 2**level - 1))
            start += 2**level
    return nodes


@pytest.mark.parametrize("size", SIZES)
def test_a_prefix_sum_carries_the_noise_of_its_nodes_and_no_more(size):
    """Node noise is told apart by feeding unit vectors: the round that ends a node draws its noise."""
    strategy = Tree(rounds_per_tree=size)
    noise, _ = streamed(strategy, np.eye(size))
    prefixes = noise.cumsum(0) / math.sqrt(strategy.levels)
    for prefix in range(1, size + 1):
        expected = np.zeros(size)
        expected[[last - 1 for _, last in active_nodes(prefix)]] = 1
        np.testing.assert_array_equal(prefixes[prefix - 1].round(12), expected)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rounds", [1, 5, 8, 13])
def test_streamed_noise_is_the_inverse_of_the_matrix(size, rounds):
    strategy, z = Tree(rounds_per_tree=size), np.random.default_rng(size).standard_normal((rounds, 3))
    noise, _ = streamed(strategy, z)
    np.testing.assert_allclose(dense(strategy, rounds) @ noise, z, atol=1e-12)


@pytest.mark.parametrize("size", SIZES)
def test_columns_are_at_most_of_norm_one_and_span_a_tree(size):
    strategy = Tree(rounds_per_tree=size)
    matrix = dense(strategy, 3 * size)
    norms = np.linalg.norm(matrix, axis=0)
    assert norms.max() == pytest.approx(1)  # tight: the first round of a tree is in a node of every level
    assert norms.min() == pytest.approx(strategy.shortest) or size & (size - 1)
    assert norms.min() >= strategy.shortest - 1e-12
    for round in range(3 * size):
        rows = np.flatnonzero(matrix[:, round])
        assert rows.min() == round
        assert rows.max() < round + strategy.span
        assert rows.max() // size == round // size


def test_levels():
    """2048 rounds have 12 levels, 2047 have 11."""
    assert [Tree(rounds_per_tree=n).levels for n in (1, 2, 3, 4, 2047, 2048)] == [1, 2, 2, 3, 11, 12]


def test_error_of_a_prefix_is_levels_times_its_nodes():
    errors = prefix_errors(Tree(rounds_per_tree=8), 20)
    nodes = [(t // 8) + (t % 8).bit_count() for t in range(1, 21)]
    np.testing.assert_allclose(errors, 4 * np.array(nodes))


def test_the_state_grows_with_the_logarithm_and_resumes_in_the_middle():
    strategy, z = Tree(rounds_per_tree=300), np.random.default_rng(0).standard_normal((700, 2))
    whole, _ = streamed(strategy, z)
    for middle in (1, 127, 255, 299, 300, 511):
        _, state = streamed(strategy, z[:middle])
        assert len(state) - 1 == (middle % 300).bit_count() <= strategy.levels
        rest, _ = streamed(strategy, z[middle:], {slot: dict(values) for slot, values in state.items()})
        np.testing.assert_array_equal(rest, whole[middle:])


def test_a_state_is_not_changed_by_its_use():
    strategy, z = Tree(rounds_per_tree=8), np.random.default_rng(0).standard_normal((8, 2))
    _, state = streamed(strategy, z[:3])
    before = {slot: {name: value.clone() for name, value in values.items()} for slot, values in state.items()}
    streamed(strategy, z[3:], state)
    assert state.keys() == before.keys()
    assert all(torch.equal(state[slot][name], before[slot][name]) for slot in before for name in before[slot])


def test_a_tree_has_a_round():
    with pytest.raises(ValueError, match="rounds_per_tree"):
        Tree(rounds_per_tree=0)
