"""The clip: the norm is bounded for every input, the direction is kept, and nothing non-finite passes."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.func import vmap

from fedemb.core.params import flatten
from fedemb.privacy.clipping import FlatClipping, PerLayerClipping, _add_at_once, _add_by_pieces, clip


def length(params):
    """The exact l2 norm, by Python's own sum of squares without intermediate overflow."""
    return math.hypot(*flatten(params).double().tolist())


EXTREME = [0.0, -0.0, 1e-45, -3e-40, 1e-30, 1e-20, 3.4028e38, -3.4028e38, 1e30, math.nan, math.inf, -math.inf]
ENTRIES = st.one_of(st.floats(width=32), st.floats(-10, 10, width=32), st.sampled_from(EXTREME))


@given(st.lists(ENTRIES, min_size=1, max_size=40), st.floats(1e-6, 1e6), st.integers(0, 39))
def test_norm_never_exceeds_the_clip_norm(entries, clip_norm, cut):
    values = torch.tensor(entries, dtype=torch.float32)
    update = {"a": values[:cut], "b": values[cut:].reshape(-1, 1)}
    clipped, told = clip(update, clip_norm)
    assert length(clipped) <= clip_norm
    assert {name: value.shape for name, value in clipped.items()} == {n: v.shape for n, v in update.items()}
    if not all(map(math.isfinite, entries)):
        assert not flatten(clipped).any()
        assert not told.isfinite()
    else:
        assert float(told) == pytest.approx(length(update), rel=1e-12)


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=2, max_size=20), st.floats(1e-3, 1e3))
def test_direction_is_kept_and_long_updates_reach_the_clip_norm(entries, clip_norm):
    update = {"a": torch.tensor(entries, dtype=torch.float64)}
    clipped, told = clip(update, clip_norm)
    if float(told) <= clip_norm * (1 - 1e-6):
        assert torch.equal(clipped["a"], update["a"])  # within the ball: bit for bit
    else:
        wanted = update["a"] * (clip_norm / length(update))
        torch.testing.assert_close(clipped["a"], wanted, rtol=1e-6, atol=0)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_norm_never_exceeds_the_clip_norm_in_any_float_type(seed, dtype):
    """A factor rounded to 8 bits would let an update of a thousand entries pass by up to 0.4 % too long."""
    update = {"a": torch.randn(1000, generator=torch.Generator().manual_seed(seed)).to(dtype)}
    clipped, _ = clip(update, 0.37)
    assert 0.37 * (1 - 1e-6) < length(clipped) <= 0.37


@pytest.mark.parametrize("scale", [1e30, 1e37, 3e38])
@pytest.mark.parametrize("clip_norm", [0.1, 0.37, 1.0])
@pytest.mark.parametrize("seed", range(10))
def test_factor_below_the_normal_range_of_single_precision(scale, clip_norm, seed):
    """C / norm near 1e-39 has only a dozen bits in float32: the rounding must not lengthen the update."""
    draw = torch.rand(50, generator=torch.Generator().manual_seed(seed)) + 0.1
    clipped, _ = clip({"a": draw / draw.max() * scale}, clip_norm)
    assert length(clipped) <= clip_norm


def test_by_hand():
    clipped, told = clip({"a": torch.tensor([3.0]), "b": torch.tensor([[4.0]])}, 2.5)
    assert float(told) == 5.0
    assert [float(clipped["a"]), float(clipped["b"])] == pytest.approx([1.5, 2.0], rel=1e-6)


def test_norm_is_over_all_names_together():
    """Clipping name by name would let sqrt(names) times C through."""
    clipped, _ = clip({str(i): torch.full((4,), 10.0) for i in range(9)}, 1.0)
    assert length(clipped) == pytest.approx(1.0, abs=1e-6)


def test_zero_stays_zero_and_no_names_are_fine():
    clipped, told = clip({"a": torch.zeros(3)}, 1.0)
    assert clipped["a"].tolist() == [0, 0, 0]
    assert float(told) == 0
    assert clip({}, 1.0)[0] == {}


def test_square_of_an_entry_may_overflow_single_precision():
    """1e30 squared is no float32; the update is finite and must not be taken for a broken one."""
    clipped, told = clip({"a": torch.tensor([1e30, 0.0])}, 1.0)
    assert float(told) == pytest.approx(1e30, rel=1e-6)
    assert clipped["a"][0] == pytest.approx(1.0, abs=1e-5)


def test_one_broken_client_of_a_chunk_leaves_the_others_alone():
    chunk = {"a": torch.tensor([[3.0, 4.0], [math.nan, 1.0], [0.3, 0.4], [math.inf, 0.0]])}
    clipped, told = vmap(clip, in_dims=(0, None))(chunk, 1.0)
    wanted = torch.tensor([[0.6, 0.8], [0.0, 0.0], [0.3, 0.4], [0.0, 0.0]])
    torch.testing.assert_close(clipped["a"].float(), wanted, rtol=1e-6, atol=0)
    assert told.isfinite().tolist() == [True, False, True, False]


def test_the_argument_is_left_alone():
    update = {"a": torch.tensor([30.0, 40.0])}
    clip(update, 1.0)
    assert update["a"].tolist() == [30.0, 40.0]


