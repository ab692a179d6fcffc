"""TrainingContract: the life of a training, and what it refuses on the way."""

import pytest
from contract_bench import OTHER_SN, STRANGER, Bench

from services.chain.account import GAS_LIMIT
from services.chain.events import (
    CheckedIn,
    Completed,
    Configured,
    Enrolled,
    LayoutAgreed,
    LeaderDeposed,
    LeaderVotedOut,
    Left,
    LeftOut,
    MergeStarted,
    Reset,
    RoundAccepted,
    RoundReopened,
    TrainingEvent,
)
from services.errors import (
    AlreadyCheckedIn,
    Behind,
    BelowMinPeers,
    ConfigurationDiffers,
    EnoughPeers,
    LeaderMayNotVote,
    MalformedCall,
    ModelDiffers,
    NameTaken,
    NobodyMayLead,
    NotAParticipant,
    NotARegisteredSN,
    NotConfigured,
    NotEnrolled,
    NotTheLeader,
    RoundClosed,
    RoundNotClosed,
    SizeDiffers,
    StaleRound,
    StaleTerm,
    TrainingComplete,
    TrainingNotComplete,
)

CHECKIN, MERGE, COMPLETE = 1, 2, 3
A_NEW_PLACE_GAS = 20_000  # where zero is replaced; 2,900 where another value is
LAYOUT, DIGEST, RESULT = b"l" * 32, b"d" * 32, b"r" * 32


class Training:
    """A training in words: names stand for nodes, everything else has a usual value."""

    def __init__(self) -> None:
        self.bench = Bench()

    def enrol(self, *names: str, min_peers: int = 2, may_lead: bool = True, **changes: object) -> list[TrainingEvent]:
        config = {
            "frequency": 16,
            "method": "mean",
            "adaptive": False,
            "wait": 1000,
            "travels": "none",
            "first": "leader",
            "version": "1",
            "weighting": "fixed",
            "patience": 0,
            "down": False,
        } | changes
        return [
            event
            for name in names
            for event in self.bench.send("enrol", name, fingerprint(name), may_lead, (min_peers, *config.values()))
        ]

    def check_in(self, *names: str, **changes: object) -> list[TrainingEvent]:
        round_number, base = self.status["round"], self.status["last_accepted"]
        events = []
        for name in names:
            call = {
                "round": round_number, "base": base, "name": name, "digest": DIGEST, "size": 10, "layout": LAYOUT,
                "weight": 100, "finished": False, "host": "host", "port": 30305,
            }  # fmt: skip
            events += self.bench.send("checkIn", tuple((call | changes).values()))
        return events

    def publish(
        self, *left_out: str, leader: str | None = None, term: int | None = None, size: int = 10
    ) -> list[TrainingEvent]:
        now = self.status
        term = now["term"] if term is None else term
        return self.bench.send(
            "publish", now["round"], term, leader or self.leader, RESULT, size, left_out, ["NaN"] * len(left_out)
        )

    def reopen(self, *left_out: str) -> list[TrainingEvent]:
        now = self.status
        return self.bench.send("reopen", now["round"], now["term"], self.leader, left_out, ["NaN"] * len(left_out))

    def vote_out(self, *voters: str) -> list[TrainingEvent]:
        now = self.status
        return [event for voter in voters for event in self.bench.send("voteOut", now["round"], now["term"], voter)]

    def leave(self, name: str) -> list[TrainingEvent]:
        return self.bench.send("leave", name, "stopped")

    def report(self, name: str, round_number: int) -> list[TrainingEvent]:
        return self.bench.send("report", round_number, name, 0, 0, 1, 3)

    @property
    def status(self) -> dict[str, int]:
        fields = ("state", "round", "term", "leader", "last_accepted", "first_round")
        return dict(zip(fields, self.bench.read("status")[:6], strict=True))

    @property
    def leader(self) -> str:
        return str(self.bench.read("participants", self.status["leader"], 1)[0][0])

    @property
    def followers(self) -> list[str]:
        return [name for name in self.checked_in if name != self.leader]

    @property
    def checked_in(self) -> list[str]:
        names = [row[0] for row in self.bench.read("participants", 0, 100)]
        return sorted(names[entry[0]] for entry in self.bench.read("checkIns", self.status["round"]))


