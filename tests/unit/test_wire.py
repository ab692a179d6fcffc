"""The frames of the channel: golden bytes, and what is refused."""

import hashlib
import json
import math
import struct
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_callback import wire
from swarm_callback.errors import VersionMismatch, WireError

GOLDEN_SYNC = (
    b"SWML"  # magic
    b"\x04\x00"  # version 4
    b"\x04\x00"  # Sync
    b"\x27\x00\x00\x00"  # 39 bytes of header
    b"\x05\x00\x00\x00\x00\x00\x00\x00"  # 5 bytes of body
    b'{"seq":3,"epochsDone":200,"examples":0}'
)
GOLDEN_MERGED = (
    b"SWML\x04\x00\x06\x00\x94\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00"
    b'{"seq":1,"round":2,"contributed":false,"note":"sp\xc3\xa4t","nextSyncInterval":128,"trainingOver":true,"pace":"","bestRound":0,"late":0,"notFinite":false}'
)
OPEN = wire.Open("defaultbb.cqdb.sml.hpe", 128, 2, "mean", 1, "snapshot", False, 10, "KERAS", 4711)
EVERY = [
    OPEN,
    wire.Opened("sl-1", 1, True, 3),
    wire.OpenRefused("name-taken", "The name is taken"),
    wire.Sync(1, 0),
    wire.Close(9, 3, "active"),
    wire.Merged(1, 1, True, "", 16, False),
    wire.Report(1, 0.5, 0.25, 1, 10),
    wire.Notice("2 of 3 are in"),
    wire.Abort("ml-failed", "It failed"),
    wire.Bye(),
]


def unpacked(frame: bytes) -> tuple[wire.ChannelMessage, int]:
    prefix = wire.Prefix.unpack(frame[: wire.PREFIX_BYTES])
    assert len(frame) == wire.PREFIX_BYTES + prefix.header_size
    return wire.unpack_header(prefix.kind, frame[wire.PREFIX_BYTES :]), prefix.body_size


def test_sync_has_its_golden_bytes():
    assert wire.pack(wire.Sync(3, 200), 5) == GOLDEN_SYNC


def test_merged_is_read_from_golden_bytes():
    assert unpacked(GOLDEN_MERGED) == (wire.Merged(1, 2, False, "spät", 128, True), 2**32)


@pytest.mark.parametrize("message", EVERY, ids=lambda message: type(message).__name__)
def test_every_message_survives_the_way(message):
    assert unpacked(wire.pack(message, 0)) == (message, 0)


def test_other_messages_are_another_version():
    """Else two ends of different releases would take each other for broken."""
    told = [(type(it).TYPE, type(it).HAS_BODY, [(field.name, field.type) for field in fields(it)]) for it in EVERY]
    digest = hashlib.sha256(json.dumps(told, default=str).encode()).hexdigest()[:16]
    assert (wire.VERSION, digest) == (4, "32907b94a8dc8349")


def test_every_message_has_a_number_of_its_own():
    numbers = [message.TYPE for message in EVERY]
    assert numbers == list(range(1, len(EVERY) + 1))
    assert {type(message) for message in EVERY} == set(wire.ChannelMessage.__subclasses__())


@given(st.text(), st.integers(0, 2**63 - 1), st.booleans())
def test_any_text_and_number_survive(text, number, flag):
    message = wire.Merged(number, number, flag, text, number, flag)
    found, _ = unpacked(wire.pack(message, 0))
    assert found == message


def test_a_loss_that_is_not_a_number_survives_and_so_does_none():
    found, _ = unpacked(wire.pack(wire.Report(1, math.nan, math.inf, 0, 0)))
    assert math.isnan(found.loss)
    assert found.metric == math.inf
    none = wire.Report(1, None, None, 0, 0)
    assert unpacked(wire.pack(none)) == (none, 0)


@pytest.mark.parametrize(
    ("prefix", "words"),
    [
        ((b"GET ", 2, 4, 2, 0), "begins with"),
        ((b"SWML", wire.VERSION, 99, 2, 0), "type 99"),
        ((b"SWML", wire.VERSION, 4, 2**20 + 1, 0), "1048577 bytes"),
        ((b"SWML", wire.VERSION, 4, 2, 2**63), "body"),
        ((b"SWML", wire.VERSION, 10, 2, 1), "Bye message cannot have a body"),
    ],
)
def test_a_damaged_prefix_is_refused_before_anything_is_read(prefix, words):
    with pytest.raises(WireError, match=words):
        wire.Prefix.unpack(struct.pack("<4sHHIQ", *prefix))


def test_another_version_is_named():
    with pytest.raises(VersionMismatch, match=r"version 7 .* version 4.*same release"):
        wire.Prefix.unpack(struct.pack("<4sHHIQ", b"SWML", 7, 4, 2, 0))


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b'{"seq":1}',
        b'{"seq":1,"epochsDone":0,"more":0}',
        b'{"seq":true,"epochsDone":0}',
        b'{"seq":"1","epochsDone":0}',
        b'{"seq":1.0,"epochsDone":0}',
        b'{"seq":-1,"epochsDone":0}',
        b'{"seq":1,"epochsDone":9223372036854775808}',
        b"[" * 100_000,
    ],
)
def test_a_header_with_other_fields_or_types_is_refused(header):
    with pytest.raises(WireError):
        wire.unpack_header(wire.Sync, header)


@pytest.mark.parametrize("digits", [400, 5000])
def test_a_number_that_no_float_holds_is_refused(digits):
    header = wire.pack(wire.Report(1, 0.5, 0.25, 1, 10))[wire.PREFIX_BYTES :]
    with pytest.raises(WireError):
        wire.unpack_header(wire.Report, header.replace(b"0.25", b"1" * digits))


def test_a_header_that_is_too_long_is_not_sent():
    with pytest.raises(WireError, match="1048576 are allowed"):
        wire.pack(wire.Notice("x" * 2**20))


def test_names_on_the_wire_are_those_of_the_product():
    header = json.loads(wire.pack(OPEN)[wire.PREFIX_BYTES :])
    assert len(header) == len(fields(OPEN))
    assert {"syncFrequency", "minPeers", "mergeMethod", "nodeWeightage", "checkinModelOnTrainEnd"} <= header.keys()
