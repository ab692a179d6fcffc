"""Folds the events of a training into its record, and checks each against the rules of a round.

The contract enforces these rules. If the record follows them too, it is complete: an event that an SN held back, made
up or moved breaks one of them.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

from services.audit.record import (
    Contribution,
    Enrolment,
    ExclusionRecord,
    Record,
    RecordPosition,
    ReportRecord,
    ResultRecord,
    RoundRecord,
    Term,
    VoteRecord,
)
from services.rpc import swarm_pb2 as pb
from services.rpc.measures import measure

# The rounds contain everything about these.
IN_ROUNDS = {"checked_in", "merge_started", "round_accepted", "reported"}


def fold(contract: str, events: Iterable[pb.RecordEvent]) -> Record:
    """The record of ``contract``; its ``problems`` say what is wrong with it."""
    folding = Folding(contract)
    for event in events:
        folding.take(event)
    return folding.record


class Folding:
    """A record that grows event by event, so the events of a long training need not be in memory together."""

    def __init__(self, contract: str) -> None:
        self.record = Record(contract)
        self._at = RecordPosition(-1, -1)
        self._merged_once = False  # since the training began
        self._best_round = self._stopped_in = 0
        self._rules: dict[str, Callable[[Any], None]] = {
            "configured": self._configured,
            "enrolled": self._enrolled,
            "layout_agreed": lambda _: None,
            "checked_in": self._checked_in,
            "merge_started": self._merge_started,
            "leader_voted_out": self._voted_out,
            "leader_deposed": self._deposed,
            "left_out": self._left_out,
            "round_reopened": self._reopened,
            "round_accepted": self._accepted,
            "completed": self._completed,
            "reported": self._reported,
            "left": self._left,
            "reset": self._reset,
            "interval_chosen": self._interval_chosen,
            "best_merged": self._best_merged,
            "stopped_early": self._stopped_early,
        }

    def take(self, event: pb.RecordEvent) -> None:
        """Adds the next event in the order of the SN."""
        before, self._at = self._at, RecordPosition(event.block, event.log_index)
        self._require(self._at > before, f"it comes after block {before.block}, log {before.log_index}")
        kind = event.WhichOneof("event")
        self.record.count += 1
        if kind not in IN_ROUNDS:
            self.record.others.append(event)
        self._require(kind is not None, "it is of a kind that this version does not know")
        if kind is not None:
            self._rules[kind](getattr(event, kind))

    # --- in the order of a training's life --------------------------------------------------------------

    def _configured(self, event: pb.RecordEvent.Configured) -> None:
        fresh = self.record.state == pb.UNCONFIGURED or not self.record.active
        self._require(fresh, "it configures a training that is in use")
        self.record.config, self.record.state = event.config, pb.CHECKIN

    def _enrolled(self, event: pb.RecordEvent.Enrolled) -> None:
        """A node may enrol again with a new key: the directory checks which one is valid, not the training."""
        self.record.participants[event.name] = Enrolment(event.name, event.fingerprint.hex(), event.may_lead, self._at)

    def _checked_in(self, event: pb.RecordEvent.CheckedIn) -> None:
        now = self._running(event.round)
        self._require(self.record.state == pb.CHECKIN, f"{event.name} checks in to a round that is not open")
        self._require(event.name in self.record.active, f"{event.name} checks in without being enrolled")
        self._require(event.name not in now.standing, f"{event.name} checks in twice to round {event.round}")
        now.check_ins.append(
            Contribution(
                name=event.name,
                digest=event.digest.hex(),
                size=event.size,
                weight=event.weight,
                finished=event.finished,
                address=f"{event.host}:{event.port}",
                staleness=event.staleness,
                at=self._at,
            )
        )

    def _merge_started(self, event: pb.RecordEvent.MergeStarted) -> None:
        now, leader = self._running(event.round), self.record.participants.get(event.leader)
        last = now.terms[-1].term if now.terms else 0
        self._require(event.term == last + 1, f"term {event.term} of round {event.round} follows term {last}")
        may = leader is not None and leader.active and leader.may_lead and event.leader in now.standing
        self._require(may, f"{event.leader} leads round {event.round} and may not")
        self._counted(event.participants, now)
        now.terms.append(Term(event.term, event.leader, event.participants, self._at))
        self.record.state = pb.MERGE

    def _voted_out(self, event: pb.RecordEvent.LeaderVotedOut) -> None:
        term = self._term(event.round, event.term)
        entitled = event.voter in self._running(event.round).standing and event.voter != term.leader
        again = any(vote.voter == event.voter for vote in term.votes)
        self._require(entitled and not again, f"{event.voter} votes against {term.leader} and may not")
        term.votes.append(VoteRecord(event.voter, self._at))

    def _deposed(self, event: pb.RecordEvent.LeaderDeposed) -> None:
        term = self._term(event.round, event.term)
        self._require(event.leader == term.leader, f"{event.leader} is deposed and did not lead")
        term.ended, term.ended_at = "deposed", self._at

    def _left_out(self, event: pb.RecordEvent.LeftOut) -> None:
        now = self._running(event.round)
        entry = now.standing.get(event.name)
        if entry is not None:
            entry.fate = "left out"
        self._require(entry is not None, f"{event.name} is left out of round {event.round} and was not in it")
        now.left_out.append(ExclusionRecord(event.name, event.reason, event.term, self._at))

    def _reopened(self, event: pb.RecordEvent.RoundReopened) -> None:
        now, term = self._running(event.round), self._term(event.round, event.term)
        for entry in now.standing.values():
            if entry.name not in self.record.active:
                entry.fate = "withdrawn"
        self._counted(event.have, now, enough=False)
        if not term.ended:
            term.ended, term.ended_at = "reopened", self._at
        self.record.state = pb.CHECKIN

    def _accepted(self, event: pb.RecordEvent.RoundAccepted) -> None:
        now = self._running(event.round)
        self._require(now.result is None, f"round {event.round} is accepted a second time")
        term = self._term(event.round, event.term)
        self._require(event.leader == term.leader, f"{event.leader} publishes, and {term.leader} leads")
        self._counted(event.participants, now)
        for entry in now.standing.values():
            entry.fate = "merged"
            said = f"round {event.round} came to {event.size} bytes, and {entry.name} checked in with {entry.size}"
            self._require(entry.size == event.size, said)
        out = {entry.name for entry in now.left_out} | {entry.name for entry in now.merged}
        now.absent = [name for name in self.record.active if name not in out]
        digest = event.digest.hex()
        if self._hands_out_one:
            given = any(entry.digest == digest for entry in now.merged)
            self._require(
                given, f"the first result, of round {event.round}, is the own set of none of its participants"
            )
        self._merged_once = True
        now.result = ResultRecord(event.term, event.leader, digest, event.size, event.participants, self._at)
        term.ended, term.ended_at = "accepted", self._at
        self.record.state, self.record.round = pb.CHECKIN, event.round + 1

    def _completed(self, event: pb.RecordEvent.Completed) -> None:
        now = self._round(event.round)
        result = now.result.digest if now.result else None
        self._require(result == event.digest.hex(), f"the training ends with another model than round {event.round}")
        now.completed = True
        self.record.state, self.record.round = pb.COMPLETE, event.round
        if self._stopped_in == event.round:
            return
        finished = sum(entry.finished for entry in now.merged)
        self._require(finished >= self._min_peers, f"the training ends when {finished} have finished")
        waits = [entry.name for entry in now.merged if not entry.finished and entry.name in self.record.active]
        self._require(not waits, f"the training ends before {', '.join(waits)} had finished")

    def _interval_chosen(self, event: pb.RecordEvent.IntervalChosen) -> None:
        self._running(event.round)
        config = self.record.config
        given = config.sync_frequency if config is not None and config.adaptive_sync else 0
        within = given <= 4 * event.interval <= 16 * given
        self._require(within, f"an interval of {event.interval} is chosen, which syncFrequency does not allow")
        self._mean_of(event.round - 1, [it.loss for it in self._reports(event.round - 1)], event.mean_loss, "loss")

    def _best_merged(self, event: pb.RecordEvent.BestMerged) -> None:
        self._best_round = event.round
        self._mean_of(event.round, [it.metric for it in self._reports(event.round)], event.mean_metric, "metric")

    def _stopped_early(self, event: pb.RecordEvent.StoppedEarly) -> None:
        config = self.record.config
        asked = config is not None and config.patience == event.patience > 0
        self._require(asked and event.best_round == self._best_round, "it stops early, and nothing says that it should")
        self._stopped_in = event.round

    def _reports(self, number: int) -> list[ReportRecord]:
        """The newest report of each node so far; those that came after the decision are not included."""
        entry = self.record.rounds.get(number)
        return list({it.name: it for it in entry.reports}.values()) if entry is not None else []

    def _mean_of(self, number: int, values: list[float | None], said: float, what: str) -> None:
        """Checks a mean. The contract counts in steps of 2**-64, and ignores what is not finite or very large."""
        known = [value for value in values if value is not None and abs(value) < 2.0**148]
        mean = sum(known) / len(known) if known else 0.0
        near = math.isclose(said, mean, rel_tol=1e-9, abs_tol=1e-12)
        self._require(near, f"it takes {said:g} for the mean {what} of round {number}, and that is {mean:g}")

    def _reported(self, event: pb.RecordEvent.Reported) -> None:
        now = self._round(event.round)
        known = now.result is not None and event.name in self.record.participants
        self._require(known, f"{event.name} reports on round {event.round} without a part in it")
        now.reports.append(
            ReportRecord(
                event.name,
                measure(event, "loss"),
                measure(event, "metric"),
                event.epochs_done,
                event.epochs_total,
                self._at,
            )
        )

    def _left(self, event: pb.RecordEvent.Left) -> None:
        who = self.record.participants.get(event.name)
        if who is not None:
            who.active, who.left = False, event.reason or "left"
        self._require(who is not None, f"{event.name} leaves without being enrolled")
        entry = self._round(event.round).standing.get(event.name)
        if self.record.state == pb.CHECKIN and entry is not None:
            entry.fate = "withdrawn"

    def _reset(self, event: pb.RecordEvent.Reset) -> None:
        state = self.record.state
        over = state == pb.COMPLETE or (state != pb.UNCONFIGURED and not self.record.active)
        self._require(over, "it resets a training that is not complete, and that some have not left")
        for who in self.record.participants.values():
            who.active = False
        self._require(event.next_round == self.record.round + 1, f"round {event.next_round} follows the reset")
        self.record.state, self.record.round, self.record.config = pb.UNCONFIGURED, event.next_round, None
        self._merged_once = False
        self._best_round = self._stopped_in = 0

    # --- what the rules share ---------------------------------------------------------------------------

    @property
    def _hands_out_one(self) -> bool:
        """Whether the next result is the first one, and has to be the parameters of one participant."""
        config = self.record.config
        return config is not None and config.first_merge == "leader" and not self._merged_once

    @property
    def _min_peers(self) -> int:
        return self.record.config.min_peers if self.record.config is not None else 0

    def _round(self, number: int) -> RoundRecord:
        return self.record.rounds.setdefault(number, RoundRecord(number))

    def _running(self, number: int) -> RoundRecord:
        self._require(number == self.record.round, f"it is of round {number}, and round {self.record.round} runs")
        return self._round(number)

    def _term(self, round_number: int, term: int) -> Term:
        """The running term; if there is none, records a problem and returns a placeholder."""
        terms = self._running(round_number).terms
        # In the same transaction, a deposal is followed by another term, or the round is reopened.
        fits = bool(terms) and terms[-1].term == term and terms[-1].ended in ("", "deposed")
        self._require(fits, f"it is of term {term} of round {round_number}, which does not run")
        return terms[-1] if terms else Term(term, "", 0, self._at)

    def _counted(self, said: int, now: RoundRecord, *, enough: bool = True) -> None:
        have = len(now.standing)
        self._require(said == have, f"it counts {said} check-ins of round {now.number}, and {have} are on the record")
        if enough:
            need = self._min_peers
            self._require(said >= need, f"round {now.number} is merged with {said} of at least {need}")

    def _require(self, holds: bool, problem: str) -> None:
        if not holds:
            self.record.problems.append(f"block {self._at.block}, log {self._at.log_index}: {problem}")