def fingerprint(name: str) -> bytes:
    return name.encode().ljust(32, b".")


def kinds(events: list[TrainingEvent]) -> list[type[TrainingEvent]]:
    return [type(event) for event in events]


@pytest.fixture
def training() -> Training:
    return Training()


@pytest.fixture
def merging(training: Training) -> Training:
    """Three nodes, all checked in, two of them enough."""
    training.enrol("a", "b", "c")
    training.check_in("a", "b", "c")
    return training


# --- joining -----------------------------------------------------------------------------------------


def test_the_first_enroller_fixes_the_configuration(training: Training) -> None:
    assert kinds(training.enrol("a")) == [Configured, Enrolled]
    assert kinds(training.enrol("b", wait=5)) == [Enrolled]


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        ({"min_peers": 3}, {"field": "minPeers", "given": "3", "agreed": "2"}),
        ({"frequency": 10}, {"field": "syncFrequency", "given": "10", "agreed": "16"}),
        ({"method": "median"}, {"field": "mergeMethod", "given": "median", "agreed": "mean"}),
        ({"travels": "bf16"}, {"field": "transferCompression", "given": "bf16", "agreed": "none"}),
        ({"first": "average"}, {"field": "firstMerge", "given": "average", "agreed": "leader"}),
        ({"version": "2"}, {"field": "modelVersion", "given": "2", "agreed": "1"}),
        ({"adaptive": True}, {"field": "useAdaptiveSync", "given": "true", "agreed": "false"}),
    ],
)
def test_a_later_enroller_that_differs_learns_in_what(
    training: Training, change: dict[str, int], facts: dict[str, str]
) -> None:
    training.enrol("a")

    with pytest.raises(ConfigurationDiffers) as refused:
        training.enrol("b", **change)
    assert refused.value.facts == facts


def test_a_configuration_that_everyone_left_before_a_merge_binds_nobody(training: Training) -> None:
    training.enrol("a", frequency=1)
    training.check_in("a", layout=b"x" * 32)
    training.leave("a")

    assert kinds(training.enrol("b", frequency=2)) == [Configured, Enrolled]
    assert LayoutAgreed in kinds(training.check_in("b"))


def test_a_configuration_that_led_to_a_merge_binds_whoever_resumes(merging: Training) -> None:
    merging.publish()
    for name in ("a", "b", "c"):
        merging.leave(name)

    with pytest.raises(ConfigurationDiffers):
        merging.enrol("a", frequency=2)
    assert kinds(merging.enrol("a")) == [Enrolled]


def test_a_name_stays_with_its_key(training: Training) -> None:
    training.enrol("a")
    training.leave("a")
    training.enrol("b")

    with pytest.raises(NameTaken):
        training.bench.send(
            "enrol", "a", b"\x07" * 32, True, (2, 16, "mean", False, 0, "none", "leader", "1", "fixed", 0, False)
        )


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"min_peers": 0}, "minPeers"),
        ({"frequency": 0}, "syncFrequency"),
        ({"method": ""}, "mergeMethod"),
        ({"travels": ""}, "transferCompression"),
        ({"first": ""}, "firstMerge"),
    ],
)
def test_a_configuration_without_sense_is_refused(training: Training, changes: dict[str, int], field: str) -> None:
    with pytest.raises(MalformedCall) as refused:
        training.enrol("a", **changes)
    assert refused.value.facts == {"field": field}


# --- checking in -------------------------------------------------------------------------------------


def test_the_last_one_awaited_closes_the_round_and_a_leader_is_named(training: Training) -> None:
    training.enrol("a", "b", "c")
    assert kinds(training.check_in("a", "b")) == [LayoutAgreed, CheckedIn, CheckedIn]

    assert kinds(training.check_in("c")) == [CheckedIn, MergeStarted]
    assert training.status == {
        "state": MERGE, "round": 1, "term": 1, "leader": 2, "last_accepted": 0, "first_round": 1,
    }  # fmt: skip


def test_below_min_peers_nothing_merges(training: Training) -> None:
    training.enrol("a", min_peers=2)
    training.check_in("a")

    assert training.status["state"] == CHECKIN
    with pytest.raises(BelowMinPeers) as refused:
        training.bench.send("closeRound", 1, 0)
    assert refused.value.facts == {"have": 1, "need": 2}


