"""The text of a unit: what a node may do on its host, and its restart after a failure."""

from dataclasses import dataclass
from pathlib import Path

MARK = "# Written by `swarm install-service`, which replaces it. Changes belong in a drop-in: systemctl edit {service}"
STATE = "swarm-learning"
SETTINGS_ARE_WRONG = 2  # an exit code: a restart would not help
RESTART_AFTER_S = 5
STOP_WITHIN_S = 30
OPEN_FILES = 65_536

# For every node. geth asks the kernel for network interfaces (netlink).
_HARDENING = """\
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=read-only
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
RemoveIPC=yes
UMask=0077
"""

# A SWOP starts programs, which use GPUs and bubblewrap's namespaces, and go on when it is restarted.
_OF_A_NODE = """\
PrivateTmp=yes
PrivateDevices=yes
PrivateUsers=yes
RestrictNamespaces=yes
SystemCallFilter=@system-service
KillMode=mixed
"""
_OF_A_SWOP = """\
SystemCallFilter=@system-service @mount seccomp
KillMode=process
"""


@dataclass(frozen=True)
class Unit:
    """``command``: program and subcommand. ``user``: "" for one that systemd makes. ``path``: where programs are found.

    ``cacert`` or ``trust``: whom it trusts. ``passphrase``: file of the key's passphrase, if the key is encrypted.
    ``reads_files``: the user can read all these files; the node then reads them itself and sees replacements.
    """

    name: str
    title: str
    command: tuple[str, ...]
    cert: Path
    key: Path
    passphrase: Path | None
    cacert: Path | None
    trust: Path | None
    data_variable: str
    settings: Path
    path: str
    user: str = ""
    group: str = ""
    starts_programs: bool = False
    reads_files: bool = False

    @property
    def service(self) -> str:
        """The name of the unit's file."""
        return f"swarm-{self.name}.service"

    @property
    def state(self) -> str:
        """The node's data directory, below /var/lib."""
        return f"{STATE}/{self.name}"


def as_text(unit: Unit) -> str:
    """For systemd 250 or later. Files that the node's user cannot read, systemd reads as root and passes only to the
    node (%d), once, at the start.
    """
    runs_as = f"User={unit.user}" if unit.user else "DynamicUser=yes"
    identity = {
        "CERT": ("cert.pem", unit.cert),
        "KEY": ("key.pem", unit.key),
        "KEY_PASSPHRASE_FILE": ("passphrase", unit.passphrase),
        "CACERT": ("cas.pem", unit.cacert),
    }
    given = {variable: file for variable, file in identity.items() if file[1] is not None}
    shown = [
        f"SWARM_ID_{variable}={path if unit.reads_files else f'%d/{name}'}" for variable, (name, path) in given.items()
    ]
    if unit.trust:  # revocation lists change, so the node always reads the trust file itself
        shown.append(f"SWARM_ID_TRUST={unit.trust}")
    handed = "" if unit.reads_files else "".join(f"LoadCredential={name}:{path}\n" for name, path in given.values())
    groups = f"SupplementaryGroups={unit.group}\n" if unit.group else ""
    return f"""{MARK.format(service=unit.service)}
[Unit]
Description=Swarm learning: {unit.title}
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart={" ".join(unit.command)}
EnvironmentFile={unit.settings}
Environment=PATH={unit.path} PYTHONUNBUFFERED=1 HOME=%S/{unit.state} {unit.data_variable}=%S/{unit.state}
Environment={" ".join(shown)}
{handed}{runs_as}
{groups}StateDirectory={unit.state}
StateDirectoryMode=0700
WorkingDirectory=%S/{unit.state}
Restart=on-failure
RestartSec={RESTART_AFTER_S}
RestartPreventExitStatus={SETTINGS_ARE_WRONG}
TimeoutStopSec={STOP_WITHIN_S}
LimitNOFILE={OPEN_FILES}
StandardOutput=journal
StandardError=journal
SyslogIdentifier=swarm-{unit.name}
{_HARDENING}{_OF_A_SWOP if unit.starts_programs else _OF_A_NODE}
[Install]
WantedBy=multi-user.target
"""
