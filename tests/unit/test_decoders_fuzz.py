"""Whatever bytes come in, a decoder gives what they say or its own error, and nothing else.

Inputs are valid ones, cut, spliced and changed, and arbitrary bytes. ``make fuzz`` tries many more of them.
"""

import contextlib
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from google.protobuf.message import DecodeError, Message
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from services.chain.account import GAS_LIMIT
from services.chain.account import Account as SigningAccount
from services.chain.relayed import gas_of
from services.errors import (
    DocumentUnusable,
    HandoverRefused,
    IdentityError,
    LicenseUnreadable,
    MalformedCall,
    NoSecondCopy,
)
from services.identity import trust_file
from services.identity.certificates import read_key
from services.identity.handover import Handover
from services.identity.peers import identity_of_certificate
from services.identity.revocations import revoked_by
from services.identity.signing import Signer
from services.licensing import license_file
from services.licensing.license_file import Grant, License
from services.rpc import swarm_pb2 as pb
from services.rpc.result_copy import CopyClaim
from services.sl.round.progress import MergeProgress
from services.sl.sharding import messages
from services.sl.sharding.messages import Unreadable
from services.sl.transfer.packing import FRAME, Packer, Unpackable, Unpacker, limit_of
from services.sl.transfer.partials import Manifest
from services.sn import requests
from swarm_callback import wire
from swarm_callback.errors import StreamError, VersionMismatch, WireError
from swarm_callback.params import encode, header_size_of, parse_header

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "100"))
MOST_BYTES = 2**16

fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize="FUZZ_EXAMPLES" not in os.environ,
)

# What readers of numbers, texts and nested things stumble over.
SNIPPETS = [
    b"-1", b"1e999", b"9" * 5000, b"NaN", b"null", b"[" * 3000, b'{"a":' * 3000, b'""', b"\x00", b"\xff\xff\xff\xff",
    b"\\ud800", b"\xed\xa0\x80", b"true", b"1.5", b"18446744073709551616",
]  # fmt: skip


@st.composite
def changed(draw: Any, seeds: list[bytes]) -> bytes:
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        stop = draw(st.integers(start, min(len(data), start + 40)))
        data[start:stop] = draw(st.one_of(st.binary(max_size=12), st.sampled_from(SNIPPETS)))
    return bytes(data[: draw(st.sampled_from([MOST_BYTES, MOST_BYTES, draw(st.integers(0, len(data)))]))])


