"""EMNIST by writer to a store: one writer is one user, whatever parts the writer was published in.

Sources: TensorFlow Federated's emnist_all.sqlite.lzma or fed_emnist_{train,test}.h5, LEAF's JSON files, or the trees
by_class and by_write of NIST Special Database 19. Labels are the classes of `CHARACTERS`, the same in both stores.
protocol=paper. Train: labels 0-35 of every writer. Test: labels 36-61, never trained on, of the same writers.
protocol=disjoint_writers. A seeded tenth of the writers is kept out of train; test is their labels 36-61.
The paper's code makes two users of each writer, `id;TR` and `id;TE`, so that its epsilon holds for a part of a writer.
A writer is what the source gives an id like f0000_14; whether two ids are one person is not known here.
Source: Xu et al. 2023, arXiv:2211.10844, and dp_visual_embeddings in github.com/google-research/federated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedemb.data.formats.writers import CHARACTERS, SIDE, Writers, Written
from fedemb.data.formats.writers_leaf import is_leaf, leaf_writers
from fedemb.data.formats.writers_nist import is_nist, nist_writers
from fedemb.data.formats.writers_tff import h5_writers, is_h5, is_sqlite, sqlite_writers
from fedemb.data.manifest import StoreInfo
from fedemb.data.preparation import Prepared, Request, Split, prepare_splits
from fedemb.data.record import UserRecord
from fedemb.data.splits import seeded_split

_CLASSES = {"train": range(36), "test": range(36, 62)}
_OF_CLASSES = {"train": "digits or upper-case letters", "test": "lower-case letters"}
_TEST_SHARE = 0.1  # of the writers, where they are disjoint
_WHAT = (
    "emnist_all.sqlite.lzma or the two files of fed_emnist.tar.bz2 (storage.googleapis.com/tff-datasets-public), "
    "LEAF's JSON files, or by_class.zip and by_write.zip of NIST Special Database 19"
)
_NOTICE = (
    "NIST Special Database 19, https://www.nist.gov/srd/nist-special-database-19: see there for NIST's terms. "
    "Please cite Cohen et al. 2017, arXiv:1702.05373 (EMNIST) and Caldas et al. 2018, arXiv:1812.01097 (LEAF)."
)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Who is in which store.

    name: the data set's. admits: (split, writer) -> may the writer be in it? about: split -> what to know of it.
    user: split -> what a user of it is. options: of the command that made the stores.
    """

    name: str
    admits: Callable[[str, str], bool]
    about: Mapping[str, str]
    user: Mapping[str, str]
    options: str = ""


@dataclass(frozen=True, kw_only=True)
class Form:
    """A published form: does a source look like it, and its writers, while the context is open."""

    is_at: Callable[[Path], bool]
    open: Callable[[Path, Request], AbstractContextManager[Writers]]


_FORMS: Mapping[str, Form] = {
    "tff_sqlite": Form(is_at=is_sqlite, open=lambda source, request: sqlite_writers(source, request.out)),
    "tff_h5": Form(is_at=is_h5, open=lambda source, request: h5_writers(source)),
    "leaf": Form(is_at=is_leaf, open=lambda source, request: leaf_writers(source, request.out)),
    "nist": Form(is_at=is_nist, open=lambda source, request: nist_writers(source, request.out, request.progress)),
}


def prepare(request: Request, *, form: str = "auto", protocol: str = "paper", split_seed: int = 0) -> Prepared:
    """Make the stores `out`/train and `out`/test.

    Args: request: source is a folder with the files of one published form, or the one file that is all of it.
        form: "auto", "tff_sqlite", "tff_h5", "leaf" or "nist". protocol: "paper" or "disjoint_writers".
        split_seed: draws the writers kept out, where they are disjoint.
    Raises: ValueError in one line if a file is missing or damaged, or the counts are not the published ones.
    """
    if protocol not in _PROTOCOLS:
        raise ValueError(f"protocol must be one of {', '.join(_PROTOCOLS)}, got protocol={protocol}")
    source = request.existing_source(_WHAT)
    chosen = _form(source, form)
    with chosen.open(source, request) as writers:
        found = {"writers": len(writers.labels), "images": sum(map(len, writers.labels.values()))}
        missing = request.missing(writers.where, found=found, published=writers.published)
        rules = _PROTOCOLS[protocol](split_seed)
        return prepare_splits(request, [_split(name, writers, rules, missing) for name in _CLASSES])


