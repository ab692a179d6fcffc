"""TrainingContract: what is decided by the reports of nodes, which is when to merge next and when to stop."""

import math

import pytest
from test_training_contract import Training

from services.chain.events import BestMerged, Completed, IntervalChosen, StoppedEarly, TrainingEvent, bits_of
from services.errors import Behind, ConfigurationDiffers, MalformedCall

NO_LOSS, FIRST, IMPROVED, IMPROVED_LITTLE, NOT_IMPROVED = range(5)


class Reporting(Training):
    """Two nodes; each round is merged after both have reported on the one before it."""

    def begin(self, **config: object) -> None:
        self.enrol("a", "b", **config)

    def next_round(self, losses: list[float | None], metrics: list[float] | None = None) -> list[TrainingEvent]:
        """``losses``: of the model of the last round, by a and b; None where one does not report."""
        newest = self.status["last_accepted"]
        for name, loss, metric in zip("ab", losses, metrics or losses, strict=True):
            if newest and loss is not None:
                self.bench.send("report", newest, name, bits_of(loss), bits_of(metric or 0.0), 1, 3)
        self.check_in("a", "b")
        return self.publish()

    def chosen(self, losses: list[float | None]) -> tuple[int, int]:
        event = only(IntervalChosen, self.next_round(losses))
        return event.interval, event.reason


def only(kind: type, events: list[TrainingEvent]):
    (found,) = [event for event in events if isinstance(event, kind)]
    return found


@pytest.fixture
def training() -> Reporting:
    return Reporting()


def test_the_interval_follows_the_mean_loss(training: Reporting) -> None:
    training.begin(adaptive=True)
    assert training.chosen([None, None]) == (16, NO_LOSS)
    assert training.chosen([1.0, 3.0]) == (16, FIRST)
    assert training.chosen([1.0, 2.0]) == (32, IMPROVED)  # 1.5 after 2
    assert training.chosen([1.0, 2.0]) == (64, IMPROVED)  # 1.5 after 1.75
    assert training.chosen([0.5, 0.5]) == (64, IMPROVED)  # never more than four times as long
    assert training.chosen([9.0, 9.0]) == (32, NOT_IMPROVED)
    assert training.chosen([None, None]) == (32, NO_LOSS)
    assert training.chosen([None, 9.0]) == (16, NOT_IMPROVED)  # the mean of those who have reported
    for interval in (8, 4, 4):  # nor shorter than a quarter
        assert training.chosen([99.0, 99.0]) == (interval, NOT_IMPROVED)


def test_a_small_improvement_leaves_the_interval_and_the_window_is_four_rounds(training: Reporting) -> None:
    training.begin(adaptive=True)
    training.next_round([None, None])
    training.next_round([8.0, 8.0])
    for _ in range(4):
        training.next_round([4.0, 4.0])
    event = only(IntervalChosen, training.next_round([3.98, 3.98]))
    assert (event.reason, event.earlier_loss, event.mean_loss) == (IMPROVED_LITTLE, 4.0, pytest.approx(3.98))


@pytest.mark.parametrize(("frequency", "shortest"), [(1, 1), (6, 2), (4_000_000_000, 1_000_000_000)])
def test_the_shortest_interval_is_a_quarter_rounded_up(training: Reporting, frequency: int, shortest: int) -> None:
    training.begin(adaptive=True, frequency=frequency)
    training.next_round([None, None])
    assert [training.chosen([2.0 + step, 2.0])[0] for step in range(5)][-1] == shortest


def test_the_longest_interval_fits_its_place(training: Reporting) -> None:
    training.begin(adaptive=True, frequency=2**31)
    training.next_round([None, None])
    assert [training.chosen([2.0 / (step + 1), 2.0])[0] for step in range(4)][-1] == 2**32 - 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300, None])
def test_a_loss_that_says_nothing_does_not_count(training: Reporting, value: float | None) -> None:
    training.begin(adaptive=True)
    training.next_round([None, None])
    training.bench.send("report", 1, "a", bits_of(value), bits_of(value), 1, 3)
    event = only(IntervalChosen, training.next_round([None, 0.25]))
    assert event.mean_loss == 0.25


@pytest.mark.parametrize("value", [0.1, -3.7, 1e-30, 5e-324, 0.0, 2.0**100, 123456.789])
def test_a_mean_is_that_of_the_doubles(training: Reporting, value: float) -> None:
    training.begin(adaptive=True)
    training.next_round([None, None])
    event = only(IntervalChosen, training.next_round([value, value]))
    assert event.mean_loss == pytest.approx(value, rel=1e-12, abs=2.0**-63)


