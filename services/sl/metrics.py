"""What an SL measures, for Prometheus."""

from collections.abc import Callable
from typing import Literal

from services.runtime.metrics import Meter
from services.sl.view import View

Direction = Literal["in", "out"]
Link = Literal["ml", "peers"]


class SLMetrics:
    """Counters change as things happen; gauges are read at a scrape. Methods may be called from any thread."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._accepted = meter.counter(
            "swarm_sl_rounds_accepted", "Merged models that this node took.", ["contributed"]
        )
        self._led = meter.counter("swarm_sl_rounds_led", "Merges that this node did as the leader.")
        self._left_out = meter.counter("swarm_sl_left_out", "Rounds that this node was left out of.")
        self._silent = meter.counter("swarm_sl_leaders_silent", "Leaders without progress for the failure timeout.")
        self._phases = meter.histogram(
            "swarm_sl_phase_seconds",
            "Phases of a round: store, check-in, wait, merge, publish, fetch, deliver.",
            ["phase"],
        )
        self._bytes = meter.counter(
            "swarm_sl_bytes", "Parameters, by direction and link (ml, peers).", ["direction", "link"]
        )
        self._round = meter.gauge("swarm_sl_round", "The running round.")
        self._term = meter.gauge("swarm_sl_term", "Its term; 0 before its first merge.")
        self._alive = meter.gauge("swarm_sl_peers_alive", "Other participants that take part now.")

    def accepted(self, contributed: bool) -> None:
        self._accepted.add(contributed="yes" if contributed else "no")

    def led(self) -> None:
        self._led.add()

    def left_out(self) -> None:
        self._left_out.add()

    def leader_silent(self) -> None:
        self._silent.add()

    def phase(self, name: str, seconds: float) -> None:
        self._phases.took(seconds, phase=name)

    def moved(self, direction: Direction, link: Link, size: int) -> None:
        self._bytes.add(size, direction=direction, link=link)

    def read_view(self, node: str, view: Callable[[], View | None]) -> None:
        """From now on, a scrape shows the state of the training, once there is a view of it."""

        def read() -> None:
            now = view()
            if now is not None:
                self._round.set(now.round)
                self._term.set(now.term)
                self._alive.set(sum(member.active and member.name != node for member in now.members))

        self._meter.read_at_scrape(read)
