"""How often one member may call an SN."""

import re

import pytest
from clock import Clock

from services.errors import SNUnreachable, TooManyCalls
from services.rpc import limits as limits_module
from services.rpc.limits import CallLimit, CallLimits
from services.sn.roles import LIMITS, ROLES

CALL, OTHER, WATCH, FREE = "/s/Call", "/s/Other", "/s/Watch", "/s/Free"
WRITES = CallLimit("write calls", at_once=2, per_s=4)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limits(clock: Clock) -> CallLimits:
    watches = CallLimit("watch calls", at_once=100, per_s=100, open=2)
    return CallLimits({CALL: WRITES, OTHER: WRITES, WATCH: watches}, clock)


def call(limits: CallLimits, method: str = CALL, caller: str = "a") -> None:
    with limits.counting(method, caller, "sl-1"):
        pass


def test_one_member_waits_and_the_others_do_not(limits: CallLimits, clock: Clock) -> None:
    call(limits)
    call(limits, OTHER)
    with pytest.raises(TooManyCalls, match=r"write calls from sl-1: .* 2 in a moment, then 4 a") as refused:
        call(limits)
    call(limits, caller="b")
    call(limits, WATCH)
    clock.now += refused.value.facts["seconds"]
    call(limits)
    with pytest.raises(TooManyCalls):
        call(limits)
    clock.now += 3600  # rest gives no more than the beginning did
    call(limits)
    call(limits)
    with pytest.raises(TooManyCalls):
        call(limits)


def test_what_is_not_limited_is_not_counted(limits: CallLimits) -> None:
    for _ in range(100):
        call(limits, FREE)


def test_so_many_streams_are_open_at_once(limits: CallLimits) -> None:
    with limits.counting(WATCH, "a", "sl-1"), limits.counting(WATCH, "a", "sl-1"):
        with pytest.raises(TooManyCalls, match="2 calls of this kind open"):
            call(limits, WATCH)
        call(limits, WATCH, "b")
    call(limits, WATCH)


def test_a_call_that_fails_is_over_too(limits: CallLimits) -> None:
    for _ in range(5):
        with pytest.raises(OSError, match="no"), limits.counting(WATCH, "a", "sl-1"):
            raise OSError("no")


def test_those_who_have_not_called_for_long_are_forgotten(
    limits: CallLimits, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits_module, "MOST_BUCKETS", 3)
    for number in range(3):
        call(limits, caller=str(number))
    clock.now += 3600
    call(limits, caller="new")
    assert [caller for caller, _ in limits._buckets] == ["new"]


def test_nodes_go_on_after_it_as_after_an_sn_that_is_away() -> None:
    assert issubclass(TooManyCalls, SNUnreachable)


def test_each_call_of_an_sn_that_writes_or_watches_has_a_limit() -> None:
    without = {method.rsplit("/", 1)[1] for method in ROLES.keys() - LIMITS.keys() if "Peering" not in method}
    assert all(re.match("Get|List", call) for call in without)
    assert "GetRecord" not in without
    assert LIMITS.keys() <= ROLES.keys()
