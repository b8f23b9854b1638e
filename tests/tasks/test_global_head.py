"""The baselines' task: one head over all classes that is as global, and as private, as the backbone."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from small import WIDTH, Conv, Line, make_task

from fedemb.tasks.backbone import backbone_params
from fedemb.tasks.global_head import GlobalHeadTask
from fedemb.tasks.heads import CosineHead, SoftmaxHead
from fedemb.tasks.start import PretrainedStart
from fedemb.testing import check_task

STREAM = torch.Generator().manual_seed(5)
BATCH = {
    "image": torch.randn(4, 1, 8, 8, generator=STREAM),
    "label": torch.tensor([6, 0, 2, 0]),
    "mask": torch.tensor([1.0, 1.0, 1.0, 0.0]),
}


def global_task(backbone=None, head=None, **others):
    backbone, head = backbone or Conv(), head or SoftmaxHead()
    return GlobalHeadTask(backbone=backbone, head=head, embedding_width=WIDTH, **{"classes": 7, **others})


@pytest.mark.parametrize("task", [global_task(), global_task(head=CosineHead()), global_task(frozen=("conv.*",))])
def test_keeps_the_contract(task):
    check_task(task, BATCH)


def test_the_head_is_shared_and_nothing_is_local():
    task = global_task(frozen=("conv.*",))
    trained = {name for name in task.init(0) if task.is_shared(name)}
    assert trained == {"norm.weight", "norm.bias", "embedding.weight", "embedding.bias", "head.weight"}
    assert task.init(0)["head.weight"].shape == (7, WIDTH)
    assert task.init_local(1) == {}


def test_loss_is_mean_cross_entropy_over_all_classes():
    """Over those that a client does not have, too: that is what a client of one class learns from."""
    task = global_task(Line())
    params = {name: value.double() for name, value in task.init(3).items()}
    batch = {**BATCH, "image": BATCH["image"].double(), "mask": BATCH["mask"].double()}
    w, b, h = (params[name].numpy() for name in ("embedding.weight", "embedding.bias", "head.weight"))
    logits = ((batch["image"].numpy().reshape(4, 64) @ w.T + b) @ h.T)[:3]
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(3), [6, 0, 2]]
    assert float(task.loss(params, batch)) == pytest.approx(losses.mean(), rel=1e-12)


def test_the_backbone_alone_is_exported():
    task = global_task()
    assert backbone_params(task.backbone, task.init(0)).keys() == make_task().init(0).keys()


def test_a_public_backbone_starts_with_a_fresh_head(tmp_path):
    stored = make_task().init(8)
    save_file(stored, tmp_path / "backbone.safetensors")
    start = PretrainedStart(path=str(tmp_path / "backbone.safetensors"), provenance="public").params(global_task(), 4)
    assert torch.equal(start["conv.weight"], stored["conv.weight"])
    assert torch.equal(start["head.weight"], global_task().init(4)["head.weight"])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"classes": 1}, "classes"), ({"frozen": ("cov.*",)}, "matches no parameter"), ({"frozen": ("*",)}, "nothing is")],
)
def test_bad_settings_are_refused_in_one_line(wrong, words):
    with pytest.raises(ValueError, match=words) as caught:
        global_task(**wrong)
    assert "\n" not in str(caught.value)
