"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_DIR = Path(".swarm")  # of a local swarm

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
LocalSwarm = Annotated[
    Path | None,
    typer.Option("--dir", help=f"Directory of a local swarm, instead of an address. [default: {DEFAULT_DIR}]"),
]
Cert = Annotated[Path | None, typer.Option("--cert", help="Certificate of this node (SWARM_ID_CERT).")]
Key = Annotated[Path | None, typer.Option("--key", help="Its private key (SWARM_ID_KEY).")]
CACert = Annotated[Path | None, typer.Option("--cacert", help="File of the CAs to trust (SWARM_ID_CACERT).")]
CAPath = Annotated[Path | None, typer.Option("--capath", help="Directory of the CAs to trust (SWARM_ID_CAPATH).")]
Trust = Annotated[
    Path | None,
    typer.Option(
        "--trust", help="File of the organizations to trust, instead of --cacert and --capath (SWARM_ID_TRUST)."
    ),
]
SocketPath = Annotated[
    Path | None, typer.Option("--socket-path", help="Socket of a SPIFFE Workload API, instead of --cert and --key.")
]
RenewedFiles = Annotated[
    bool | None,
    typer.Option("--renewed-files", help="New keys come without a handover; others know this node by its SPIFFE ID."),
]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Directory for all of this node's data.")]
Host = Annotated[str | None, typer.Option("--host", help="Address to listen on; 0.0.0.0: all addresses.")]
HostIP = Annotated[str | None, typer.Option("--host-ip", help="Address or name at which peers reach this node.")]
LicenseIP = Annotated[str | None, typer.Option("--apls-ip", help="Address of the license server.")]
LicensePort = Annotated[int | None, typer.Option("--apls-port", help="Port of the license server; 5814 by default.")]
SecondaryIP = Annotated[
    str | None, typer.Option("--secondary-apls-ip", help="Address of the license server that takes over.")
]
SecondaryPort = Annotated[
    int | None, typer.Option("--secondary-apls-port", help="Its port; by default that of the first.")
]
LogFormat = Annotated[str | None, typer.Option("--log-format", help="human or json.")]
LogLevel = Annotated[str | None, typer.Option("--log-level", help="DEBUG, INFO, WARNING or ERROR.")]
MetricsPort = Annotated[
    int | None, typer.Option("--metrics-port", help="Port of the Prometheus metrics; off by default.")
]
MetricsHost = Annotated[
    str | None, typer.Option("--metrics-host", help="Their address; mutual TLS except on loopback.")
]
BindPort = Annotated[int | None, typer.Option("--bind-port", help="Port to listen on, if others use a different one.")]
SNPort = Annotated[int | None, typer.Option("--sn-api-port", help="Port of the SN's API; 30304 by default.")]
