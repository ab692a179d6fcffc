"""The compiled contracts: encodes calls, and decodes answers, events and errors into Python values.

This uses eth-utils and eth-abi, as web3 does. web3's contract objects on top of them look up the function and check the
arguments in each call: 0.63 ms for a check-in instead of 0.025, and 0.19 ms for an event instead of 0.05, of which a
restart may read a hundred thousand.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import Any

from eth_abi.abi import encode
from eth_abi.codec import ABIDecoder
from eth_abi.decoding import StringDecoder
from eth_abi.exceptions import DecodingError
from eth_abi.registry import BaseEquals, registry
from eth_typing import ABIElement
from eth_utils.abi import (
    event_abi_to_log_topic,
    filter_abi_by_type,
    function_abi_to_4byte_selector,
    get_abi_input_names,
    get_abi_input_types,
    get_abi_output_types,
)
from eth_utils.address import to_checksum_address

CONTRACTS = ("SwarmNetwork", "TrainingContract", "TaskRegistry", "TaskRunner")


class _AnyText(StringDecoder):
    """Any SN can write texts, and no contract checks that they are UTF-8: other bytes are shown like ``\\xff``."""

    def __init__(self) -> None:
        super().__init__("backslashreplace")  # type: ignore[no-untyped-call]


def _reading() -> ABIDecoder:
    """eth-abi's decoder, except for texts."""
    ours = registry.copy()  # type: ignore[no-untyped-call]
    ours.unregister_decoder("string")
    ours.register_decoder(BaseEquals("string"), _AnyText, label="string")  # type: ignore[no-untyped-call]
    return ABIDecoder(ours)


decode = _reading().decode


@dataclass(frozen=True)
class Function:
    """One function, or the constructor, whose ``selector`` is empty."""

    selector: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def encode(self, *arguments: Any) -> bytes:
        return self.selector + encode(self.inputs, arguments)

    def decode(self, answer: bytes) -> Any:
        """The one value returned (structs as tuples), or a tuple of several."""
        values = decode(self.outputs, answer)
        return values[0] if len(values) == 1 else values


@dataclass(frozen=True)
class AbiEvent:
    """One event. ``names``, ``types`` and ``indexed`` are in the order of the declaration."""

    name: str
    names: tuple[str, ...]
    types: tuple[str, ...]
    indexed: tuple[bool, ...]

    def decode(self, topics: Sequence[bytes], data: bytes) -> list[Any]:
        """The arguments in the order of the declaration. Raises DecodingError if it is not this event."""
        if len(topics) != 1 + sum(self.indexed):
            raise DecodingError("it has other topics")
        plain = iter(decode([kind for kind, inside in zip(self.types, self.indexed, strict=True) if not inside], data))
        rest = iter(topics[1:])
        return [
            decode([kind], next(rest))[0] if inside else next(plain)
            for kind, inside in zip(self.types, self.indexed, strict=True)
        ]


@dataclass(frozen=True)
class Error:
    """One custom error."""

    name: str
    names: tuple[str, ...]
    types: tuple[str, ...]

    def decode(self, data: bytes) -> dict[str, Any]:
        """The arguments by name, bytes as hex, so they can be passed on; ``data``: without the selector."""
        values = zip(self.names, decode(self.types, data), strict=True)
        return {name: value.hex() if isinstance(value, bytes) else value for name, value in values}


@dataclass(frozen=True)
class ContractAbi:
    """One contract: its functions by name, events by topic, errors by selector."""

    name: str
    bytecode: bytes
    constructor: Function
    functions: dict[str, Function]
    events: dict[bytes, AbiEvent]
    errors: dict[bytes, Error]


@cache
def contract_abi(name: str) -> ContractAbi:
    """The committed artifact of a contract, read once."""
    text = resources.files("contracts").joinpath("artifacts", f"{name}.json").read_text()
    artifact = json.loads(text)
    abi = artifact["abi"]
    constructor = Function(b"", (), ())
    for entry in filter_abi_by_type("constructor", abi):
        constructor = Function(b"", tuple(get_abi_input_types(entry)), ())
    functions = {
        entry["name"]: Function(
            function_abi_to_4byte_selector(entry), tuple(get_abi_input_types(entry)), tuple(get_abi_output_types(entry))
        )
        for entry in filter_abi_by_type("function", abi)
    }
    events = {
        event_abi_to_log_topic(entry): AbiEvent(
            entry["name"], _names(entry), tuple(get_abi_input_types(entry)),
            tuple(item["indexed"] for item in entry["inputs"]),
        )
        for entry in filter_abi_by_type("event", abi)
    }  # fmt: skip
    errors = {
        function_abi_to_4byte_selector(entry): Error(entry["name"], _names(entry), tuple(get_abi_input_types(entry)))
        for entry in filter_abi_by_type("error", abi)
    }
    bytecode = bytes.fromhex(artifact["bytecode"].removeprefix("0x"))
    return ContractAbi(name, bytecode, constructor, functions, events, errors)


@cache
def all_errors() -> dict[bytes, Error]:
    """All custom errors of all contracts, by selector."""
    return {selector: error for name in CONTRACTS for selector, error in contract_abi(name).errors.items()}


@lru_cache(maxsize=4096)
def checksummed(address: str) -> str:
    """An address in the form that is shown and compared everywhere."""
    return str(to_checksum_address(address))


def _names(entry: ABIElement) -> tuple[str, ...]:
    return tuple(str(name) for name in get_abi_input_names(entry))
