"""An SL that plays the swarm, over real pipes, for tests of the callback."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swarm_callback import wire
from swarm_callback.base import SwarmCallbackBase
from swarm_callback.channel import Channel, SLListener
from swarm_callback.errors import ChannelClosed
from swarm_callback.options import Options
from swarm_callback.params import Tensor, decode, encode

Serve = Callable[["Swarm"], Future[None]]


def plus_one(stream: bytes) -> bytes:
    header, data = encode({name: value + value.dtype.type(1) for name, value in decode(stream).items()})
    return header + b"".join(data)


def stream_of(callback: SwarmCallbackBase) -> bytearray:
    """The parameters of its model."""
    header, data = encode(callback.extract_parameters())
    return bytearray(header + b"".join(data))


class Numbers(SwarmCallbackBase):
    """The smallest platform: a model is two arrays. ``frozen``: the untrained ones."""

    PLATFORMS = ("NUMBERS",)

    def verify_platform(self, options: Options) -> None:
        self.tensors = {"w": np.zeros(4, np.float32), "head": np.zeros(2, np.float32)}
        self.frozen: set[str] = set()

    def set_validation_data(self, data: Any, batch_size: int | None) -> None:
        """Any will do."""

    def extract_parameters(self) -> Mapping[str, Tensor]:
        return self.tensors

    def load_parameters(self, tensors: Mapping[str, Tensor]) -> None:
        for name, value in tensors.items():
            self.tensors[name][...] = value

    def trainable(self) -> set[str]:
        return set(self.tensors) - self.frozen

    def evaluate(self) -> tuple[float, float]:
        return 0.0, 0.0


@dataclass
class Swarm:
    """The SL's answers. ``over_at``: the exchange with which the others' training ends."""

    merge: Callable[[bytes], bytes] = plus_one
    interval: int = 0
    over_at: int | None = None
    epochs_done: int = 0  # before the restart of the program
    heard: list[wire.ChannelMessage] = field(default_factory=list)
    final: bytes = b""

    def serve(self, listener: SLListener) -> None:
        channel = listener.accept()
        try:
            while True:
                message, _ = channel.receive("the test ran")
                self.heard.append(message)
                body = bytearray()
                channel.read_body(body.extend, "the test ran")
                if isinstance(message, (wire.Bye, wire.Abort)):
                    return
                self._answer(channel, message, bytes(body))
        finally:
            channel.close()

    def _answer(self, channel: Channel, message: wire.ChannelMessage, body: bytes) -> None:
        if isinstance(message, wire.Open):
            channel.send(wire.Opened("sl-1", 1, self.epochs_done > 0, self.epochs_done), doing="it waited")
        elif isinstance(message, (wire.Sync, wire.Close)):
            over = isinstance(message, wire.Close) or message.seq == self.over_at
            channel.send(wire.Notice("1 of 2 peers is in"), doing="it waited")
            self.final = self.merge(body)
            merged = wire.Merged(message.seq, message.seq, True, "", self.interval, over)
            with suppress(ChannelClosed):  # refused by its header, before the body was read: the reason comes next
                channel.send(merged, [memoryview(self.final)], doing="it waited")

    def kinds(self) -> list[str]:
        return [type(message).__name__ for message in self.heard]


@contextmanager
def serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Yields a function that lets a Swarm serve the next session; the channel variables name its pipes."""
    listener = SLListener(tmp_path / "request.channel", tmp_path / "response.channel")
    monkeypatch.setenv("SL_REQUEST_CHANNEL", str(listener.request))
    monkeypatch.setenv("SL_RESPONSE_CHANNEL", str(listener.response))
    with ThreadPoolExecutor() as pool:
        yield lambda swarm: pool.submit(swarm.serve, listener)
        listener.interrupt()
    listener.close()
