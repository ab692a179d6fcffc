"""Several ranks of one training (torchrun, SLURM): rank 0 talks with the SL, and the others are told what it was told.

Each rank runs the same SwarmCallback. What travels between them is JSON and the merged parameters, by ``broadcast``.
"""

import dataclasses
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from swarm_callback import wire
from swarm_callback.channel import Data
from swarm_callback.errors import Refused, StreamError, SwarmCallbackError, UngroupedRanks
from swarm_callback.params import stream_size
from swarm_callback.session import Session

FIRST = 0
_FAILED = "ml-failed"

Answer = TypeVar("Answer", wire.Opened, wire.Merged)


def session_of_ranks(environment: Mapping[str, str], logger: logging.Logger) -> Session | None:
    """This rank's session; None where the program has one rank only. Raises UngroupedRanks."""
    if not (dist.is_available() and dist.is_initialized()):
        ranks = environment.get("WORLD_SIZE", "1")
        if ranks.isdecimal() and int(ranks) > 1:
            raise UngroupedRanks(ranks=ranks)
        return None
    if dist.get_world_size() == 1:
        return None
    return _FirstRank.begin(environment, logger) if dist.get_rank() == FIRST else _OtherRank(logger)


class _FirstRank(Session):
    """Has the pipes. After each answer of the SL, or a failure, the other ranks hear of it."""

    @classmethod
    def begin(cls, environment: Mapping[str, str], logger: logging.Logger) -> "_FirstRank":
        try:
            return cls.connect(environment, logger)
        except SwarmCallbackError as error:
            _tell({"failed": str(error)})
            raise

    def open(self, message: wire.Open) -> wire.Opened:
        return self._shared(lambda: super(_FirstRank, self).open(message))

    def sync(self, epochs_done: int, examples: int, header: bytes, data: list[Data]) -> wire.Merged:
        of_all = _sum(examples)
        return self._shared(lambda: super(_FirstRank, self).sync(epochs_done, of_all, header, data))

    def finish(self, epochs_done: int, checkin: str, examples: int, header: bytes, data: list[Data]) -> wire.Merged:
        of_all = _sum(examples)
        return self._shared(lambda: super(_FirstRank, self).finish(epochs_done, checkin, of_all, header, data))

    def _shared(self, ask: Callable[[], Answer]) -> Answer:
        try:
            answer = ask()
        except SwarmCallbackError as error:
            _tell({"failed": str(error)})
            raise
        _tell({"answer": dataclasses.asdict(answer), "size": len(self._buffer)})
        if self._buffer:
            _broadcast(self._buffer)
        return answer


class _OtherRank(Session):
    """Has no pipes: what it gives is what rank 0 gives, and what it gets comes from there."""

    def __init__(self, logger: logging.Logger) -> None:
        self._request = None
        self._logger = logger
        self._buffer = bytearray()

    def open(self, message: wire.Open) -> wire.Opened:
        return self._heard(wire.Opened, None)

    def sync(self, epochs_done: int, examples: int, header: bytes, data: list[Data]) -> wire.Merged:
        _sum(examples)
        return self._heard_merged(header, data)

    def finish(self, epochs_done: int, checkin: str, examples: int, header: bytes, data: list[Data]) -> wire.Merged:
        _sum(examples)
        return self._heard_merged(header, data)

    def report(self, message: wire.Report) -> None:
        """Rank 0 does."""

    def bye(self) -> None:
        """Rank 0 does."""

    def abort(self, error: SwarmCallbackError) -> None:
        """Rank 0 sees that this rank is gone, or whoever started them ends all."""

    def _heard_merged(self, header: bytes, data: list[Data]) -> wire.Merged:
        own_size = stream_size(header, data)
        data.clear()
        return self._heard(wire.Merged, own_size)

    def _heard(self, kind: type[Answer], own_size: int | None) -> Answer:
        told = _told()
        if "failed" in told:
            raise Refused(code=_FAILED, text=str(told["failed"]))
        size = int(told["size"])
        if own_size is not None and size not in (0, own_size):
            raise StreamError(problem=f"rank {FIRST} has a model of {size} bytes, rank {dist.get_rank()} of {own_size}")
        if size:
            if len(self._buffer) != size:
                self._buffer = bytearray(size)
            _broadcast(self._buffer)
        return kind(**told["answer"])


def _sum(examples: int) -> int:
    """Of all ranks, each of which trains on its own."""
    total = torch.tensor([examples], dtype=torch.int64, device=_device())
    dist.all_reduce(total)
    return int(total.item())


def _tell(what: dict[str, Any]) -> None:
    data = bytearray(json.dumps(what).encode())
    size = torch.tensor([len(data)], dtype=torch.int64, device=_device())
    dist.broadcast(size, FIRST)
    _broadcast(data)


def _told() -> dict[str, Any]:
    size = torch.zeros(1, dtype=torch.int64, device=_device())
    dist.broadcast(size, FIRST)
    data = bytearray(int(size.item()))
    _broadcast(data)
    told: dict[str, Any] = json.loads(data)
    return told


def _broadcast(data: bytearray) -> None:
    """From rank 0 into the others' ``data``, of the same size."""
    here = torch.frombuffer(data, dtype=torch.uint8)
    there = here.to(_device())
    dist.broadcast(there, FIRST)
    if dist.get_rank() != FIRST and there.device != here.device:
        here.copy_(there)


def _device() -> torch.device:
    """Where the ranks' backend wants tensors to be."""
    if dist.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")