def test_the_clock_closes_a_round_without_those_who_are_late(training: Training) -> None:
    training.enrol("a", "b", "c")
    training.check_in("a", "b")

    with pytest.raises(StaleTerm):  # of the clock that it had before it was opened again
        training.bench.send("closeRound", 1, 1)
    assert kinds(training.bench.send("closeRound", 1, 0)) == [MergeStarted]
    with pytest.raises(RoundClosed):
        training.check_in("c")


def test_saying_the_same_twice_changes_nothing_and_saying_something_else_is_refused(training: Training) -> None:
    training.enrol("a", "b")
    training.check_in("a")

    assert training.check_in("a") == []
    with pytest.raises(AlreadyCheckedIn):
        training.check_in("a", digest=b"e" * 32)
    training.check_in("b")
    assert training.check_in("a", base=0) == []


def test_a_different_model_is_refused_and_names_who_set_the_first(training: Training) -> None:
    training.enrol("a", "b")
    training.check_in("a")

    with pytest.raises(ModelDiffers) as refused:
        training.check_in("b", layout=b"m" * 32)
    assert refused.value.facts["agreedBy"] == "a"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"round": 2}, StaleRound),
        ({"base": 1}, Behind),
        ({"name": "nobody"}, NotEnrolled),
        ({"digest": bytes(32)}, MalformedCall),
        ({"size": 0}, MalformedCall),
        ({"size": 2**40 + 1}, MalformedCall),
        ({"size": 2**62}, MalformedCall),
        ({"layout": bytes(32)}, MalformedCall),
        ({"weight": 101}, MalformedCall),
    ],
)
def test_a_check_in_that_does_not_fit_is_refused(
    training: Training, change: dict[str, object], error: type[Exception]
) -> None:
    training.enrol("a", "b")

    with pytest.raises(error):
        training.check_in("a", **change)


def test_a_size_that_a_result_has_agreed_on_is_that_of_all_that_comes(training: Training) -> None:
    training.enrol("a", "b")
    training.check_in("a", "b")
    training.publish()

    with pytest.raises(SizeDiffers) as refused:
        training.check_in("a", size=14)
    assert refused.value.facts == {"given": 14, "agreed": 10}
    training.check_in("a", "b")
    with pytest.raises(SizeDiffers):
        training.publish(size=14)


def test_who_is_first_with_a_false_size_locks_nobody_out(training: Training) -> None:
    training.enrol("a", "b", "c")
    training.check_in("a", size=2**40)
    training.check_in("b", "c")

    with pytest.raises(SizeDiffers):
        training.publish(size=2**40)  # of those who announce it there are less than minPeers
    with pytest.raises(BelowMinPeers):
        training.publish("b", "c", size=2**40)
    training.publish("a")
    with pytest.raises(SizeDiffers):
        training.check_in("a", size=2**40)
    training.check_in("a", "b", "c")


def test_after_a_reset_another_size_may_be_agreed_on(training: Training) -> None:
    training.enrol("a", "b")
    training.check_in("a", "b", finished=True)
    training.publish()
    training.bench.send("reset")
    training.enrol("a", "b")
    training.check_in("a", "b", base=0, size=14)
    training.publish(size=14)


def test_where_nobody_may_lead_the_round_waits_for_one_who_may(training: Training) -> None:
    training.enrol("a", "b", may_lead=False)
    training.check_in("a", "b")
    assert training.status["state"] == CHECKIN
    with pytest.raises(NobodyMayLead):
        training.bench.send("closeRound", 1, 0)

    assert kinds(training.enrol("b", may_lead=True)) == [Enrolled, MergeStarted]
    assert training.leader == "b"


def test_later_rounds_take_no_more_room_on_the_chain(training: Training) -> None:
    bench, names = training.bench, ["a", "b", "c"]
    training.enrol(*names)
    gas = []
    for number in range(1, 7):
        for name in names[:-1]:
            training.check_in(name)
        call = (number, number - 1, names[-1], number.to_bytes(32, "big"), 10, LAYOUT, 100, False, "host", 30305)
        used = bench.gas_of("checkIn", call)
        leader = training.leader
        gas.append((used, bench.gas_of("publish", number, 1, leader, number.to_bytes(32, "little"), 10, [], [])))
    # In the first two rounds a check-in takes places in storage that held nothing: two for it, one for where it is.
    assert gas[2][0] < gas[1][0] - 3 * 0.7 * A_NEW_PLACE_GAS
    assert abs(gas[5][0] - gas[2][0]) + abs(gas[5][1] - gas[2][1]) < A_NEW_PLACE_GAS / 2, gas


