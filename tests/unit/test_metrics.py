"""What nodes measure of their rounds, from the events alone."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from services.chain import events as on_chain
from services.chain.receipts import Position
from services.licensing.metrics import measure_lease
from services.runtime.metrics import Meter, is_loopback
from services.sl.metrics import SLMetrics
from services.sn.membership import DirectoryMember, Membership
from services.sn.metrics import SNMetrics
from services.sn.training import TrainingView

CONFIG = on_chain.TrainingConfig(2, 16, "mean", False, 1000)
CHECKED_IN = [(on_chain.CheckedIn, 1, name, b"d", 8, 1, False, "h", 1) for name in "ab"]
START = [
    (on_chain.Configured, CONFIG, "a"), (on_chain.Enrolled, "a", b"a", True, 1), (on_chain.Enrolled, "b", b"b", True, 1)
]  # fmt: skip


def measured(history: list[tuple[Any, ...]]) -> dict[str, float]:
    """Samples by name and labels, after an SN has followed ``history``, one event a second."""
    meter, now = Meter(on=True), 0.0
    metrics, view, membership = SNMetrics(meter, lambda: now), TrainingView("demo", "0x1"), Membership()
    membership.put(DirectoryMember("sl", "a", "h", 1, b"a", "sn-1"))
    membership.put(DirectoryMember("sl", "b", "h", 1, b"b", "sn-1", present=False))
    metrics.read_trainings(lambda: [view], membership)
    for number, (kind, *facts) in enumerate(history):
        event = kind(Position(number, 0), *facts)
        now = float(number)
        view.apply(event)
        metrics.event(view, event)
    return samples(meter)


def samples(meter: Meter) -> dict[str, float]:
    lines = [line for line in meter.exposition().decode().splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_a_round_is_counted_and_its_phases_are_timed() -> None:
    found = measured(
        [*START, *CHECKED_IN, (on_chain.MergeStarted, 1, 1, "a", 2), (on_chain.RoundAccepted, 1, 1, "a", b"r", 8, 2)]
    )
    assert found['swarm_sn_rounds_accepted_total{contract="demo"}'] == 1
    for phase, seconds in (("check-in", 2), ("merge", 1)):
        assert found[f'swarm_sn_phase_seconds_count{{contract="demo",phase="{phase}"}}'] == 1
        assert found[f'swarm_sn_phase_seconds_sum{{contract="demo",phase="{phase}"}}'] == seconds
    assert found['swarm_sn_round{contract="demo"}'] == 2
    assert found['swarm_sn_peers_alive{contract="demo"}'] == found['swarm_sn_peers_awaited{contract="demo"}'] == 2
    assert found['swarm_sn_members_present{role="sl"}'] == 1


def test_trouble_is_counted() -> None:
    found = measured([
        *START, *CHECKED_IN, (on_chain.MergeStarted, 1, 1, "a", 2), (on_chain.LeaderVotedOut, 1, 1, "b", 1, 1),
        (on_chain.LeaderDeposed, 1, 1, "a"), (on_chain.MergeStarted, 1, 2, "b", 2),
        (on_chain.LeftOut, 1, 2, "a", "x"), (on_chain.RoundReopened, 1, 2, 1, 2), (on_chain.Left, "a", "tired", 1),
    ])  # fmt: skip
    for name in ("leader_votes", "leader_depositions", "left_out", "rounds_reopened"):
        assert found[f'swarm_sn_{name}_total{{contract="demo"}}'] == 1, name
    assert 'swarm_sn_phase_seconds_count{contract="demo",phase="merge"}' not in found
    assert found['swarm_sn_peers_alive{contract="demo"}'] == 1


def test_metrics_that_are_off_take_everything_and_keep_nothing() -> None:
    meter = Meter(on=False)
    SNMetrics(meter).transaction("enrol", 0.1)
    meter.gauge("g", "text", ["label"]).set(1, label="x")
    assert not meter.on


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("[::1]", True), ("0.0.0.0", False), ("::", False),  # noqa: S104
        ("10.0.0.1", False), ("localhost.example.org", False), ("", False),
    ],
)  # fmt: skip
def test_only_this_machines_own_addresses_are_its_own(host: str, here: bool) -> None:
    assert is_loopback(host) is here


def test_the_docs_list_every_metric() -> None:
    meter = Meter(on=True)
    SNMetrics(meter)
    sn = samples_named(meter)
    meter = Meter(on=True)
    SLMetrics(meter)
    lease: Any = SimpleNamespace(state="held", grace_left_s=1.0)
    measure_lease(lease, meter)
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    missing = {name for name in sn | samples_named(meter) if f"`{name}`" not in page}
    assert missing == set()


def samples_named(meter: Meter) -> set[str]:
    """Our metrics, under the names that a query uses."""
    helps = (line.split()[2] for line in meter.exposition().decode().splitlines() if line.startswith("# HELP swarm"))
    return set(helps)
