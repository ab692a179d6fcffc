"""One session with the SL sidecar: what the ML side says and in which order it expects answers."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self, TypeVar

from swarm_callback import programs, wire
from swarm_callback.channel import Data, MLEnd
from swarm_callback.errors import (
    AlreadyTrained,
    ChannelClosed,
    ChannelError,
    NoChannel,
    Refused,
    SessionEnded,
    StreamError,
    SwarmCallbackError,
    WireError,
)
from swarm_callback.params import stream_size

REQUEST_VARIABLE = "SL_REQUEST_CHANNEL"
RESPONSE_VARIABLE = "SL_RESPONSE_CHANNEL"

Answer = TypeVar("Answer", bound=wire.ChannelMessage)


class Session:
    """Each call blocks until the SL has answered; notices of the SL are logged meanwhile.

    Raises Refused with the SL's message, ChannelClosed when the SL is gone.
    """

    def __init__(self, channel: MLEnd, logger: logging.Logger) -> None:
        self._channel = channel
        self._logger = logger
        self._request: Path | None = None  # the pipe under which ``programs`` holds this session
        self._sending = self._left = False
        self.still_to_come = "on_train_end was not called"
        self._seq = 0
        self._buffer = bytearray()  # the last merged stream; used again for the next
        self.before_next: Callable[[wire.Merged], None] = lambda _: None  # while the last merged stream is still there

    @classmethod
    def connect(cls, environment: Mapping[str, str], logger: logging.Logger) -> Self:
        """Opens the two pipes that the environment names; waits until there is an SL. Raises NoChannel,
        AlreadyTraining, AlreadyTrained, ChannelError.
        """
        for name in (REQUEST_VARIABLE, RESPONSE_VARIABLE):
            if not environment.get(name):
                raise NoChannel(name=name)
        request, response = (Path(environment[name]) for name in (REQUEST_VARIABLE, RESPONSE_VARIABLE))
        programs.claim(request)

        def waiting(sentence: str) -> None:
            if programs.has_trained(request):  # no SL will come
                raise AlreadyTrained
            logger.info(sentence)

        try:
            session = cls(MLEnd.connect(request, response, waiting), logger)
        except BaseException:
            programs.release(request)
            raise
        session._request = request
        programs.hold(request, session)
        return session

    @property
    def merged(self) -> memoryview:
        """The last merged stream; empty before the first. Valid until the next exchange."""
        return memoryview(self._buffer)

    def open(self, message: wire.Open) -> wire.Opened:
        self._send(message, [], "this program opened its session")
        try:
            return self._answer(wire.Opened, "this program waited to be enrolled")[0]
        except ChannelClosed:
            if self._request is not None and programs.has_trained(
                self._request
            ):  # the SL of that training was about to end
                raise AlreadyTrained from None
            raise

    def sync(self, epochs_done: int, examples: int, header: bytes, data: list[Data]) -> wire.Merged:
        """Sends the parameters to the swarm and waits for the merged ones. ``data`` is emptied once it has been read,
        so that it takes no memory besides the merged stream.
        """
        self._seq += 1
        return self._exchange(wire.Sync(self._seq, epochs_done, examples), header, data)

    def finish(self, epochs_done: int, checkin: str, examples: int, header: bytes, data: list[Data]) -> wire.Merged:
        """Like ``sync``, for the last time: waits until the whole training is over."""
        self._seq += 1
        return self._exchange(wire.Close(self._seq, epochs_done, checkin, examples), header, data)

    def report(self, message: wire.Report) -> None:
        self._send(message, [], "this program reported its loss")

    def bye(self) -> None:
        """Ends the session. If the SL has ended already, nothing is lost: it had sent everything."""
        try:
            self._channel.send(wire.Bye(), doing="this program ended its session")
        except ChannelClosed:
            self._logger.debug("The SL sidecar is gone already")
        self._leave(ended_well=True)

    def abort(self, error: SwarmCallbackError) -> None:
        """Tells the SL why this side ends, if it still listens."""
        if self._left:
            return
        if not isinstance(error, (ChannelError, Refused)) and not self._sending:
            try:
                self._channel.send(wire.Abort("ml-failed", str(error)), doing="this program told its failure")
            except ChannelError:
                self._logger.debug("The SL sidecar is gone already")
        self._leave(ended_well=False)

    def _leave(self, *, ended_well: bool) -> None:
        self._left = True
        self._channel.close()
        if self._request is not None:
            programs.release(self._request, ended_well=ended_well)

    def _exchange(self, message: wire.Sync | wire.Close, header: bytes, data: list[Data]) -> wire.Merged:
        own_size = stream_size(header, data)
        self._send(message, [memoryview(header), *data], "this program sent its parameters")
        waiting = "this program waited for the merged model"
        merged, size = self._answer(wire.Merged, waiting)
        if merged.seq != message.seq:
            raise WireError(problem=f"the answer is to exchange {merged.seq}, the question was {message.seq}")
        data.clear()
        self.before_next(merged)
        if size:
            self._receive_merged(size, header, own_size, waiting)
        return merged

    def _receive_merged(self, size: int, header: bytes, own_size: int, doing: str) -> None:
        if size != own_size:  # before anything is allocated for it
            raise StreamError(problem=f"the merged model has {size} bytes, the model of this program {own_size}")
        if len(self._buffer) != size:
            self._buffer = bytearray(size)
        self._channel.read_body_into(memoryview(self._buffer), doing)
        if memoryview(self._buffer)[: len(header)] != header:
            raise StreamError(problem="the merged model has other parameters than the model of this program")

    def _send(self, message: wire.ChannelMessage, body: list[Data], doing: str) -> None:
        if self._left:
            raise SessionEnded
        self._sending = True  # if this is interrupted, no other message may follow half of this one
        try:
            self._channel.send(message, body, doing=doing)
        except ChannelClosed:
            self._raise_last_words()
            raise
        self._sending = False

    def _raise_last_words(self) -> None:
        """Raises Refused if the SL wrote its reason to the other pipe before it ended."""
        try:
            self._answer(wire.Abort, "this program looked for a reason")
        except (ChannelError, WireError):
            return

    def _answer(self, expected: type[Answer], doing: str) -> tuple[Answer, int]:
        while True:
            message, size = self._channel.receive(doing)
            if isinstance(message, wire.Notice):
                self._logger.info(message.text)
            elif isinstance(message, (wire.OpenRefused, wire.Abort)):
                raise Refused(code=message.code, text=message.message)
            elif isinstance(message, expected):
                return message, size
            else:
                raise WireError(problem=f"{type(message).__name__} came where {expected.__name__} was expected")
