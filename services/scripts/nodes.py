"""Turns the options of a run-... script into the container of a node."""

from __future__ import annotations

import os
from pathlib import Path

from services.scripts.container import DATA, NODE_LABEL, SENTINEL_LABEL, USR, Container, selinux_enforces, take_passed
from services.scripts.engine import DOCKER_SOCKET, ContainerCommand, group_of_docker
from services.scripts.identity import IDENTITY_OPTIONS, add_identity, user_of
from services.scripts.images import LICENSE_SERVER, image_of
from services.scripts.options import FLAG, LIST, VALUE, Given, Option
from services.scripts.sidecar import CHANNEL_VARIABLES, CHANNELS

SN_PORT, P2P_PORT, SL_PORT, LICENSE_PORT = 30304, 30303, 30305, 5814

COMMON = {
    "image": Option(VALUE, "Image of the node, instead of the usual one."),
    "detach": Option(FLAG, "Start it and return; otherwise its log is shown until it ends."),
    "attach": Option(FLAG, "Show its log until it ends, as without --detach."),
    "interactive": Option(FLAG, "Keep its input open."),
    "tty": Option(FLAG, "Give it a terminal."),
    "rm": Option(FLAG, "Remove it when it has ended."),
    "cmd": Option(VALUE, "Arguments of its command, split at spaces; words after '--' are not split."),
    "sidecar": Option(LIST, "Name of a container beside it, described by --NAME-<option of the engine>."),
    "sudo": Option(FLAG, "Call the engine with sudo."),
    "engine": Option(VALUE, "docker or podman; docker if both are installed."),
    "dry-run": Option(FLAG, "Print the commands without running them."),
    "help": Option(FLAG, "Show this."),
    **IDENTITY_OPTIONS,
}
LICENSED = {
    "apls-ip": Option(VALUE, "Address of the license server. [default: --host-ip where given]"),
    "apls-port": Option(VALUE, "Its port. [default: 5814]"),
    "primary-apls-ip": Option(VALUE, "Another name of --apls-ip."),
    "primary-apls-port": Option(VALUE, "Another name of --apls-port."),
    "secondary-apls-ip": Option(VALUE, "Address of the license server that takes over."),
    "secondary-apls-port": Option(VALUE, "Its port. [default: that of the first]"),
}
HOST_IP = {"host-ip": Option(VALUE, "Address or name at which other nodes reach this one.")}
ITS_SN = {
    "sn-ip": Option(VALUE, "Address of the SN."),
    "sn-api-port": Option(VALUE, "Port of the SN's API. [default: 30304]"),
    "sn-api-service": Option(VALUE, "FQDN[:PORT] of the SN's API behind a reverse proxy."),
}
OPTIONS = {
    "sn": {
        **HOST_IP,
        "sentinel": Option(FLAG, "Be the first SN of the swarm."),
        "found-with": Option(VALUE, "Organizations with which it begins: own, or trust-file for all in that file. "
            "[default: own]"),
        "sentinel-ip": Option(VALUE, "Address of an SN to join."),
        "sentinel-api-port": Option(VALUE, "Its API port. [default: 30304]"),
        "sentinel-api-service": Option(VALUE, "FQDN[:PORT] of its API behind a reverse proxy."),
        "sn-api-port": Option(VALUE, "Port of the API, published under the same number."),
        "sn-api-service": Option(VALUE, "FQDN[:PORT] of the API behind a reverse proxy."),
        "sn-p2p-port": Option(VALUE, "Port of the chain, published for 30303."),
        "sn-p2p-service": Option(VALUE, "FQDN[:PORT] at which other SNs reach the chain."),
        **LICENSED,
    },
    "sl": {
        **HOST_IP,
        **ITS_SN,
        "sn-docker-name": Option(VALUE, "Container of an SN on this host, on the same network."),
        "sl-fs-port": Option(VALUE, "Port of the file server, published for 30305."),
        "sl-fs-service": Option(VALUE, "FQDN[:PORT] of the file server behind a reverse proxy."),
        **LICENSED,
    },
    "swop": {
        **ITS_SN,
        "usr-dir": Option(VALUE, "Directory of the profile; tasks see it as /platform/swarm/usr."),
        "profile-file-name": Option(VALUE, "The profile, a file in that directory."),
        "docker-socket-file": Option(VALUE, "Socket of the engine. [default: /var/run/docker.sock, or Podman's]"),
        "docker-group-id": Option(VALUE, "Group that may use it. [default: that of the socket]"),
        "swop-uid": Option(VALUE, "User of the programs that it starts. [default: who calls]"),
        **LICENSED,
    },
    "swci": {
        "usr-dir": Option(VALUE, "Directory of scripts and tasks. Without it the shell is interactive."),
        "init-script-name": Option(VALUE, "Script of that directory to begin with. [default: swci-init]"),
        **LICENSED,
    },
    LICENSE_SERVER: {
        "apls-port": Option(VALUE, "Port of this host for it. [default: 5814]"),
        "apls-volume": Option(VALUE, "Volume or directory of its database. [default: the volume apls-volume]"),
        "seats": Option(VALUE, "Seats of the license, such as SN=1,SL=2."),
    },
}  # fmt: skip


