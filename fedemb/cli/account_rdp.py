"""fedemb account rdp: the Renyi curve of the rounds, as a table, rdp.csv and rdp.json."""

from __future__ import annotations

from omegaconf import DictConfig

from fedemb.cli.charged import Charged
from fedemb.cli.output import as_csv, as_json, console, numbers_table, show, write_files
from fedemb.privacy.accounting import dominating_rounds, epsilon
from fedemb.privacy.rdp import ORDERS, epsilon_from_curve, renyi_curve
from fedemb.report.numbers import small, upper

_NOTE = (
    "upper bounds on the Rényi divergence between neighbours, either way round; curves of independent releases add up"
)


def run(cfg: DictConfig, what: Charged) -> None:
    """Print the curve; write it where out= says."""
    curve = renyi_curve(dominating_rounds(what.events, what.delta), ORDERS)
    converted, certified = epsilon_from_curve(ORDERS, curve, what.delta), epsilon(what.events, what.delta)
    terms = {"unit": what.unit, "user": what.user, "relation": "substitute-one", "note": _NOTE}
    answer = {
        **terms,
        **what.settings,
        "orders": list(ORDERS),
        "renyi_epsilon": curve.tolist(),
        "delta": what.delta,
        "epsilon_from_curve": converted,
        "epsilon": certified,
    }
    rows = list(zip(ORDERS, curve.tolist(), strict=True))
    texts = {"rdp.csv": as_csv(("order", "renyi_epsilon"), rows), "rdp.json": as_json(answer) + "\n"}
    files = write_files(cfg, texts)

    def table() -> None:
        out = console()
        out.print(f"Rényi ε(α) of {what.rounds:,} rounds, substitute-one, {what.unit}-level: {_NOTE}")
        grid = numbers_table(("order α", "ε(α)"))
        for order, value in rows:
            grid.add_row(f"{order:g}", upper(value, digits=5))
        out.print(grid)
        out.print(
            f"at δ = {small(what.delta)} this curve gives ε = {upper(converted, digits=4)}; directly certified: "
            f"{upper(certified, digits=4)}"
        )
        for path in files:
            out.print(f"wrote {path}")

    show(cfg, answer, table)
