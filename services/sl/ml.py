"""The SL's end of the channel to its ML program: a thread reads, parameters go straight into the store."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

from services.errors import MLChannelError, MLGone, NoPipes, ProtocolMismatch, StreamDamaged, SwarmError
from services.runtime import logs
from services.sl.round.actions import Deliver
from services.sl.round.events import (
    CheckInMode,
    Failed,
    MLEnded,
    ModelReported,
    Offer,
    ParametersOffered,
    RoundEvent,
    SessionClosed,
    SessionOpened,
)
from services.sl.transfer.store import Store, Stored
from swarm_callback import errors as channel_errors
from swarm_callback import wire
from swarm_callback.channel import Channel, SLListener

# Up to this size a message fits into the empty pipe, so that writing it does not wait for a reader.
INLINE_BYTES = 32 * 1024

# How long an ML program that does not read may delay the end of its SL.
LAST_WORDS_S = 5.0

_MODES: dict[str, CheckInMode] = {"snapshot": "snapshot", "active": "active", "inactive": "inactive"}
_log = logs.get("ml")


class MLSide:
    """One session. The constructor creates the pipes. Raises NoPipes, MLChannelError.

    ``stored`` is called, in the reading thread, for each stream from ML, with its bytes and the seconds it took.
    """

    def __init__(
        self,
        node: str,
        request: Path,
        response: Path,
        store: Store,
        stored: Callable[[int, float], object] = lambda _size, _seconds: None,
    ) -> None:
        self._stored = stored
        self._node = node
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._channel: Channel | None = None
        self._sending = asyncio.Lock()
        self._writing: asyncio.Future[None] | None = None  # runs in a thread
        with _as_ours(node):
            self._listener = SLListener(request, response)
        self._thread = threading.Thread(target=self._read, name="ml-reader", daemon=True)
        self._post: Callable[[RoundEvent], object] = lambda _event: None

    def start(self, post: Callable[[RoundEvent], object]) -> None:
        """``post`` gets the events, in the event loop; MLEnded, SessionClosed or Failed is the last one."""
        self._post = post
        self._thread.start()

    async def close(self) -> None:
        """Ends the session, which the other side notices at once, and removes the pipes."""
        self._listener.interrupt()
        if self._thread.ident is not None:
            await asyncio.to_thread(self._thread.join)
        if self._writing is not None:
            await self._writing
        if self._channel is not None:
            self._channel.close()
        self._listener.close()

    # --- to ML -----------------------------------------------------------------------------------------------

    async def answer_open(self, round_number: int, late: bool, epochs_done: int) -> None:
        await self._send(wire.Opened(self._node, round_number, late, epochs_done))

    async def deliver(self, answer: Deliver, stored: Stored) -> None:
        """Hands over a merged model; returns when ML has read all of it except what the pipe holds."""
        message = wire.Merged(
            seq=answer.seq,
            round=answer.held.round,
            contributed=answer.contributed,
            note=answer.note,
            next_sync_interval=answer.next_sync_interval,
            training_over=answer.over,
            pace=answer.pace,
            best_round=answer.best_round,
            late=answer.late,
            not_finite=answer.not_finite,
        )
        await self._send(message, stored)

    async def notice(self, text: str) -> None:
        await self._send(wire.Notice(text))

    async def abort(self, error: SwarmError, opened: bool) -> None:
        """Sends the last message of this side."""
        kind = wire.Abort if opened else wire.OpenRefused
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                await self._send(kind(error.code, str(error)))

    async def _send(self, message: wire.ChannelMessage, stored: Stored | None = None) -> None:
        """Does not report that ML is gone: the reading thread notices that."""
        async with self._sending:
            if self._channel is None or self._writing is not None:
                return
            if stored is None or stored.model.size <= INLINE_BYTES:
                self._write(self._channel, message, stored)
                return
            self._writing = asyncio.ensure_future(asyncio.to_thread(self._write, self._channel, message, stored))
            await asyncio.shield(self._writing)
            self._writing = None  # not after a cancellation: nothing may follow half a message

    def _write(self, channel: Channel, message: wire.ChannelMessage, stored: Stored | None) -> None:
        with contextlib.suppress(channel_errors.ChannelError):
            if stored is None:
                channel.send(message, doing="it was answered")
            else:
                channel.send_file(message, stored.path, doing="it was given the merged model")

    # --- from ML, in the reading thread --------------------------------------------------------------------------

    def _read(self) -> None:
        try:
            with _as_ours(self._node):
                self._channel = self._accept()
                while self._take(self._channel):
                    pass
        except MLGone as error:
            self._tell(MLEnded(self._node, str(error.facts["when"])))
        except SwarmError as error:
            self._tell(Failed(error))
        except channel_errors.Interrupted:
            pass  # this side ends the session
        except Exception as error:
            _log.exception("reading from the ML program failed")
            self._tell(Failed(SwarmError(detail=repr(error))))

    def _accept(self) -> Channel:
        try:
            return self._listener.accept()
        except channel_errors.ChannelClosed:
            raise MLGone(node=self._node, when="before it opened its session") from None

    def _take(self, channel: Channel) -> bool:
        """Reads one message; False after the last."""
        message, size = channel.receive("")
        match message:
            case wire.Open():
                self._tell(_opened(self._node, message))
            case wire.Sync(seq, epochs_done, examples):
                model = self._store_body(channel, size).model
                self._tell(ParametersOffered(Offer(seq, model, epochs_done=epochs_done, examples=examples)))
            case wire.Close(seq, epochs_done, checkin, examples):
                if checkin not in _MODES:
                    raise channel_errors.WireError(problem=f"checkin cannot be {checkin!r}")
                stored = self._store_body(channel, size)
                self._tell(
                    ParametersOffered(
                        Offer(seq, stored.model, _MODES[checkin], epochs_done=epochs_done, examples=examples)
                    )
                )
            case wire.Report(round_number, loss, metric, done, total):
                self._tell(ModelReported(round_number, loss, metric, done, total))
            case wire.Abort(_, text):
                _log.warning("the ML program failed", says=text)
                raise MLGone(node=self._node, when=f"because it failed: {text}")
            case wire.Bye():
                self._tell(SessionClosed())
                return False
            case _:
                raise channel_errors.WireError(problem=f"{type(message).__name__} is not for an SL")
        return True

    def _store_body(self, channel: Channel, size: int) -> Stored:
        began = monotonic()
        with self._store.incoming(f"the ML program of {self._node}", size) as incoming:
            channel.read_body(incoming.write, "in the middle of sending its parameters")
            stored = incoming.commit()
        self._stored(size, monotonic() - began)
        return stored

    def _tell(self, event: RoundEvent) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._post, event)


def _opened(node: str, message: wire.Open) -> SessionOpened:
    return SessionOpened(
        node=node,
        contract=message.contract,
        sync_frequency=message.sync_frequency,
        min_peers=message.min_peers,
        merge_method=message.merge_method.lower(),
        adaptive_sync=message.use_adaptive_sync,
        weight=message.node_weightage,
        transfer_compression=message.transfer_compression,
        first_merge=message.first_merge,
        model_version=message.model_version,
        weighting=message.weighting,
        patience=message.patience,
        metric_down=message.metric_down,
    )


@contextlib.contextmanager
def _as_ours(node: str) -> Iterator[None]:
    """Raises errors of the channel as errors of a node; ``Interrupted`` stays as it is."""
    try:
        yield
    except channel_errors.Interrupted:
        raise
    except channel_errors.ChannelClosed as error:
        raise MLGone(node=node, when=error.facts["doing"]) from None
    except channel_errors.VersionMismatch as error:
        raise ProtocolMismatch(theirs=error.facts["theirs"], ours=error.facts["ours"]) from None
    except channel_errors.StreamError as error:
        raise StreamDamaged(node=node, problem=error.facts["problem"]) from None
    except channel_errors.PipeNotMade as error:
        raise NoPipes(path=error.facts["path"], problem=error.facts["problem"]) from None
    except channel_errors.ChannelError as error:
        raise MLChannelError(problem=f"{error.facts['path']}: {error.facts['problem']}") from None
    except channel_errors.WireError as error:
        raise MLChannelError(problem=error.facts["problem"]) from None
