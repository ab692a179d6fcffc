"""The compiled contracts: calls to bytes, and bytes of answers, events and errors back to Python values."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import Any

from eth_abi.abi import decode, encode
from eth_hash.auto import keccak
from eth_utils.address import to_checksum_address

CONTRACTS = ("SwarmNetwork", "TrainingContract", "TaskRegistry", "TaskRunner")


@dataclass(frozen=True)
class Function:
    """One function, or the constructor with ``selector`` empty."""

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
class Event:
    """One event. ``names``, ``types`` and ``indexed`` are in the order of the declaration."""

    name: str
    names: tuple[str, ...]
    types: tuple[str, ...]
    indexed: tuple[bool, ...]

    def decode(self, topics: Sequence[bytes], data: bytes) -> list[Any]:
        """The arguments in the order of the declaration."""
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
        """The arguments by name, bytes as hex, so that they can be sent on; ``data`` without the selector."""
        values = zip(self.names, decode(self.types, data), strict=True)
        return {name: value.hex() if isinstance(value, bytes) else value for name, value in values}


@dataclass(frozen=True)
class ContractAbi:
    """One contract: its functions by name, events by topic, errors by selector."""

    name: str
    bytecode: bytes
    constructor: Function
    functions: dict[str, Function]
    events: dict[bytes, Event]
    errors: dict[bytes, Error]


@cache
def contract_abi(name: str) -> ContractAbi:
    """The committed artifact of a contract, read once."""
    text = resources.files("contracts").joinpath("artifacts", f"{name}.json").read_text()
    artifact = json.loads(text)
    constructor = Function(b"", (), ())
    functions: dict[str, Function] = {}
    events: dict[bytes, Event] = {}
    errors: dict[bytes, Error] = {}
    for entry in artifact["abi"]:
        inputs = entry["inputs"]
        types = tuple(_type_of(item) for item in inputs)
        names = tuple(item["name"] for item in inputs)
        topic = keccak(f"{entry.get('name')}({','.join(types)})".encode())
        match entry["type"]:
            case "constructor":
                constructor = Function(b"", types, ())
            case "function":
                outputs = tuple(_type_of(item) for item in entry["outputs"])
                functions[entry["name"]] = Function(topic[:4], types, outputs)
            case "event":
                indexed = tuple(bool(item["indexed"]) for item in inputs)
                events[topic] = Event(entry["name"], names, types, indexed)
            case "error":
                errors[topic[:4]] = Error(entry["name"], names, types)
    bytecode = bytes.fromhex(artifact["bytecode"].removeprefix("0x"))
    return ContractAbi(name, bytecode, constructor, functions, events, errors)


@cache
def all_errors() -> dict[bytes, Error]:
    """Every custom error of every contract by selector."""
    return {selector: error for name in CONTRACTS for selector, error in contract_abi(name).errors.items()}


@lru_cache(maxsize=4096)
def checksummed(address: str) -> str:
    """An address as it is shown and compared everywhere."""
    return str(to_checksum_address(address))


def _type_of(item: dict[str, Any]) -> str:
    """``tuple[]`` with components becomes ``(uint32,string)[]``, as selectors are computed over it."""
    kind = str(item["type"])
    if not kind.startswith("tuple"):
        return kind
    return f"({','.join(_type_of(part) for part in item['components'])}){kind.removeprefix('tuple')}"
