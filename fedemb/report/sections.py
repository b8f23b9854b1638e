"""The parts of the page, each from a run to HTML; "" where the run has nothing to say on it."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from fedemb.report import deployments, numbers
from fedemb.report.figures import Line, line_chart
from fedemb.report.metric_names import metric_label
from fedemb.report.record import NOT_COVERED
from fedemb.report.summary import EMA, RunSummary
from fedemb.report.tables import grid_table, labelled, pairs_table
from fedemb.report.timing import timing_rows

_PRIVACY_LABELS = {
    "unit": "Unit of privacy",
    "user": "A user is",
    "relation": "Neighbouring relation",
    "sampling": "Sampling of a cohort",
    "users": "Users in the data set",
    "users_per_round": "Users in a round",
    "clients_per_round": "Virtual clients in a round",
    "users_per_client": "Users in a virtual client",
    "ids_per_user": "User ids of one person, at most",
    "examples_per_user": "Examples of a whole user, at most",
    "user_epsilon": "ε of a whole user, certified (a dash: none)",
    "rounds": "Rounds",
    "rounds_charged": "Rounds charged to the ledger",
    "noise_multiplier": "Noise multiplier z",
    "clip_norm": "Clip norm C",
    "query": "Query",
    "mechanism": "Mechanism",
    "provenance": "Start of the model",
    "accountant": "Accountant",
}
_DATA_LABELS = {"name": "Name", "users": "Users", "examples": "Images", "checksum": "Checksum"}
_HEADLINES = 3


def epsilon_interval(privacy: Mapping[str, Any]) -> str:
    """ "[11.3, 11.4]", "≤ 11.4" without an attack, "∞" without a guarantee; never narrower than the numbers."""
    epsilon, attack = privacy.get("epsilon"), privacy.get("epsilon_attack")
    if epsilon is None:
        return "∞"
    return f"≤ {numbers.upper(epsilon)}" if attack is None else f"[{numbers.lower(attack)}, {numbers.upper(epsilon)}]"


def heading(run: RunSummary) -> str:
    """Title, and the numbers that one looks for first."""
    found, data = run.section("privacy"), run.section("data")
    kind = {"simulate": "simulation with seeded randomness", "release": "release with secret randomness"}
    facts = [
        _rounds(found.get("rounds")),
        f"{numbers.plain(data['users'])} users of {data.get('name', 'the data set')}" if data.get("users") else "",
        kind.get(str(run.report.get("mode")), ""),
    ]
    cards = [_epsilon_card(run)]
    for name in run.metric_names()[:_HEADLINES]:
        shown = EMA + name if EMA + name in run.section("metrics") else name
        cards.append(_card(numbers.metric(run.section("metrics").get(shown)), _variant_label(shown)))
    kicker = " · ".join(filter(None, facts))
    return (
        f'<header><h1>{escape(run.name)}</h1><p class="kicker">{escape(kicker)}</p></header>'
        f'<div class="cards">{"".join(cards)}</div>'
    )


def privacy(run: RunSummary) -> str:
    """The claim in words, and what it rests on."""
    found = run.section("privacy")
    none = found.get("epsilon") is None
    claim = found.get("claim") or ("No privacy guarantee." if none else "")
    scope = "; ".join(f"{key}: {found[key]}" for key in ("unit", "relation", "sampling") if found.get(key))
    interval = (
        f"ε lies in {epsilon_interval(found)} at δ = {numbers.small(found.get('delta'))} ({scope}): the upper end is "
        "certified, the lower end is what a concrete attack achieves."
    )
    words = " ".join([interval, *([f"{told}."] if (told := numbers.weak(found.get("epsilon"))) else [])])
    detail = "" if none else f'<p class="note">{escape(words)}</p>'
    style = "claim none" if none else "claim"
    return f'<section><h2>Privacy</h2><div class="{style}"><p>{escape(claim)}</p></div>{detail}</section>'


def metrics(run: RunSummary) -> str:
    """The last measurement, of the model and of its moving average."""
    values = run.section("metrics")
    names = list(dict.fromkeys(name.removeprefix(EMA) for name in values))
    if not names:
        return ""
    averaged = any(name.startswith(EMA) for name in values)
    header = ["Metric", "Model", "Moving average"] if averaged else ["Metric", "Model"]
    keys = ("", EMA) if averaged else ("",)
    rows = [[metric_label(name), *(numbers.metric(values.get(key + name)) for key in keys)] for name in names]
    note = f"A dash means that there was nothing to measure; {NOT_COVERED}."
    table = grid_table(header, rows, "numbers")
    return f'<section><h2>Quality of the embeddings</h2>{table}<p class="note">{note}</p></section>'


def curves(run: RunSummary) -> str:
    """Every metric, and ε, against the round."""
    figures = [_metric_figure(run, name) for name in run.metric_names()]
    found = [figure for figure in (_epsilon_figure(run), *figures) if figure]
    if not found:
        return ""
    private = bool(run.curve("epsilon"))
    averaged = any(name.startswith(EMA) for row in run.rows for name in row)
    keys = [f'<li class="first">{"certified ε, or the model" if private else "the model"}</li>']
    keys += ['<li class="second">moving average of the model</li>'] if averaged else []
    keys += ['<li class="band-key">between attack and certified ε</li>'] if run.curve("epsilon_attack") else []
    legend = f'<ul class="legend">{"".join(keys)}</ul>'
    return f'<section><h2>Over the rounds</h2>{legend}<div class="charts">{"".join(found)}</div></section>'


def details(run: RunSummary) -> str:
    """Settings behind ε, timing, data and versions."""
    hidden = ("epsilon", "epsilon_attack", "delta", "claim")
    settings = labelled(run.section("privacy"), _PRIVACY_LABELS, skip=hidden)
    versions = [(name, str(version)) for name, version in run.section("versions").items()]
    right = [
        pairs_table("Time and memory", timing_rows(run.section("timing"))),
        pairs_table("Data", labelled(run.section("data"), _DATA_LABELS)),
        pairs_table("Versions", versions),
    ]
    left = pairs_table("What ε follows from", settings)
    columns = f'{left}<div class="stack">{"".join(right)}</div>'
    return f'<section><h2>Settings</h2><div class="columns">{columns}</div></section>'


def extrapolation(run: RunSummary) -> str:
    """Deployments that did not happen, set apart from the run's own ε."""
    rows = [row for row in run.report.get("extrapolation") or [] if isinstance(row, Mapping)]
    if not rows:
        return ""
    words = (
        "Below is what the same ratio of signal to noise would cost if there were more users in all and, with the "
        "noise, in a round: M users a round and noise multiplier z that meet a target at δ = N^-1.1, and the least ε, "
        "with all users in every round. No number of users a round goes below µ*-Gaussian differential privacy. The "
        "quality of the embeddings was measured in this run, not in such a deployment."
    )
    own = f"This run's own ε {epsilon_interval(run.section('privacy'))} is for its own users. "
    table = grid_table(deployments.header(rows), [deployments.cells(row) for row in rows], "wide")
    return (
        f'<section class="hypothetical"><h2>Hypothetical deployments</h2><p class="note">{escape(own + words)}</p>'
        f"{table}</section>"
    )


