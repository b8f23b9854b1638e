"""All runs and what they were set to: the settings that differ as columns, the rest below."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from fedemb.report.frontier import epsilon_label
from fedemb.report.metric_names import metric_label
from fedemb.report.numbers import DASH, duration, plain, small
from fedemb.report.numbers import metric as metric_text
from fedemb.report.runs import Run, Sweep, differing, is_result, shown
from fedemb.report.sections import epsilon_interval

_COLUMNS = 8  # settings that a table has room for
_METRICS = 4

Cell = tuple[str, float | str | None]
"""(what is written, what it is sorted by; None goes last)."""


def table(sweep: Sweep) -> str:
    """A row a run, with its command to copy; the header sorts where scripts run."""
    runs = sweep.runs
    keys = [key for key in differing(runs) if is_result(key) and not key.endswith("_convert_")]
    settings, metrics = keys[:_COLUMNS], sweep.metrics[:_METRICS]
    methods = {run.path: name for name, group in sweep.methods.items() for setting in group for run in setting.runs}
    head = [*map(_short, settings), "Seed", "ε", *map(metric_label, metrics), "Time"]
    titles = [*settings, "", "from what an attack reaches to the certified end", *([""] * len(metrics)), ""]
    columns = "".join(
        f'<th scope="col"{f""" title="{escape(title, quote=True)}" """ if title else ""}>{escape(name)}</th>'
        for name, title in zip(head, titles, strict=True)
    )
    lines = "".join(_row(place, run, methods[run.path], settings, metrics) for place, run in enumerate(runs))
    left = f"; {len(keys) - _COLUMNS} more differ: {', '.join(keys[_COLUMNS:])}" if len(keys) > _COLUMNS else ""
    told = f"ε: from what an attack reaches to the {epsilon_label(sweep)}, substitute-one"
    note = f'<p class="note">Columns are the settings in which runs differ{escape(left)}. {escape(told)}.</p>'
    return (
        f'{note}<div class="scroll"><table class="runs sortable"><thead><tr>'
        f'<th scope="col">Method</th><th scope="col" class="act">Command</th>{columns}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def details(sweep: Sweep) -> str:
    """What all runs share, and each run's claim, command and folder."""
    common = {
        key: value
        for key, value in sweep.runs[0].settings.items()
        if len({shown(run.settings.get(key)) for run in sweep.runs}) == 1
    }
    shared = "\n".join(f"{key}: {'null' if value is None else value}" for key, value in common.items())
    different = differing(sweep.runs)
    title = "Settings of all runs" if len(sweep.runs) > 1 else "Settings"
    runs = "".join(_details(place, run, different) for place, run in enumerate(sweep.runs))
    return (
        f"<details><summary>{title}</summary><pre>{escape(shared)}</pre></details>"
        f"<details><summary>Commands, folders and claims</summary>{runs}</details>"
    )


def _row(place: int, run: Run, method: str, settings: Sequence[str], metrics: Sequence[str]) -> str:
    timing = run.summary.section("timing").get("seconds")
    cells = [
        *(_setting(run, key) for key in settings),
        (DASH if run.seed is None else str(run.seed), run.seed),
        (epsilon_interval(run.summary.section("privacy")), run.epsilon),
        *((metric_text(run.metric(name)), run.metric(name)) for name in metrics),
        (duration(timing), timing),
    ]
    written = "".join(f'<td data-sort="{_key(key)}">{escape(text)}</td>' for text, key in cells)
    button = (
        f'<button type="button" class="copy" data-copy="{escape(run.command, quote=True)}" hidden>copy</button>'
        if run.command
        else ""
    )
    link = f'<a href="#run-{place}">show</a>'
    return (
        f'<tr><th scope="row" data-sort="{escape(method, quote=True)}">{escape(method)}</th>'
        f'<td class="act">{button} {link}</td>{written}</tr>'
    )


def _setting(run: Run, key: str) -> Cell:
    value = run.settings.get(key)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return shown(value), value if number else shown(value)


def _key(value: float | str | None) -> str:
    return "" if value is None else escape(str(value), quote=True)


def _short(key: str) -> str:
    """ "server.learning_rate" -> "server learning rate"; of a group's class the group."""
    return key.removesuffix("._target_").replace(".", " ").replace("_", " ")


def _details(place: int, run: Run, different: Sequence[str]) -> str:
    privacy = run.summary.section("privacy")
    own = ", ".join(f"{key} = {shown(run.settings.get(key))}" for key in different if is_result(key))
    values = ", ".join(
        f"{metric_label(name)} {metric_text(value)}"
        for name in run.summary.metric_names()
        if (value := run.metric(name)) is not None
    )
    facts = [f"δ = {small(privacy.get('delta'))}", f"{plain(privacy.get('users'))} users", own, values]
    command = f'<pre class="command">{escape(run.command)}</pre>' if run.command else ""
    claim = f"<p>{escape(str(privacy['claim']))}</p>" if privacy.get("claim") else ""
    unseeded = "" if run.simulated else " A release keeps no seed: the command gives another draw of the same run."
    return (
        f'<div class="run" id="run-{place}"><h3>{escape(f"{run.method}, {run.path}")}</h3>{command}'
        f'<p class="note">{escape("; ".join(filter(None, facts)) + "." + unseeded)}</p>{claim}</div>'
    )