def build(node: str, given: Given, engine: ContainerCommand) -> Container:
    """The container of a node. Raises OptionUnusable and HostNotReady before anything is made."""
    names, hostnames = given.values("name"), given.values("hostname")
    name = names[-1] if names else f"{node}-{os.urandom(3).hex()}"
    container = Container(name, given.get("image") or image_of(node), user_of(given))
    container.options += ["--name", name]
    if not hostnames and not any(network in ("host",) for network in given.values("network")):
        container.options += ["--hostname", name]
    container.options += ["--label", f"{NODE_LABEL}={node}"]
    ours = [(option, value) for option, value in given.passed if option != "name"]
    take_passed(container, ours, given)
    container.options += ["--user", container.user]
    if engine.command == "podman" and os.geteuid() != 0 and not given.values("userns"):
        container.options += ["--userns", "keep-id"]
    add_identity(container, given)
    _BUILDERS[node](container, given, engine)
    _add_license(container, given, node)
    for flag in ("rm", "interactive", "tty"):
        if given.flag(flag, default=container.interactive and flag == "interactive"):
            container.options.append(f"--{flag}")
    container.interactive = container.interactive or given.flag("interactive")
    container.command += [*_words(given, "cmd"), *given.command]
    return container


def _sn(container: Container, given: Given, _engine: ContainerCommand) -> None:
    by_service = given.get("sn-api-service") and given.get("sn-p2p-service")
    _host_ip(container, given, "--sn-api-service and --sn-p2p-service" if not by_service else "")
    first, joins = given.flag("sentinel"), given.get("sentinel-ip") or given.get("sentinel-api-service")
    if first and joins:
        raise given.unusable("--sentinel", f"an SN is the first one or joins {joins}, not both; leave one out")
    if not first and not joins:
        raise given.unusable(
            "--sentinel-ip", "give --sentinel for the first SN, or the address of an SN to join, or its service"
        )
    container.env("SN_I_AM_SENTINEL", "true" if first else "")
    if first:
        container.options += ["--label", f"{SENTINEL_LABEL}=true"]
    container.env("SN_FOUND_WITH", _found_with(given))
    container.env("SENTINEL_NODE_IP", given.get("sentinel-ip"))
    container.env("SENTINEL_API_SERVER_PORT", given.port("sentinel-api-port"))
    container.env("SENTINEL_API_SERVICE", given.get("sentinel-api-service"))
    _sn_ports(container, given)


def _found_with(given: Given) -> str:
    wanted = given.get("found-with")
    if wanted not in ("", "own", "trust-file"):
        raise given.unusable("--found-with", f"'{wanted}' is neither own nor trust-file")
    if wanted and not given.flag("sentinel"):
        raise given.unusable("--found-with", "it is for the SN that begins the swarm; give --sentinel, or leave it out")
    if wanted == "trust-file" and not given.get("trust"):
        raise given.unusable("--found-with", "give --trust too, the file that lists the organizations")
    return wanted


