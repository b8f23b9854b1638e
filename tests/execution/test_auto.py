"""The fastest candidate works, once it is found; whose answer a round has follows from what was measured alone."""

from functools import cache

import pytest
import torch
from paced import Clock, Paced, Raising
from small import Line, make_cohort, make_stream, make_task, make_work

from fedemb.core.params import flatten
from fedemb.execution.auto import Auto
from fedemb.execution.distributed import Distributed
from fedemb.execution.executor import Sequential, TooLargeError
from fedemb.execution.flower import Worker
from fedemb.privacy.clipping import FlatClipping

WORK = make_work(task=make_task(backbone=Line()))
SHARED = WORK.task.init(0)
CLIPPING = FlatClipping(clip_norm=1.0)
LOAD = make_stream(batch_size=32)
GROUPS = [(0, 2), (3, 10), (5, 7), (8, 11), (9, 4)]


def cohort(round, clients=5):
    return make_cohort(*GROUPS[:clients], round=round)


@cache
def exact(round, clients=5):
    return Sequential().clipped_sum(WORK, CLIPPING, SHARED, cohort(round, clients), LOAD)


def answer(auto, round, clients=5):
    return auto.clipped_sum(WORK, CLIPPING, SHARED, cohort(round, clients), LOAD)


def answered(auto, round, clients=5):
    """By which factor the answer is not the sum: by whom it was given."""
    total, found = answer(auto, round, clients)
    wanted, diagnostics = exact(round, clients)
    assert torch.equal(found.norms, diagnostics.norms)
    assert found.examples.tolist() == diagnostics.examples.tolist()
    return round_off(float(flatten(total).norm() / flatten(wanted).norm()))


def round_off(value):
    return float(f"{value:.6g}")


def three(first=(1.0,), second=(1.0,), third=(1.0,), **settings):
    """Candidates with the factors 1, 2 and 3, which take so many seconds a client."""
    clock = Clock()
    paces = {"first": first, "second": second, "third": third}
    candidates = {
        name: Paced(clock=clock, seconds=seconds, factor=factor)
        for factor, (name, seconds) in enumerate(paces.items(), start=1)
    }
    return Auto(candidates=candidates, clock=clock, **settings)


@pytest.mark.parametrize(
    ("paces", "chosen"),
    [
        ([(1.0,), (0.75,), (0.875,)], 2),
        ([(1.0,), (1.25,), (0.875,)], 3),
        ([(1.0,), (1.25,), (1.125,)], 1),
        ([(1.0,), (99.0, 0.75), (0.875,)], 2),  # what a candidate prepares in its first call does not count
        ([(1.0,), (0.75,), (0.375, 0.375, 0.875, 0.875)], 2),  # one lucky round, by which the mean is the least too
        ([(1.0,), (1.0,), (1.0,)], 1),
    ],
)
def test_the_fastest_by_the_median_answers_after_the_measured_rounds(paces, chosen):
    auto = three(*paces)
    assert [answered(auto, round) for round in range(3)] == [1, 1, 1]
    assert [answered(auto, round) for round in range(3, 6)] == [chosen] * 3
    assert auto.measured_rounds == 3


def test_measuring_costs_one_cohort_a_candidate_and_round_and_one_to_prepare():
    auto = three()
    for round in range(5):
        assert auto.chosen == ("first" if round >= 3 else None)
        answer(auto, round)
    measured = [(0, 5), (0, 5), (1, 5), (2, 5)]
    assert auto.candidates["first"].calls == [*measured, (3, 5), (4, 5)]
    assert auto.candidates["second"].calls == auto.candidates["third"].calls == measured


def test_a_large_cohort_is_measured_in_part_and_answered_as_a_whole():
    auto = three(second=(0.75,), clients=2)
    assert answered(auto, 0) == 1
    assert auto.candidates["first"].calls == [(0, 2), (0, 2), (0, 5)]
    assert auto.candidates["second"].calls == [(0, 2), (0, 2)]
    assert auto.seconds_per_client() == {"first": 1.0, "second": 0.75, "third": 1.0}


def test_a_much_slower_candidate_is_measured_once():
    auto = three(first=(1.0,), second=(2.5,), third=(0.875,))
    assert [answered(auto, round) for round in range(4)] == [1, 1, 1, 3]
    assert auto.candidates["second"].calls == [(0, 5), (0, 5)]
    assert auto.seconds_per_client() == {"first": 1.0, "second": 2.5, "third": 0.875}


def test_a_slow_first_candidate_answers_until_the_choice():
    auto = three(first=(9.0,), second=(1.0,), third=(1.25,))
    assert [answered(auto, round) for round in range(4)] == [1, 1, 1, 2]
    assert auto.candidates["first"].calls == [(0, 5), (0, 5), (1, 5), (2, 5)]


