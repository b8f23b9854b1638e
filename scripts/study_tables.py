"""Finished points of scripts/study.py to docs/study.md, docs/study/points.csv and figures."""

import shlex

import pandas as pd
from study_points import (
    DATASETS,
    DEPLOYED_USERS,
    EPSILONS,
    EXAMPLES,
    HELD_OUT,
    REPORTED,
    SEEDS,
    SIDE,
    TUNED_AT,
    TUNING_SEED,
    USERS,
    WIDTH,
    short,
)

from fedemb.core.files import write_atomically
from fedemb.report import axes, looks
from fedemb.report.bars import Bar, Panel, bar_figure
from fedemb.report.confidence import Estimate
from fedemb.report.files import standalone
from fedemb.report.frontier import FRACTIONS
from fedemb.report.marks import Level, Mark, Series
from fedemb.report.numbers import upper
from fedemb.report.plot import Plot

METRICS = {"recall@far=0.001": "recall@FAR=1e-3", "recall@1": "recall@1"}
MAIN = "recall@far=0.001"
TITLES = {"omniglot": "Omniglot identities", "qmnist": "QMNIST writers"}
LABELS = {
    "fedemb": "DP-FedEmb",
    "one_user": "DP-FedEmb, one user per client",
    "fedavg": "DP-FedAvg, global head",
    "dpsgd": "User-level DP-SGD",
    "examples": "Example-level DP-SGD",
    "central": "Centralised, non-private",
}
BEFORE = "Before the first round"
CLEAN = "∞"
UNTRAINED = "untrained "  # before a column's name: the same run before its first round


def frame(study, every):
    """One row a finished point."""
    columns = ["point", "group", "dataset", "method", "variant", "epsilon", "seed", "tuned", *METRICS]
    columns += [UNTRAINED + key for key in METRICS]
    columns += ["z", "own_epsilon", "least_epsilon_1e5", "least_epsilon_1e6", "seconds"]
    found = ((point, study.summary(point.name)) for point in every)
    return pd.DataFrame([row(point, run) for point, run in found if run], columns=columns)


def row(point, run):
    """What a point is and what came of it. run: RunSummary."""
    privacy = run.section("privacy")
    deployed = {entry["users"]: entry["least_epsilon"] for entry in run.report["extrapolation"]}
    return {
        "point": point.name,
        "group": point.group,
        "dataset": point.dataset.name,
        "method": point.method.name,
        "variant": point.variant,
        "epsilon": CLEAN if point.epsilon is None else f"{point.epsilon:g}",
        "seed": point.seed,
        "tuned": tuned(point, run.report["command"]),
        **{key: run.metric(key) for key in METRICS},
        **{UNTRAINED + key: run.rows[0][key] for key in METRICS},
        "z": privacy["noise_multiplier"],
        "own_epsilon": privacy.get("user_epsilon", privacy["epsilon"]),
        "least_epsilon_1e5": deployed.get(10**5),
        "least_epsilon_1e6": deployed.get(10**6),
        "seconds": run.section("timing")["seconds"],
    }


def tuned(point, command):
    """The candidate that a run's command has."""
    words = set(shlex.split(command))
    return " ".join(next(candidate for candidate in point.method.candidates if words.issuperset(candidate)))


def table(header, rows):
    """Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def cell(values):
    """Mean ± standard deviation, and how many seeds if not all."""
    values = values.dropna()
    if values.empty:
        return "–"
    spread = f" ± {values.std():.3f}" if len(values) > 1 else ""
    return f"{values.mean():.3f}{spread}" + (f" (n = {len(values)})" if len(values) < len(SEEDS) else "")


def measured(found, data, group):
    """Is any run of these in?"""
    return ((found.dataset == data.name) & (found.group == group)).any()


def chosen(found, data, method, epsilon):
    """The method's own points, without variants."""
    same = (found.dataset == data.name) & (found.method == method) & (found.epsilon == epsilon)
    return found[same & (found.group == "methods")]


def at_equal_epsilon(found, data, metric):
    """A line a method."""
    epsilons = [f"{epsilon:g}" for epsilon in EPSILONS] + [CLEAN]
    rows = [[LABELS[m.name], *(cell(chosen(found, data, m.name, e)[metric]) for e in epsilons)] for m in data.methods]
    untrained = chosen(found, data, "fedemb", CLEAN)[UNTRAINED + metric]
    rows.append([BEFORE, *[""] * len(EPSILONS), cell(untrained)])
    return table(["", *(f"ε = {e}" for e in epsilons[:-1]), "no noise"], rows)


def drops(found, data, metric):
    """In percent of the same method without noise."""
    rows = []
    for method in (m for m in data.methods if m.private):
        clean, cells = chosen(found, data, method.name, CLEAN)[metric].mean(), []
        for epsilon in EPSILONS:
            cells.append(percent(chosen(found, data, method.name, f"{epsilon:g}")[metric].mean(), clean))
        rows.append([LABELS[method.name], *cells])
    return table(["", *(f"ε = {epsilon:g}" for epsilon in EPSILONS)], rows)


