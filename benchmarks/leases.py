"""The license server under 1,000 live leases: acquires and renewals a second, stale leases, fail-over.

``python -m benchmarks.leases [--leases 1000] [--seconds 10] [--rate 500] [--database URL]``

A real server process over TLS, with a certificate of its own for every node, each on a connection it keeps, as nodes
do. *Throughput*: all nodes renew as fast as they are answered. *Latency*: renewals are sent at a fixed rate, 500 a
second, which is five times what 1,000 nodes need, and timed from when they were due, so that a server that falls
behind cannot hide it. *Stale*: from a node's last renewal until its seat is another's. *Fail-over*: a pair; the first
is killed while every node holds a seat; until the second renews. The callers share the processors with the server.
"""

import argparse
import asyncio
import contextlib
import json
import os
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.base import say
from benchmarks.report import at_least, goal, percentile, print_figures
from services.errors import SwarmError
from services.identity.authority import Authority, IssuedFiles
from services.local.plan import CODE_ROOT
from services.local.process import Child, Launch, node_environment

RENEWALS_GOAL, P99_GOAL_MS, STALE_GOAL_S, FAILOVER_GOAL_S = 500, 50, 60, 5
HOST = "127.0.0.1"
AT_ONCE = 32  # of acquires and renewals that are sent as fast as they are answered
RETRY_S = 0.1