def test_a_thousand_participants_close_a_round_and_finish_it(training: Training) -> None:
    bench, names = training.bench, [f"node-{number}" for number in range(1000)]
    training.enrol(*names)
    first, *rest = reversed(names)
    training.check_in(*rest)
    call = (1, 0, first, DIGEST, 10, LAYOUT, 100, True, "host", 30305)
    gas = {"checkIn": bench.gas_of("checkIn", call)}
    assert (training.status["state"], training.leader) == (MERGE, names[2])
    gas["voteOut"] = bench.gas_of("voteOut", 1, 1, "node-0")
    gas["leave"] = bench.gas_of("leave", names[2], "stopped")  # the next one leads
    assert (training.status["term"], training.leader) == (2, names[4])
    gas["publish"] = bench.gas_of("publish", 1, 2, names[4], RESULT, 10, [], [])
    assert training.status["last_accepted"] == 1
    assert all(used < GAS_LIMIT / 1.5 for used in gas.values()), gas


# --- merging -----------------------------------------------------------------------------------------


def test_leadership_goes_round(training: Training) -> None:
    training.enrol("a", "b", "c")
    leaders = []
    for _ in range(6):
        training.check_in("c", "a", "b")
        leaders.append(training.leader)
        training.publish()

    assert leaders == ["c", "a", "b", "c", "a", "b"]


def test_a_result_opens_the_next_round(merging: Training) -> None:
    events = merging.publish()

    assert kinds(events) == [RoundAccepted]
    assert merging.bench.read("result", 1) == (RESULT, 10, 1, 2, 3)
    assert (merging.status["state"], merging.status["round"], merging.status["term"]) == (CHECKIN, 2, 0)
    with pytest.raises(StaleRound):
        merging.bench.send("publish", 1, 1, "c", b"x" * 32, 1, [], [])


def test_only_the_leader_of_this_term_publishes(merging: Training) -> None:
    with pytest.raises(NotTheLeader) as refused:
        merging.publish(leader=merging.followers[0])
    assert refused.value.facts["leader"] == merging.leader
    with pytest.raises(StaleTerm):
        merging.publish(term=2)


def test_a_deposed_leaders_result_is_refused(merging: Training) -> None:
    deposed = merging.leader
    merging.vote_out(*merging.followers)

    with pytest.raises(StaleTerm):
        merging.publish(leader=deposed, term=1)
    assert merging.leader != deposed
    assert kinds(merging.publish()) == [RoundAccepted]


def test_who_was_left_out_is_on_record_and_may_go_on(merging: Training) -> None:
    left_out = merging.followers[0]

    events = merging.publish(left_out)

    assert kinds(events) == [LeftOut, RoundAccepted]
    assert isinstance(events[0], LeftOut)
    assert (events[0].name, events[0].reason) == (left_out, "NaN")
    assert len(merging.bench.read("checkIns", 1)) == 2
    merging.check_in(left_out)


def test_too_many_left_out_reopens_the_round_and_the_rest_stands(merging: Training) -> None:
    follower, other = merging.followers
    leader = merging.leader
    with pytest.raises(BelowMinPeers):
        merging.publish(follower, other)
    with pytest.raises(EnoughPeers):
        merging.reopen(follower)

    assert kinds(merging.reopen(follower, other)) == [LeftOut, LeftOut, RoundReopened]

    assert merging.checked_in == [leader]
    merging.check_in(follower, digest=b"e" * 32)
    assert kinds(merging.check_in(other, digest=b"f" * 32)) == [CheckedIn, MergeStarted]
    assert merging.status["term"] == 2


def test_nobody_who_is_not_in_the_round_is_left_out_of_it(merging: Training) -> None:
    merging.enrol("d")

    with pytest.raises(NotAParticipant):
        merging.publish("d")
    with pytest.raises(NotEnrolled):
        merging.publish("nobody")


# --- leader failure ----------------------------------------------------------------------------------


