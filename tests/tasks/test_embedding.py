"""The loss against numpy, and that neither padding nor absent classes can move it."""

import dataclasses

import numpy as np
import pytest
import torch
from small import WIDTH, Conv, Line, make_task
from torch import nn
from torch.func import grad

from fedemb.tasks.backbone import check_images
from fedemb.tasks.embedding import EmbeddingTask
from fedemb.tasks.heads import CosineHead, SoftmaxHead

HEADS = [SoftmaxHead(), CosineHead(initial_scale=4.0)]


def line_task(head, classes):
    return EmbeddingTask(backbone=Line(), head=head, embedding_width=WIDTH, local_classes=classes)


def make_batch(labels=(0, 2, 1, 2), classes=3, padding=0, fill=0.0, padded_classes=1):
    stream = torch.Generator().manual_seed(5)
    n, dtype = len(labels), torch.float64
    image = torch.randn(n, 1, 8, 8, generator=stream, dtype=dtype)
    return {
        "image": torch.cat([image, torch.full((padding, 1, 8, 8), fill, dtype=dtype)]),
        "label": torch.tensor([*labels, *[0] * padding]),
        "classes": torch.tensor([classes] * n + [padded_classes] * padding),
        "mask": torch.tensor([1.0] * n + [0.0] * padding, dtype=dtype),
    }


def params_of(task, seed=3):
    return {name: value.double() for name, value in {**task.init(seed), **task.init_local(seed)}.items()}


def test_loss_is_mean_cross_entropy():
    task, batch = line_task(SoftmaxHead(), 3), make_batch()
    params = params_of(task)
    w, b, h = (params[name].numpy() for name in ("embedding.weight", "embedding.bias", "head.weight"))
    logits = (batch["image"].numpy().reshape(4, 64) @ w.T + b) @ h.T
    nll = np.log(np.exp(logits).sum(1)) - logits[np.arange(4), [0, 2, 1, 2]]
    assert float(task.loss(params, batch)) == pytest.approx(nll.mean(), rel=1e-12)


def test_loss_of_equal_logits_is_the_log_of_the_present_classes():
    """A head of zeros: ln 3, although the head has 50 rows."""
    task = line_task(SoftmaxHead(), 50)
    params = params_of(task)
    params["head.weight"].zero_()
    assert float(task.loss(params, make_batch())) == pytest.approx(np.log(3), rel=1e-12)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("fill", [0.0, 1e3, -7.0])
@pytest.mark.parametrize("padded_classes", [1, 3])
def test_padding_moves_neither_loss_nor_gradient(head, fill, padded_classes):
    """Whatever pixels stand in the masked rows. With one class their loss is 0 even without a mask; an example that
    lost its place in a full head is masked with the classes of its client."""
    task = line_task(head, 3)
    params = params_of(task)
    plain, padded = make_batch(), make_batch(padding=5, fill=fill, padded_classes=padded_classes)
    torch.testing.assert_close(task.loss(params, padded), task.loss(params, plain), rtol=1e-12, atol=0)
    torch.testing.assert_close(grad(task.loss)(params, padded), grad(task.loss)(params, plain), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("head", HEADS)
def test_absent_classes_move_neither_loss_nor_gradient(head):
    """Equal to a head that has only the rows of the client's classes; the others get exactly no gradient."""
    wide, narrow = line_task(head, 9), line_task(head, 3)
    params = params_of(wide)
    cut = {**params, "head.weight": params["head.weight"][:3]}
    batch = make_batch(padding=2)
    torch.testing.assert_close(wide.loss(params, batch), narrow.loss(cut, batch), rtol=1e-12, atol=0)
    got, wanted = grad(wide.loss)(params, batch), grad(narrow.loss)(cut, batch)
    assert not got["head.weight"][3:].any()
    got["head.weight"] = got["head.weight"][:3]
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("head", HEADS)
def test_a_batch_of_padding_has_loss_zero_and_no_gradient(head):
    task = line_task(head, 3)
    batch = make_batch(labels=(), padding=4, padded_classes=3)
    assert float(task.loss(params_of(task), batch)) == 0
    assert not any(value.any() for value in grad(task.loss)(params_of(task), batch).values())


@pytest.mark.parametrize(
    ("frozen", "shared"),
    [
        ((), {"conv.weight", "conv.bias", "norm.weight", "norm.bias", "embedding.weight", "embedding.bias"}),
        (("conv.*",), {"norm.weight", "norm.bias", "embedding.weight", "embedding.bias"}),
        (("*.bias", "norm.?eight"), {"conv.weight", "embedding.weight"}),
        (("embedding.weight",), {"conv.weight", "conv.bias", "norm.weight", "norm.bias", "embedding.bias"}),
    ],
)
def test_frozen_patterns(frozen, shared):
    task = make_task(frozen=frozen)
    assert {name for name in task.init(0) if task.is_shared(name)} == shared
    assert len(task.init(0)) == 6  # frozen parameters are global all the same
    assert not task.is_shared("head.weight")


def test_frozen_pattern_without_a_match_names_the_parameters():
    with pytest.raises(ValueError, match=r"'cov\.\*' matches no parameter.*conv\.weight"):
        make_task(frozen=("cov.*",))


def test_freezing_everything_is_refused():
    with pytest.raises(ValueError, match="nothing is left to train"):
        make_task(frozen=("*",))


def test_batch_norm_is_refused_by_its_layer():
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(64, WIDTH), nn.BatchNorm1d(WIDTH))
    with pytest.raises(ValueError, match=r"layer '2' \(BatchNorm1d\).*GroupNorm"):
        make_task(backbone=backbone)


