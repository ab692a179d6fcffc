"""Watches a node's rounds from outside: measures the phases, traces them, and gives log lines their round and term."""

from collections.abc import Awaitable, Callable, Coroutine
from time import monotonic

from services.errors import LeftOutOfRound, ModelNotFinite
from services.runtime import logs, traces
from services.runtime.metrics import Meter
from services.runtime.traces import OFF, Facts, RoundOf, Span
from services.sl.metrics import SLMetrics
from services.sl.round import events as on
from services.sl.round.states import (
    Awaiting,
    CheckingIn,
    DiagnosingMismatch,
    Ended,
    Fetching,
    Merging,
    Publishing,
    SLState,
    WaitingForRound,
    WithNode,
)

# What a node does in each state; in other states it waits for its ML program.
PHASES: dict[type[SLState], str] = {
    CheckingIn: "check-in",
    WaitingForRound: "wait",
    DiagnosingMismatch: "wait",
    Awaiting: "wait",
    Merging: "merge",
    Publishing: "publish",
    Fetching: "fetch",
}


class Observer:
    """``clock``: seconds, monotonic. ``stored``, ``received`` and ``sent`` may be called from any thread."""

    def __init__(self, node: str, metrics: SLMetrics | None = None, clock: Callable[[], float] = monotonic) -> None:
        self.metrics = metrics or SLMetrics(Meter(on=False))
        self._node = node
        self._clock = clock
        self._phase: tuple[str, int] | None = None  # its name and round
        self._since = 0.0
        self._round = 0
        self._stored_s: float | None = None
        self._round_span: Span = OFF
        self._phase_span: Span = OFF

    # --- the round ------------------------------------------------------------------------------------------

    def stepped(self, before: SLState, event: on.RoundEvent, after: SLState) -> None:
        """Called after the node took ``event`` and before it performs the actions, which belong to the new phase."""
        self._count(before, event, after)
        phase = PHASES.get(type(after))
        wanted = (phase, _round_of(after)) if phase is not None and isinstance(after, WithNode) else None
        # Handing over a model, and logs about it, still belong to the model's round.
        hands_over = isinstance(before, Fetching) and wanted is None and isinstance(after, WithNode)
        if isinstance(after, WithNode) and not hands_over:
            logs.about(contract=after.node.opened.contract, round=_round_of(after), term=_term_of(after))
        if wanted != self._phase:
            self._leave()
            if not hands_over and (wanted is None or wanted[1] != self._round):
                self._end_round()
            if wanted is not None and isinstance(after, WithNode):
                self._enter(wanted, after)

    def delivering(self, size: int, work: Callable[[], Awaitable[None]]) -> Coroutine[None, None, None]:
        """Hands a merged model to ML with ``work``, which ends a round for this node."""
        whole, self._round_span = self._round_span, OFF

        async def deliver() -> None:
            began, span = self._clock(), whole.begin("deliver", {"node": self._node, "bytes": size})
            try:
                await work()
            finally:
                span.end()
                whole.end()
            self.metrics.phase("deliver", self._clock() - began)
            self.metrics.moved("out", "ml", size)

        return deliver()

    # --- bytes ----------------------------------------------------------------------------------------------

    def stored(self, size: int, seconds: float) -> None:
        """ML handed over its parameters."""
        self._stored_s = seconds
        self.metrics.phase("store", seconds)
        self.metrics.moved("in", "ml", size)

    def received(self, size: int) -> None:
        self.metrics.moved("in", "peers", size)

    def sent(self, size: int) -> None:
        self.metrics.moved("out", "peers", size)

    # --- phases ---------------------------------------------------------------------------------------------

    def _count(self, before: SLState, event: on.RoundEvent, after: SLState) -> None:
        match event:
            case on.Fetched() if isinstance(before, Fetching):
                self.metrics.accepted(before.part.contributed)
                if before.part.left_out:
                    self.metrics.left_out()
            case on.MergeDone():
                self.metrics.led()
            case on.LeaderSilent():
                self.metrics.leader_silent()
        if isinstance(after, Ended) and isinstance(after.error, ModelNotFinite | LeftOutOfRound):
            self.metrics.left_out()

    def _enter(self, phase: tuple[str, int], after: WithNode) -> None:
        self._phase, self._since = phase, self._clock()
        name, self._round = phase
        if not traces.on():
            return
        view = after.node.view
        facts: Facts = {
            "node": self._node,
            "contract": after.node.opened.contract,
            "round": self._round,
            "term": _term_of(after),
        }
        if self._round_span is OFF:
            ago = self._stored_s or 0.0
            key = RoundOf(view.location, self._round)
            self._round_span = traces.begin_in(key, "round", facts, seconds_ago=ago)
            if self._stored_s is not None:
                self._round_span.begin("store", facts, seconds_ago=ago).end()
        self._stored_s = None
        self._phase_span = self._round_span.begin(name, facts)
        self._phase_span.enter()

    def _leave(self) -> None:
        if self._phase is not None:
            self.metrics.phase(self._phase[0], self._clock() - self._since)
        self._phase_span.end()
        self._phase, self._phase_span = None, OFF

    def _end_round(self) -> None:
        self._round_span.end()
        self._round_span = OFF


def _round_of(state: WithNode) -> int:
    match state:
        case Fetching():
            return state.result.round
        case CheckingIn() | Awaiting():
            return state.round
    return state.node.view.round


def _term_of(state: WithNode) -> int:
    return state.result.term if isinstance(state, Fetching) else state.node.view.term
