"""The parts of a sweep's page, each with the figures that become files; empty where there is nothing to show."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from fedemb.report import looks, norms, over_rounds, prospects, run_table
from fedemb.report.choices import MOST, choice
from fedemb.report.frontier import Cost, at_users, epsilon_label, frontier, own, users_label
from fedemb.report.metric_names import metric_label
from fedemb.report.numbers import counted, upper
from fedemb.report.numbers import metric as metric_text
from fedemb.report.record import NOT_COVERED
from fedemb.report.runs import Run, Sweep

OWN = 0
"""Stands for the runs' own epsilon among the numbers of users of hypothetical deployments."""


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """html: with every chart in it; "" for none. charts: file name without ending -> <svg>."""

    html: str = ""
    charts: Mapping[str, str] = field(default_factory=dict)


def heading(sweep: Sweep, metric: str) -> Chapter:
    """What is compared, in a few numbers."""
    names, runs = list(dict.fromkeys(run.method for run in sweep.runs)), len(sweep.runs)
    title = names[0] if len(names) == 1 else f"{len(names)} methods compared"
    told = [counted(runs, "run"), ", ".join(filter(None, sweep.data))]
    costs = [run.epsilon for run in sweep.runs]
    left = f", {len(sweep.unfinished)} not finished" if sweep.unfinished else ""
    left += f", {len(sweep.damaged)} damaged" if sweep.damaged else ""
    values = [value for run in sweep.runs if (value := run.metric(metric)) is not None]
    span = " to ".join(dict.fromkeys(upper(value) for value in (min(costs), max(costs))))
    cards = [
        ("key", span, f"{epsilon_label(sweep)}, substitute-one"),
        ("", str(runs), ("finished run" if runs == 1 else "finished runs") + left),
        *([("", metric_text(max(values)), f"highest {metric_label(metric)}")] if values else []),
    ]
    shown = "".join(f'<div class="card {s}"><b>{escape(v)}</b><span>{escape(n)}</span></div>' for s, v, n in cards)
    return Chapter(
        html=f'<header><h1>{escape(title)}</h1><p class="kicker">{escape(" · ".join(filter(None, told)))}</p></header>'
        f'<div class="cards">{shown}</div>{_terms(sweep)}'
    )


def frontiers(sweep: Sweep, metric: str, populations: Sequence[int]) -> Chapter:
    """Utility against epsilon, for each data set; metric and kind of epsilon are chosen on the page.

    populations: users of hypothetical deployments, `OWN` for the runs' own epsilon; the first is shown first.
    """
    charts: dict[str, str] = {}
    parts = []
    names = list(dict.fromkeys([metric, *sweep.metrics]))[:MOST]
    for place, data in enumerate(sweep.data):
        part, options = sweep.on(data), list[tuple[str, str]]()
        for name in names:
            kinds = []
            for users in list(dict.fromkeys(populations))[:MOST]:
                cost, label, short, slug = _kind(part, users)
                svg = frontier(part, name, cost, label)
                if svg:
                    charts[_file("frontier", data if len(sweep.data) > 1 else "", name, slug)] = svg
                    kinds.append((short, f'<figure class="wide-figure">{svg}</figure>'))
            if kinds:
                options.append((metric_label(name), choice(f"x{place}-{len(options)}", "Epsilon", kinds)))
        if options:
            title = f"<h3>{escape(data)}</h3>" if len(sweep.data) > 1 else ""
            parts.append(title + choice(f"y{place}", "Metric", options))
    seeds = max(len(setting.runs) for group in sweep.methods.values() for setting in group)
    bands = " The bands are 95 % confidence intervals of the mean over seeds (Student's t)." if seeds > 1 else ""
    words = (
        "A line joins what no setting of the same method with less or equal ε beats; other settings are hollow. "
        f"Dashed: without noise.{bands} Where the line was chosen by the metric that it shows, it is optimistic. "
        "A hypothetical deployment keeps the run's signal-to-noise ratio with more users, all of them in every round: "
        "its utility was measured in the run, not there."
    )
    return _section("Privacy and utility", words, "".join(parts), charts)


def rounds(sweep: Sweep, metric: str) -> Chapter:
    """Utility and epsilon as training went on."""
    charts = {
        _file("rounds", name): over_rounds.utility(name, settings, metric) for name, settings in sweep.methods.items()
    }
    titles = {_file("rounds", name): name for name in sweep.methods}
    charts["epsilon"], titles["epsilon"] = over_rounds.epsilon(sweep), "ε by the ledger"
    found = {name: svg for name, svg in charts.items() if svg}
    figures = "".join(f"<figure><h3>{escape(titles[name])}</h3>{svg}</figure>" for name, svg in found.items())
    several = f"; at most {looks.STEPS} settings a figure, evenly spread" if _crowded(sweep) else ""
    words = f"From little noise (dark) to much (light){several}. ε is composed from the charges in ledger.jsonl."
    return _section("Over the rounds", words, f'<div class="charts">{figures}</div>' if figures else "", found)


