"""What an SN measures, for Prometheus."""

from collections.abc import Callable, Iterable
from time import monotonic

from services.chain import events as on_chain
from services.runtime.metrics import Meter
from services.sn.membership import Membership
from services.sn.training import TrainingView


class SNMetrics:
    """``event`` is called for each new event of a training, ``transaction`` for each write; the rest is read at a
    scrape.

    ``clock``: seconds, monotonic.
    """

    def __init__(self, meter: Meter, clock: Callable[[], float] = monotonic) -> None:
        self._meter = meter
        self._clock = clock
        self._since: dict[tuple[str, str], float] = {}
        of_contract = ["contract"]
        self._accepted = meter.counter("swarm_sn_rounds_accepted", "Rounds whose result was accepted.", of_contract)
        self._reopened = meter.counter("swarm_sn_rounds_reopened", "Rounds that were opened again.", of_contract)
        self._left_out = meter.counter("swarm_sn_left_out", "Check-ins that a leader left out.", of_contract)
        self._votes = meter.counter("swarm_sn_leader_votes", "Votes against a leader.", of_contract)
        self._depositions = meter.counter("swarm_sn_leader_depositions", "Leaders that were deposed.", of_contract)
        self._phases = meter.histogram(
            "swarm_sn_phase_seconds",
            "Phases of a round: check-in, from the first to the start of the merge; merge, from there to the result.",
            ["contract", "phase"],
        )
        self._transactions = meter.histogram(
            "swarm_sn_transaction_seconds", "From sending a transaction to its receipt.", ["function"]
        )
        self._round = meter.gauge("swarm_sn_round", "The running round.", of_contract)
        self._term = meter.gauge("swarm_sn_term", "Its term; 0 before its first merge.", of_contract)
        self._alive = meter.gauge("swarm_sn_peers_alive", "Participants that take part now.", of_contract)
        self._awaited = meter.gauge("swarm_sn_peers_awaited", "Participants that the round waits for.", of_contract)
        self._members = meter.gauge("swarm_sn_members_present", "Members of the swarm that are present.", ["role"])

    def transaction(self, function: str, seconds: float) -> None:
        self._transactions.took(seconds, function=function)

    def event(self, view: TrainingView, event: on_chain.TrainingEvent) -> None:
        """``view`` already includes the event."""
        contract = view.contract
        match event:
            case on_chain.CheckedIn():
                self._since.setdefault((contract, "check-in"), self._clock())
            case on_chain.MergeStarted():
                self._ended(contract, "check-in")
                self._since.setdefault((contract, "merge"), self._clock())
            case on_chain.RoundAccepted():
                self._ended(contract, "merge")
                self._accepted.add(contract=contract)
            case on_chain.RoundReopened():
                self._since.pop((contract, "merge"), None)
                self._reopened.add(contract=contract)
            case on_chain.LeftOut():
                self._left_out.add(contract=contract)
            case on_chain.LeaderVotedOut():
                self._votes.add(contract=contract)
            case on_chain.LeaderDeposed():
                self._depositions.add(contract=contract)

    def read_trainings(self, views: Callable[[], Iterable[TrainingView]], membership: Membership) -> None:
        """From now on, a scrape shows the state of the trainings and which members are present."""

        def read() -> None:
            for view in views():
                contract = view.contract
                self._round.set(view.round, contract=contract)
                self._term.set(view.term, contract=contract)
                self._alive.set(len(view.active), contract=contract)
                self._awaited.set(len(view.awaited), contract=contract)
            present = [member.role for member in membership.members.values() if member.present]
            for role in {role for role, _ in membership.members}:
                self._members.set(present.count(role), role=role)

        self._meter.read_at_scrape(read)

    def _ended(self, contract: str, phase: str) -> None:
        """A phase that began before this SN started is not measured."""
        began = self._since.pop((contract, phase), None)
        if began is not None:
            self._phases.took(self._clock() - began, contract=contract, phase=phase)
