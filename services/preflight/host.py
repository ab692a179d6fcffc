"""What this host itself must provide: pipes, disk, an engine, a GPU, a suitable MTU."""

import os
import platform
import shutil
import socket
import stat
import subprocess
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from services.errors import HostNotReady
from services.preflight.report import Finding, State, failure
from services.preflight.settings import PreflightSettings
from services.scripts.container import selinux_enforces
from services.scripts.engine import find

GIB = 1 << 30
NARROW_MTU = 1280  # the minimum for IPv6
IP_MTU = 14  # on Linux; only later Pythons have socket.IP_MTU
LITTLE_DISK = 0.1  # fraction of the wanted space: less is too little even for a trial
ANSWER_WITHIN_S = 10
LABEL = (
    "The scripts and Compose files label what they mount. Label what tasks of a SWOP mount: "
    "chcon -R -t container_file_t DIRECTORY."
)


def look(settings: PreflightSettings, role: str, hosts: Sequence[str]) -> Iterator[Finding]:
    """``role``: of the certificate, "" if there is none. ``hosts``: those that this node will talk to."""
    yield Finding("version", "this host", "ok", f"{version('swarm-learning')}, Python {platform.python_version()}")
    yield _pipes(settings.data_dir)
    yield _disk(settings.data_dir, settings.min_free_gb)
    yield _engine(settings.engine, role)
    if selinux_enforces():
        yield Finding(
            "SELinux", "this host", "warning", "enforcing: containers open only what is labelled for them", LABEL
        )
    yield _gpu(needed=settings.gpu)
    yield from _mtu(hosts)


def _pipes(directory: Path) -> Finding:
    """SL and ML talk through two pipes; some file systems of networks and of desktop virtual machines lack them."""
    check, subject = "named pipes", str(directory)
    pipe = directory / f".preflight-{os.getpid()}"
    if not directory.is_dir():
        return Finding(check, subject, "failed", "the directory is not there", "Make it, or name another --data-dir.")
    try:
        os.mkfifo(pipe, 0o600)
        try:
            descriptor = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
            try:
                os.write(descriptor, b"ping")
                arrived = os.read(descriptor, 4) == b"ping"
            finally:
                os.close(descriptor)
        finally:
            pipe.unlink()
    except OSError as error:
        found = directory.stat()
        who = f"user {os.geteuid()}; owner {found.st_uid}:{found.st_gid}, mode {stat.S_IMODE(found.st_mode):04o}"
        problem = f"{(error.strerror or str(error)).lower()} ({who})"
        return Finding(check, subject, "failed", problem, "Choose a directory of a local disk that this user owns.")
    if not arrived:
        return Finding(check, subject, "failed", "what is written does not arrive", "Choose a local disk.")
    return Finding(check, subject, "ok", "they work on its file system")


def _disk(directory: Path, wanted_gb: float) -> Finding:
    place = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    found = f"{free / GIB:.1f} GB free"
    if free >= wanted_gb * GIB:
        return Finding("disk", str(place), "ok", found)
    state: State = "warning" if free >= wanted_gb * GIB * LITTLE_DISK else "failed"
    return Finding("disk", str(place), state, found, f"Free space up to {wanted_gb:g} GB, or choose another disk.")


def _engine(wanted: str, role: str) -> Finding:
    if wanted == "none":
        return Finding("container engine", "this host", "skipped", "not asked for")
    needed = wanted != "auto" or role == "swop"
    try:
        engine = find("" if wanted == "auto" else wanted)
        engine.require()
    except HostNotReady as error:
        return failure("container engine", wanted, error, "failed" if needed else "warning")
    by = " by sudo" if engine.prefix else ""
    return Finding("container engine", engine.command, "ok", f"it answers user {os.geteuid()}{by}")


def _gpu(*, needed: bool) -> Finding:
    if shutil.which("nvidia-smi"):
        command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
        try:
            said = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_WITHIN_S, check=False)
        except (OSError, subprocess.TimeoutExpired):
            said = subprocess.CompletedProcess(command, 1, "", "nvidia-smi does not come back")
        if said.returncode == 0 and said.stdout.strip():
            return Finding("GPU", "this host", "ok", "; ".join(said.stdout.strip().splitlines()))
        problem = (said.stderr or said.stdout).strip().partition("\n")[0] or "nvidia-smi names none"
        state: State = "failed" if needed else "warning"
        return Finding("GPU", "this host", state, problem, "Install the driver that fits the kernel, and reboot.")
    if Path("/dev/kfd").exists():
        return Finding("GPU", "this host", "ok", "an AMD GPU (/dev/kfd)")
    if needed:
        return Finding("GPU", "this host", "failed", "there is none", "Install its driver, or leave out --gpu.")
    return Finding("GPU", "this host", "skipped", "there is none, and none is asked for")


def _mtu(hosts: Sequence[str]) -> Iterator[Finding]:
    """A container's packets must fit the link: otherwise small messages pass, but models hang."""
    inside = _docker_mtu()
    seen = {host: mtu for host in hosts if (mtu := _mtu_to(host)) is not None}
    for host, mtu in seen.items():
        if mtu < NARROW_MTU:
            yield Finding("MTU", host, "warning", f"{mtu} bytes, very few", "Look after the VPN or tunnel on the way.")
        elif inside is not None and inside > mtu:
            found = f"{mtu} bytes on the way, {inside} in containers"
            advice = f'Set {{"mtu": {mtu}}} in /etc/docker/daemon.json and make the networks of containers anew.'
            yield Finding("MTU", host, "warning", found, advice)
        else:
            yield Finding("MTU", host, "ok", f"{mtu} bytes")


def _mtu_to(host: str) -> int | None:
    """MTU of the route, as the kernel knows it; nothing is sent."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, 9, socket.AF_INET, socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(address)
            return probe.getsockopt(socket.IPPROTO_IP, IP_MTU)
    except OSError:
        return None


def _docker_mtu() -> int | None:
    try:
        return int(Path("/sys/class/net/docker0/mtu").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
