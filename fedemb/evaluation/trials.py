"""Omniglot's own one-shot classification: 20 runs of 20 items, each of one of 20 characters drawn once by another.

Source: Lake, Salakhutdinov, Tenenbaum 2015 (Science 350), python/one-shot-classification of the data's repository.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from fedemb.data.formats.archive import Archive, ZipArchive
from fedemb.evaluation.embedded import Embedded, Metrics
from fedemb.evaluation.pictures import embed_members, model_of

_ANSWERS = re.compile(r"(?P<root>(?:.*/)?)run\d+/class_labels\.txt")
_LINE = re.compile(r"(run\d+/test/item\d+\.png) (run\d+/training/class\d+\.png)")
_PACKAGED = "one-shot-classification_all_runs.zip"


@dataclass(frozen=True, kw_only=True)
class OneShotTrials:
    """`one_shot_error`: the share of wrong answers among the items of all runs; people make 4.5 % errors.

    An item is given to the training image of its run with the largest cosine; a draw counts as wrong. The drawings
    are resized as fedemb prepares Omniglot, ink 255 on 0, and to the channels of the model.

    path: the zip file as published; None for the copy that comes with fedemb.
    """

    path: str | None = None
    test_users_only: ClassVar[bool] = False

    def metrics(self, test: Embedded) -> Metrics:
        """Raises: ValueError in one line if the file is missing or damaged."""
        model = model_of(test, "one_shot_error")
        with ExitStack() as stack:
            packaged = files("fedemb.data_prep") / "samples" / "omniglot" / _PACKAGED
            path = stack.enter_context(as_file(packaged)) if self.path is None else Path(self.path).expanduser()
            if not path.is_file():
                raise ValueError(f"no file {path}: pass Omniglot's {_PACKAGED}")
            archive = ZipArchive(path)
            wrong = items = 0
            for run in read_runs(archive):
                right = sorted(set(run.values()))
                asked = embed_members(model, archive, list(run), invert=True)
                taught = embed_members(model, archive, right, invert=True)
                truth = torch.tensor([right.index(answer) for answer in run.values()], device=asked.device)
                wrong += wrong_answers(torch.mm(asked, taught.T), truth)
                items += len(run)
        return {"one_shot_error": wrong / items}


def wrong_answers(similarity: Tensor, truth: Tensor) -> int:
    """How many rows do not have their largest value, alone, in the column `truth`. similarity: [items, classes]."""
    own = similarity.gather(1, truth[:, None])
    others = similarity.scatter(1, truth[:, None], -torch.inf).amax(dim=1, keepdim=True)
    return int((own <= others).sum())


def read_runs(archive: Archive) -> list[dict[str, str]]:
    """Member of each test item -> member of its right answer, run by run.

    Raises: ValueError in one line with archive and line for anything else than `item answer` of the archive's own
        images, or a run in which two items are of one class.
    """
    members = set(archive.names())
    lists = [match for name in archive.names() if (match := _ANSWERS.fullmatch(name))]
    if not lists:
        raise ValueError(
            f"{archive.path} has no run01/class_labels.txt: pass Omniglot's {_PACKAGED} as it was published"
        )
    return [_run(archive, members, name[0], name["root"]) for name in lists]


def _run(archive: Archive, members: set[str], name: str, root: str) -> dict[str, str]:
    run: dict[str, str] = {}
    for number, line in enumerate(archive.read(name).decode("utf-8", "replace").splitlines(), 1):
        match = _LINE.fullmatch(line.strip())
        if match is None or not {root + match[1], root + match[2]} <= members:
            raise ValueError(
                f"{archive.path}: {name}, line {number}: expected an item and a training image of the archive, "
                f"got {line[:60]!r}"
            )
        run[root + match[1]] = root + match[2]
    if len(set(run.values())) != len(run) or len(run) < 2:
        raise ValueError(f"{archive.path}: {name}: expected two or more items of different classes: get the file again")
    return run