@pytest.mark.parametrize("bad", ["embedding_width", "local_classes"])
def test_widths_must_be_positive(bad):
    values = {"embedding_width": 4, "local_classes": 3, bad: 0}
    with pytest.raises(ValueError, match=bad):
        EmbeddingTask(backbone=Conv(), head=SoftmaxHead(), **values)


def test_a_softmax_over_one_class_is_refused():
    """Its loss is 0 whatever the parameters: rounds of noise and no learning."""
    with pytest.raises(ValueError, match=r"local_classes=1.*users_per_client.*raise local_classes"):
        line_task(SoftmaxHead(), 1)
    line_task(SoftmaxHead(), 2)


def test_a_backbone_with_a_head_of_its_own_is_refused():
    """Its parameters would be taken for the local head's: never shared, never trained, never exported."""
    backbone = nn.Sequential()
    backbone.add_module("body", Line())
    backbone.add_module("head", nn.Linear(WIDTH, WIDTH))
    with pytest.raises(ValueError, match=r"'head\.weight'.*rename the layer 'head' of Sequential") as raised:
        make_task(backbone=backbone)
    assert "\n" not in str(raised.value)


def test_an_empty_head_and_inner_heads_are_no_clash():
    backbone = nn.Sequential()
    backbone.add_module("body", nn.ModuleDict({"head": Line()})["head"])
    backbone.add_module("head", nn.Identity())
    make_task(backbone=backbone)
    inner = nn.Sequential()
    inner.add_module("first", nn.Sequential())
    inner.first.add_module("head", Line())
    task = make_task(backbone=inner)
    assert task.is_shared("first.head.embedding.weight")


class Tuple(nn.Module):
    def __init__(self):
        super().__init__()
        self.line = Line()

    def forward(self, images):
        return self.line(images), images


def test_images_that_fit_pass_and_draw_nothing():
    plain, dropping = Conv(), nn.Sequential(nn.Dropout(0.5), Line())
    state = torch.get_rng_state()
    check_images(plain, WIDTH, (1, 8, 8))
    check_images(dropping, WIDTH, [1, 8, 8])
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("backbone", "shape", "words"),
    [
        (Conv(), (3, 8, 8), r"Conv does not take images of 3 x 8 x 8: .*model\.channels"),
        (Conv(), (1, 16, 16), r"Conv does not take images of 1 x 16 x 16: .*model\.size"),
        (Line(width=6), (1, 8, 8), r"into \[1, 6\] and embedding_width=4 needs \[1, 4\]; set embedding_width="),
        (nn.Conv2d(1, WIDTH, 3), (1, 8, 8), r"into \[1, 4, 6, 6\] and embedding_width=4"),
        (Tuple(), (1, 8, 8), r"into tuple and embedding_width=4"),
    ],
)
def test_images_that_do_not_fit_are_refused_in_one_line(backbone, shape, words):
    """It was a traceback from the middle of the first round; a wrong width reached the head's matrix product."""
    with pytest.raises(ValueError, match=words) as raised:
        check_images(backbone, WIDTH, shape)
    assert "\n" not in str(raised.value)


def test_fresh_heads_differ_by_seed_and_backbones_too():
    task = make_task()
    assert torch.equal(task.init_local(5)["head.weight"], task.init_local(5)["head.weight"])
    assert not torch.equal(task.init_local(5)["head.weight"], task.init_local(6)["head.weight"])
    assert not torch.equal(task.init(5)["conv.weight"], task.init(6)["conv.weight"])


@pytest.mark.parametrize(
    ("trained", "frozen", "shared"),
    [
        (("embedding.*",), (), {"embedding.weight", "embedding.bias"}),
        (("embedding.*", "norm.bias"), ("*.weight",), {"embedding.bias", "norm.bias"}),
    ],
)
def test_trained_patterns_choose_and_frozen_ones_take_away(trained, frozen, shared):
    task = dataclasses.replace(make_task(frozen=frozen), trained=trained)
    assert {name for name in task.init(0) if task.is_shared(name)} == shared
    assert not dataclasses.replace(task, trained=("*",)).is_shared("head.weight")


@pytest.mark.parametrize(
    ("trained", "frozen", "words"),
    [
        (("fc.*",), (), r"trained pattern 'fc\.\*' matches no parameter.*conv\.weight"),
        (("conv.*",), ("conv.?*",), "nothing is left to train"),
        ((), (), "nothing is left to train"),
    ],
)
def test_trained_patterns_that_choose_nothing_are_refused(trained, frozen, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(make_task(), trained=trained, frozen=frozen)


def test_a_backbone_without_parameters_is_refused():
    """The message stopped in mid-sentence, at the names that there are."""
    with pytest.raises(ValueError, match=r"^Flatten has no parameter: there is nothing to train; take another model="):
        dataclasses.replace(make_task(), backbone=nn.Flatten())
