"""report.html from run folders: complete, self-contained, and honest where something is missing."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fedemb.report.page import write_page
from fedemb.report.summary import read_run

HISTORY = """round,seconds,epsilon,epsilon_attack,recall@far=0.001,auc,ema/recall@far=0.001,ema/auc
0,1.5,0.0,0.0,0.10,0.70,0.10,0.70
100,99.0,2.0,1.5,0.30,,0.35,0.91
200,198.0,3.0012,2.2388,0.40,0.93,0.45,0.95
"""


def report() -> dict:
    return {
        "recipe": "omniglot",
        "mode": "simulate",
        "privacy": {
            "epsilon": 3.0012,
            "epsilon_attack": 2.2388,
            "delta": 0.000113,
            "unit": "user",
            "relation": "substitute-one",
            "sampling": "fixed-size sampling without replacement",
            "users": 3856,
            "users_per_round": 64,
            "rounds": 200,
            "noise_multiplier": 1.0,
            "clip_norm": 0.5,
            "future_key": 17,
            "claim": "The training satisfies something.",
        },
        "metrics": {"recall@far=0.001": 0.4, "auc": None, "ema/recall@far=0.001": 0.45, "ema/auc": 0.95},
        "timing": {
            "seconds": 198.0,
            "seconds_per_round": 0.99,
            "waiting_for_data_fraction": 0.034,
            "peak_memory_bytes": 3 * 2**29,
            "executor": {
                "name": "Auto",
                "chosen": "vectorised",
                "measured_rounds": 3,
                "client_updates_per_second": {"sequential": 5.5, "vectorised": 11.25, "large": None},
            },
        },
        "data": {"name": "omniglot", "users": 3856, "examples": 77120, "checksum": "abc"},
        "versions": {"torch": "2.13.0"},
        "seed": 7,
        "command": "fedemb train recipe=omniglot 'name=a b'",
        "extrapolation": [
            {
                "users": 10**6,
                "delta": 2.5e-7,
                "signal_floor": 0.0117,
                "least_epsilon": 0.31201,
                "rounds": 200,
                "targets": [
                    {
                        "target_epsilon": 2.0,
                        "deployment": {"users_per_round": 4500, "noise_multiplier": 1.09, "epsilon": 1.99},
                    },
                    {"target_epsilon": 0.25, "deployment": None},
                ],
            }
        ],
    }


class Reader(HTMLParser):
    """Visible text, tags and addresses of a page; fails on a tag closed out of order."""

    void = frozenset({"meta", "link"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.void:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def write(folder: Path, record: dict, history: str | None = HISTORY) -> tuple[str, Reader]:
    (folder / "report.json").write_text(json.dumps(record))
    if history is not None:
        (folder / "metrics.csv").write_text(history)
        (folder / "config.yaml").write_text("name: <b>omniglot</b>\n")
    page = write_page(folder)
    assert page == folder / "report.html"
    text = page.read_text(encoding="utf-8")
    return text, Reader(text)


def test_a_complete_run(tmp_path):
    text, read = write(tmp_path, report())
    words = " ".join(read.words)
    assert "[2.23, 3.01]" in words  # 2.2388 down, 3.0012 up
    for expected in (
        "The training satisfies something.",
        "δ = 1.2e-4",
        "substitute-one",
        "fixed-size sampling without replacement",
        "if the seed were secret",
        "Recall at FAR 0.001",
        "0.4500",
        "3 min 18 s",
        "1.5 GiB",
        "3.4%",
        "vectorised, the fastest in 3 measured rounds; client updates/s: sequential 5.5, vectorised 11.25, "
        "large does not fit into memory",
        "77,120",
        "fedemb train recipe=omniglot 'name=a b'",
        "future key",
    ):
        assert expected in words
    assert text.count("<svg") == 3  # ε, recall, AUC
    assert text.count('class="line second"') == 2  # the moving average of each metric


def test_the_page_loads_and_runs_nothing(tmp_path):
    text, read = write(tmp_path, report())
    assert "script" not in read.tags
    assert read.addresses == ["data:,"]
    assert not re.search(r"url\(|@import|https?:", text)
    assert "default-src 'none'" in text


def test_what_a_run_says_is_text_not_markup(tmp_path):
    record = report()
    record["recipe"] = record["command"] = record["data"]["name"] = "<script>alert(1)</script>"
    record["privacy"]["claim"] = record["privacy"]["sampling"] = "<img src=x>"
    record["versions"] = {"<i>": "<i>"}
    record["metrics"]["<svg>"] = 0.5
    text, read = write(tmp_path, record)
    assert not read.tags & {"script", "img", "i"}
    assert "&lt;b&gt;omniglot" in text


def test_no_noise_means_no_guarantee(tmp_path):
    record = report()
    record["privacy"] |= {"epsilon": None, "epsilon_attack": None, "claim": "No privacy guarantee: no noise."}
    record["extrapolation"] = []
    history = re.sub(r"(\n\d+,[\d.]+),[\d.]+,[\d.]+", r"\1,inf,inf", HISTORY)
    text, read = write(tmp_path, record, history)
    words = " ".join(read.words)
    assert "ε = ∞" in words
    assert "no privacy guarantee" in words
    assert text.count("<svg") == 2  # no ε curve
    assert "ε lies in" not in words
    assert "Hypothetical" not in words


def test_hypothetical_deployments_come_after_the_run_and_say_so(tmp_path):
    text, read = write(tmp_path, report())
    own, hypothetical = text.index("[2.23, 3.01]"), text.index("0.313")
    assert own < text.index("Hypothetical deployments") < hypothetical
    words = " ".join(read.words)
    assert "This run's own ε [2.23, 3.01] is for its own users" in words
    for told in ("10^6", "0.012", "4,500, 1.09", "unreachable"):
        assert told in words
    record = report()
    del record["extrapolation"]
    assert "Hypothetical" not in write(tmp_path, record)[0]


def test_an_almost_empty_report_still_makes_a_page(tmp_path):
    text, read = write(tmp_path, {"privacy": {"epsilon": 1.0, "delta": 1e-6}}, history=None)
    assert tmp_path.name in " ".join(read.words)
    assert "≤ 1" in text  # no attack value: only the certified end
    assert "<svg" not in text
    write(tmp_path, {}, history="round,seconds,epsilon,epsilon_attack\n")


def test_a_measurement_that_does_not_exist_is_a_dash_and_a_gap(tmp_path):
    write(tmp_path, report())
    run = read_run(tmp_path)
    assert run.curve("auc") == [(0.0, 0.70), (200.0, 0.93)]
    assert run.metric_names() == ["recall@far=0.001", "auc"]
    page = (tmp_path / "report.html").read_text()
    assert re.search(r'<th scope="row">AUC</th><td>–</td><td>0.9500</td>', page)


def test_the_page_follows_a_changed_run(tmp_path):
    first, _ = write(tmp_path, report())
    record = report()
    record["seed"] = 8
    second, _ = write(tmp_path, record)
    assert "Seed 7" in first
    assert "Seed 8" in second
    assert not list(tmp_path.glob(".*"))  # no draft left behind


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "not a finished run"),
        ({"report.json": "{"}, "not valid JSON"),
        ({"report.json": "[]"}, "must hold a JSON object"),
        ({"report.json": "{}", "metrics.csv": "round,auc\n1,high\n"}, "not a number"),
    ],
)
def test_a_broken_folder_is_named(tmp_path, files, words):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=words):
        write_page(tmp_path)
    assert not (tmp_path / "report.html").exists()