def test_a_report_that_comes_again_takes_the_place_of_the_first(training: Reporting) -> None:
    training.begin(adaptive=True)
    training.next_round([None, None])
    training.bench.send("report", 1, "a", bits_of(100.0), bits_of(0.5), 1, 3)
    event = only(IntervalChosen, training.next_round([1.0, 2.0]))
    assert event.mean_loss == 1.5


def test_a_training_that_is_not_adaptive_chooses_nothing(training: Reporting) -> None:
    training.begin()
    training.next_round([None, None])
    assert not [event for event in training.next_round([1.0, 1.0]) if isinstance(event, (IntervalChosen, BestMerged))]


@pytest.mark.parametrize(("down", "metrics"), [(False, [0.5, 0.7, 0.7, 0.6, 0.65]), (True, [0.5, 0.3, 0.3, 0.4, 0.35])])
def test_a_training_stops_when_the_mean_metric_gets_no_better(
    training: Reporting, down: bool, metrics: list[float]
) -> None:
    training.begin(patience=3, down=down)
    training.next_round([None, None])
    best = only(BestMerged, training.next_round([1.0, 1.0], [metrics[0]] * 2))
    assert (best.round, best.mean_metric) == (1, 0.5)
    assert only(BestMerged, training.next_round([1.0, 1.0], [metrics[1]] * 2)).round == 2
    for metric in metrics[2:4]:
        assert not any(isinstance(event, StoppedEarly) for event in training.next_round([1.0, 1.0], [metric] * 2))
    ended = training.next_round([1.0, 1.0], [metrics[4]] * 2)
    stopped = only(StoppedEarly, ended)
    assert (stopped.round, stopped.best_round, stopped.patience) == (6, 2, 3)
    assert only(Completed, ended).round == 6


def test_rounds_without_a_metric_do_not_try_the_patience(training: Reporting) -> None:
    training.begin(patience=1)
    training.next_round([None, None])
    training.next_round([1.0, 1.0])
    for _ in range(3):
        assert not any(isinstance(event, StoppedEarly) for event in training.next_round([None, None]))


def test_after_a_reset_all_of_it_begins_anew(training: Reporting) -> None:
    training.begin(patience=1, adaptive=True)
    training.next_round([None, None])
    training.next_round([1.0, 1.0])
    training.next_round([1.0, 1.0])  # stops
    training.bench.send("reset")
    training.begin(patience=1, adaptive=True)
    assert only(IntervalChosen, training.next_round([None, None])).interval == 16
    events = training.next_round([9.0, 9.0], [0.1, 0.1])
    assert only(IntervalChosen, events).reason == FIRST
    assert only(BestMerged, events).mean_metric == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"weighting": "samples"}, {"field": "nodeWeightage", "given": "samples", "agreed": "fixed"}),
        ({"patience": 7}, {"field": "earlyStopping patience", "given": "7", "agreed": "0"}),
        ({"down": True}, {"field": "earlyStopping mode", "given": "min", "agreed": "max"}),
    ],
)
def test_what_follows_reports_is_agreed(training: Reporting, changes: dict, facts: dict) -> None:
    training.enrol("a")
    with pytest.raises(ConfigurationDiffers) as refused:
        training.enrol("b", **changes)
    assert {name: str(value) for name, value in refused.value.facts.items()} == facts


def test_weights_are_bounded_by_what_they_are(training: Reporting) -> None:
    with pytest.raises(MalformedCall):
        training.enrol("a", weighting="guess")
    training.enrol("a", "b", weighting="samples")
    training.check_in("a", weight=1_000_000)
    with pytest.raises(MalformedCall):
        training.check_in("b", weight=1_000_001)


def test_what_was_trained_from_an_older_result_comes_late_and_says_how_late(training: Reporting) -> None:
    training.enrol("a", "b", "c")
    for _ in range(3):
        training.check_in("a", "b")
        training.bench.send("closeRound", training.status["round"], training.status["term"])
        training.publish()
    late = training.check_in("c", base=1)[0]
    assert (late.name, late.round, late.staleness) == ("c", 4, 2)
    assert training.check_in("a")[0].staleness == 0


@pytest.mark.parametrize("base", [0, 1, 3])
def test_what_was_trained_from_no_result_of_this_training_is_refused(training: Reporting, base: int) -> None:
    training.begin()
    training.check_in("a", "b", finished=True)
    training.publish()
    training.bench.send("reset")
    training.begin()
    training.check_in("a", "b", base=0)
    training.publish()  # of round 2, the first of this training
    with pytest.raises(Behind):
        training.check_in("a", base=base)
