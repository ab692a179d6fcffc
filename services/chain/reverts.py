"""The error of a reverted call or transaction, as the error class of the same name."""

from typing import Any

from eth_abi.exceptions import DecodingError

from services import errors
from services.chain.abi import all_errors, decode
from services.errors import ContractRevert, SwarmError

# Errors of the contracts whose error class has a different name.
RENAMED: dict[str, type[SwarmError]] = {
    "Malformed": errors.MalformedCall,
    "UnknownMember": errors.NotAMember,
}

REQUIRE_FAILED = bytes.fromhex("08c379a0")  # Error(string)
PANIC = bytes.fromhex("4e487b71")  # Panic(uint256)


def error_class(name: str) -> type[SwarmError]:
    """The class for a contract's named error; ContractRevert if there is none."""
    if name in RENAMED:
        return RENAMED[name]
    found = getattr(errors, name, None)
    return found if isinstance(found, type) and issubclass(found, SwarmError) else ContractRevert


def error_of(data: bytes) -> SwarmError:
    """The error in revert data; its facts are the error's arguments by name."""
    known = all_errors().get(data[:4])
    try:
        if known is not None:
            return _named(known.name, known.decode(data[4:]))
        if data[:4] == REQUIRE_FAILED:
            return ContractRevert(name="Error", arguments=decode(["string"], data[4:])[0])
        if data[:4] == PANIC:
            return ContractRevert(name="Panic", arguments=hex(decode(["uint256"], data[4:])[0]))
    except DecodingError:
        pass
    return ContractRevert(name="unknown", arguments=f"0x{data.hex()}" if data else "no reason given")


def _named(name: str, arguments: dict[str, Any]) -> SwarmError:
    cls = error_class(name)
    if cls is ContractRevert:
        return ContractRevert(name=name, arguments=", ".join(f"{key}={value}" for key, value in arguments.items()))
    if name == "ModelDiffers":  # only the streams show what differs
        arguments["difference"] = (
            f"The model's tensors differ from those that {arguments['agreedBy']} set for this training"
        )
    return cls(**arguments)