def test_more_than_half_of_the_followers_depose_the_leader(merging: Training) -> None:
    first, second = merging.followers

    assert kinds(merging.vote_out(first)) == [LeaderVotedOut]
    assert merging.vote_out(first) == []
    assert kinds(merging.vote_out(second)) == [LeaderVotedOut, LeaderDeposed, MergeStarted]
    assert merging.status["term"] == 2


def test_a_vote_counts_again_when_a_follower_leaves(merging: Training) -> None:
    first, second = merging.followers
    merging.vote_out(first)

    assert kinds(merging.leave(second)) == [Left, LeaderDeposed, MergeStarted]


def test_who_has_no_vote_is_told(merging: Training) -> None:
    merging.enrol("d")

    with pytest.raises(LeaderMayNotVote):
        merging.vote_out(merging.leader)
    with pytest.raises(NotAParticipant):
        merging.vote_out("d")
    with pytest.raises(StaleTerm):
        merging.bench.send("voteOut", 1, 2, merging.followers[0])


def test_a_leader_that_leaves_is_followed_by_another(merging: Training) -> None:
    gone = merging.leader

    assert kinds(merging.leave(gone)) == [Left, LeaderDeposed, MergeStarted]
    assert merging.leader != gone


def test_without_another_who_may_lead_the_round_opens_again(training: Training) -> None:
    training.enrol("a", "b", may_lead=False)
    training.enrol("c")
    training.check_in("a", "b", "c")

    assert kinds(training.leave("c")) == [Left, LeaderDeposed, RoundReopened]
    assert training.checked_in == ["a", "b"]


def test_a_deposed_leader_that_may_no_longer_lead_leaves_the_round_open(training: Training) -> None:
    training.enrol("a", may_lead=False)
    training.enrol("b")
    training.check_in("a", "b")
    training.enrol("b", may_lead=False)

    assert kinds(training.vote_out("a")) == [LeaderVotedOut, LeaderDeposed, RoundReopened]


# --- leaving, reporting, ending ----------------------------------------------------------------------


def test_one_who_leaves_is_no_longer_waited_for(training: Training) -> None:
    training.enrol("a", "b", "c")
    training.check_in("a", "b")

    assert kinds(training.leave("c")) == [Left, MergeStarted]
    assert training.leave("c") == []
    with pytest.raises(NotEnrolled):
        training.bench.send("voteOut", 1, 1, "c")


def test_one_who_leaves_takes_its_check_in_from_an_open_round(training: Training) -> None:
    training.enrol("a", "b", "c")
    training.check_in("a", "b")
    training.leave("a")

    assert training.checked_in == ["b"]
    training.enrol("a")
    assert kinds(training.check_in("a", digest=b"e" * 32)) == [CheckedIn]


def test_reports_are_taken_for_accepted_rounds_and_never_backwards(merging: Training) -> None:
    with pytest.raises(StaleRound):
        merging.report("a", 1)
    merging.publish()
    merging.check_in("a", "b", "c")
    merging.publish()

    merging.report("a", 2)
    with pytest.raises(StaleRound):
        merging.report("a", 1)
    with pytest.raises(StaleRound):
        merging.report("a", 3)
    merging.report("b", 1)


def test_the_training_is_complete_when_everybody_has_finished_and_not_before(training: Training) -> None:
    training.enrol("a", "b", "c")
    training.check_in("a", "b", finished=True)
    training.check_in("c")
    assert kinds(training.publish()) == [RoundAccepted]
    training.check_in("a", "b", "c", finished=True)

    assert kinds(training.publish()) == [RoundAccepted, Completed]
    assert training.status["state"] == COMPLETE
    for refused in (
        lambda: training.enrol("d"),
        lambda: training.check_in("a"),
        lambda: training.bench.send("closeRound", 2, 0),
    ):
        with pytest.raises(TrainingComplete):
            refused()
    training.report("c", 1)


def test_one_that_left_is_not_waited_for(training: Training) -> None:
    training.enrol("a", "b", "c")
    training.check_in("a", "b", finished=True)
    training.leave("c")
    assert kinds(training.publish()) == [RoundAccepted, Completed]


def test_one_that_leaves_during_the_last_merge_is_not_waited_for(training: Training) -> None:
    training.enrol("a", "b", "c")
    training.check_in("a", "b", finished=True)
    training.check_in("c")
    training.leave("c")
    assert Completed in kinds(training.publish())


