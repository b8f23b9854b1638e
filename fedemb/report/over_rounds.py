"""How a sweep went: utility by round, and epsilon by what the ledgers charged."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence

from fedemb.privacy import accounting
from fedemb.privacy.events import from_plain, to_plain
from fedemb.privacy.ledger import charges
from fedemb.report import axes, looks
from fedemb.report.confidence import Estimate
from fedemb.report.frontier import FRACTIONS, epsilon_label
from fedemb.report.marks import Mark, Series
from fedemb.report.metric_names import metric_label
from fedemb.report.numbers import upper
from fedemb.report.plot import Plot
from fedemb.report.ramp import Owner, spread, together
from fedemb.report.runs import Setting, Sweep

_PLACES = 8  # of a ledger at which epsilon is computed


def utility(method: str, settings: Sequence[Setting], metric: str) -> str:
    """One method: a line for each of its settings, from the least noise to the most; "" without two rounds."""
    measured = [setting for setting in settings if any(run.curve(metric) for run in setting.runs)]
    chosen = spread(measured[::-1])
    lines = [_utility(setting, metric, *looks.step(i, len(chosen))) for i, setting in enumerate(chosen)]
    if all(len(line.line) < 2 for line in lines):
        return ""
    return Plot(
        title=f"{method}: {metric_label(metric)} against the round",
        x_label="round",
        y_label=metric_label(metric),
        x_axis=axes.whole,
        y_axis=axes.linear,
        series=lines,
        limits=FRACTIONS,
    ).svg()


def epsilon(sweep: Sweep) -> str:
    """A line for each different ledger of the sweep; "" where none holds a finite cost."""
    chosen = spread(_priced(sweep))
    lines = []
    for i, (plain, delta, names) in enumerate(chosen):
        style, shape = looks.step(i, len(chosen))
        told = "; ".join(", ".join(filter(None, name)) for name in names)
        marks = [
            Mark(x=count, y=cost, words=f"{told}: ε ≤ {upper(cost)} after {count} charges")
            for count, cost in spent(plain, delta)
        ]
        lines.append(Series(label=together(names), style=style, shape=shape, line=marks))
    return Plot(
        title="ε against the rounds charged",
        x_label="rounds charged to the ledger",
        y_label=epsilon_label(sweep),
        x_axis=axes.whole,
        y_axis=axes.powers,
        series=lines,
    ).svg()


def _priced(sweep: Sweep) -> list[tuple[list[str], float, list[Owner]]]:
    """(charges, delta, who has them) of each different ledger with a guarantee, the least epsilon last."""
    found = dict[str, tuple[list[str], float, list[Owner]]]()
    settings = [(setting.epsilon, name, setting) for name, group in sweep.methods.items() for setting in group]
    for cost, name, setting in sorted(settings, key=lambda entry: -entry[0]):
        ledger, delta = setting.first.path / "ledger.jsonl", setting.first.summary.section("privacy").get("delta")
        if math.isinf(cost) or not delta or not ledger.is_file():
            continue
        plain = [json.dumps(to_plain(event), sort_keys=True) for event in charges(ledger)]
        _, _, names = found.setdefault(json.dumps([plain, delta]), (plain, delta, []))
        names.append((name, setting.label))
    return list(found.values())


def spent(plain: Sequence[str], delta: float) -> list[tuple[int, float]]:
    """(charges so far, certified epsilon) at a few places of a ledger, the last of them its end.

    plain: each charge as JSON, in order.
    """
    counts = sorted({math.ceil(len(plain) * (place + 1) / _PLACES) for place in range(_PLACES)}) if plain else []
    found = []
    for count in counts:
        events = [(from_plain(json.loads(event)), times) for event, times in Counter(plain[:count]).items()]
        cost = accounting.epsilon(events, delta)
        if 0 < cost < math.inf:
            found.append((count, cost))
    return found


def _utility(setting: Setting, metric: str, style: str, shape: str) -> Series:
    """The mean over seeds wherever all of them measured."""
    curves = [dict(run.curve(metric)) for run in setting.runs]
    rounds = sorted(set.intersection(*(set(curve) for curve in curves if curve)))
    estimates = [(number, Estimate.of([curve[number] for curve in curves if curve])) for number in rounds]
    noise = "no noise" if math.isinf(setting.epsilon) else f"ε ≤ {upper(setting.epsilon)}"
    label = setting.label or noise
    marks = [
        Mark(x=number, y=value.mean, words=f"{label}, round {number:g}: {value.words} ({noise} at the end)")
        for number, value in estimates
    ]
    band = [(number, value.low, value.high) for number, value in estimates] if len(curves) > 1 else []
    return Series(label=label, style=style, shape=shape, line=marks, band=band)
