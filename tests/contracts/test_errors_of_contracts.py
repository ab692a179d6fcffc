"""Every error of a contract reaches the user as a class of its own, with its arguments as facts."""

import string

import pytest
from eth_abi.abi import encode

from services.chain.abi import Error, all_errors
from services.chain.reverts import error_class, error_of
from services.errors import ContractRevert, SwarmError

EXAMPLES = {
    "string": "text", "address": "0x" + "12" * 20, "bytes32": b"\x05" * 32, "uint64": 7, "uint32": 3, "uint256": 9,
}  # fmt: skip
ERRORS = sorted(all_errors().items(), key=lambda item: item[1].name)


@pytest.mark.parametrize(("selector", "error"), ERRORS, ids=[error.name for _, error in ERRORS])
def test_it_has_a_class_whose_message_its_arguments_fill(selector: bytes, error: Error) -> None:
    data = selector + encode(error.types, [EXAMPLES[kind] for kind in error.types])

    raised = error_of(data)

    assert type(raised) is error_class(error.name)
    assert type(raised) is not ContractRevert
    assert set(error.names) <= set(raised.facts)
    assert _facts_wanted(type(raised)) <= set(raised.facts)
    assert "?" not in str(raised)


def test_no_two_errors_share_a_selector_unless_they_are_the_same() -> None:
    assert len({error.name for error in all_errors().values()}) == len(all_errors())


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no reason given"),
        (bytes.fromhex("deadbeef"), "0xdeadbeef"),
        (bytes.fromhex("08c379a0") + encode(["string"], ["because"]), "because"),
        (bytes.fromhex("4e487b71") + encode(["uint256"], [0x12]), "0x12"),
        (ERRORS[0][0] + b"\x01", "0x"),  # a known selector, its arguments cut off
    ],
    ids=["empty", "unknown", "require", "panic", "truncated"],
)
def test_anything_else_is_shown_as_it_came(data: bytes, said: str) -> None:
    raised = error_of(data)

    assert type(raised) is ContractRevert
    assert said in str(raised)


def _facts_wanted(cls: type[SwarmError]) -> set[str]:
    return {name for text in (cls.message, cls.remedy) for _, name, _, _ in string.Formatter().parse(text) if name}