def test_one_that_stays_away_is_waited_for_three_rounds(training: Training) -> None:
    training.enrol("a", "b", "c")
    for _ in range(2):
        training.check_in("a", "b", finished=True)
        training.bench.send("closeRound", training.status["round"], training.status["term"])
        assert kinds(training.publish()) == [RoundAccepted]
    training.check_in("a", "b", finished=True)
    training.check_in("c")
    assert kinds(training.publish()) == [RoundAccepted]  # it was here: all begins anew
    for ends in (False, False, True):
        training.check_in("a", "b", finished=True)
        training.bench.send("closeRound", training.status["round"], training.status["term"])
        assert (Completed in kinds(training.publish())) == ends


def test_one_that_the_leader_leaves_out_before_it_has_finished_ends_nothing(training: Training) -> None:
    training.enrol("a", "b", "c")
    for _ in range(5):
        training.check_in("a", "b", finished=True)
        training.check_in("c")
        assert Completed not in kinds(training.publish("c"))


def test_a_complete_training_starts_anew_after_a_reset_and_keeps_its_record(training: Training) -> None:
    training.enrol("a", "b")
    with pytest.raises(TrainingNotComplete):
        training.bench.send("reset")
    training.check_in("a", "b", finished=True)
    training.publish()

    assert kinds(training.bench.send("reset")) == [Reset]

    with pytest.raises(NotConfigured):
        training.check_in("a")
    training.enrol("b", frequency=99)
    assert (training.status["round"], training.status["first_round"], training.status["last_accepted"]) == (2, 2, 0)
    with pytest.raises(StaleRound):
        training.report("b", 1)
    assert LayoutAgreed in kinds(training.check_in("b", layout=b"z" * 32))


@pytest.mark.parametrize("merged_before", [False, True])
def test_a_training_that_everyone_has_left_is_reset(training: Training, merged_before: bool) -> None:
    training.enrol("a", "b")
    training.check_in("a", "b")
    if merged_before:
        training.publish()
        training.check_in("a", "b")  # a merge that never ends
    training.bench.send("leave", "a", "gone")
    with pytest.raises(TrainingNotComplete):
        training.bench.send("reset")
    training.bench.send("leave", "b", "gone")

    assert kinds(training.bench.send("reset")) == [Reset]

    training.enrol("c", frequency=99)
    assert (training.status["term"], training.status["last_accepted"]) == (0, 0)
    assert training.status["round"] == training.status["first_round"]
    assert LayoutAgreed in kinds(training.check_in("c", layout=b"z" * 32))


def test_nothing_is_merged_while_the_round_is_open(training: Training) -> None:
    training.enrol("a", "b")

    with pytest.raises(RoundNotClosed):
        training.bench.send("publish", 1, 0, "a", RESULT, 1, [], [])
    with pytest.raises(RoundNotClosed):
        training.bench.send("voteOut", 1, 0, "a")


# --- who may write -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("enrol", ("x", b"\x01" * 32, True, (1, 1, "mean", False, 0, "none", "leader", "", "fixed", 0, False))),
        ("checkIn", ((1, 0, "a", DIGEST, 1, LAYOUT, 1, False, "h", 1),)),
        ("closeRound", (1, 0)),
        ("publish", (1, 1, "a", RESULT, 1, [], [])),
        ("reopen", (1, 1, "a", [], [])),
        ("voteOut", (1, 1, "a")),
        ("report", (1, "a", 0, 0, 0, 0)),
        ("leave", ("a", "")),
        ("reset", ()),
    ],
)
def test_a_stranger_writes_nothing(merging: Training, function: str, arguments: tuple[object, ...]) -> None:
    with pytest.raises(NotARegisteredSN):
        merging.bench.send(function, *arguments, by=STRANGER)


def test_every_function_that_writes_is_among_those_a_stranger_was_refused(merging: Training) -> None:
    tried = {mark.args[1][index][0] for mark in test_a_stranger_writes_nothing.pytestmark for index in range(9)}  # type: ignore[attr-defined]

    assert tried == merging.bench.writing_functions()


def test_an_account_of_another_sn_writes(merging: Training) -> None:
    merging.bench.send_network("addSNAccount", OTHER_SN, "sn-2", "")

    merging.bench.send("leave", "a", "", by=OTHER_SN)
