"""What a local swarm consists of: its nodes and programs, and their command lines. Plans only, starts nothing."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import services
from services.errors import SettingsError
from services.identity.authority import IssuedFiles
from services.local.process import Launch, node_environment, program_environment

HOST = "127.0.0.1"  # only this machine can reach a local swarm
HOSTS = ["localhost", HOST]
LICENSE_SERVER = "license-1"
STAGES = ("ml-", "swop-", "sl-", "sn-", LICENSE_SERVER)  # what the names begin with, in the order in which all stop
SN = "sn-1"
ADMIN = "admin"
SWCI = "swci-1"
MAX_PORT = 65535
CHAINS = ("auto", "geth", "embedded")

# Where `python -m services.cli` finds this code, in whatever directory `swarm up` was called.
CODE_ROOT = Path(services.__file__).parents[1]


@dataclass(frozen=True)
class Ports:
    """0: any free port, if possible the one used before. The ports of several SNs or SLs count up from the first."""

    license_server: int = 0
    sn_api: int = 0
    sn_p2p: int = 0
    sl_fs: int = 0


@dataclass(frozen=True)
class SwarmPlan:
    """One local swarm. ``command``: the ML program, started once per SL with ``environment`` added to the user's; if
    empty, the user starts it.
    """

    directory: Path
    sl_count: int
    chain: str = "auto"
    command: tuple[str, ...] = ()
    ports: Ports = Ports()
    environment: Mapping[str, str] = field(default_factory=dict)
    sn_count: int = 1
    swop_count: int = 0
    images: tuple[str, ...] = ()

    @property
    def sns(self) -> list[str]:
        """The first one is the sentinel."""
        return [f"sn-{index + 1}" for index in range(self.sn_count)]

    @property
    def sls(self) -> list[str]:
        return [f"sl-{index + 1}" for index in range(self.sl_count)]

    @property
    def swops(self) -> list[str]:
        """SWOPs, started instead of SLs and programs, which tasks then have them start."""
        return [f"swop-{index + 1}" for index in range(self.swop_count)]

    def sls_of(self, swop: int) -> list[str]:
        """The SLs of the pairs that the SWOP with this index (from 0) gets."""
        return self.sls[swop :: self.swop_count]

    @property
    def identities(self) -> list[tuple[str, str]]:
        """(role, name) of every certificate that the swarm needs."""
        nodes = [*(("sn", name) for name in self.sns), *(("sl", name) for name in self.sls)]
        operators = [*(("swop", name) for name in self.swops), ("swci", SWCI)] if self.swop_count else []
        return [("license", LICENSE_SERVER), *nodes, *operators, ("admin", ADMIN)]

    def check(self) -> None:
        """Raises SettingsError with the option that is not possible."""
        if self.sl_count < 1:
            raise _refused("--sl", "a swarm needs at least one SL")
        if self.chain not in CHAINS:
            raise _refused("--chain", f"it is '{self.chain}', and must be one of {', '.join(CHAINS)}")
        if self.sn_count < 1:
            raise _refused("--sn", "a swarm needs at least one SN")
        if self.swop_count < 0 or self.swop_count > self.sl_count:
            raise _refused("--swop", f"it is {self.swop_count}, but each SWOP needs a pair: --sl is {self.sl_count}")
        if self.swop_count and self.command:
            raise _refused("--swop", "tasks say what SWOPs run; give no program, or leave --swop out")
        if self.sn_count > 1 and self.chain == "embedded":
            raise _refused("--sn", f"it is {self.sn_count}, but the embedded chain serves one SN; say --chain geth")
        given = [
            ("--apls-port", self.ports.license_server, 1),
            ("--sn-api-port", self.ports.sn_api, self.sn_count),
            ("--sn-p2p-port", self.ports.sn_p2p, self.sn_count),
            ("--sl-fs-port", self.ports.sl_fs, self.sl_count),
        ]
        taken: dict[int, str] = {}
        for option, first, count in given:
            if not 0 <= first <= MAX_PORT:
                raise _refused(option, f"{first} is not a port (1 to {MAX_PORT}, or 0 for any free one)")
            if first + count - 1 > MAX_PORT:
                raise _refused(option, f"{count} nodes need a port each, and the last one is {MAX_PORT}")
            for port in range(first, first + count) if first else ():
                if port in taken:
                    raise _refused(option, f"port {port} is already taken by {taken[port]}")
                taken[port] = option

    def log(self, name: str) -> Path:
        return self.directory / "logs" / f"{name}.log"

    def channel(self, sl: str) -> tuple[Path, Path]:
        """The request and the response pipe of an SL."""
        return self.directory / sl / "request.channel", self.directory / sl / "response.channel"

    def channel_variables(self, index: int) -> dict[str, str]:
        """What the ML program of the SL with this index (from 0) finds in its environment."""
        request, response = self.channel(self.sls[index])
        return {
            "SL_REQUEST_CHANNEL": str(request),
            "SL_RESPONSE_CHANNEL": str(response),
            "SWARM_NODE_INDEX": str(index),
            "SWARM_NODE_COUNT": str(self.sl_count),
        }

    def license_server(self, files: IssuedFiles, free_port: int = 0) -> Launch:
        arguments = ["license-server", "--host", HOST, "--port", str(self.ports.license_server or free_port)]
        return self._node(LICENSE_SERVER, arguments, files, node_environment("SWARM_LICENSE_SEATS"))

    def sn(
        self, index: int, files: IssuedFiles, *, license_port: int = 0, sentinel_port: int = 0, free_port: int = 0
    ) -> Launch:
        """The SN with this index (from 0): the sentinel, or one that joins the API on ``sentinel_port``.

        Ports 0: not known yet; the node is held back until it gets them.
        """
        role = ["--sentinel-ip", HOST, *_known("--sentinel-api-port", sentinel_port)] if index else ["--sentinel"]
        arguments = [
            "sn", *role, "--host", HOST, "--host-ip", HOST, "--chain", "geth" if self.sn_count > 1 else self.chain,
            "--sn-api-port", str(self.ports.sn_api + index if self.ports.sn_api else free_port),
            "--sn-p2p-port", str(self.ports.sn_p2p + index if self.ports.sn_p2p else 0),
            "--apls-ip", HOST, *_known("--apls-port", license_port),
        ]  # fmt: skip
        held = not (license_port and (sentinel_port or not index))
        return self._node(self.sns[index], arguments, files, node_environment("SN_"), held=held)

    def sl(self, index: int, files: IssuedFiles, license_port: int = 0, sn_port: int = 0, free_port: int = 0) -> Launch:
        """Ports 0: not known yet; the node is held back until it gets them."""
        request, response = self.channel(self.sls[index])
        arguments = [
            "sl", "--host", HOST, "--host-ip", HOST, "--sn-ip", HOST, *_known("--sn-api-port", sn_port),
            "--sl-fs-port", str(self.ports.sl_fs + index if self.ports.sl_fs else free_port),
            "--apls-ip", HOST, *_known("--apls-port", license_port),
        ]  # fmt: skip
        channel = {"SL_REQUEST_CHANNEL": str(request), "SL_RESPONSE_CHANNEL": str(response)}
        held = not (license_port and sn_port)
        return self._node(self.sls[index], arguments, files, node_environment("SL_", **channel), held=held)

    @property
    def usr_dir(self) -> Path:
        """Directory of the SWOPs' profiles and of what tasks may mount; also SWCI's."""
        return self.directory / "usr"

    def profile(self, swop: int) -> str:
        return f"{self.swops[swop]}-profile.yaml"

    def swop(self, index: int, files: IssuedFiles, license_port: int, sn_port: int) -> Launch:
        arguments = [
            "swop", "--usr-dir", str(self.usr_dir), "--profile-file-name", self.profile(index),
            "--sn-ip", HOST, "--sn-api-port", str(sn_port), "--apls-ip", HOST, "--apls-port", str(license_port),
        ]  # fmt: skip
        return self._node(self.swops[index], arguments, files, node_environment("SWOP_"))

    def program(self, index: int) -> Launch:
        """The user's program for one SL, in the user's directory and environment."""
        name = f"ml-{index + 1}"
        environment = program_environment(**self.environment, **self.channel_variables(index))
        return Launch(name, self.command, self.log(name), environment, is_node=False)

    def _node(
        self, name: str, arguments: list[str], files: IssuedFiles, environment: Mapping[str, str], held: bool = False
    ) -> Launch:
        argv = [
            sys.executable, "-m", "services.cli", *arguments, "--data-dir", str(self.directory / name),
            "--cert", str(files.cert), "--key", str(files.key), "--cacert", str(files.cacert),
        ]  # fmt: skip
        return Launch(name, tuple(argv), self.log(name), environment, cwd=CODE_ROOT, held=held)


def _known(option: str, port: int) -> list[str]:
    return [option, str(port)] if port else []


def _refused(option: str, problem: str) -> SettingsError:
    return SettingsError(name=option, problem=problem, command="up")