def reproduction(run: RunSummary) -> str:
    """The command line, the seed and the configuration."""
    command, seed = run.report.get("command"), run.report.get("seed")
    parts = [f'<pre class="command">{escape(str(command))}</pre>'] if command else []
    if seed is not None:
        parts.append(f'<p class="note">Seed {escape(str(seed))}. A click on the command selects all of it.</p>')
    if run.config:
        parts.append(
            f"<details><summary>Configuration (config.yaml)</summary><pre>{escape(run.config)}</pre></details>"
        )
    return f"<section><h2>Reproduce</h2>{''.join(parts)}</section>" if parts else ""


def _rounds(number: int | None) -> str:
    if number is None:
        return ""
    return numbers.counted(number, "round")


def _epsilon_card(run: RunSummary) -> str:
    found = run.section("privacy")
    if found.get("epsilon") is None:
        return _card("ε = ∞", "no privacy guarantee", "key none")
    condition = ", if the seed were secret" if run.report.get("mode") == "simulate" else ""
    under = f"{found.get('unit', 'user')}-level ε at δ = {numbers.small(found.get('delta'))}{condition}"
    return _card(epsilon_interval(found), under, "key")


def _variant_label(name: str) -> str:
    label = metric_label(name.removeprefix(EMA))
    return f"{label}, moving average" if name.startswith(EMA) else label


def _card(value: str, label: str, style: str = "") -> str:
    return f'<div class="card {style}"><b>{escape(value)}</b><span>{escape(label)}</span></div>'


def _figure(title: str, chart: str) -> str:
    return f"<figure><h3>{escape(title)}</h3>{chart}</figure>" if chart else ""


def _metric_figure(run: RunSummary, name: str) -> str:
    lines = [
        Line(label="Model", style="first", points=run.curve(name)),
        Line(label="Moving average", style="second", points=run.curve(EMA + name)),
    ]
    title = metric_label(name)
    return _figure(title, line_chart(title=title, lines=lines, x_label="round", value_text=numbers.metric))


def _epsilon_figure(run: RunSummary) -> str:
    certified, attack = run.curve("epsilon"), run.curve("epsilon_attack")
    same_rounds = [x for x, _ in certified] == [x for x, _ in attack]
    line = Line(label="Certified ε", style="first", points=certified)
    found = run.section("privacy")
    title = f"ε at δ = {numbers.small(found.get('delta'))}, {found.get('unit', 'user')} level"
    band = (attack, certified) if same_rounds else None
    return _figure(title, line_chart(title=title, lines=[line], x_label="round", value_text=numbers.upper, band=band))
