"""fedemb prepare NAME export: one file a split, with the terms said."""

from dataclasses import replace

import pandas as pd
import pytest
from cli_stores import INFO, make_store


@pytest.mark.parametrize(("format", "read"), [("parquet", pd.read_parquet), ("arrow", pd.read_feather)])
def test_every_split_is_a_file_with_a_row_an_image(fedemb, tmp_path, format, read):
    for split in ("train", "test"):
        make_store(tmp_path / "store", replace(INFO, split=split), {"é, one": [2], "two": [0, 1, 2], "none": []})
    code, out, err = fedemb(
        "prepare", "omniglot", "export", f"out={tmp_path}/store", f"to={tmp_path}/new/files", f"format={format}"
    )
    assert (code, err) == (0, "")
    assert out.count("4 images of 2 users; 1 users without images have no row") == 2
    assert "licence: do as you like" in out
    for split in ("train", "test"):
        rows = read(tmp_path / "new" / "files" / f"{split}.{format}")
        assert rows["user"].tolist() == ["é, one", "two", "two", "two"]
        assert rows["label"].tolist() == [2, 0, 1, 2]


def test_terms_that_forbid_passing_on_are_said(fedemb, tmp_path):
    make_store(tmp_path / "store", replace(INFO, redistributable=False, notice="Ask\nthe authors."), {"one": [0]})
    _, out, _ = fedemb("prepare", "omniglot", "export", f"out={tmp_path}/store", f"to={tmp_path}/files")
    assert out.splitlines()[1:] == [
        "  licence: do as you like",
        "  Do not pass this store on.",
        "  Ask",
        "  the authors.",
    ]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "export where? pass to=FOLDER for one file a split"),
        (["to=x", "format=csv"], "format must be one of parquet, arrow, got format=csv"),
        (["to=x"], "no store at {out}: run 'fedemb prepare omniglot' first, or pass its out="),
    ],
)
def test_what_cannot_be_exported_is_one_line(fedemb, tmp_path, words, line):
    code, out, err = fedemb("prepare", "omniglot", "export", f"out={tmp_path}/none", *words)
    assert (code, out) == (2, "")
    assert err == f"fedemb: {line.format(out=tmp_path / 'none')}\n"
