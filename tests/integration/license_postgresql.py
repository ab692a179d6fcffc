"""A PostgreSQL for the tests: a cluster in a temporary directory, run by a user other than root."""

import contextlib
import os
import pwd
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

USER = "swarm"


def binaries() -> Path:
    """The newest version's programs, where Debian puts them."""
    return max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))


@contextlib.contextmanager
def cluster() -> Iterator[str]:
    """Yields the URL of an empty database, on a socket in its own directory.

    Not in pytest's: if root runs the tests, PostgreSQL runs as another user, who cannot enter it.
    """
    with tempfile.TemporaryDirectory(prefix="swarm-pg-", ignore_cleanup_errors=True) as name:
        yield from _running(Path(name))


def _running(directory: Path) -> Iterator[str]:
    as_user = {}
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        other = pwd.getpwnam("postgres")
        os.chown(directory, other.pw_uid, other.pw_gid)
        as_user = {"user": other.pw_uid, "group": other.pw_gid, "extra_groups": []}
    run(["initdb", "-D", str(directory / "data"), "-U", USER, "-A", "trust", "--no-sync", "-E", "UTF8"], as_user)
    options = f"-c listen_addresses='' -c unix_socket_directories='{directory}' -c fsync=off"
    start = ["pg_ctl", "-D", str(directory / "data"), "-l", str(directory / "log"), "-w", "-o", options, "start"]
    run(start, as_user)
    try:
        yield f"postgresql://{USER}@/postgres?host={directory}"
    finally:
        run(["pg_ctl", "-D", str(directory / "data"), "-m", "immediate", "-w", "stop"], as_user)


def run(words: list[str], as_user: dict) -> None:
    words = [str(binaries() / words[0]), *words[1:]]
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd="/", timeout=60, check=False, **as_user
    )
    assert done.returncode == 0, done.stdout + done.stderr