@given(st.lists(ENTRIES, min_size=6, max_size=6), st.floats(1e-3, 1e3), st.floats(0.01, 100))
def test_per_layer_norms_add_up_in_squares(entries, clip_norm, weight):
    values = torch.tensor(entries, dtype=torch.float32)
    update = {"conv.weight": values[:2], "conv.bias": values[2:3], "fc.weight": values[3:].reshape(1, 3)}
    clipping = PerLayerClipping(clip_norm=clip_norm, weights={"con*": weight})
    clipped, told = clipping(update)
    norms = clipping.norms(list(update))
    assert math.hypot(*norms.values()) == pytest.approx(clip_norm, rel=1e-12) == clipping.bound
    assert norms["conv"] == pytest.approx(weight * norms["fc"])
    assert length(clipped) <= clip_norm
    assert length({name: clipped[name] for name in ("conv.weight", "conv.bias")}) <= norms["conv"]
    assert length({"fc.weight": clipped["fc.weight"]}) <= norms["fc"]
    assert list(clipped) == list(update)
    if not all(map(math.isfinite, entries)):
        assert not flatten(clipped).any()  # as a whole, so that no layer tells of another
        assert not told.isfinite()


def test_long_layers_attain_the_root_of_squares():
    """With C_l = C for every layer, two layers would reach C sqrt(2)."""
    update = {"a.weight": torch.full((5,), 1e3), "b.weight": torch.full((7,), -1e3), "c.weight": torch.zeros(2)}
    clipped, _ = PerLayerClipping(clip_norm=0.3)(update)
    assert length(clipped) == pytest.approx(0.3 * math.sqrt(2 / 3), rel=1e-6)
    assert length({"c": clipped["c.weight"]}) == 0


def test_per_layer_clipping_of_a_short_update_changes_nothing():
    update = {"a.weight": torch.tensor([0.1, 0.1]), "b": torch.tensor([-0.05])}
    clipped, _ = PerLayerClipping(clip_norm=1.0)(update)
    assert all(torch.equal(clipped[name], value.double()) for name, value in update.items())


def test_a_weight_for_no_layer_is_refused():
    clipping = PerLayerClipping(clip_norm=1.0, weights={"conv9": 2.0})
    with pytest.raises(ValueError, match=r"conv9 fits no layer; the layers are conv1, fc"):
        clipping.norms(["conv1.weight", "fc.bias"])
    with pytest.raises(ValueError, match=r"weights\[fc\]"):
        PerLayerClipping(clip_norm=1.0, weights={"fc": 0.0})


@pytest.mark.parametrize("clipping", [FlatClipping(clip_norm=0.4), PerLayerClipping(clip_norm=0.4)])
def test_clippings_map_over_clients(clipping):
    chunk = {"a.weight": torch.randn(5, 3), "b.weight": torch.randn(5, 2, 2)}
    chunk["a.weight"][3, 0] = math.nan
    mapped, norms = vmap(clipping)(chunk)
    for i in range(5):
        alone, norm = clipping({name: value[i] for name, value in chunk.items()})
        torch.testing.assert_close({name: value[i] for name, value in mapped.items()}, alone)
        torch.testing.assert_close(norms[i], norm, equal_nan=True)


@pytest.mark.parametrize("clipping", [FlatClipping(clip_norm=1.0), PerLayerClipping(clip_norm=1.0)])
def test_adding_up_is_the_sum_of_the_clipped(clipping):
    """In place, one client after the other; what is broken adds nothing, and the total does not become NaN."""
    updates = {
        "a.weight": torch.tensor([[[3.0, 4.0]], [[math.nan, 1.0]], [[0.3, 0.4]], [[math.inf, 0.0]], [[0.0, 0.0]]]),
        "b.weight": torch.tensor([0.0, 1.0, 0.1, 2.0, 0.0]),
    }
    total = {"a.weight": torch.ones(1, 2, dtype=torch.float64), "b.weight": torch.ones((), dtype=torch.float64)}
    lengths = clipping.add_to(total, updates)
    each = [clipping({name: value[slot] for name, value in updates.items()}) for slot in range(5)]
    for name, value in total.items():
        torch.testing.assert_close(value, 1.0 + sum(clipped[name] for clipped, _ in each), rtol=0, atol=1e-15)
    torch.testing.assert_close(lengths, torch.stack([length for _, length in each]), equal_nan=True)


@pytest.mark.parametrize("add", [_add_by_pieces, _add_at_once])
@given(st.lists(ENTRIES, min_size=1, max_size=40), st.floats(1e-6, 1e6))
def test_what_is_added_is_no_longer_than_the_clip_norm(add, entries, clip_norm):
    total = {"a": torch.zeros(len(entries), dtype=torch.float64)}
    add(total, {"a": torch.tensor([entries], dtype=torch.float32)}, clip_norm)
    assert length(total) <= clip_norm


def test_all_at_once_is_the_same_sum():
    """As a GPU adds up: many shapes, more than one client, and some that are not finite."""
    draw = torch.Generator().manual_seed(0)
    shapes = {"a": (3, 4, 2), "b": (5,), "c": ()}
    updates = {name: torch.randn(6, *shape, generator=draw) for name, shape in shapes.items()}
    updates["a"][1, 0], updates["b"][4, 2] = math.nan, math.inf
    totals = [{name: torch.ones(shape, dtype=torch.float64) for name, shape in shapes.items()} for _ in range(2)]
    lengths = [add(total, updates, 1.5) for add, total in zip((_add_by_pieces, _add_at_once), totals, strict=True)]
    torch.testing.assert_close(totals[1], totals[0], rtol=0, atol=1e-14)
    torch.testing.assert_close(lengths[1], lengths[0], equal_nan=True)


def test_large_updates_are_added_whole():
    """They go to the total in pieces: none is left out, none comes twice, and all have one factor."""
    draw = torch.randn(2, 300, 1000, generator=torch.Generator().manual_seed(0))
    total = {"a": torch.zeros(300, 1000, dtype=torch.float64)}
    lengths = FlatClipping(clip_norm=0.5).add_to(total, {"a": draw})
    wanted = sum(0.5 * each.double() / each.double().norm() for each in draw)
    torch.testing.assert_close(total["a"], wanted, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(lengths, draw.double().flatten(1).norm(dim=1))
