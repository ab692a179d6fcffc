"""Starts geth, keeps it running, and stops it. Nothing else does."""

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from services.chain.account import Account, write_private
from services.chain.binary import require_geth
from services.chain.genesis import BLOCK_GAS_LIMIT, chain_id_of, keystore_file, make_genesis
from services.chain.geth_log import GethLog
from services.chain.orphan import end_orphan
from services.chain.paths import GETH_DIR, GETH_GENESIS, GETH_LOG
from services.errors import GethFailed, StorageError
from services.runtime import logs as log_setup
from services.runtime import loopback
from services.runtime.background import Background

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
FIRST_BACK_OFF_S = 0.1
LONGEST_BACK_OFF_S = 10.0
STEADY_AFTER_S = 30.0  # a geth that ran this long has recovered: the next back-off is the first again

PRICE_FOR_STRANGERS = str(10**18)  # wei per gas
MAX_PEERS = 64

# Below this free space geth is shut down cleanly, so its database stays intact, until there is space again. geth does
# this itself, but checks only every 30 s; on a disk that fills in between, it ends in the middle of a write.
LEAST_FREE_BYTES = 64 * 2**20
LOOK_FOR_ROOM_EVERY_S = 2.0
TELL_AGAIN_S = 60.0

# Neither has a flag. Other SNs reach geth through this SN, which checks their certificates.
CONFIG = '[Node.P2P]\nDialRatio = 1\nListenAddr = "127.0.0.1:0"\n'

SOCKET_PATH_LIMIT_BYTES = 100  # the kernel allows 107, geth warns above 104
OUTPUT_LINE_LIMIT_BYTES = 2**20
READY_MARK = b"Commit new sealing work"  # by then the account is unlocked and the IPC socket open


