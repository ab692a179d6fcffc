"""What ends the wait for an SN, and which address is announced when there is one again."""

import pytest

from services.sl import own_address, patience
from services.sl.own_address import OwnAddress
from services.sl.patience import Patience


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(patience, "monotonic", lambda: now[0])
    return now


def test_patience_comes_to_its_end(clock: list[float]) -> None:
    waiting = Patience(5)
    assert waiting.left_s == 5
    clock[0] += 4
    assert waiting.left_s == 1
    clock[0] += 4
    assert waiting.left_s == 0


def test_time_in_which_nothing_is_needed_does_not_count(clock: list[float]) -> None:
    needed = [False]
    waiting = Patience(5, lambda: needed[0])
    for _ in range(1800):  # an hour, looked at as the wait does
        clock[0] += 2
        assert waiting.left_s == 5
    needed[0] = True
    clock[0] += 3
    assert waiting.left_s == 2
    needed[0] = False
    assert waiting.left_s == 5


def test_an_address_that_the_host_has_lost_is_announced_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = {"10.8.0.2"}
    monkeypatch.setattr(own_address, "_is_here", lambda host: host in mine)
    monkeypatch.setattr(own_address, "_way_to", lambda _: next(iter(mine), ""))
    address = OwnAddress("10.8.0.2", 30305)
    address.look("sn:30304")
    assert (address.host, address.port) == ("10.8.0.2", 30305)
    mine.clear()
    address.look("sn:30304")
    assert address.host == "10.8.0.2"  # nowhere to go yet
    for now in ("10.8.0.7", "10.8.0.9"):
        mine.clear()
        mine.add(now)
        address.look("sn:30304")
        assert address.host == now


@pytest.mark.parametrize("host", ["localhost", "sl-1.hospital.example", "192.0.2.7", "2001:db8::7"])
def test_names_and_addresses_of_others_stay_as_they_were_given(host: str) -> None:
    address = OwnAddress(host, 1)
    address.look("127.0.0.1:1")
    assert address.host == host


@pytest.mark.parametrize("towards", ["127.0.0.1:1", "localhost:1", "[::1]:1"])
def test_an_address_that_the_host_has_stays(towards: str) -> None:
    address = OwnAddress("127.0.0.1", 1)
    address.look(towards)
    assert address.host == "127.0.0.1"


@pytest.mark.parametrize("towards", ["127.0.0.1:30304", "[::1]:30304", "nobody.invalid:30304"])
def test_no_address_that_only_this_host_reaches_is_announced_instead(
    monkeypatch: pytest.MonkeyPatch, towards: str
) -> None:
    address = OwnAddress("127.0.0.1", 1)
    monkeypatch.setattr(own_address, "_is_here", lambda _: False)
    address.look(towards)
    assert address.host == "127.0.0.1"
