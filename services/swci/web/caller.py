"""The caller: a program with the certificate of an SWCI or of an administrator, with its own session."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Header, Request

from services.errors import WrongRole
from services.identity.identity import PeerIdentity
from services.swci.session import CommandSession
from services.swci.web.sessions import Sessions
from services.web.peer_certificate import peer_in

ROLES = ("swci", "admin")
SESSION_HEADER = "Swci-Session"
SESSION_NAME = r"^[A-Za-z0-9._-]{0,64}$"


def _caller(request: Request) -> PeerIdentity:
    """Raises NoIdentity, IdentityError, NotOfOrganization, WrongRole."""
    peer = peer_in(request.scope)
    if peer.role not in ROLES:
        raise WrongRole(name=peer.name, role=peer.role, action="this SWCI", needed=" or ".join(ROLES))
    return peer


SessionName = Annotated[
    str,
    Header(
        alias=SESSION_HEADER,
        pattern=SESSION_NAME,
        description="Name of the session. Programs that share a certificate can have separate sessions, each with its "
        "own contexts.",
    ),
]


async def _session(
    request: Request, peer: Annotated[PeerIdentity, Depends(_caller)], session_name: SessionName = ""
) -> AsyncIterator[CommandSession]:
    sessions: Sessions = request.app.state.sessions
    session = await sessions.enter(peer.fingerprint, session_name)
    try:
        yield session
    finally:
        await sessions.leave(peer.fingerprint, session_name)


TheSession = Annotated[CommandSession, Depends(_session)]