def inputs(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    return st.one_of(changed(seeds), st.binary(max_size=300))


HEADER, DATA = encode({"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(3, np.float16)})
SIZE = len(HEADER) + 24 + 6
HASH = "0f" * 32
MANIFEST = {"size": SIZE, "header_size": len(HEADER), "layout": HASH, "segments": [HASH]}
ORDERS = [
    messages.BeginAttempt(1, 2, 3, ("a", "b")),
    messages.Deal(((0, 3), (5, 6))),
    messages.Settled(((1 / 3).hex(),)),
    messages.Measure(1, 0, (1.5).hex()),
    messages.Serves("a", 3, (HASH, HASH)),
    messages.Moves(4, True),
]
FRAMES = [
    wire.Sync(1, 0),
    wire.Opened("sl-1", 1, True, 3),
    wire.OpenRefused("name-taken", "The name is taken"),
    wire.Report(1, 0.5, 0.25, 1, 10),
]
DAY = datetime(2030, 1, 1, tzinfo=UTC)
CALLS = [
    pb.EnrolRequest(contract="a", may_lead=True, config=pb.Config(min_peers=2, merge_method="mean")),
    pb.CheckInRequest(contract="a", round=1, digest=bytes(32), size=9, layout=bytes(32), host="h", port=1),
    pb.PublishRequest(contract="a", round=1, term=1, digest=bytes(32), left_out=[pb.LeftOut(name="b", reason="c")]),
]


RELAYED = [
    SigningAccount(bytes(31) + b"\1").sign(number, 7, to, data).raw
    for number, to, data in ((0, "0x" + "ab" * 20, b"data"), (300, None, bytes(200)))
]


@fuzzed
@given(inputs([messages.encode(message).encode() for message in ORDERS]))
def test_messages_of_the_merge_line(data: bytes) -> None:
    for said_by in (messages.Order, messages.Answer):
        with contextlib.suppress(Unreadable):
            messages.decode(data.decode("utf-8", "replace"), said_by)


@fuzzed
@given(inputs([json.dumps(MANIFEST).encode()]))
def test_manifests(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert Manifest.read(data).consistent


@fuzzed
@given(inputs([b'{"round": 1, "term": 2, "idle_s": 0.5}']))
def test_progress(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert MergeProgress.read(data).idle_s >= 0


@fuzzed
@given(inputs([HEADER]), st.sampled_from([SIZE, 0, 2**62]))
def test_headers_of_streams(data: bytes, size: int) -> None:
    with contextlib.suppress(StreamError):
        header_size_of(data, size)
    with contextlib.suppress(StreamError):
        parse_header(data, size)


@fuzzed
@given(inputs([wire.pack(message) for message in FRAMES]))
def test_frames_of_the_channel(data: bytes) -> None:
    if len(data) < wire.PREFIX_BYTES:
        return
    with contextlib.suppress(WireError, VersionMismatch):
        prefix = wire.Prefix.unpack(data[: wire.PREFIX_BYTES])
        wire.unpack_header(prefix.kind, data[wire.PREFIX_BYTES :])


PACKED = bytes(Packer().pack(memoryview(bytearray(np.arange(200, dtype=np.float32).tobytes())), 4))


@fuzzed
@given(inputs([PACKED[FRAME.size :]]), st.integers(0, 255), st.integers(1, 1000))
def test_packed_frames(data: bytes, width: int, size: int) -> None:
    out = memoryview(bytearray(size))
    with contextlib.suppress(Unpackable):
        Unpacker().unpack(width, memoryview(bytearray(data[: limit_of(size)])), out)


LICENSE = license_file.issue(
    License("L-1", "issuer", "Example Hospital", DAY, None, (Grant("SL", 3, DAY, DAY.replace(year=2031)),)),
    Ed25519PrivateKey.generate(),
)


@fuzzed
@given(inputs([LICENSE]))
@example(b'{"format": ' + b"9" * 5000 + b"}")
def test_license_files(data: bytes) -> None:
    with contextlib.suppress(LicenseUnreadable):
        license_file.read(data)


TRUST = b"""organizations:
- {name: a, trust_domain: a.example, cas: [a.pem], issues: {sl: ["a-*"], sn: [a-1]}, crls: [a.crl]}
- name: b
  trust_domain: b.example
  cas: [b.pem]
  issues:
    admin: [ada]
"""


@fuzzed
@given(inputs([TRUST]))
def test_trust_files(data: bytes) -> None:
    with contextlib.suppress(DocumentUnusable):
        trust_file.parsed(data, "trust.yaml")


def test_handovers_of_keys(pki: Any) -> None:
    key, spiffe_id = read_key(pki.issue("sl", "sl-1").key), "spiffe://swarm.local/sl/sl-1"
    seed = Handover.sign(spiffe_id, key, "a" * 64).content
    assert Handover.parse(seed).spiffe_id == spiffe_id

    @fuzzed
    @given(inputs([seed]))
    def check(data: bytes) -> None:
        with contextlib.suppress(HandoverRefused):
            assert Handover.parse(data).spiffe_id == spiffe_id

    check()


def test_revocation_lists(pki: Any) -> None:
    ca, moment = pki.authority, datetime(2026, 1, 1, tzinfo=UTC)
    entry = x509.RevokedCertificateBuilder().serial_number(7).revocation_date(moment).build()
    made = x509.CertificateRevocationListBuilder().issuer_name(ca.certificate.subject).last_update(moment)
    signed = made.next_update(moment).add_revoked_certificate(entry).sign(ca.key, hashes.SHA256())
    seeds = [signed.public_bytes(form) for form in (Encoding.DER, Encoding.PEM)]
    assert {revoked_by(seed, [ca.certificate]) for seed in seeds} == {frozenset({(ca.certificate.subject, 7)})}

    @fuzzed
    @given(inputs(seeds))
    def check(data: bytes) -> None:
        with contextlib.suppress(ValueError):
            revoked_by(data, [ca.certificate])

    check()


@fuzzed
@given(inputs([call.SerializeToString() for call in CALLS]), st.sampled_from(range(len(CALLS))))
def test_calls_of_the_api(data: bytes, kind: int) -> None:
    call: Message = type(CALLS[kind])()
    try:
        call.ParseFromString(data)
    except DecodeError:
        return
    checks: list[Callable[[Any], object]] = [
        lambda said: requests.config(said.config),
        lambda said: requests.check_in(said, "sl-1"),
        lambda said: requests.left_out(list(said.left_out)),
    ]
    with contextlib.suppress(MalformedCall):
        checks[kind](call)


@pytest.fixture(scope="module")
def certificates(pki: Any) -> list[bytes]:
    found = [pki.issue("sl", "sl-1").cert, pki.cacert]
    return [x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(Encoding.DER) for path in found]


def test_certificates_of_peers(certificates: list[bytes]) -> None:
    @fuzzed
    @given(inputs(certificates))
    def check(data: bytes) -> None:
        with contextlib.suppress(IdentityError):
            identity_of_certificate(data)

    check()


def test_what_holders_of_a_result_have_signed(pki: Any, certificates: list[bytes]) -> None:
    signer, claim = pki.identity("sl", "sl-1"), CopyClaim("0x1", 1, 1, HASH, "sl-1")
    true = claim.signed(Signer(signer))
    known_by_id = identity_of_certificate(true.certificates[0]).id_fingerprint
    claim.check(true, [known_by_id], signer.trust)
    longer = pb.ResultCopy(holder="sl-1", certificates=[*true.certificates, *certificates], signature=true.signature)

    @fuzzed
    @given(inputs([true.SerializeToString(), longer.SerializeToString()]))
    def check(data: bytes) -> None:
        with contextlib.suppress(DecodeError, NoSecondCopy):
            claim.check(pb.ResultCopy.FromString(data), [known_by_id], signer.trust)

    check()


@fuzzed
@given(inputs(RELAYED))
def test_transactions_that_other_sns_relay(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert 0 <= gas_of(data) <= GAS_LIMIT