def test_the_order_turns_from_round_to_round():
    clock, order = Clock(), []

    class Noting(Paced):
        def clipped_sum(self, work, clipping, shared, cohort, load):
            order.append(int(self.factor))
            return super().clipped_sum(work, clipping, shared, cohort, load)

    auto = Auto(candidates={name: Noting(clock=clock, factor=f) for f, name in enumerate("abc", 1)}, clock=clock)
    for round in range(3):
        answer(auto, round)
    assert order == [1, 1, 2, 2, 3, 3, 3, 2, 1, 1, 2, 3]


def test_rounds_without_clients_measure_nothing():
    auto = three(second=(0.75,))
    assert [answer(auto, round, clients=0)[1].norms.tolist() for round in range(4)] == [[]] * 4
    assert auto.measured_rounds == 0
    assert [answered(auto, round) for round in range(4, 8)] == [1, 1, 1, 2]


@pytest.mark.parametrize("stops", [(1,), (2,), (1, 2), (3,), (4,)])
def test_another_process_goes_on_as_if_there_had_been_one(stops):
    """A machine that is slower for another candidate after the stop must not change what was decided before it."""
    whole = three(second=(0.75,), third=(0.875,))
    wanted = [answered(whole, round) for round in range(6)]
    auto, answers = three(second=(0.75,), third=(0.875,)), []
    for round in range(6):
        if round in stops:
            record, auto = auto.record(), three(second=(99.0, 0.75), third=(99.0, 0.875) if round < 3 else (0.25,))
            auto.restore(record)
        answers.append(answered(auto, round))
    assert answers == wanted == [1, 1, 1, 2, 2, 2]
    assert auto.record() == whole.record()


def test_a_measured_round_that_is_asked_for_again_has_the_same_answer():
    auto = three(second=(0.75,))
    for round in range(3):
        answer(auto, round)
    assert [answered(auto, round) for round in (0, 1, 2, 3)] == [1, 1, 1, 2]
    assert auto.measured_rounds == 3


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), TooLargeError("too large")])
def test_a_candidate_that_does_not_fit_is_out_of_the_race(error):
    clock = Clock()
    candidates = {
        "first": Paced(clock=clock),
        "large": Raising(error=error),
        "third": Paced(clock=clock, seconds=(0.75,)),
    }
    auto = Auto(candidates=candidates, clock=clock)
    for round in range(3):
        assert answered(auto, round) == 1
    assert auto.chosen == "third"
    assert auto.seconds_per_client() == {"first": 1.0, "large": None, "third": 0.75}


def test_any_other_error_is_raised():
    auto = Auto(candidates={"first": Paced(), "broken": Raising(error=ValueError("user 7 has no images"))})
    with pytest.raises(ValueError, match="user 7 has no images"):
        answer(auto, 0)


def test_the_first_candidate_must_fit():
    with pytest.raises(torch.OutOfMemoryError):
        answer(Auto(candidates={"first": Raising(), "second": Paced()}), 0)


def test_what_candidates_have_found_out_is_kept_too():
    class Knowing(Paced):
        def record(self):
            return {"known": len(self.calls)}

        def restore(self, record):
            self.calls.extend([None] * record["known"])

    auto, again = (Auto(candidates={"first": Paced(), "knowing": Knowing()}) for _ in range(2))
    answer(auto, 0)
    again.restore(auto.record())
    assert again.record() == auto.record()
    assert again.record()["candidates"] == {"first": {}, "knowing": {"known": 2}}


@pytest.mark.parametrize(
    "within", [lambda auto: Distributed(inner=auto), lambda auto: Worker(work=WORK, load=map, within=auto)]
)
def test_it_does_not_work_within_another_executor(within):
    """On other ranks and nodes, nobody would remember its choice."""
    with pytest.raises(ValueError, match="Auto cannot work within another executor"):
        within(Auto(candidates={"first": Sequential()}))


def test_all_candidates_are_closed():
    closed = []

    class Closing(Paced):
        def close(self):
            closed.append(self.factor)

    Auto(candidates={"a": Closing(factor=1), "b": Closing(factor=2)}).close()
    assert closed == [1, 2]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"candidates": {}}, "executor.candidates is empty"),
        ({"candidates": {"mine": 5}}, "executor.candidates.mine must be an executor"),
        ({"candidates": {"again": Auto(candidates={"first": Sequential()})}}, "executor.candidates.again"),
        ({"candidates": {"first": Sequential()}, "rounds": 0}, "executor.rounds"),
        ({"candidates": {"first": Sequential()}, "clients": 0}, "executor.clients"),
    ],
)
def test_bad_settings_are_named(settings, words):
    with pytest.raises(ValueError, match=words):
        Auto(**settings)