def deployments(sweep: Sweep, metric: str) -> Chapter:
    """What the signal-to-noise ratios would cost at N users."""
    best = sweep.best(metric)
    chart = prospects.chart(sweep, metric)
    if not chart:
        return Chapter()
    words = (
        "The least ε that a setting's signal-to-noise ratio costs with N users, all of them in every round. No such "
        "deployment has happened. Below, what a deployment needs to meet a target, for each method's run with a "
        f"guarantee and the highest {metric_label(metric)}."
    )
    body = f'<figure class="wide-figure">{chart}</figure>{prospects.tables(best, metric)}'
    return Chapter(
        html=f'<section class="hypothetical"><h2>Extrapolation to N users</h2><p class="note">{escape(words)}</p>'
        f"{body}</section>",
        charts={"extrapolation": chart},
    )


def updates(sweep: Sweep, metric: str) -> Chapter:
    """Norms of updates, of simulations alone."""
    charts, figures = {}, []
    for name, run in sweep.best(metric).items():
        found = norms.read_norms(run)
        chart = norms.chart(name, found, _clip_norm(run), looks.method(sweep.place(run))[0]) if found else ""
        if found and chart:
            broken = f", {counted(found.broken, 'update')} not finite" if found.broken else ""
            charts[_file("norms", name)] = chart
            figures.append(f"<figure><h3>{escape(f'{name}, run {run.path.name}{broken}')}</h3>{chart}</figure>")
    words = (
        "Exact values of training data, which no guarantee covers: shown because these runs are simulations. For each "
        f"method the run with the highest {metric_label(metric)}, all its rounds."
    )
    return _section(
        "Norms of updates (simulation)",
        words,
        f'<div class="charts">{"".join(figures)}</div>' if figures else "",
        charts,
    )


def runs(sweep: Sweep) -> Chapter:
    """The table of everything, and what was not finished or cannot be read."""
    left = [*(("Not finished", path) for path in sweep.unfinished), *(("Damaged", told) for told in sweep.damaged)]
    missing = "".join(
        f'<p class="note left-out">{why}, not on this page: {escape(str(what))}</p>' for why, what in left
    )
    return Chapter(
        html=f"<section><h2>Runs and settings</h2>{run_table.table(sweep)}{missing}{run_table.details(sweep)}</section>"
    )


def _terms(sweep: Sweep) -> str:
    """What the numbers of this page are not."""
    tuned = "Comparing runs and choosing among them is not accounted for in any ε here" if len(sweep.runs) > 1 else ""
    simulated = any(run.simulated for run in sweep.runs)
    seeded = "The ε of a simulation would hold if its seed were secret" if simulated else ""
    measured = NOT_COVERED[:1].upper() + NOT_COVERED[1:] if any(sweep.metrics) else ""
    units = {run.unit for run in sweep.runs}
    mixed = f"Values of ε for different units ({', '.join(sorted(units))}) cannot be compared" if len(units) > 1 else ""
    told = " ".join(f"{line}." for line in (tuned, seeded, measured, mixed) if line)
    return f'<div class="claim"><p>{escape(told)}</p></div>' if told else ""


def _kind(sweep: Sweep, users: int) -> tuple[Cost, str, str, str]:
    """(epsilon of a run, name of the axis, of the button, of the file)."""
    if users == OWN:
        return own, epsilon_label(sweep), "the run's own", "own"
    return at_users(users), users_label(users), f"at N = {users:,}", f"n{users}"


def _clip_norm(run: Run) -> float | None:
    """C where it bounds the norm of the whole update in every round."""
    privacy = run.summary.section("privacy")
    found = privacy.get("clip_norm")
    return float(found) if found and privacy.get("query") == "ClippedSum" else None


def _crowded(sweep: Sweep) -> bool:
    return any(len(settings) > looks.STEPS for settings in sweep.methods.values())


def _section(title: str, words: str, body: str, charts: Mapping[str, str]) -> Chapter:
    if not body:
        return Chapter()
    html = f'<section><h2>{escape(title)}</h2><p class="note">{escape(words)}</p>{body}</section>'
    return Chapter(html=html, charts=charts)


def _file(*parts: str) -> str:
    """Words as a file name."""
    return re.sub(r"[^\w.]+", "-", "-".join(filter(None, parts)).lower()).strip("-")
