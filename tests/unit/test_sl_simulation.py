"""Several nodes' state machines against a small model of the contract, in every order that chance finds.

Calls take effect, replies and views arrive, also from an SN that lags behind, leaders are suspected, and nodes are
killed and started again at random moments. Whatever the order: a round is accepted at most once, everybody gets the
same result of it, nobody asks twice for the same, and all come to an end.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from services import errors
from services.rpc.swarm_pb2 import RoundState
from services.rpc.version import version_of
from services.sl.round import actions as do
from services.sl.round import events as on
from services.sl.round.machine import step
from services.sl.round.states import Ended, Enrolling, SLState, Unopened
from services.sl.sharding.leader_merge import non_finite
from services.sl.view import AcceptedResult, CheckInEntry, Config, Exclusion, Model, TrainingMember, View

MAX_MOVES = 3_000


def model_of(*parts: object, bad: bool = False) -> Model:
    digest = hashlib.sha256(repr(parts).encode()).hexdigest()
    return Model(("0bad" if bad else "f00d") + digest[4:], 1024, "a" * 64)


@dataclass
class Chain:
    """The rules of TrainingContract, as far as a node can tell."""

    config: Config
    names: tuple[str, ...]
    phase: RoundState = RoundState.CHECKIN
    round: int = 1
    term: int = 0
    leader: str = ""
    active: set[str] = field(default_factory=set)
    known: list[str] = field(default_factory=list)
    check_ins: dict[str, CheckInEntry] = field(default_factory=dict)
    left_out: dict[str, Exclusion] = field(default_factory=dict)
    last: AcceptedResult | None = None
    accepted: dict[int, str] = field(default_factory=dict)
    votes: set[str] = field(default_factory=set)
    version: int = 0
    last_rounds: int = 0
    restarted: set[str] = field(default_factory=set)

    def view(self) -> View:
        awaited = tuple(name for name in self.known if name in self.active and name not in self.check_ins)
        return View(
            phase=self.phase,
            round=self.round,
            term=self.term,
            leader=self.leader,
            config=self.config,
            layout="",
            layout_by="",
            members=tuple(TrainingMember(name, "host", 1, "", name in self.active) for name in self.known),
            check_ins=tuple(self.check_ins.values()),
            last=self.last,
            awaited=awaited if self.phase == RoundState.CHECKIN else (),
            left_out=tuple(self.left_out.values()),
            version=version_of(self.version, 0),
            block=self.version,
        )

    def enrol(self, name: str) -> View:
        if self.phase == RoundState.COMPLETE:
            raise errors.TrainingComplete(round=self.round)
        if name not in self.known:
            self.known.append(name)
        self.active.add(name)
        return self.view()

    def check_in(self, name: str, call: do.SendCheckIn) -> None:
        last = self.last.round if self.last else 0
        if self.phase == RoundState.COMPLETE:
            raise errors.TrainingComplete(round=last)
        if call.round != self.round:
            raise errors.StaleRound(given=call.round, current=self.round)
        if name not in self.active:
            raise errors.NotEnrolled(name=name)
        if name in self.check_ins:
            known = self.check_ins[name].digest
            if known != call.model.digest:
                assert name in self.restarted, "a node contributes twice to a round"
                raise errors.AlreadyCheckedIn(name=name, round=self.round, digest=known)
            return
        if self.phase != RoundState.CHECKIN:
            raise errors.RoundClosed(round=self.round)
        if call.base > last or (call.base == 0 and last != 0):
            raise errors.Behind(base=call.base, lastAccepted=last)
        entry = CheckInEntry(name, call.model.digest, call.model.size, call.weight, call.finished, last - call.base)
        self.check_ins[name] = entry
        self.left_out.pop(name, None)
        self.close_if_all_in()

    def close_if_all_in(self) -> None:
        if len(self.check_ins) >= max(self.config.min_peers, len(self.active)):
            self.start_merge()

    def start_merge(self) -> None:
        eligible = [name for name in self.known if name in self.check_ins and name in self.active]
        self.term += 1
        self.leader = eligible[(self.round + self.term) % len(eligible)]
        self.phase, self.votes = RoundState.MERGE, set()

    def fence(self, round_: int, term: int) -> None:
        if self.phase == RoundState.COMPLETE:
            raise errors.TrainingComplete(round=self.round)
        if round_ != self.round:
            raise errors.StaleRound(given=round_, current=self.round)
        if self.phase != RoundState.MERGE:
            raise errors.RoundNotClosed(round=self.round)
        if term != self.term:
            raise errors.StaleTerm(round=self.round, given=term, current=self.term)

    def drop(self, left_out: tuple[Exclusion, ...]) -> None:
        for entry in left_out:
            del self.check_ins[entry.name]
            self.left_out[entry.name] = entry

    def publish(self, name: str, call: do.Publish) -> None:
        self.fence(call.round, call.term)
        assert name == self.leader
        unfinished = any(name in self.active and not entry.finished for name, entry in self.check_ins.items())
        self.drop(call.left_out)
        assert len(self.check_ins) >= self.config.min_peers
        assert self.round not in self.accepted, "a round is accepted twice"
        self.accepted[self.round] = call.model.digest
        merged = tuple(self.check_ins)
        self.last = AcceptedResult(self.round, call.model.digest, 1024, name, merged, tuple(self.left_out.values()))
        self.phase = RoundState.COMPLETE if self.ends(unfinished) else RoundState.CHECKIN
        self.round, self.term, self.leader, self.check_ins, self.left_out = self.round + 1, 0, "", {}, {}
        if self.phase == RoundState.COMPLETE:
            self.round -= 1

    def ends(self, unfinished: bool) -> bool:
        """See TrainingContract."""
        if unfinished or sum(entry.finished for entry in self.check_ins.values()) < self.config.min_peers:
            self.last_rounds = 0
            return False
        self.last_rounds += 1
        return self.active <= set(self.check_ins) or self.last_rounds >= 3

    def reopen(self, name: str, call: do.Reopen) -> None:
        self.fence(call.round, call.term)
        assert name == self.leader
        self.drop(call.left_out)
        assert len(self.check_ins) < self.config.min_peers
        self.back_to_check_in()

    def back_to_check_in(self) -> None:
        self.check_ins = {name: entry for name, entry in self.check_ins.items() if name in self.active}
        self.phase, self.leader = RoundState.CHECKIN, ""

    def vote_out(self, name: str, call: do.VoteOut) -> None:
        self.fence(call.round, call.term)
        self.votes.add(name)
        followers = [entry for entry in self.check_ins if entry != self.leader and entry in self.active]
        if 2 * len(self.votes) > len(followers):
            self.start_merge()

    def leave(self, name: str) -> None:
        if name not in self.active:
            return
        self.active.discard(name)
        if self.phase == RoundState.CHECKIN:
            self.check_ins.pop(name, None)
            if self.check_ins:
                self.close_if_all_in()
        elif self.phase == RoundState.MERGE and name == self.leader:
            if any(entry in self.active for entry in self.check_ins):
                self.start_merge()
            else:
                self.back_to_check_in()


@dataclass
class Plan:
    """One node: how many syncs it makes, which of them hold NaN, how it ends."""

    syncs: int
    bad: frozenset[int]
    mode: on.CheckInMode
    fails_at: int | None  # the sync before which its ML program dies


class Simulation:
    def __init__(self, plans: dict[str, Plan], min_peers: int, trouble: int, seed: int) -> None:
        self.random = Random(seed)
        self.chain = Chain(Config(min_peers, 16, "mean"), tuple(plans))
        self.plans = plans
        self.suspicions = self.mistakes = self.kills = self.lags = trouble
        self.lives = dict.fromkeys(plans, 0)
        self.shown: list[View] = []
        self.states: dict[str, SLState] = {name: Unopened() for name in plans}
        self.seen = dict.fromkeys(plans, -1)
        self.sent = dict.fromkeys(plans, 0)
        self.got: dict[str, dict[int, str]] = {name: {} for name in plans}
        self.final: dict[str, str] = {}
        self.published: set[tuple[str, int, int, int]] = set()
        # Each is one thing that may happen next: a call arriving at the chain, or a reply at a node.
        self.pending: list[tuple[str, Callable[[], None]]] = []
        for name in plans:
            self.begin(name)

    def begin(self, name: str) -> None:
        self.later(name, on.SessionOpened(name, "c", 16, self.chain.config.min_peers, "mean", False, 1))

    def later(self, name: str, event: on.RoundEvent) -> None:
        """Nothing reaches a node that was killed meanwhile."""
        life = self.lives[name]
        self.pending.append((name, lambda: self.feed(name, event) if life == self.lives[name] else None))

    def feed(self, name: str, event: on.RoundEvent) -> None:
        if isinstance(self.states[name], Ended):
            return
        self.states[name], actions = step(self.states[name], event)
        for action in actions:
            self.perform(name, action)

    def call(self, name: str, act: Callable[[], object], accepted: on.RoundEvent | None, refused: type | None) -> None:
        """Takes effect at some moment; its reply arrives at a later one."""

        life = self.lives[name]

        def arrive() -> None:
            try:
                answer = act()
            except errors.SwarmError as error:
                if life != self.lives[name]:
                    return
                if accepted is None and isinstance(error, errors.TrainingComplete) and name in self.chain.known:
                    self.later(name, on.EnrolmentAccepted(self.chain.view()))  # as the runner answers it
                elif refused is not None:
                    self.later(name, refused(error))
                return
            self.chain.version += 1
            if life != self.lives[name]:
                return
            if isinstance(answer, View):
                self.later(name, on.EnrolmentAccepted(self.chain.view()))
            elif isinstance(accepted, on.CheckInAccepted):
                self.later(name, on.CheckInAccepted(self.chain.version))
            elif accepted is not None:
                self.later(name, accepted)

        self.pending.append((name, arrive))

    def perform(self, name: str, action: do.Action) -> None:
        chain = self.chain
        match action:
            case do.Enrol():
                self.call(name, lambda: chain.enrol(name), None, None if action.again else on.Failed)
            case do.SendCheckIn():
                self.call(name, lambda: chain.check_in(name, action), on.CheckInAccepted(0), on.CheckInRefused)
            case do.StartMerge():
                self.later(name, self.merged(action))
            case do.CancelMerge():
                self.pending = [entry for entry in self.pending if not self.is_merge_of(name, entry)]
            case do.Publish():
                self.once(name, action.round, action.term)
                self.call(name, lambda: chain.publish(name, action), on.Published(), on.PublishRefused)
            case do.Reopen():
                self.once(name, action.round, action.term)
                self.call(name, lambda: chain.reopen(name, action), on.Published(), on.PublishRefused)
            case do.VoteOut():
                self.call(name, lambda: chain.vote_out(name, action), None, None)
            case do.Leave():
                self.call(name, lambda: chain.leave(name), None, None)
            case do.Fetch(result, ahead=False):
                self.later(name, on.Fetched(Model(result.digest, 1024, "a" * 64)))
            case do.AnswerOpen():
                self.train(name)
            case do.Deliver():
                self.delivered(name, action)

    def is_merge_of(self, name: str, entry: tuple[str, Callable[[], None]]) -> bool:
        closure = entry[1].__closure__ or ()
        return entry[0] == name and any(isinstance(cell.cell_contents, on.MergeDone | on.TooFew) for cell in closure)

    def once(self, name: str, round_: int, term: int) -> None:
        key = (name, self.lives[name], round_, term)
        assert key not in self.published, "a leader publishes twice in one term"
        self.published.add(key)

    def merged(self, action: do.StartMerge) -> on.RoundEvent:
        entries = action.view.check_ins
        left_out = tuple(non_finite(e.name, "w") for e in entries if e.digest.startswith("0bad"))
        good = sorted((e.name, e.digest) for e in entries if not e.digest.startswith("0bad"))
        if len(good) < action.view.config.min_peers:
            return on.TooFew(left_out)
        return on.MergeDone(model_of(action.view.round, *good), left_out)

    def train(self, name: str) -> None:
        plan, number = self.plans[name], self.sent[name]
        if plan.fails_at == number:
            self.later(name, on.MLEnded(name))
            return
        self.sent[name] += 1
        mine = model_of(name, number, bad=number in plan.bad)
        begins = isinstance(self.states[name], Enrolling) or self.states[name].node_or_none.held is None  # type: ignore[union-attr]
        mode = plan.mode if number >= plan.syncs and not begins else None
        self.later(name, on.ParametersOffered(on.Offer(number, mine, mode)))

    def delivered(self, name: str, action: do.Deliver) -> None:
        held = action.held
        assert self.chain.accepted[held.round] == held.model.digest, "not the accepted result of that round"
        assert not self.got[name] or held.round >= max(self.got[name])
        self.got[name][held.round] = held.model.digest
        if action.over:
            self.final[name] = held.model.digest
            self.later(name, on.SessionClosed())
        else:
            self.train(name)

    def moves(self) -> list[Callable[[], None]]:
        moves = [lambda i=i: self.pending.pop(i)[1]() for i in range(len(self.pending))]  # type: ignore[misc]
        for name, state in self.states.items():
            if state.node_or_none is not None and self.seen[name] != self.chain.version:
                moves.append(lambda name=name: self.show(name))  # type: ignore[misc]
        if moves and self.mistakes and self.random.random() < 0.05:
            moves.append(self.take_for_dead)
        if moves and self.kills and self.random.random() < 0.05:
            moves.append(self.kill)
        if self.shown and self.lags and self.random.random() < 0.2:
            moves.append(self.lag)
        if moves and self.suspicions and self.chain.phase == RoundState.MERGE and self.random.random() < 0.3:
            moves.append(self.suspect)
        if not moves and self.chain.phase == RoundState.CHECKIN:
            have = sum(name in self.chain.active for name in self.chain.check_ins)
            if have >= self.chain.config.min_peers:
                moves.append(self.close)
        if not moves and (
            gone := [n for n, s in self.states.items() if isinstance(s, Ended) and n in self.chain.active]
        ):
            moves.append(lambda: self.lose(gone[0]))
        if not moves:
            unfinished = [name for name, state in self.states.items() if not isinstance(state, Ended)]
            moves.extend(
                lambda name=name: self.feed(name, on.ServingOver()) for name in unfinished if name in self.final
            )  # type: ignore[misc]
        return moves

    def show(self, name: str) -> None:
        self.seen[name] = self.chain.version
        view = self.chain.view()
        self.shown.append(view)
        self.feed(name, on.StatusChanged(view))

    def lag(self) -> None:
        """A node has moved to an SN that does not know everything yet."""
        self.lags -= 1
        name = self.random.choice(list(self.plans))
        if self.states[name].node_or_none is not None:
            self.feed(name, on.StatusChanged(replace(self.random.choice(self.shown), source="another SN")))

    def kill(self) -> None:
        """A node is killed, its SL and its ML program, and started again under the same name."""
        self.kills -= 1
        alive = [name for name, state in self.states.items() if not isinstance(state, Unopened | Ended)]
        if alive:
            name = self.random.choice(alive)
            self.lives[name] += 1
            self.chain.restarted.add(name)
            self.states[name], self.seen[name] = Unopened(), -1
            self.begin(name)

    def suspect(self) -> None:
        self.suspicions -= 1
        for name in self.plans:
            self.later(name, on.LeaderSilent(self.chain.round, self.chain.term))

    def take_for_dead(self) -> None:
        """The SN lost sight of a node that lives."""
        self.mistakes -= 1
        self.lose(self.random.choice(list(self.plans)))

    def lose(self, name: str) -> None:
        """The SN does not hear of a node any more."""
        self.chain.leave(name)
        self.chain.version += 1

    def close(self) -> None:
        self.chain.start_merge()
        self.chain.version += 1

    def run(self) -> None:
        for _ in range(MAX_MOVES):
            moves = self.moves()
            if not moves:
                return
            self.random.choice(moves)()
        raise AssertionError("it does not come to an end")


plans = st.builds(
    Plan,
    syncs=st.integers(1, 3),
    bad=st.frozensets(st.integers(0, 3), max_size=1),
    mode=st.sampled_from(["snapshot", "active", "inactive"]),
    fails_at=st.none() | st.integers(0, 3),
)
healthy = st.builds(replace, st.builds(Plan, st.integers(1, 4), st.just(frozenset()), st.just("snapshot"), st.none()))


@settings(max_examples=300, deadline=None)
@given(st.lists(healthy, min_size=2, max_size=5), st.integers(0, 4), st.integers(0, 2**32), st.data())
def test_healthy_nodes_all_end_with_the_final_model(
    nodes: list[Plan], trouble: int, seed: int, data: st.DataObject
) -> None:
    min_peers = data.draw(st.integers(1, len(nodes)))
    simulation = Simulation({f"sl-{i}": plan for i, plan in enumerate(nodes)}, min_peers, trouble, seed)
    simulation.run()
    assert simulation.chain.phase == RoundState.COMPLETE
    assert simulation.chain.last is not None
    # One that enrols after the training is complete is refused; every other one ends with the same model.
    for name, state in simulation.states.items():
        assert isinstance(state, Ended), f"{name} is left in {state}"
        if isinstance(state.error, errors.TrainingComplete):
            assert name not in simulation.chain.known
        else:
            assert state.error is None
            assert simulation.final[name] == simulation.chain.last.digest


@settings(max_examples=300, deadline=None)
@given(st.lists(plans, min_size=1, max_size=5), st.integers(0, 4), st.integers(0, 2**32), st.data())
def test_with_failing_nodes_no_rule_is_broken_and_nobody_waits_for_nothing(
    nodes: list[Plan], trouble: int, seed: int, data: st.DataObject
) -> None:
    min_peers = data.draw(st.integers(1, len(nodes)))
    simulation = Simulation({f"sl-{i}": plan for i, plan in enumerate(nodes)}, min_peers, trouble, seed)
    simulation.run()
    still_there = [name for name, state in simulation.states.items() if not isinstance(state, Ended)]
    if still_there:  # only because too few are left to make a round
        assert simulation.chain.phase == RoundState.CHECKIN
        assert len(simulation.chain.active) < min_peers
