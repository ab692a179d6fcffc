"""What ends or delays geth 1.13, but not the one made by `geth/build`: behaviour of other geths, and the disk."""

import asyncio
import contextlib
import hashlib
import hmac
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import rlp
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from eth_keys.datatypes import PrivateKey
from mapped_ports import MappedPort, mapped_port

from services.chain.geth import GethChain
from services.chain.geth_peers import GethPeers
from services.chain.network import NetworkGateway
from services.chain.paths import GETH_DIR

WITHIN_S = 30.0
BLOCKS = 20
KEY_BYTES, BLOCK_BYTES, TAG_BYTES = 16, 16, 32

OFF_THE_CURVE = bytes(31) + b"\x01" + bytes(31) + b"\x01"
TOO_LARGE = b"\xff" * 64


def sealed(to: str, message: bytes, *, cut: int = 0, by: bytes = b"") -> bytes:
    """A message of the handshake, encrypted for the key ``to`` (hex). Its ciphertext ends ``cut`` bytes early.

    ``by``: a false ephemeral key to put into the message.
    """
    ephemeral = ec.generate_private_key(ec.SECP256K1())
    theirs = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), b"\x04" + bytes.fromhex(to))
    shared = ephemeral.exchange(ec.ECDH(), theirs)
    derived = hashlib.sha256(b"\0\0\0\1" + shared).digest()
    vector = bytes(BLOCK_BYTES)
    encryptor = Cipher(algorithms.AES(derived[:KEY_BYTES]), modes.CTR(vector)).encryptor()
    text = vector + encryptor.update(message)
    text = text[: len(text) - cut]
    point = ephemeral.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    point = b"\x04" + by if by else point
    prefix = (len(point) + len(text) + TAG_BYTES).to_bytes(2, "big")
    tag = hmac.digest(hashlib.sha256(derived[KEY_BYTES:]).digest(), text + prefix, "sha256")
    return prefix + point + text + tag


def introduction(key: bytes) -> bytes:
    """The first message of a caller who claims the key ``key``."""
    signature = PrivateKey(b"\x01" * 32).sign_msg_hash(b"\x02" * 32).to_bytes()
    return bytes(rlp.encode([signature, key, b"\x03" * 32, 4]))


@pytest.mark.needs("guarded_geth")
async def test_no_message_of_the_handshake_ends_geth(tmp_path: Path) -> None:
    async with GethChain(tmp_path) as chain, asyncio.timeout(WITHIN_S):
        await chain.start()
        peers = chain.federation.geth_peers
        port = await peers.listens_on()
        key = (await peers.enode("127.0.0.1", port)).key
        for message in (
            sealed(key, b"", cut=BLOCK_BYTES - 1),
            sealed(key, introduction(OFF_THE_CURVE)),
            sealed(key, introduction(TOO_LARGE)),
            sealed(key, b"", by=OFF_THE_CURVE),
            sealed(key, b"", by=TOO_LARGE),
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(message)
            with contextlib.suppress(ConnectionError):
                while await reader.read(65536):
                    pass
            writer.close()
            assert await peers.listens_on() == port  # a restarted geth would have another


@pytest.mark.needs("guarded_geth")
async def test_a_geth_that_is_lost_as_it_is_asked_for_blocks_keeps_no_signer_from_sealing(tmp_path: Path) -> None:
    """10 s after its start, geth asks the peer that is furthest ahead. Until the answer, for up to a minute, 1.13 seals
    nothing.
    """
    async with GethChain(tmp_path / "ahead") as chain:
        await chain.start()
        await NetworkGateway.deploy(chain)
    shutil.copytree(tmp_path / "ahead", tmp_path / "behind", ignore=shutil.ignore_patterns("nodekey"))
    async with GethChain(tmp_path / "ahead") as ahead, GethChain(tmp_path / "behind") as signer:
        await ahead.start()
        await NetworkGateway.deploy(ahead)  # a block more
        await signer.start()
        async with asyncio.timeout(WITHIN_S), mapped_port() as way:
            await meet(signer.federation.geth_peers, ahead.federation.geth_peers, way)
            await knows_what_its_peer_has(signer)
            way.forget()
            await way.has_swallowed.wait()
            await way.end()
            await NetworkGateway.deploy(signer)


@pytest.mark.needs("guarded_geth", "strace")
async def test_a_block_waits_for_the_disk_once_and_is_announced_when_it_is_there(tmp_path: Path) -> None:
    """geth 1.13 waits five times. Without a wait, a power failure could take back what was reported as done."""
    async with GethChain(tmp_path) as chain, asyncio.timeout(WITHIN_S):
        await chain.start()
        pid = (tmp_path / GETH_DIR / "geth.pid").read_text()
        tracing = await asyncio.create_subprocess_exec(
            "strace", "-f", "-e", "trace=fdatasync", "-o", tmp_path / "calls", "-p", pid, stderr=subprocess.PIPE
        )
        assert tracing.stderr is not None
        assert b"attached" in await tracing.stderr.readline()
        for _ in range(BLOCKS):
            await NetworkGateway.deploy(chain)
        tracing.send_signal(signal.SIGINT)
        await tracing.communicate()
    waits = (tmp_path / "calls").read_text().count("fdatasync(")
    assert BLOCKS <= waits < 1.5 * BLOCKS


async def meet(caller: GethPeers, called: GethPeers, way: MappedPort) -> None:
    way.target = await called.listens_on()
    await called.trust(await caller.enode("127.0.0.1", await caller.listens_on()))
    await caller.dial(await called.enode("127.0.0.1", way.port))


async def knows_what_its_peer_has(chain: GethChain) -> None:
    """Returns after the handshake in which peers announce their newest blocks."""
    peers: list[dict[str, dict[str, Any]]] = []
    while not any(isinstance(peer["protocols"].get("eth"), dict) for peer in peers):
        peers = await chain._request("admin_peers")