def percent(value, base):
    """Signed difference in percent."""
    return "–" if pd.isna(value) or pd.isna(base) or not base else f"{100 * (value / base - 1):+.0f} %"


def ingredients(found, data):
    """DP-FedEmb with one thing changed, all at the same ε."""
    base = chosen(found, data, "fedemb", f"{TUNED_AT:g}")
    own = found[(found.dataset == data.name) & (found.group == "ingredients")]
    rows = [[f"DP-FedEmb, k = {data.k}", *(cell(base[metric]) for metric in METRICS), ""]]
    for variant in dict.fromkeys(own.variant):
        some = own[own.variant == variant]
        paired = some.merge(base, on="seed", suffixes=("", "_base"))
        difference = percent(paired[MAIN].mean(), paired[f"{MAIN}_base"].mean())
        rows.append([variant, *(cell(some[metric]) for metric in METRICS), difference])
    return table(["", *METRICS.values(), f"{METRICS[MAIN]} against the first line, same seeds"], rows)


def tried(found, data):
    """What tuning chose among, and what each reached then; the chosen in bold."""
    rows, tuning = [], found[(found.dataset == data.name) & (found.group == "tuning")]
    for method in data.methods:
        own = tuning[tuning.method == method.name]
        best = own[MAIN].max()
        told = [
            f"{mark}{', '.join(map(short, words.split()))}: {value:.3f}{mark}"
            for words, value in zip(own.tuned, own[MAIN].fillna(0.0), strict=True)
            for mark in ["**" if value == best else ""]
        ]
        rows.append([LABELS[method.name], "; ".join(told)])
    return table(["", f"{METRICS[MAIN]} of each setting"], rows)


def verdict(found, data):
    """Where DP-FedEmb is not above another private method at the same ε, and where it loses at most 5 % by noise."""
    lines = []
    for method in (m.name for m in data.methods if m.private and m.name != "fedemb"):
        worse, known = [], 0
        for epsilon in (f"{e:g}" for e in EPSILONS):
            ours, theirs = (chosen(found, data, name, epsilon)[MAIN].mean() for name in ("fedemb", method))
            known += not (pd.isna(ours) or pd.isna(theirs))
            worse += [epsilon] if ours <= theirs else []
        told = f"not above it at ε = {', '.join(worse)}" if worse else f"above it at all {known} ε"
        if known:
            lines.append(
                f"* DP-FedEmb against {LABELS[method]}: {told}{'' if known == len(EPSILONS) else ' measured'}."
            )
    clean = chosen(found, data, "fedemb", CLEAN)
    for epsilon in (f"{e:g}" for e in EPSILONS):
        noisy = chosen(found, data, "fedemb", epsilon)
        if len(noisy) and len(clean):
            changes = " and ".join(
                f"{percent(noisy[metric].mean(), clean[metric].mean())} {label}" for metric, label in METRICS.items()
            )
            larger = noisy.least_epsilon_1e6.max()
            lines.append(
                f"* Noise for ε = {epsilon} at N = {DEPLOYED_USERS:,}, which is ε = {upper(larger)} at N = 1,000,000, "
                f"changes DP-FedEmb by {changes}; the run's own ε is {upper(noisy.own_epsilon.max())}."
            )
    return "\n".join([*lines, *within(found, data)]) + "\n"


def within(found, data, share=0.05):
    """Where the paper's "drop within 5 % at epsilon < 4" holds on both metrics; no line without measurements."""
    means = {e: chosen(found, data, "fedemb", e)[list(METRICS)].mean() for e in (CLEAN, *(f"{e:g}" for e in EPSILONS))}
    clean = means.pop(CLEAN)
    held = {e: bool((mean >= (1 - share) * clean).all()) for e, mean in means.items() if mean.notna().all()}
    if clean.isna().any() or not held:
        return []
    there, not_there = (", ".join(e for e, holds in held.items() if holds is wanted) for wanted in (True, False))
    told = [f"within {100 * share:g} % of no noise at ε = {there}"] * bool(there)
    told += [f"not at ε = {not_there}" if there else f"within {100 * share:g} % of no noise at no ε"] * bool(not_there)
    return [
        f"* On both metrics DP-FedEmb is {', '.join(told)}. The paper claims as much for ε < 4 and millions of users."
    ]