def _form(source: Path, wanted: str) -> Form:
    """The form that is wanted, or the only one that the source looks like."""
    if wanted in _FORMS:
        return _FORMS[wanted]
    if wanted != "auto":
        raise ValueError(f"form must be one of auto, {', '.join(_FORMS)}, got form={wanted}")
    likely = [name for name, form in _FORMS.items() if form.is_at(source)]
    if len(likely) != 1:
        found = f"{source} holds {' and '.join(likely)}: pass form=<one of them>"
        raise ValueError(found if likely else f"{source} holds no published form of EMNIST: pass {_WHAT}")
    return _FORMS[likely[0]]


def _split(name: str, writers: Writers, protocol: Protocol, missing: Mapping[str, int]) -> Split:
    """One store: the writers that the protocol admits and that have images of its classes."""
    classes = _CLASSES[name]
    admitted = [writer for writer in writers.labels if protocol.admits(name, writer)]
    images = {writer: int(np.isin(writers.labels[writer], classes).sum()) for writer in admitted}
    users = [writer for writer in admitted if images[writer]]
    others = sum(len(writers.labels[writer]) - images[writer] for writer in admitted)
    left_out = {
        **missing,
        **writers.left_out,
        "writers kept out": len(writers.labels) - len(admitted),
        f"users without {_OF_CLASSES[name]}": len(admitted) - len(users),
        f"images other than {_OF_CLASSES[name]}": others,
    }
    return Split(
        info=_info(name, writers, protocol),
        users=len(users),
        units=[writers.units[writer] for writer in users],
        records=Reader(read=writers.read, classes=classes),
        class_names=tuple(CHARACTERS),
        left_out={reason: count for reason, count in left_out.items() if count},
    )


def _info(name: str, writers: Writers, protocol: Protocol) -> StoreInfo:
    classes = _CLASSES[name]
    return StoreInfo(
        name=protocol.name,
        split=name,
        user=protocol.user[name],
        image_shape=(1, SIDE, SIDE),
        classes=len(CHARACTERS),
        label="class",
        polarity="ink 255 on 0",
        description=f"upright, labels {classes[0]}-{classes[-1]} of 62; {protocol.about[name]}",
        licence="NIST Special Database 19: NIST's terms",
        notice=_NOTICE,
        redistributable=False,
        sources=writers.sources,
        command=f"fedemb prepare {protocol.name} source=<folder>{protocol.options}",
    )


def _same_writers(split_seed: int) -> Protocol:
    """The paper's: everybody is in both stores. split_seed: not used."""
    return Protocol(
        name="emnist",
        admits=lambda split, writer: True,
        about={
            "train": "the same writers have other characters in test",
            "test": "other characters of the writers of train: the guarantee covers none of these images",
        },
        user={"train": "a writer", "test": "a writer who is in train too, by other characters"},
    )


def _disjoint_writers(split_seed: int) -> Protocol:
    """Nobody is in both stores."""
    split_of = seeded_split(fractions={"train": 1 - _TEST_SHARE, "test": _TEST_SHARE}, seed=split_seed)
    about = f"{_TEST_SHARE:.0%} of the writers, drawn by seed {split_seed}, are kept for test"
    return Protocol(
        name="emnist_disjoint",
        admits=lambda split, writer: split_of(writer) == split,
        about={"train": about, "test": about},
        user={"train": "a writer", "test": "a writer"},
        options=f" split_seed={split_seed}",
    )


_PROTOCOLS: Mapping[str, Callable[[int], Protocol]] = {"paper": _same_writers, "disjoint_writers": _disjoint_writers}


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Reads a writer and keeps the images of some classes."""

    read: Callable[[Any], Written]
    classes: range

    def __call__(self, unit: Any) -> list[UserRecord]:
        """The writer's record."""
        whole = self.read(unit)
        kept = np.isin(whole.labels, self.classes)
        return [UserRecord.from_pixels(id=whole.id, images=whole.images[kept][:, None], labels=whole.labels[kept])]
