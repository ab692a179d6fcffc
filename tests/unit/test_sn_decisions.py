"""What an SN decides without a network: quorum, waiting, who is absent, who may be whom."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.chain.events import CheckedIn, TrainingConfig
from services.errors import NameTaken, NotAMember, SettingsError, StorageError, UnknownSetting
from services.rpc.swarm_pb2 import RoundState
from services.sn.event_fold import NOWHERE
from services.sn.liveness import Streams, absent
from services.sn.membership import Caller, DirectoryMember, Membership
from services.sn.quorum import Clock, Waiting, clock, waiting
from services.sn.settings import SNSettings
from services.sn.state import FILE, SNState, chain_choice
from services.sn.training import Participant, TrainingView

FINGERPRINT = b"\1" * 32


def view(in_: str, awaited: str = "", *, min_peers: int = 2, may_lead: str = "abc", **changes: Any) -> TrainingView:
    """A round that the names (one letter each) of ``in_`` have checked in to."""
    made = TrainingView(contract="t", location="0x1", state=RoundState.CHECKIN, round=3, term=1)
    made.config = TrainingConfig(min_peers, 8, "mean", False, 500)
    made.participants = {name: Participant(name, FINGERPRINT, name in may_lead) for name in sorted(in_ + awaited)}
    made.check_ins = {name: CheckedIn(NOWHERE, 1, name, b"d", 1, 100, False, "", 0) for name in in_}
    for name, value in changes.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    ("training", "expected"),
    [
        (view("ab", "c"), Clock(3, 1, 500)),
        (view("a", "bc"), None),  # below minPeers
        (view("abc"), None),  # everyone is in: the contract closes it
        (view("ab", "c", may_lead="c"), None),  # nobody could lead
        (view("ab", "c", state=RoundState.MERGE), None),
        (view("ab", "c", state=RoundState.COMPLETE), None),
        (view("", "abc", config=None), None),
    ],
)
def test_the_quorum_clock_runs_when_min_peers_wait_for_others(training: TrainingView, expected: Clock | None) -> None:
    assert clock(training) == expected


def test_a_reopened_round_starts_another_clock() -> None:
    assert clock(view("ab", "c", term=1)) != clock(view("ab", "c", term=2))


@pytest.mark.parametrize(
    ("training", "expected"),
    [
        (view("ab", "c"), Waiting(3, 1, 2, 2, ("c",), 0)),
        (view("a", "", min_peers=3), Waiting(3, 1, 1, 3, (), 2)),  # others have not even enrolled
        (view("ab", "c", may_lead="c"), Waiting(3, 1, 2, 2, ("c",), 0, leaderless=True)),
        (view("ab", may_lead=""), Waiting(3, 1, 2, 2, (), 0, leaderless=True)),  # and it would wait for ever
        (view("", "abc"), None),  # nobody waits
        (view("ab", "c", state=RoundState.MERGE), None),
    ],
)
def test_a_wait_names_who_is_awaited(training: TrainingView, expected: Waiting | None) -> None:
    assert waiting(training) == expected


def test_absent_are_those_who_take_part_and_do_not_watch() -> None:
    streams = Streams()
    streams.opened("a")
    streams.opened("a")
    streams.opened("b")
    streams.closed("a")  # the old stream of a node that came back on a new one
    assert absent(view("ab", "c"), streams) == {"c"}
    streams.closed("a")
    assert absent(view("ab", "c"), streams) == {"a", "c"}
    assert absent(view("ab", "c", state=RoundState.COMPLETE), streams) == frozenset()
    left = view("ab", "c")
    left.participants["c"] = replace(left.participants["c"], active=False)
    assert absent(left, streams) == {"a"}


def test_a_member_is_admitted_by_role_name_and_certificate() -> None:
    membership = Membership()
    caller = Caller("sl", "a", FINGERPRINT)
    with pytest.raises(NotAMember):
        membership.admit(caller)
    membership.put(DirectoryMember("sl", "a", "host", 1, FINGERPRINT, "sn-1"))
    assert membership.admit(caller).parent == "sn-1"
    with pytest.raises(NotAMember):
        membership.admit(replace(caller, role="swop"))
    with pytest.raises(NameTaken):
        membership.admit(replace(caller, fingerprint=b"\2" * 32))
    membership.left("sl", "a")
    with pytest.raises(NotAMember):
        membership.admit(caller)


def test_a_registration_is_written_only_where_something_changes() -> None:
    membership = Membership()
    caller = Caller("sl", "a", FINGERPRINT)
    wanted = membership.registration(caller, "host", 1, "sn-1")
    assert wanted == DirectoryMember("sl", "a", "host", 1, FINGERPRINT, "sn-1")
    membership.put(wanted)
    assert membership.registration(caller, "host", 1, "sn-1") is None
    assert membership.registration(caller, "host", 2, "sn-1") is not None
    assert membership.registration(caller, "host", 1, "sn-2") is not None
    membership.left("sl", "a")
    assert membership.registration(caller, "host", 1, "sn-1") == wanted
    with pytest.raises(NameTaken):
        membership.registration(replace(caller, fingerprint=b"\2" * 32), "host", 1, "sn-1")


# --- state and settings: files and environment only ---------------------------------------------------


def test_state_is_replaced_whole_and_read_back(tmp_path: Path) -> None:
    assert SNState.load(tmp_path) is None
    state = SNState("geth", "0xA", {"t": "0xB"})
    state.save(tmp_path)
    assert SNState.load(tmp_path) == state
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert chain_choice("auto", tmp_path) == "geth" and chain_choice("geth", tmp_path) == "geth"
    with pytest.raises(SettingsError, match=r"it is embedded, but .* holds a swarm whose chain is geth"):
        chain_choice("embedded", tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", json.dumps({"chain": "x", "network": "0x", "trainings": {}})])
def test_a_damaged_state_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(StorageError, match=FILE):
        SNState.load(tmp_path)


def load(**flags: Any) -> SNSettings:
    return SNSettings.load("sn", {"sentinel": True, "host_ip": "10.0.0.1", **flags})


def test_settings_have_the_defaults_that_users_know() -> None:
    settings = load()
    assert (settings.sn_api_port, settings.sn_p2p_port, settings.apls_port) == (30304, 30303, 5814)
    assert (settings.chain, settings.data_dir) == ("auto", Path("/platform/swarm/SMLNODE"))


def test_settings_come_from_the_environment_and_flags_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SN_API_SERVER_PORT", "1234")
    monkeypatch.setenv("SN_I_AM_SENTINEL", "true")
    monkeypatch.setenv("THIS_NODE_IP", "10.0.0.9")
    assert SNSettings.load("sn", {}).sn_api_port == 1234
    assert SNSettings.load("sn", {"sn_api_port": 5, "host_ip": "h"}).host_ip == "h"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"sentinel": None}, "give --sentinel"),
        ({"sentinel_ip": "10.0.0.2"}, "--sentinel makes a new swarm, --sentinel-ip joins one"),
        ({"found_with": "trust-file"}, "found_with is not usable: give --trust too"),
        ({"host_ip": None}, "give --host-ip"),
        ({"sn_api_port": 65536}, "sn_api_port is not usable"),
        ({"apls_port": 0}, "apls_port is not usable"),
        ({"chain": "besu"}, "chain is not usable"),
        ({"lost_after_s": 0}, "lost_after_s is not usable"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(flags: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load(**flags)


def test_a_mistyped_variable_is_refused_with_the_nearest_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SN_API_SERVR_PORT", "1")
    with pytest.raises(UnknownSetting, match="Did you mean SN_API_SERVER_PORT"):
        load()
