"""Several ranks of one training (torchrun, SLURM): rank 0 talks to the SL and passes the answers on to the others.

Each rank runs the same SwarmCallback. Rank 0 sends the others JSON and the merged parameters by ``broadcast``.
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
    """This rank's session; None if the program has one rank only. Raises UngroupedRanks."""
    if not (dist.is_available() and dist.is_initialized()):
        ranks = environment.get("WORLD_SIZE", "1")
        if ranks.isdecimal() and int(ranks) > 1:
            raise UngroupedRanks(ranks=ranks)
        return None
    if dist.get_world_size() == 1:
        return None
    return _FirstRank.begin(environment, logger) if dist.get_rank() == FIRST else _OtherRank(logger)


class _FirstRank(Session):
    """Has the pipes. Passes each answer of the SL, or a failure, on to the other ranks."""

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
    """Has no pipes: rank 0 sends its own parameters for all ranks, and passes the answers on."""

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
        """Nothing to do: rank 0 notices that this rank is gone, or the launcher ends all ranks."""

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
    """The sum over all ranks, as each trains on its own examples."""
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
    """Copies rank 0's ``data`` into the others' ``data``, which has the same size."""
    here = torch.frombuffer(data, dtype=torch.uint8)
    there = here.to(_device())
    dist.broadcast(there, FIRST)
    if dist.get_rank() != FIRST and there.device != here.device:
        here.copy_(there)


def _device() -> torch.device:
    """The device on which the ranks' backend needs tensors."""
    if dist.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")