def _sn_ports(container: Container, given: Given) -> None:
    port, service = given.port("sn-api-port"), given.get("sn-api-service")
    container.env("SN_API_SERVER_PORT", port)
    container.env("SN_API_SERVICE", service)
    if port is not None:
        container.publish(port, port)
    elif service:
        container.publish(_service_port(given, "sn-api-service") or SN_PORT, SN_PORT)
    p2p = given.port("sn-p2p-port")
    container.env("SN_ETH_P2P_SERVICE", given.get("sn-p2p-service"))
    if p2p is not None:
        container.env("SN_ETH_PORT_EXT", p2p)
        container.env("SN_P2P_BIND_PORT", P2P_PORT)
        container.publish(p2p, P2P_PORT)


def _sl(container: Container, given: Given, engine: ContainerCommand) -> None:
    _host_ip(container, given, "--sl-fs-service" if not given.get("sl-fs-service") else "")
    port, service = given.port("sl-fs-port"), given.get("sl-fs-service")
    container.env("SL_FS_SERVICE", service)
    if port is not None:
        container.env("SL_FS_PORT", port)
        container.env("SL_BIND_PORT", SL_PORT)
        container.publish(port, SL_PORT)
    elif service:
        container.publish(_service_port(given, "sl-fs-service") or SL_PORT, SL_PORT)
    if (name := given.get("sn-docker-name")) and not given.get("sn-ip") and not given.get("sn-api-service"):
        given.own["sn-ip"] = name if given.flag("dry-run") else _address_of(engine, name, given)
    _its_sn(container, given, needed=True)
    container.options += ["--volume", CHANNELS]
    for variable, path in CHANNEL_VARIABLES.items():
        container.env(variable, path)


def _swop(container: Container, given: Given, engine: ContainerCommand) -> None:
    directory = _usr_dir(given)
    if directory is None:
        raise given.unusable("--usr-dir", "give the directory in which the profile lies")
    profile = given.get("profile-file-name")
    if not profile:
        raise given.unusable("--profile-file-name", "give the profile, a file of --usr-dir")
    if not (directory / profile).is_file() or Path(profile).name != profile:
        raise given.unusable("--profile-file-name", f"{directory / profile} is not a file at the top of --usr-dir")
    container.bind(str(directory), USR, read_only=False)
    if str(directory) != USR:  # tasks mount by paths of this host, so the SWOP must see and guard these
        container.bind(str(directory), str(directory), read_only=False)
        container.env("USR_DIR", directory)
    container.env("SWOP_PROFILE", profile)
    socket = Path(given.get("docker-socket-file") or _socket_of(engine))
    if not socket.is_socket() and not given.flag("dry-run"):
        raise given.unusable("--docker-socket-file", f"{socket} is not a socket; start the engine, or name its socket")
    container.options += ["--volume", f"{socket}:{DOCKER_SOCKET}"]
    if selinux_enforces() and not given.values("security-opt"):
        container.options += ["--security-opt", "label=type:container_runtime_t"]
    if engine.command == "podman":
        container.env("CONTAINER_HOST", f"unix://{DOCKER_SOCKET}")
    group = given.get("docker-group-id") or _group_of(socket)
    if not group.isdecimal():
        raise given.unusable("--docker-group-id", f"'{group}' is not the number of a group")
    container.options += ["--group-add", group]
    uid = given.get("swop-uid", str(os.getuid()))
    if not uid.isdecimal():
        raise given.unusable("--swop-uid", f"'{uid}' is not the number of a user")
    container.env("SWOP_UID", uid)
    container.env("SWOP_GID", os.getgid())
    _its_sn(container, given, needed=False)


def _swci(container: Container, given: Given, _engine: ContainerCommand) -> None:
    directory, script = _usr_dir(given), given.get("init-script-name")
    if directory is None and script:
        raise given.unusable("--init-script-name", "give --usr-dir too, the directory in which it lies")
    if directory is not None:
        if script and (Path(script).name != script or not (directory / script).is_file()):
            raise given.unusable("--init-script-name", f"{directory / script} is not a file at the top of --usr-dir")
        container.bind(str(directory), USR, read_only=False)
    container.env("SWCI_STARTUP_SCRIPT", script)
    container.env("SWARM_DATA_DIR", DATA)
    given.flags.setdefault("rm", True)
    if not given.flag("detach"):
        container.interactive = True
        given.flags.setdefault("tty", os.isatty(0) and os.isatty(1))


