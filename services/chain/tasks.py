"""TaskRegistry in Python: the tasks of the swarm, and the hashes of their content."""

import hashlib
from dataclasses import astuple
from typing import Self

from eth_abi.abi import encode

from services.chain.backend import ChainBackend
from services.chain.gateway import Gateway
from services.chain.receipts import Log, Receipt
from services.chain.task_events import RegistryEvent, TaskHeader, registry_event

FIELD_LIMIT_BYTES = 1024
BODY_LIMIT_BYTES = 64 * 1024


def body_hash(body: bytes) -> bytes:
    """SHA-256 of the body, as the contract computes it."""
    return hashlib.sha256(body).digest()


def content_hash(header: TaskHeader, body: bytes) -> bytes:
    """The hash of a task in an assignment: SHA-256 over the ABI encoding of its header and the hash of its body."""
    fields = (*astuple(header), body_hash(body))
    return hashlib.sha256(encode(["string"] * 5 + ["bytes32"], fields)).digest()


class TaskRegistryGateway(Gateway[RegistryEvent]):
    """Writes return after their receipt, and raise the error class with the name of the contract's error.

    Times are milliseconds since 1970.
    """

    contract = "TaskRegistry"

    @classmethod
    async def deploy(cls, chain: ChainBackend, network_address: str) -> Self:
        """The tasks of the swarm whose SwarmNetwork is at ``network_address``."""
        return await cls._deploy(chain, network_address)

    async def create(  # noqa: PLR0917 - in the order of the contract
        self, header: TaskHeader, registrant: str, fingerprint: bytes, body: bytes, finalize: bool, at: int
    ) -> Receipt:
        """Raises TaskNameTaken, TaskHasNoBody, TooLong, MalformedCall."""
        return await self._send("createTask", astuple(header), registrant, fingerprint, body, finalize, at)

    async def set_body(self, name: str, expected_hash: bytes, body: bytes) -> Receipt:
        """Raises UnknownTask, TaskIsFinalized, TaskChanged if the body is not the expected one, TooLong."""
        return await self._send("setBody", name, expected_hash, body)

    async def finalize(self, name: str, expected_hash: bytes = bytes(32)) -> Receipt:
        """Raises UnknownTask, TaskIsFinalized, TaskHasNoBody, TaskChanged."""
        return await self._send("finalizeTask", name, expected_hash)

    async def remove(self, name: str) -> Receipt:
        """Raises UnknownTask, TaskIsFinalized."""
        return await self._send("removeTask", name)

    def _event(self, log: Log) -> RegistryEvent:
        return registry_event(log)
