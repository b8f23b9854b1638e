"""What rounds in turn say: medians, and medians of the ratios round by round."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from fedemb.bench.interleave import Round, Served, Way


def rows(ways: Sequence[Way], served: Mapping[str, Served], clients: int) -> list[dict[str, Any]]:
    """One record a way. Ratios say how many times as fast as another way it is, over the rounds that both have.

    wall_ratio and processor_ratio: to the first way. wall_ratios: to every way.
    """
    first = served[ways[0].name].rounds
    return [
        {
            "way": way.name,
            "label": way.label,
            **_medians(served[way.name].rounds, clients),
            "wall_ratio": _wall_ratio(served[way.name].rounds, first),
            "processor_ratio": _processor_ratio(served[way.name].rounds, first),
            "wall_ratios": {name: _wall_ratio(served[way.name].rounds, other.rounds) for name, other in served.items()},
            "failure": served[way.name].failure,
            "versions": served[way.name].versions,
            "rounds": [vars(round) for round in served[way.name].rounds],
        }
        for way in ways
    ]


def _medians(rounds: Sequence[Round], clients: int) -> dict[str, float | None]:
    seconds = _median([round.wall for round in rounds])
    processor = _median([round.processor for round in rounds if round.processor])
    return {
        "seconds": seconds,
        "processor_seconds": processor,
        "client_updates_per_second": clients / seconds if seconds else None,
        "client_updates_per_processor_second": clients / processor if processor else None,
        "peak_megabytes": max((round.peak_megabytes for round in rounds if round.peak_megabytes), default=None),
    }


def _wall_ratio(rounds: Sequence[Round], others: Sequence[Round]) -> float | None:
    return _median([other.wall / own.wall for own, other in zip(rounds, others, strict=False)])


def _processor_ratio(rounds: Sequence[Round], others: Sequence[Round]) -> float | None:
    pairs = zip(rounds, others, strict=False)
    return _median([other.processor / own.processor for own, other in pairs if own.processor and other.processor])


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None