def _license_server(container: Container, given: Given, _engine: ContainerCommand) -> None:
    container.publish(given.port("apls-port", LICENSE_PORT) or LICENSE_PORT, LICENSE_PORT)
    volume = given.get("apls-volume", "apls-volume")
    if "/" in volume:
        path = Path(volume).expanduser().absolute()
        if not path.is_dir():
            raise given.unusable("--apls-volume", f"{path} is not a directory; make it, or name a volume without '/'")
        container.bind(str(path), DATA, read_only=False)
    else:
        container.options += ["--volume", f"{volume}:{DATA}"]
    container.env("SWARM_LICENSE_SEATS", given.get("seats"))


_BUILDERS = {"sn": _sn, "sl": _sl, "swop": _swop, "swci": _swci, LICENSE_SERVER: _license_server}


def _host_ip(container: Container, given: Given, instead: str) -> None:
    if not given.get("host-ip") and instead:
        raise given.unusable("--host-ip", f"give the address by which other nodes reach this one, or {instead}")
    container.env("THIS_NODE_IP", given.get("host-ip"))


def _its_sn(container: Container, given: Given, *, needed: bool) -> None:
    if needed and not given.get("sn-ip") and not given.get("sn-api-service"):
        raise given.unusable("--sn-ip", "give the address of the SN, or --sn-api-service, or --sn-docker-name")
    container.env("SN_NODE_IP", given.get("sn-ip"))
    container.env("SN_API_SERVER_PORT", given.port("sn-api-port"))
    container.env("SN_API_SERVICE", given.get("sn-api-service"))


def _add_license(container: Container, given: Given, node: str) -> None:
    if node == LICENSE_SERVER:
        return
    prefix = "SWARM_LICENSE_AUTOPASSJ_SERVER_"
    for name, alias in (("apls-ip", "primary-apls-ip"), ("apls-port", "primary-apls-port")):
        if given.get(alias):
            given.own.setdefault(name, given.get(alias))
    container.env(f"{prefix}PRIMARY_IP", given.get("apls-ip") or given.get("host-ip"))
    container.env(f"{prefix}PRIMARY_PORT", given.port("apls-port"))
    container.env(f"{prefix}SECONDARY_IP", given.get("secondary-apls-ip"))
    container.env(f"{prefix}SECONDARY_PORT", given.port("secondary-apls-port"))


def _usr_dir(given: Given) -> Path | None:
    if not given.get("usr-dir"):
        return None
    directory = Path(given.get("usr-dir")).expanduser().absolute()
    if not directory.is_dir():
        raise given.unusable("--usr-dir", f"{directory} is not a directory")
    # Paths with ".." are resolved, as they mean nothing in a container; links keep the name that tasks use.
    return directory.resolve() if ".." in directory.parts else directory


def _words(given: Given, name: str) -> list[str]:
    import shlex  # noqa: PLC0415 - seldom needed

    try:
        return shlex.split(given.get(name))
    except ValueError as error:
        raise given.unusable(f"--{name}", f"its quotes do not match ({error})".lower()) from None


def _service_port(given: Given, name: str) -> int | None:
    host, colon, port = given.get(name).partition(":")
    if not host or (colon and not (port.isdecimal() and 1 <= int(port) <= 65535)):
        raise given.unusable(f"--{name}", f"'{given.get(name)}' is not FQDN or FQDN:PORT")
    return int(port) if port else None


def _socket_of(engine: ContainerCommand) -> str:
    if engine.command == "docker":
        return DOCKER_SOCKET
    if os.geteuid() == 0:
        return "/run/podman/podman.sock"
    return str(Path(os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.geteuid()}")) / "podman" / "podman.sock")


def _group_of(socket: Path) -> str:
    if socket.exists():
        return str(socket.stat().st_gid)
    group = group_of_docker()
    return str(os.getgid() if group is None else group)


def _address_of(engine: ContainerCommand, name: str, given: Given) -> str:
    form = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}"
    answer = engine.ask("container", "inspect", "--format", form, name)
    addresses = answer.stdout.split()
    if not addresses:
        raise given.unusable("--sn-docker-name", f"no running container {name} with an address is on this host")
    return addresses[0]