def frontier(found, data):
    """A line a method over ε, as an SVG file; "" where nothing can be drawn."""
    series = []
    for place, method in enumerate(m.name for m in data.methods if m.private):
        values = {e: list(chosen(found, data, method, f"{e:g}")[MAIN].dropna()) for e in EPSILONS}
        known = {e: Estimate.of(some) for e, some in values.items() if some}
        style, shape = looks.method(place)
        marks = [Mark(x=e, y=at.mean, words=f"{LABELS[method]}, ε = {e:g}: {at.words}") for e, at in known.items()]
        band = [(e, at.low, at.high) for e, at in known.items()]
        series.append(Series(label=LABELS[method], style=style, shape=shape, line=marks, band=band))
    before = chosen(found, data, "fedemb", CLEAN)[UNTRAINED + MAIN].mean()
    start = Level(label=BEFORE, style="neutral", key="neutral", y=before, words=f"{BEFORE}: {before:.3f}")
    chart = Plot(
        title=f"{TITLES[data.name]}: {METRICS[MAIN]} at equal ε",
        x_label=f"ε of a user in a hypothetical deployment, N = {DEPLOYED_USERS:,}",
        y_label=METRICS[MAIN],
        x_axis=axes.powers,
        y_axis=axes.linear,
        series=[line for line in series if line.line],
        levels=[] if pd.isna(before) else [start],
        limits=FRACTIONS,
    ).svg()
    return standalone(chart) if chart else ""


def bars(found, data):
    """Every method at one ε, as an SVG file."""
    panels = []
    for metric, label in METRICS.items():
        values = []
        for method in data.methods:
            some = chosen(found, data, method.name, f"{TUNED_AT:g}" if method.private else CLEAN)[metric]
            style = "first" if method.name == "fedemb" else "rest"
            value = None if some.dropna().empty else float(some.mean())
            values.append(Bar(label=LABELS[method.name].split(",")[0], value=value, words=cell(some), style=style))
        panels.append(Panel(title=label, bars=values))
    title = f"{TITLES[data.name]}: every method at ε = {TUNED_AT:g}"
    return bar_figure(
        title=title, legend=[f"ε of a user at N = {DEPLOYED_USERS:,}; centralised without"], panels=panels
    )


def page(found, total):
    """study.md."""
    parts = [
        f"""# The study: methods at equal ε

Written by `python scripts/study.py`: {len(found)} of {total} runs are in, {len(SEEDS)} seeds each where no n is given.
LeNet on {SIDE}x{SIDE} pixels, embedding width {WIDTH}, {DATASETS[0].rounds} rounds: small, so that all fits in three
hours on two cores. Absolute numbers are below those of [results](results.md). All methods have the same rounds and,
but for the example-level one, {USERS} users a round (centralised: joined, without noise). On Omniglot all begin with
the same public network, trained on characters that a program invents; on QMNIST at random.

**Equal ε** is that of a user in a hypothetical deployment at N = {DEPLOYED_USERS:,} with the same rounds, the same
noise on the mean update and all users in every round, δ = N^-1.1, certified. At one clip norm that noise is the same
for all methods, times k where k users share a virtual client. The runs' own ε are in `docs/study/points.csv` and
protect nobody. Example-level DP-SGD has {EXAMPLES} images a round; its ε is that of a whole user, by group privacy.

Four settings were tried for each method at ε = {TUNED_AT:g} with another seed, on a quarter of the test users
(`test_users.chosen={HELD_OUT}`): learning rates, where clients take local steps two with two batch sizes. All numbers
are from two other quarters (`{REPORTED}`) and of the moving average (`server.ema_decay=0.9`). Clip norms are the
recipes'. What is tuned on private data is not accounted for. Ingredients keep what was chosen for DP-FedEmb.

"{BEFORE}" is what a run begins with. The centralised model sees no more images than the others, which is
too few for a head over all classes of Omniglot; [results](results.md) have it trained until it is good.
"""
    ]
    for data in DATASETS:
        parts.append(f"## {TITLES[data.name]}\n")
        if not measured(found, data, "methods"):
            parts.append("Not run yet.\n")
            continue
        parts.append("### Utility at equal ε\n")
        for metric, label in METRICS.items():
            parts.append(f"{label}:\n\n{at_equal_epsilon(found, data, metric)}")
        parts.append(f"![frontier](study/{data.name}_frontier.svg) ![methods](study/{data.name}_methods.svg)\n")
        parts.append(f"### Drop against non-private\n\n{METRICS[MAIN]}:\n\n{drops(found, data, MAIN)}")
        parts.append(f"{verdict(found, data)}")
        given = ingredients(found, data) if measured(found, data, "ingredients") else "Not run yet.\n"
        parts.append(f"### What each ingredient gives\n\nAt ε = {TUNED_AT:g}.\n\n{given}")
        told = "A choice at the end of its range might be bettered by going on; that was not done."
        parts.append(f"### What was tried\n\nAt ε = {TUNED_AT:g}, seed {TUNING_SEED}. {told}\n\n{tried(found, data)}")
    parts.append(
        "No run of Omniglot has one user a client: there a user is one class, and a softmax over one class learns "
        "nothing.\n"
    )
    return "\n".join(parts)


def write(study, every, docs):
    """All files; returns the page's path."""
    found, folder = frame(study, every), docs / "study"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "points.csv", found.to_csv(index=False, float_format="%.6g"))
    for data in (data for data in DATASETS if measured(found, data, "methods")):
        for kind, svg in (("frontier", frontier(found, data)), ("methods", bars(found, data))):
            if svg:
                write_atomically(folder / f"{data.name}_{kind}.svg", svg)
    write_atomically(docs / "study.md", page(found, len(every)))
    return docs / "study.md"
