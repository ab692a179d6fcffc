"""A SWOP whose SN is replaced by another server."""

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.errors import PeerNotAccepted
from services.identity import peers
from services.identity.identity import Identity
from services.identity.renewal import Renewal
from services.rpc import swarm_pb2 as pb
from services.rpc.server import RpcServer, caller
from services.swop.link import SwopLink

CALLS = ("Register", "ListNodes", "HoldName", "GetInfo")


class Sn:
    """``ports``: the ports of all SNs in the directory."""

    def __init__(self, name: str, ports: list[int]) -> None:
        self.name = name
        self.ports = ports

    async def Register(self, request: pb.RegisterRequest, context: Any) -> pb.RegisterReply:
        return pb.RegisterReply(sn=self.name)

    async def ListNodes(self, request: pb.ListNodesRequest, context: Any) -> pb.ListNodesReply:
        nodes = [pb.Node(name="sn", role="sn", host="localhost", port=port, present=True) for port in self.ports]
        return pb.ListNodesReply(nodes=nodes)

    async def HoldName(
        self, request_iterator: AsyncIterator[pb.HoldNameRequest], context: Any
    ) -> AsyncIterator[pb.HoldNameReply]:
        yield pb.HoldNameReply()
        async for _ in request_iterator:
            pass

    async def GetInfo(self, request: pb.GetInfoRequest, context: Any) -> pb.GetInfoReply:
        return pb.GetInfoReply(name=f"{self.name} tells {caller().name}")


@contextlib.asynccontextmanager
async def answering(identity: Identity, ports: list[int], port: int = 0) -> AsyncIterator[int]:
    roles = {f"/swarm.v1.Network/{call}": frozenset({"swop"}) for call in CALLS}
    server = RpcServer(identity, roles, {"Network": Sn(identity.name, ports)})
    ports.append(await server.start("127.0.0.1", port, "--sn-api-port"))
    try:
        yield ports[-1]
    finally:
        await server.stop(0)


async def pause(_seconds: float) -> None:
    """Does not wait, so that the SWOP retries at once."""


@pytest.mark.parametrize("others", [0, 1])
async def test_where_an_impostor_answers_it_goes_on_with_another_sn_or_ends(pki: Any, others: int) -> None:
    async with contextlib.AsyncExitStack() as stack:
        ports: list[int] = []
        sn = contextlib.AsyncExitStack()
        port = await sn.enter_async_context(answering(pki.identity("sn", "sn-1"), ports))
        if others:
            await stack.enter_async_context(answering(pki.identity("sn", "sn-2"), ports))
        link = await stack.enter_async_context(SwopLink(pki.identity("swop", "swop-1"), f"localhost:{port}", pause))
        await link.register()
        await sn.aclose()
        await stack.enter_async_context(answering(pki.identity("sl", "sl-1"), [], port))

        async def ask(client: Any) -> str:
            return str((await client.network.GetInfo(pb.GetInfoRequest())).name)

        if others:
            assert await link.call(ask) == "sn-2 tells swop-1"
        else:
            with pytest.raises(PeerNotAccepted, match="its certificate is that of sl sl-1, not of sn"):
                await link.call(ask)


async def test_with_a_certificate_that_has_expired_it_tries_again_until_it_has_a_new_one(
    pki: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)
    files = pki.issue("swop", "swop-1", not_after=now + timedelta(hours=1))
    first = Identity.load(cert=files.cert, key=files.key, cacert=files.cacert)
    renewal, waited = Renewal(first.copied), 0

    async def renewed(_seconds: float) -> None:
        nonlocal waited
        waited += 1
        if waited == 2:
            renewal.take(pki.identity("swop", "swop-1").copied)

    async def ask(client: Any) -> str:
        return str((await client.network.GetInfo(pb.GetInfoRequest())).name)

    async with (
        answering(pki.identity("sn", "sn-1"), []) as port,
        SwopLink(first.renewed_by(renewal, known_by_id=False), f"localhost:{port}", renewed) as link,
    ):
        assert await link.call(ask) == "sn-1 tells swop-1"
        monkeypatch.setattr(peers, "time", (now + timedelta(hours=2)).timestamp)
        assert await link.call(ask) == "sn-1 tells swop-1"
        assert waited == 2