class GethProcess:
    """One geth with one account that seals, on a database in ``data_dir``/eth.

    ``genesis``: the first block of a swarm to join; None makes that of a new swarm.
    """

    def __init__(self, data_dir: Path, account: Account, *, genesis: Mapping[str, Any] | None = None) -> None:
        data_dir = data_dir.absolute()
        self._dir = data_dir / GETH_DIR
        self._genesis = data_dir / GETH_GENESIS
        self._given_genesis = genesis
        self._account = account
        self._log = log_setup.get("geth")
        self._output = GethLog(data_dir / GETH_LOG)
        self._stopping = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._background = Background("chain")
        self._draining: asyncio.Task[None] | None = None
        self._started_at = 0.0
        self._socket_dir: Path | None = None
        self.ipc_path = self._short_socket_path()

    @property
    def chain_id(self) -> int:
        """Chain id of the chain in the data directory; known after ``start``."""
        return chain_id_of(self._genesis)

    @property
    def genesis(self) -> str:
        """Content of the genesis file of the chain; exists after ``start``."""
        return self._genesis.read_text()

    @property
    def log_path(self) -> Path:
        return self._output.path

    def is_at(self, connection: socket.socket) -> bool:
        """Whether this geth, and no other process, holds the other end of a connection on loopback."""
        return self._process is not None and loopback.is_from(self._process.pid, connection)

    async def start(self) -> None:
        """Makes the chain if there is none, starts geth, and returns when its IPC socket answers.

        Raises GethNotFound, GethNotPossible, GethFailed, StorageError.
        """
        binary = require_geth()
        try:
            await end_orphan(self._pid_file, self._dir)
            if not self._genesis.is_file():
                await self._make_chain(binary)
        except OSError as error:
            raise StorageError(path=self._dir, problem=error.strerror or str(error)) from None
        await self._launch(binary)

    async def supervise(self, on_up: Callable[[], Awaitable[None]]) -> None:
        """Starts geth again whenever it ends, until ``stop``; calls ``on_up`` each time it answers again."""
        back_off = FIRST_BACK_OFF_S
        while True:
            code = await self._exited_or_out_of_room()
            if self._stopping.is_set():
                return
            await self._have_room()
            if time.monotonic() - self._started_at > STEADY_AFTER_S:
                back_off = FIRST_BACK_OFF_S
            self._log.error("geth ended; starting it again", exit=code, in_s=back_off, tail=self._output.tail())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(back_off):
                    await self._stopping.wait()
                return
            back_off = min(2 * back_off, LONGEST_BACK_OFF_S)
            try:
                await self._launch(require_geth())
                await on_up()
            except Exception as error:  # whatever it is, the next attempt may do better
                self._log.error("geth could not be restarted yet", error=str(error))
                await self._end()
            else:
                self._log.info("geth is back")

    @property
    def trouble(self) -> str:
        """Why geth cannot run; empty if it can."""
        free = self._free_bytes()
        if free >= LEAST_FREE_BYTES:
            return ""
        return f"the disk of {self._dir} is full: {LEAST_FREE_BYTES >> 20} MiB are needed, {free >> 20} MiB are free"

    async def _exited_or_out_of_room(self) -> int | None:
        """Waits until geth exits; stops it if its disk is full."""
        exited = asyncio.create_task(self.exited())
        while not exited.done():
            await asyncio.wait({exited}, timeout=LOOK_FOR_ROOM_EVERY_S)
            if not exited.done() and self.trouble:
                self._log.error("geth is stopped until the disk has room again", reason=self.trouble)
                await self._end()
        return exited.result()

    async def _have_room(self) -> None:
        """Returns when there is space, or when geth is to stop for good."""
        told_at = time.monotonic()
        while self.trouble and not self._stopping.is_set():
            if time.monotonic() - told_at > TELL_AGAIN_S:
                told_at = time.monotonic()
                self._log.error("geth is still stopped", reason=self.trouble)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_FOR_ROOM_EVERY_S):
                    await self._stopping.wait()

    def _free_bytes(self) -> int:
        try:
            return shutil.disk_usage(self._dir).free
        except OSError:
            return LEAST_FREE_BYTES  # whoever writes there reports the problem

    async def exited(self) -> int | None:
        """Waits until the running geth ends; returns its exit code."""
        if self._process is None:
            return None
        code = await self._process.wait()
        if self._draining is not None:
            await asyncio.wait([self._draining])
        return code

    async def stop(self) -> None:
        """Shuts geth down cleanly; kills it if it does not end."""
        self._stopping.set()
        await self._end()
        self._output.close()
        if self._socket_dir is not None:
            shutil.rmtree(self._socket_dir, ignore_errors=True)

    # --- making the chain ---------------------------------------------------------------------------

    async def _make_chain(self, binary: Path) -> None:
        self._dir.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._dir / "geth", ignore_errors=True)  # of an earlier start that was interrupted
        genesis = self._given_genesis or make_genesis([self._account.address])
        draft = self._genesis.with_name("genesis.new.json")
        draft.write_text(json.dumps(genesis, indent=1))
        command = [str(binary), "--datadir", str(self._dir), "--state.scheme", "hash", "init", str(draft)]
        init = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT, env=_environment(), start_new_session=True,
        )  # fmt: skip
        making = asyncio.create_task(init.communicate())
        try:
            await asyncio.to_thread(self._write_account)  # meanwhile
        finally:
            output, _ = await making
        for line in output.splitlines(keepends=True):
            self._output.write(line)
        if init.returncode != 0:
            raise self._failed(f"could not make its database (exit code {init.returncode})")
        draft.rename(self._genesis)

    def _write_account(self) -> None:
        password = secrets.token_hex(32)
        write_private(self._password_file, password)
        write_private(self._dir / "keystore" / "sealer.json", keystore_file(self._account, password))

    # --- one run ------------------------------------------------------------------------------------

    async def _launch(self, binary: Path) -> None:
        self.ipc_path.unlink(missing_ok=True)
        self._config_file.write_text(CONFIG)
        process = await asyncio.create_subprocess_exec(
            *_bound_to_this_process(), str(binary), *self._flags(),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env=_environment(), start_new_session=True, limit=OUTPUT_LINE_LIMIT_BYTES,
        )  # fmt: skip
        self._process = process
        self._started_at = time.monotonic()
        self._pid_file.write_text(str(process.pid))
        ready = asyncio.Event()
        self._draining = self._background.run(self._drain(process, ready), "reading what geth says")
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait([waiting, self._draining], timeout=START_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if ready.is_set():
            self._log.info("geth is up", pid=process.pid, after_s=round(time.monotonic() - self._started_at, 2))
            return
        ended = self._draining.done()
        await self._end()
        raise self._failed(
            f"ended with exit code {process.returncode}" if ended else f"was not ready after {START_TIMEOUT_S:.0f} s"
        )

    def _flags(self) -> list[str]:
        return [
            "--datadir", str(self._dir), "--ipcpath", str(self.ipc_path), "--verbosity", "3",
            # Only members, whom each SN adds explicitly: all peer slots are for peers that geth dials itself or trusts
            # (DialRatio), so no stranger can connect. With fewer slots the mesh would have gaps.
            "--config", str(self._config_file), "--nodiscover", "--maxpeers", str(MAX_PEERS),
            "--nat", "none",
            "--networkid", str(self.chain_id),
            # The engine API cannot be switched off; a random port avoids conflicts, and a secret protects it.
            "--authrpc.addr", "127.0.0.1", "--authrpc.port", "0",
            # The state of every block goes to disk with the block: a killed geth loses nothing.
            "--syncmode", "full", "--gcmode", "archive", "--state.scheme", "hash", "--snapshot=false",
            "--cache", "64", "--cache.noprefetch", "--history.transactions", "0",
            "--mine", "--miner.etherbase", self._account.address, "--miner.gaslimit", str(BLOCK_GAS_LIMIT),
            "--unlock", self._account.address, "--password", str(self._password_file),
            # The SN's pool keeps pending transactions, so geth needs no journal of its own. Transactions come only
            # through IPC: those from peers never pay this price, and those through IPC need not.
            "--txpool.journal", "", "--txpool.pricelimit", PRICE_FOR_STRANGERS, "--miner.gasprice", PRICE_FOR_STRANGERS,
            "--rpc.txfeecap", "0", "--rpc.gascap", "0",
        ]  # fmt: skip

    async def _drain(self, process: asyncio.subprocess.Process, ready: asyncio.Event) -> None:
        assert process.stdout is not None  # noqa: S101 - it was asked for
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # longer than the limit: not worth keeping
                continue
            if not line:
                break
            with contextlib.suppress(OSError):  # a full disk: geth must not block because of its log
                self._output.write(line)
            if READY_MARK in line:
                ready.set()
        await process.wait()

    async def _end(self) -> None:
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await process.wait()
            except TimeoutError:
                self._log.error("geth did not stop when asked; killing it", after_s=STOP_TIMEOUT_S)
                process.kill()
        await self.exited()
        self._pid_file.unlink(missing_ok=True)

    # --- small things -------------------------------------------------------------------------------

    @property
    def _password_file(self) -> Path:
        return self._dir / "password"

    @property
    def _config_file(self) -> Path:
        return self._dir / "config.toml"

    @property
    def _pid_file(self) -> Path:
        return self._dir / "geth.pid"

    def _short_socket_path(self) -> Path:
        path = (self._dir / "geth.ipc").absolute()
        if len(os.fsencode(path)) <= SOCKET_PATH_LIMIT_BYTES:
            return path
        parent = tempfile.gettempdir() if len(tempfile.gettempdir()) < 60 else "/tmp"  # noqa: S108 - mkdtemp's is ours
        self._socket_dir = Path(tempfile.mkdtemp(prefix="swarm-geth-", dir=parent))
        return self._socket_dir / "geth.ipc"

    def _failed(self, problem: str) -> GethFailed:
        return GethFailed(problem=problem, tail=self._output.tail(), log=self._output.path)


def _bound_to_this_process() -> list[str]:
    """A command prefix with which the kernel stops geth if this process dies without stopping it."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM"] if setpriv else []


def _environment() -> dict[str, str]:
    """This process's environment without geth's variables: all its flags are decided here."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GETH_")}
