"""The page in headless Chromium: opens quietly, shows values, sorts, copies; and works without a script."""

import pytest
from browser import browsing, executable
from run_folders import make_run, make_sweep

from fedemb.report.chapters import OWN
from fedemb.report.overview import overview
from fedemb.report.runs import read_sweep

pytest.importorskip("websockets", reason="websockets drives the browser: pip install 'fedemb[test]'")
if executable() is None:
    pytest.skip("no Chromium here: apt-get install chromium, or CHROMIUM=PATH", allow_module_level=True)

METRIC = "recall@far=0.001"
COLUMN = "[...document.querySelectorAll('table.runs tbody tr')].map((row) => row.cells[%d].textContent)"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The page of a small sweep, one run of which has no metric."""
    folder = tmp_path_factory.mktemp("browser")
    make_sweep(folder / "runs", noise_multipliers=(0.0, 0.1, 1.0), seeds=2, methods=["DP-FedEmb", "DP-FedAvg"])
    odd = make_run(folder / "runs" / "odd", seed=7)
    odd.joinpath("report.json").write_text(odd.joinpath("report.json").read_text().replace('"auc": 0.', '"none": 0.'))
    made = overview(read_sweep([str(folder / "runs")]), metric=METRIC, populations=[OWN, 10**5])
    (folder / "report.html").write_text(made.html, encoding="utf-8")
    return folder / "report.html"


@pytest.fixture(scope="module")
def page():
    with browsing() as tab:
        yield tab


def visible(page, selector):
    """How many elements of a kind take room on the page."""
    return page.run(
        f"[...document.querySelectorAll({selector!r})].filter((e) => e.getBoundingClientRect().height > 0).length"
    )


def test_it_opens_quietly_asks_for_nothing_and_shows_its_charts(page, written):
    page.open(written)
    assert page.problems == []
    assert {address.partition(":")[0] for address in page.requests} <= {"file", "data"}
    assert sum(address.startswith("file:") for address in page.requests) == 1
    assert visible(page, "svg.plot") == 7  # one frontier of several, 2 + 1 over rounds, extrapolation, 2 of norms
    assert page.run("document.fonts.size") == 0
    outside = "[...document.querySelectorAll('svg.plot')].flatMap((svg) => [...svg.querySelectorAll('text')].filter(\
      (text) => { const a = svg.getBoundingClientRect(), b = text.getBoundingClientRect();\
      return b.width && (b.left < a.left - 1 || b.right > a.right + 1 || b.bottom > a.bottom + 1); })).length"
    assert page.run(outside) == 0


def test_a_mark_tells_its_value_to_the_pointer(page, written):
    page.open(written)
    assert page.run("document.querySelector('.tip').hidden")
    page.point_at("svg.plot .point circle.hit")
    assert not page.run("document.querySelector('.tip').hidden")
    told = page.run("document.querySelector('.tip').textContent")
    assert told.startswith("DP-FedEmb, z = ")
    assert " ± " in told
    assert "; ε ≤ " in told


def test_a_choice_changes_the_chart(page, written):
    page.open(written)
    shown = "[...document.querySelectorAll('svg.plot')].find((svg) => svg.getBoundingClientRect().height).innerHTML"
    assert "certified user-level ε, δ = 1.2e-4" in page.run(shown)
    page.point_at("label[for=x0-0-1]", click=True)
    assert "N = 100,000" in page.run(shown)
    page.point_at("label[for=y0-1]", click=True)
    assert "AUC" in page.run(shown)


def test_the_table_sorts_numbers_as_numbers_and_missing_last(page, written):
    page.open(written)
    page.point_at("table.runs thead th:nth-child(6) button", click=True)
    seen = page.run(COLUMN % 5)
    assert seen[-4:] == ["∞"] * 4
    assert [float(text.split(", ")[1].rstrip("]")) for text in seen[:-4]] == sorted(
        float(text.split(", ")[1].rstrip("]")) for text in seen[:-4]
    )
    page.point_at("table.runs thead th:nth-child(6) button", click=True)
    assert page.run(COLUMN % 5)[:4] == ["∞"] * 4
    assert page.run("document.querySelector('th[aria-sort]').getAttribute('aria-sort')") == "descending"
    for _ in range(2):  # AUC, up and down
        page.point_at("table.runs thead th:nth-child(8) button", click=True)
        assert page.run(COLUMN % 7)[-1] == "–"


def test_one_click_copies_the_command_that_reproduces_a_point(page, written):
    page.open(written)
    page.run("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    page.point_at("table.runs tbody tr:nth-child(3) button.copy", click=True)
    assert page.run("window.copied") == "fedemb train recipe=omniglot_dp method='DP-FedEmb' noise_multiplier=0.1 seed=0"
    assert page.run("document.querySelectorAll('button.copy')[2].textContent") == "copied"


def test_a_phone_scrolls_down_only(page, written):
    page.open(written, width=390, height=800)
    assert page.run("document.documentElement.scrollWidth") == 390
    assert page.problems == []


def test_without_a_script_everything_essential_is_there(page, written):
    page.open(written, script=False)
    assert visible(page, "svg.plot") == 7
    assert visible(page, "button") == 0
    assert page.run("document.querySelector('svg.plot .point title').textContent").startswith("DP-FedEmb, z = ")
    page.point_at("label[for=x0-0-1]", click=True)  # the choice is the style sheet's
    assert visible(page, "#x0-0-1:checked ~ .panels > :nth-child(2)") == 1
    assert page.run("document.querySelectorAll('pre.command').length") == 13


def test_print_shows_charts_and_table_and_no_controls(page, written, tmp_path):
    page.open(written, media="print")
    assert visible(page, "svg.plot") == 7
    assert visible(page, "table.runs tbody tr") == 13
    assert visible(page, "button.copy") == 0
    page.pdf(tmp_path / "a.pdf")
    assert (tmp_path / "a.pdf").stat().st_size > 10_000
