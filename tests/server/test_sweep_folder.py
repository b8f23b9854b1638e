"""The index of a sweep: one line a point, whoever writes it, and no point worked on twice."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from fedemb.server.sweep_folder import Point, Status, SweepFolder, finished

REPORT = {
    "mode": "simulate",
    "metrics": {"recall@1": 0.5, "auc": None},
    "privacy": {
        "epsilon": 2.0, "epsilon_attack": 1.0, "delta": 1e-5, "unit": "user", "relation": "substitute-one", "rounds": 3,
        "noise_multiplier": 1.0, "claim": "…",
    },
}  # fmt: skip


def test_points_are_known_by_their_words_in_any_order(tmp_path):
    sweep = SweepFolder(path=tmp_path / "sweep")
    first = sweep.claim(["a=1", "b=2"], 0)
    assert (first.number, first.status) == (0, Status.RUNNING)
    assert sweep.claim(["b=2", "a=1"], 7) == first
    assert sweep.claim(["a=2", "b=2"], 0).number == 1  # 0 is taken
    assert sweep.claim(["a=3", "b=2"], 5).number == 5
    assert [point.number for point in sweep.points()] == [0, 1, 5]


def test_many_at_once_lose_no_point_and_share_no_number(tmp_path):
    """Each opens the index for itself, as processes do: flock is about open files."""
    sweeps = [SweepFolder(path=tmp_path / "sweep") for _ in range(24)]
    with ThreadPoolExecutor(8) as pool:
        claimed = list(pool.map(lambda n: sweeps[n].claim([f"a={n // 2}"], 0), range(24)))
    assert len({point.number for point in claimed}) == 12
    assert sorted(point.number for point in sweeps[0].points()) == list(range(12))
    assert all(left == right for left, right in zip(claimed[::2], claimed[1::2], strict=True))


def test_a_point_is_written_and_read_as_it_is(tmp_path):
    sweep = SweepFolder(path=tmp_path)
    ended = finished(replace(sweep.claim(["a=1"], 0), reason="earlier", mistake=True), REPORT)
    sweep.note(ended)
    assert sweep.points() == [ended]
    (line,) = (tmp_path / "sweep.jsonl").read_text().splitlines()
    assert json.loads(line) == {
        "point": 0, "folder": "0", "overrides": ["a=1"], "status": "finished", "reason": None, "mistake": False,
        "metrics": REPORT["metrics"],
        "privacy": {"mode": "simulate", **{k: v for k, v in REPORT["privacy"].items() if k != "claim"}},
    }  # fmt: skip


def test_a_point_is_held_by_one(tmp_path):
    sweep = SweepFolder(path=tmp_path)
    with sweep.working_on(0) as mine, sweep.working_on(0) as theirs:
        assert (mine, theirs, sweep.is_worked_on(0), sweep.is_worked_on(1)) == (True, False, True, False)
    assert not sweep.is_worked_on(0)
    assert list(tmp_path.iterdir()) == []


def test_what_never_began_is_forgotten(tmp_path):
    sweep = SweepFolder(path=tmp_path)
    for number, status in enumerate([Status.FAILED, Status.FAILED, Status.FINISHED, Status.RUNNING]):
        sweep.note(replace(sweep.claim([f"a={number}"], number), status=status))
    sweep.run(1).path.mkdir()
    sweep.run(1).create("a: 1\n")
    sweep.forget_what_never_began()
    assert [point.number for point in sweep.points()] == [1, 2, 3]


@pytest.mark.parametrize("text", ["{", "[]\n", '{"point": 0}\n', '{"point": "x"}\n'])
def test_a_damaged_index_is_named(tmp_path, text):
    (tmp_path / "sweep.jsonl").write_text(text)
    with pytest.raises(ValueError, match=r"^[^\n]*sweep\.jsonl is damaged \([^\n]*$"):
        SweepFolder(path=tmp_path).points()


def test_points_are_the_same_if_asked_for_the_same():
    left, right = Point(number=0, overrides=("a=1", "b=1")), Point(number=1, overrides=("b=1", "a=1"))
    assert left.identity == right.identity
    assert left.identity != Point(number=0, overrides=("a=1",)).identity
