"""The table and the figure of a run's growth with its users."""

from xml.etree import ElementTree

from fedemb.report.scaling import HEADER, cells, figure, rows


def row(users, users_per_round):
    return {
        "users": users,
        "users_per_round": users_per_round,
        "startup_seconds": 2.6,
        "seconds_per_round": 0.0123 * users_per_round,
        "processor_seconds": 5.6,
        "peak_bytes": 520_400_000,
        "ledger_bytes_per_round": 153.4,
        "checkpoint_bytes": 3_630_350,
    }


RECORD = {
    "populations": [row(1000, 64), row(10**7, 64)],
    "cohorts": [row(10**7, 16), row(10**7, 64), row(10**7, 256)],
}


def test_a_row_as_a_reader_wants_it():
    shown = dict(zip(HEADER, cells(row(10**7, 64)), strict=True))
    assert shown == {
        "Users N": "10,000,000",
        "M": "64",
        "Start-up": "2.6 s",
        "Round": "787 ms",
        "CPU": "5.6 s",
        "Memory": "520 MB",
        "Ledger": "153 B",
        "Checkpoint": "3.63 MB",
    }


def test_every_point_has_one_row():
    assert [(point["users"], point["users_per_round"]) for point in rows(RECORD)] == [
        (1000, 64),
        (10**7, 64),
        (10**7, 16),
        (10**7, 256),
    ]


def test_the_figure_has_every_point():
    root = ElementTree.fromstring(figure(RECORD, note="a machine"))
    told = [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert len(told) == (2 + 3 + 2) + (2 + 3)
    assert "as N grows, M = 64, users: N or M 1000: 787 ms" in told
    assert "as M grows, N = 10,000,000, users: N or M 256: 3.1 s" in told
    assert "start-up, as N grows, users: N or M 1e+07: 2.6 s" in told
    assert "as M grows, N = 10,000,000, users: N or M 16: 520 MB" in told
