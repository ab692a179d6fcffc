"""Relays geth's peer protocol between SNs: mutual TLS on the network, geth on loopback at both ends."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from services.errors import ChainError, IdentityError, KeyWasReplaced
from services.identity.identity import Identity
from services.identity.live import LiveConnections
from services.identity.peer_context import judge_of, peer_of
from services.identity.peers import Expected, PeerIdentity
from services.runtime import logs
from services.runtime.addresses import join_address
from services.runtime.background import Background
from services.runtime.listening import listen
from services.runtime.splice import LEAVE_WITHIN_S, End, connect

LOOPBACK = "127.0.0.1"
PORT_OPTION = "--sn-p2p-port"
HANDSHAKE_WITHIN_S = 5.0
CONNECT_WITHIN_S = 3.0  # geth gives up on a peer that does not answer after 5 s
GREETED_AT_ONCE = 64  # handshakes in progress; one more ends the oldest
FROM_ONE_SN = 4  # connections; one more ends the oldest, as its other end may be gone
ACCEPT_AGAIN_S = 0.1

_log = logs.get("sn")


@dataclass
class _Way:
    """The way to the geth of one SN: what comes in at ``port`` on loopback is sent on to ``address``.

    ``told``: why that failed last. ``incoming``: connections of that SN to this one.
    """

    address: tuple[str, int]
    context: ssl.SSLContext
    port: int
    entrance: asyncio.Server | None = None
    told: str = ""
    incoming: list[End] = field(default_factory=list)


class ChainRelay:
    """Lets in only the SNs to which there is a way: not a byte of anybody else reaches geth.

    ``port_of_geth``: where geth listens now, on loopback. ``is_geth``: whether the other end of a loopback connection
    is this SN's own geth; a process that connects there speaks to others as this SN. ``is_known``: whether the swarm
    knows an SN by this key, and the key has not been replaced.
    """

    def __init__(
        self,
        identity: Identity,
        port_of_geth: Callable[[], Awaitable[int]],
        is_geth: Callable[[socket.socket], bool],
        is_known: Callable[[PeerIdentity], bool],
    ) -> None:
        self.reached_at = ("", 0)
        self._identity = identity
        self._port_of_geth = port_of_geth
        self._is_geth = is_geth
        self._is_known = is_known
        self._ways: dict[str, _Way] = {}
        self._greeted: dict[asyncio.Task[None], None] = {}
        self._live = LiveConnections()
        self._background = Background("sn")
        self._listening: socket.socket | None = None

    async def open(self, host: str, port: int, reached_at: tuple[str, int]) -> int:
        """Accepts connections of other SNs on ``host:port`` (0: any free port); returns the port.

        ``reached_at``: host and port at which they reach this SN; port 0 is the one opened here. Raises PortInUse;
        SettingsError for an address that is not ours.
        """
        context = self._identity.server_context(strict=True, expected=Expected("sn"))
        listening = self._listening = listen(host, port, command="sn", port_option=PORT_OPTION)
        listening.setblocking(False)
        self._background.keep(lambda: self._accept(listening, context), "taking connections of other SNs' geth")
        self._background.keep(self._live.run, "looking at connections of geth again")
        port = int(listening.getsockname()[1])
        self.reached_at = (reached_at[0], reached_at[1] or port)
        return port

    async def way_to(self, name: str, host: str, port: int) -> int:
        """The loopback port by which geth reaches the geth of the SN ``name``, whose relay is at ``host:port``.

        The port stays the same for a name, wherever that SN moves.
        """
        way = self._ways.get(name)
        if way is not None:
            way.address = (host, port)
            return way.port
        bound = socket.create_server((LOOPBACK, 0))
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # see listening.py
        context = self._identity.client_context(Expected("sn", name))
        way = self._ways[name] = _Way((host, port), context, int(bound.getsockname()[1]))
        way.entrance = await asyncio.get_running_loop().create_server(
            lambda: End(lambda near: self._begin_out(name, near)), sock=bound
        )
        return way.port

    def close_way(self, name: str) -> None:
        """No longer lets that SN in, and ends its open connections."""
        way = self._ways.pop(name, None)
        if way is None:
            return
        if way.entrance is not None:
            way.entrance.close()
        for end in way.incoming:
            end.close()

    async def close(self) -> None:
        await self._background.close()
        if self._listening is not None:
            self._listening.close()
        for way in self._ways.values():
            if way.entrance is not None:
                way.entrance.close()

    # --- from other SNs -----------------------------------------------------------------------------

    async def _accept(self, listening: socket.socket, context: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listening)
            except OSError as error:  # too many open files, or the peer has hung up already
                _log.warning("a connection from another SN's geth could not be accepted", why=str(error))
                await asyncio.sleep(ACCEPT_AGAIN_S)
                continue
            if len(self._greeted) >= GREETED_AT_ONCE:
                next(iter(self._greeted)).cancel()
            task = self._background.run(self._in(connection, context), "a connection of another SN's geth")
            self._greeted[task] = None
            task.add_done_callback(lambda done: self._greeted.pop(done, None))
            await asyncio.sleep(0)  # the task begins; from now on it closes its connection in any case

    async def _in(self, connection: socket.socket, context: ssl.SSLContext) -> None:
        try:
            async with asyncio.timeout(HANDSHAKE_WITHIN_S):
                _, far = await asyncio.get_running_loop().connect_accepted_socket(
                    End, connection, ssl=context, ssl_shutdown_timeout=LEAVE_WITHIN_S
                )
        except OSError as error:  # no TLS, not an SN, or silent
            _log.debug("a connection to geth was not admitted", why=str(error) or "it said nothing")
            return
        finally:
            if (task := asyncio.current_task()) is not None:
                self._greeted.pop(task, None)
        with contextlib.closing(far):
            tls = far.transport.get_extra_info("ssl_object")
            peer = _peer_in(tls)
            if peer is None or peer.name not in self._ways:
                name = peer.name if peer is not None else ""
                _log.warning("refused a connection to geth: no such SN is in touch", name=name)
                return
            name = peer.name
            if not self._is_known(peer):
                _log.warning("refused a connection to geth: the swarm knows this SN by another key", name=name)
                return
            try:
                async with asyncio.timeout(CONNECT_WITHIN_S):
                    near = await connect(LOOPBACK, await self._port_of_geth())
            except (OSError, ChainError) as error:  # geth is being restarted
                _log.debug("geth is not there yet", for_sn=name, why=str(error))
                return
            way = self._ways.get(name)
            if way is None:  # closed meanwhile
                near.close()
                return
            with (
                contextlib.closing(near),
                self._live.held(self._judge_of(tls, peer), lambda _: far.close()),
                self._counted(way.incoming, far),
            ):
                await far.carry(near)

    def _judge_of(self, tls: ssl.SSLObject, peer: PeerIdentity) -> Callable[[], None]:
        """Judges again whether the peer may stay. After a key is replaced, both keys are valid for a while."""
        again = judge_of(tls)

        def judge() -> None:
            if again is not None:
                again()
            if not self._is_known(peer):
                raise KeyWasReplaced(name=peer.name, key=peer.fingerprint[:16])

        return judge

    @contextlib.contextmanager
    def _counted(self, incoming: list[End], end: End) -> Iterator[None]:
        """Counts the connection among those of its SN, and ends the oldest if there are too many."""
        if len(incoming) >= FROM_ONE_SN:
            incoming[0].close()
        incoming.append(end)
        try:
            yield
        finally:
            incoming.remove(end)

    # --- to other SNs -------------------------------------------------------------------------------

    def _begin_out(self, name: str, near: End) -> None:
        carrying = self._background.run(self._out(name, near), f"geth's connection to {name}")
        carrying.add_done_callback(lambda _: near.close())  # also if it was cancelled before it began

    async def _out(self, name: str, near: End) -> None:
        way = self._ways.get(name)
        if way is None:
            return
        if not await asyncio.to_thread(self._is_geth, near.transport.get_extra_info("socket")):
            _log.warning("refused a local connection from another process", port=way.port)
            return
        try:
            async with asyncio.timeout(CONNECT_WITHIN_S):
                far = await connect(*way.address, way.context)
        except (OSError, UnicodeError) as error:  # UnicodeError: no host can have such a name
            why = str(error) or f"no answer within {CONNECT_WITHIN_S:.0f} s"
            if why != way.told:
                _log.warning(
                    "geth cannot reach the geth of another SN", name=name, address=join_address(*way.address), why=why
                )
                way.told = why
            return
        way.told = ""
        judge = judge_of(far.transport.get_extra_info("ssl_object"))
        with contextlib.closing(far), self._live.held(judge, lambda _: far.close()):
            await near.carry(far)


def _peer_in(tls: ssl.SSLObject) -> PeerIdentity | None:
    """Whose certificate it is. The handshake has checked it; that holds as long as the trust file stays the same."""
    try:
        return peer_of(tls)
    except IdentityError:
        return None