class SeatHolder:
    """One holder of a seat, on one connection that it keeps. HTTP by hand: the callers must cost little."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._port = 0
        self._turn = asyncio.Lock()
        self.lease, self.token = "", 0

    async def acquire(self, port: int) -> int:
        status, answer = await self._ask(port, "POST", "/v1/leases", {"feature": "SL"})
        if status == 200:
            self.lease, self.token = answer["lease"], answer["token"]
        return status

    async def renew(self, port: int) -> int:
        return (await self._ask(port, "POST", f"/v1/leases/{self.lease}/renew", {"token": self.token}))[0]

    async def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            with contextlib.suppress(OSError, ssl.SSLError):
                await self._streams[1].wait_closed()
        self._streams = None

    async def _ask(self, port: int, method: str, path: str, content: Any) -> tuple[int, Any]:
        """Raises OSError, EOFError where nobody answers."""
        async with self._turn:
            return await self._ask_alone(port, method, path, content)

    async def _ask_alone(self, port: int, method: str, path: str, content: Any) -> tuple[int, Any]:
        if self._streams is None or self._port != port:
            await self.close()
            self._port = port
            self._streams = await asyncio.open_connection(HOST, port, ssl=self._context, server_hostname="localhost")
        reader, writer = self._streams
        body = json.dumps(content).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Length: {len(body)}\r\n\r\n"
        try:
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = int(answer.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            status = int(answer[9:12])
            return status, json.loads(await reader.readexactly(length)) if length else None
        except (OSError, EOFError):
            await self.close()
            raise


class Bench:
    """A CA, servers, and nodes with their certificates."""

    def __init__(self, directory: Path, leases: int, database: str) -> None:
        self.directory = directory
        self._database = database
        self.authority = Authority.create(directory / "ca", "Bench")
        self._children: dict[str, Child] = {}
        say(f"certificates for {leases + 1} nodes")
        self.nodes = [SeatHolder(self._context(number)) for number in range(leases + 1)]
        self.spare = self.nodes.pop()
        self._files: dict[str, IssuedFiles] = {}

    def _context(self, number: int) -> ssl.SSLContext:
        files = self.authority.issue("sl", f"sl-{number}", ["localhost"], self.directory / "nodes")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(files.cacert)
        context.load_cert_chain(files.cert, files.key)
        return context

    async def start(self, name: str, port: int, *flags: str) -> int:
        """Gives the port."""
        if name not in self._files:
            self._files[name] = self.authority.issue("license", name, ["localhost", HOST], self.directory / name)
        files = self._files[name]
        argv = (
            sys.executable, "-m", "services.cli", "license-server", "--host", HOST, "--port", str(port),
            "--data-dir", str(self.directory / name), "--seats", f"SL={len(self.nodes)}", "--log-level", "ERROR",
            "--cert", str(files.cert), "--key", str(files.key), "--cacert", str(files.cacert), *flags,
        )  # fmt: skip
        child = Child.start(Launch(name, argv, self.directory / f"{name}.log", node_environment(), cwd=CODE_ROOT))
        self._children[name] = child
        return int((await child.ready())["port"])

    def busy_s(self, name: str) -> float:
        """Seconds of processor time that the server has used."""
        fields = Path(f"/proc/{self._children[name].pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self, name: str) -> None:
        self._children[name].kill()

    async def stop(self, name: str) -> None:
        await self._children.pop(name).stop()

    async def close(self) -> None:
        for node in (*self.nodes, self.spare):
            await node.close()
        for child in self._children.values():
            await child.stop()

    def database_flags(self) -> tuple[str, ...]:
        return ("--database", self._database) if self._database else ()


async def each(nodes: list[SeatHolder], work: Callable[[SeatHolder], Awaitable[int]]) -> float:
    """Seconds until all were answered with 200, AT_ONCE of them at a time."""
    waiting = list(nodes)
    began = time.perf_counter()

    async def some() -> None:
        while waiting:
            status = await work(waiting.pop())
            if status != 200:
                raise RuntimeError(f"a node was answered {status}")

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))
    return time.perf_counter() - began


async def at_rate(nodes: list[SeatHolder], port: int, rate: int, seconds: float) -> list[float]:
    """Milliseconds from when each renewal was due until it was answered."""
    took: list[float] = []
    began = asyncio.get_running_loop().time()

    async def one(node: SeatHolder, due: float) -> None:
        await node.renew(port)
        took.append((asyncio.get_running_loop().time() - due) * 1000)

    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            due = began + number / rate
            await _until(due)
            group.create_task(one(nodes[number % len(nodes)], due))
    return took


async def stale(bench: Bench, port: int) -> float:
    """Seconds from the last renewal of a node that is gone until another has its seat; the others renew on."""
    gone, others = bench.nodes[0], bench.nodes[1:]
    await gone.renew(port)
    last = time.monotonic()
    async with renewing(others, port, every_s=8.0):
        while await bench.spare.acquire(port) != 200:
            await _until(asyncio.get_running_loop().time() + 0.2)
    return time.monotonic() - last


@contextlib.asynccontextmanager
async def renewing(nodes: list[SeatHolder], port: int, every_s: float) -> AsyncIterator[None]:
    """Within it, each node renews so often."""

    async def keep() -> None:
        while True:
            begun = asyncio.get_running_loop().time()
            await each(nodes, lambda node: node.renew(port))
            await _until(begun + every_s)

    task = asyncio.create_task(keep())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def fail_over(bench: Bench) -> tuple[float, float, int]:
    """Seconds until the first and until every node was renewed by the second server, and the leases that were lost."""
    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(_reserved()) for _ in range(2)]
    pair = {"ls-1": ports[0], "ls-2": ports[1]}
    await bench.start("ls-1", ports[0], "--partner", f"ls-2@localhost:{ports[1]}")
    await bench.start("ls-2", ports[1], "--partner", f"ls-1@localhost:{ports[0]}", "--standby")
    await each(bench.nodes, lambda node: node.acquire(pair["ls-1"]))
    held = [node.lease for node in bench.nodes]
    await _until(asyncio.get_running_loop().time() + 2.5)  # the second has heard of the last one
    say("killing the first server")
    bench.kill("ls-1")
    killed = time.monotonic()
    first: list[float] = []

    async def turn(node: SeatHolder) -> int:
        while True:
            with contextlib.suppress(OSError, EOFError):
                status = await node.renew(pair["ls-2"])
                if status != 503:
                    first.append(time.monotonic() - killed)
                    return 200 if status == 200 else await _lost(lost)
            await _until(asyncio.get_running_loop().time() + RETRY_S)

    lost: list[int] = []
    await each(bench.nodes, turn)
    kept = sum(node.lease == lease for node, lease in zip(bench.nodes, held, strict=True))
    return min(first), time.monotonic() - killed, len(lost) + len(held) - kept


async def _lost(lost: list[int]) -> int:
    lost.append(1)
    return 200


@contextlib.contextmanager
def _reserved() -> Iterator[int]:
    with socket.create_server((HOST, 0)) as listening:
        yield int(listening.getsockname()[1])


async def _until(due: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(due):
            await asyncio.Event().wait()


async def run(leases: int, seconds: float, rate: int, database: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="swarm-bench-") as name:
        bench = Bench(Path(name), leases, database)
        try:
            port = await bench.start("ls-0", 0, *bench.database_flags())
            say("acquiring")
            acquire_s = await each(bench.nodes, lambda node: node.acquire(port))
            say("renewing as fast as it goes")
            rounds, began, busy = 0, time.perf_counter(), bench.busy_s("ls-0")
            while time.perf_counter() - began < seconds:
                await each(bench.nodes, lambda node: node.renew(port))
                rounds += 1
            renewals_s = rounds * leases / (time.perf_counter() - began)
            server_ms = (bench.busy_s("ls-0") - busy) * 1000 / (rounds * leases)
            say(f"renewing {rate} times a second")
            took = await at_rate(bench.nodes, port, rate, seconds)
            say("waiting for a stale lease to be freed")
            stale_s = await stale(bench, port)
            await bench.stop("ls-0")
            say("fail-over")
            first_s, all_s, lost = await fail_over(bench)
        finally:
            await bench.close()
    return {
        "leases": leases,
        "database": database.partition(":")[0] or "sqlite",
        "acquires_per_s": round(leases / acquire_s),
        "renewals_per_s": round(renewals_s),
        "server_cpu_ms_per_renewal": round(server_ms, 2),
        "rate_per_s": rate,
        "renew_p50_ms": round(percentile(took, 50), 1),
        "renew_p99_ms": round(percentile(took, 99), 1),
        "stale_freed_s": round(stale_s, 1),
        "failover_first_s": round(first_s, 2),
        "failover_all_s": round(all_s, 2),
        "leases_lost": lost,
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.leases", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--leases", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rate", type=int, default=500)
    parser.add_argument("--database", default="", help="URL; an SQLite file by default")
    given = parser.parse_args()
    try:
        figures = asyncio.run(run(given.leases, given.seconds, given.rate, given.database))
    except SwarmError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return error.exit_code
    print_figures(
        figures,
        {
            "renewals_per_s": at_least(figures["renewals_per_s"], RENEWALS_GOAL),
            "renew_p99_ms": goal(figures["renew_p99_ms"], P99_GOAL_MS),
            "stale_freed_s": goal(figures["stale_freed_s"], STALE_GOAL_S),
            "failover_first_s": goal(figures["failover_first_s"], FAILOVER_GOAL_S),
            "leases_lost": goal(figures["leases_lost"], 0),
        },
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
