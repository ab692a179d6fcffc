"""Starts an SWCI: identity, license, init script, then the shell or the REST API."""

import asyncio
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from services.errors import FileUnusable, SettingsError
from services.identity.expiry import watched_expiry
from services.identity.identity import Identity
from services.identity.source import own_identity
from services.licensing.lease import Lease
from services.runtime import logs
from services.runtime.metrics import Meter
from services.runtime.ready import ReadySocket
from services.swci.console import Console, Over
from services.swci.contexts import SnContexts
from services.swci.session import CommandSession
from services.swci.settings import SWCISettings
from services.swci.terminal import Terminal
from services.swci.usr_dir import UsrDir

ROLE = "swci"
FEATURE = "SWCI"

_log = logs.get(ROLE)


async def main(settings: SWCISettings, stop: asyncio.Event, ready: ReadySocket, *, as_json: bool = False) -> int:
    """Runs until the session is over or ``stop``; returns the exit code. Raises what keeps it from starting."""
    async with AsyncExitStack() as stack:
        identity = await stack.enter_async_context(own_identity(settings, ROLE))
        is_web = settings.mode == "WEB"
        level = settings.log_level or ("INFO" if is_web else "WARNING")
        logs.configure(settings.log_format, identity.name, level, None if is_web else sys.stderr)
        await stack.enter_async_context(watched_expiry(identity, Meter(on=False)))
        files = UsrDir(settings.files)
        session = CommandSession(identity, files, settings.limits, _contexts(settings))
        stack.push_async_callback(session.close)
        script = _init_script(settings, files)
        lease = await stack.enter_async_context(
            await Lease.acquire(settings.license_servers, identity, FEATURE, data_dir=settings.data_dir)
        )
        console = Console(session, Terminal(as_json=as_json))
        work = _run(settings, identity, console, script, ready)
        return await _until_over(asyncio.create_task(work), stop, lease)


async def _until_over(work: "asyncio.Task[Over]", stop: asyncio.Event, lease: Lease) -> int:
    """Returns the exit code. Raises what ends the session early: above all, a lost license."""
    others = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(lease.raise_when_lost())]
    try:
        done, _ = await asyncio.wait({work, *others}, return_when=asyncio.FIRST_COMPLETED)
        for task in done - {work}:
            task.result()
        return work.result().exit_code if work in done else 0
    finally:
        for task in (work, *others):
            task.cancel()
        await asyncio.gather(work, *others, return_exceptions=True)


async def _run(
    settings: SWCISettings, identity: Identity, console: Console, script: list[str], ready: ReadySocket
) -> Over:
    """Runs the init script, then the REST API, the shell on a terminal, or the lines from a pipe."""
    if settings.mode == "CLI":
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, console.interrupt)
    over = await console.run_script(script)
    if over is not None:
        return over
    if settings.mode == "WEB":
        from services.swci.web.serving import serve  # noqa: PLC0415  # loads FastAPI, only if needed

        await serve(settings, identity, console.session, ready)
        return Over()
    ready.report(mode=settings.mode)
    if sys.stdin is None or sys.stdin.closed:
        return Over()
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return await console.run_lines(_piped())
    from services.swci.shell import run_shell  # noqa: PLC0415  # loads prompt_toolkit, only if needed

    return await run_shell(console, settings.history)


def _contexts(settings: SWCISettings) -> SnContexts:
    contexts = SnContexts()
    if settings.first_context is not None:
        contexts.add(settings.first_context)
    return contexts


def _init_script(settings: SWCISettings, files: UsrDir) -> list[str]:
    """The lines of the init script. Raises SettingsError if a script was named and cannot be read."""
    try:
        return files.read_text(settings.init_script).splitlines()
    except FileUnusable as error:
        if not settings.names_init_script and not files.resolve(settings.init_script).exists():
            return []
        problem = str(error.facts["problem"])
        raise SettingsError(name=f"--init-script-name {settings.init_script}", problem=problem, command=ROLE) from None


async def _piped() -> AsyncIterator[str]:
    """The lines of stdin as they come. A thread reads them: a pipe may stay silent, and files cannot be awaited."""
    loop, lines = asyncio.get_running_loop(), asyncio.Queue[str | None]()

    def read() -> None:
        try:
            for line in sys.stdin.buffer:
                loop.call_soon_threadsafe(lines.put_nowait, line.decode("utf-8", "surrogateescape"))
            loop.call_soon_threadsafe(lines.put_nowait, None)
        except (RuntimeError, ValueError, OSError):  # the loop or stdin is gone: nobody needs the lines any more
            return

    threading.Thread(target=read, name="stdin", daemon=True).start()
    while (line := await lines.get()) is not None:
        yield line
