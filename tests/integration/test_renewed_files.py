"""A node takes the certificate files that replace its own while it runs."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from structlog.testing import capture_logs

from services.identity.certificates import read_chain
from services.identity.identity import Identity
from services.identity.peers import identity_of_certificate
from services.identity.renewed_files import IdentityFiles, renewed_files

WITHIN_S = 10.0


class Looks:
    """Lets a node look at its files when a test says so. Only the second look in a row finds that they are complete."""

    def __init__(self) -> None:
        self._asked, self._answers = asyncio.Semaphore(0), asyncio.Semaphore(0)

    async def pause(self, _seconds: float) -> None:
        self._asked.release()
        await self._answers.acquire()

    async def once(self) -> None:
        """Returns when the node has looked once and waits again."""
        async with asyncio.timeout(WITHIN_S):
            self._answers.release()
            await self._asked.acquire()

    async def begin(self) -> None:
        async with asyncio.timeout(WITHIN_S):
            await self._asked.acquire()


def put(files: Any, directory: Path, *parts: str) -> IdentityFiles:
    """Copies certificate and key to fixed names."""
    for part in parts or ("cert", "key"):
        shutil.copy(getattr(files, part), directory / f"new-{part}")
        (directory / f"new-{part}").replace(directory / f"{part}.pem")
    return IdentityFiles(directory / "cert.pem", directory / "key.pem", files.cacert, None)


def shown(identity: Identity) -> bytes:
    return identity.credentials.cert.read_bytes()


async def test_new_files_are_taken_once_both_are_there(pki: Any, tmp_path: Path) -> None:
    first, second = pki.issue("sl", "sl-1"), pki.issue("sl", "sl-1")
    files, looks = put(first, tmp_path), Looks()
    async with renewed_files(lambda: files, "sl", pause=looks.pause, known_by_id=True) as identity:
        await looks.begin()
        put(second, tmp_path, "cert")
        await looks.once()
        assert shown(identity) == first.cert.read_bytes()
        put(second, tmp_path, "key")
        await looks.once()
        assert shown(identity) == first.cert.read_bytes()  # the new file changed only a moment ago
        await looks.once()
        assert shown(identity) == second.cert.read_bytes()
        identity.server_context()  # key and certificate belong together
        peer = identity_of_certificate(read_chain(second.cert)[0].public_bytes(Encoding.DER))
        assert peer.may_act_as("sl-1", identity.fingerprint)  # by its ID, with either certificate


async def test_files_that_cannot_be_used_are_said_once_and_left(pki: Any, tmp_path: Path) -> None:
    first = pki.issue("sl", "sl-1")
    files, looks = put(first, tmp_path), Looks()
    async with renewed_files(lambda: files, "sl", pause=looks.pause) as identity:
        await looks.begin()
        with capture_logs() as logs:
            put(pki.issue("sl", "sl-1"), tmp_path, "key")
            for _ in range(4):
                await looks.once()
            put(pki.issue("sl", "sl-2"), tmp_path)
            for _ in range(4):
                await looks.once()
        reasons = [entry["why"] for entry in logs if entry["log_level"] == "error"]
        assert len(reasons) == 2
        assert "does not belong to the certificate" in reasons[0] and "of another node" in reasons[1]
        assert shown(identity) == first.cert.read_bytes()
