"""Errors keep their class and their facts on the way through gRPC."""

import json
from typing import Any

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from services.errors import (
    ConfigurationDiffers,
    PeerNotAccepted,
    SNOfAnotherVersion,
    SNSilent,
    SNUnreachable,
    StaleRound,
    SwarmError,
    UnknownContract,
    by_code,
)
from services.rpc.errors import CODE_KEY, FACTS_KEY, FACTS_LIMIT_BYTES, from_rpc_error, to_status


def sent(error: SwarmError) -> AioRpcError:
    code, details, metadata = to_status(error)
    return rpc_error(code, details, *metadata)


def rpc_error(code: grpc.StatusCode, details: str, *metadata: Any) -> AioRpcError:
    return AioRpcError(code, Metadata(), Metadata(*metadata), details)


def every_error() -> list[type[SwarmError]]:
    found, pending = [], [SwarmError]
    while pending:
        cls = pending.pop()
        found.append(cls)
        pending.extend(cls.__subclasses__())
    return found


@pytest.mark.parametrize("cls", every_error(), ids=lambda cls: cls.code)
def test_every_error_has_a_status_and_comes_back_as_itself(cls: type[SwarmError]) -> None:
    error = cls(name="sl-1", round=3, field="minPeers")
    back = from_rpc_error(sent(error), "sn:30304")
    assert type(back) is cls
    assert back.facts == error.facts and str(back) == str(error)


def test_facts_travel_as_json() -> None:
    error = ConfigurationDiffers(field="minPeers", given=2, agreed="3", names=["a", "ü"], digest=b"\1\2", none=None)
    back = from_rpc_error(sent(error), "sn:30304")
    assert back.facts == {
        "field": "minPeers", "given": 2, "agreed": "3", "names": ["a", "ü"], "digest": "0102", "none": None
    }  # fmt: skip


def test_facts_stay_within_what_a_trailer_can_hold() -> None:
    error = UnknownContract(contract="x" * 10_000, known=["y" * 1_000] * 100)
    _, details, metadata = to_status(error)
    assert sum(len(value) for _, value in metadata) <= FACTS_LIMIT_BYTES + 100 and len(details) <= 800
    assert type(from_rpc_error(sent(error), "sn:30304")) is UnknownContract


def test_a_code_this_release_does_not_know_keeps_its_sentence() -> None:
    back = from_rpc_error(rpc_error(grpc.StatusCode.ABORTED, "the moon is full", (CODE_KEY, "moon-full")), "sn:30304")
    assert by_code("moon-full") is SwarmError
    assert "the moon is full" in str(back)


def test_unreadable_facts_do_not_hide_the_error() -> None:
    answer = rpc_error(grpc.StatusCode.ABORTED, "details", (CODE_KEY, StaleRound.code), (FACTS_KEY, b"\xff{"))
    assert type(from_rpc_error(answer, "sn:30304")) is StaleRound
    assert json.dumps(dict(from_rpc_error(answer, "sn:30304").facts))


@pytest.mark.parametrize(
    ("code", "details", "cls", "words"),
    [
        (
            grpc.StatusCode.UNAVAILABLE,
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:10.0.0.1:30304: Connection refused",
            SNUnreachable,
            "The SN at sn:30304 cannot be reached: ipv4:10.0.0.1:30304: Connection refused.",
        ),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "", SNSilent, "it did not answer in time"),
        (grpc.StatusCode.CANCELLED, "", SNUnreachable, "the connection was closed"),
        (grpc.StatusCode.UNAUTHENTICATED, "no certificate", PeerNotAccepted, "no certificate"),
        (grpc.StatusCode.UNIMPLEMENTED, "Method not found!", SNOfAnotherVersion, "it runs another version"),
        (grpc.StatusCode.OUT_OF_RANGE, "what", SwarmError, "OUT_OF_RANGE: what"),
    ],
)
def test_what_is_no_answer_of_an_sn_is_said_in_words(
    code: grpc.StatusCode, details: str, cls: type[SwarmError], words: str
) -> None:
    back = from_rpc_error(rpc_error(code, details), "sn:30304")
    assert type(back) is cls and words in str(back)
