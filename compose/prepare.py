"""What the containers of compose.yaml find at their start: certificates, profiles, pipes, a folder of results.

Each certificate goes into a volume that only its node mounts. May be run at any time; it makes what is missing, and
certificates that are about to expire.
"""

import os
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from services.errors import SwarmError
from services.identity.authority import Authority
from services.identity.certificates import read_chain

ORGANIZATION = "this machine"
CA, CERTS, USR_DIRS, PIPES, OUT = (Path(name) for name in ("/ca", "/certs", "/usr-dirs", "/pipes", "/out"))
RENEW_BEFORE = timedelta(days=30)
ROOT = 0, 0
# Where SWCI and SWOPs have USR_DIR: what tasks mount lies there. Other volumes of this machine hold keys of this swarm.
POLICY = {"bindsources": ["/platform/swarm/usr"], "volumes": ["sl-cli-lib", "task-*"]}
RUNNER = "defaulttaskbb.taskdb.sml.hpe"

# Volume -> role; every other name says its role before the number.
ROLES = {"license-server": "license", "swop-1-sl": "sl", "swop-2-sl": "sl", "swci": "swci", "admin": "admin"}


# Volume -> user who reads it, where it is not RUN_AS: SWOPs are root in their containers, and their SLs are SWOP_UID.
SWOP_SLS = int(os.environ.get("SWOP_UID", "1000")), int(os.environ.get("SWOP_GID", "1000"))
OWNERS = {"swop-1": ROOT, "swop-2": ROOT, "swop-1-sl": SWOP_SLS, "swop-2-sl": SWOP_SLS}


def main() -> None:
    check_peers(os.environ.get("PEERS", "3"))
    owner = owner_of(os.environ.get("RUN_AS", "1000:1000"))
    authority = Authority.open(CA) if (CA / "ca-key.pem").exists() else Authority.create(CA, ORGANIZATION)
    made = [folder.name for folder in sorted(CERTS.iterdir()) if issue(authority, folder)]
    for folder in CERTS.iterdir():
        mine = OWNERS.get(folder.name, owner)
        for file in folder.iterdir():
            os.chown(file, *mine)
    for folder in USR_DIRS.iterdir():
        for name, content in (("profile.yaml", profile(folder.name)), ("policy.yaml", POLICY)):
            (folder / name).write_text(yaml.safe_dump(content, sort_keys=False))
    for folder in PIPES.iterdir():
        os.chown(folder, *owner)
        folder.chmod(0o700)
    if OUT.stat().st_uid == 0:  # the daemon has made it
        os.chown(OUT, *owner)
    print(f"certificates: {', '.join(made) or 'all are there'}", flush=True)


def owner_of(text: str) -> tuple[int, int]:
    uid, _, gid = text.partition(":")
    if not (uid.isdigit() and (gid or uid).isdigit()):
        sys.exit(f"ERROR: RUN_AS is '{text}', and must be UID:GID, such as 1000:1000.")
    return int(uid), int(gid or uid)


def check_peers(text: str) -> None:
    """Programs would wait for others that this file does not have."""
    most = len([folder for folder in PIPES.iterdir() if folder.name.startswith("sl-")])
    if not (text.isdecimal() and 1 <= int(text) <= most):
        sys.exit(f"ERROR: PEERS is '{text}', and must be a number from 1 to {most}.")


def issue(authority: Authority, folder: Path) -> bool:
    """A certificate for the node whose volume this is, reached by the name of its service; whether it was missing."""
    cert = folder / "cert.pem"
    if cert.exists() and read_chain(cert)[0].not_valid_after_utc > datetime.now(UTC) + RENEW_BEFORE:
        return False
    role = ROLES.get(folder.name) or folder.name.rpartition("-")[0]
    more = os.environ.get("CERT_HOSTS", "").split()
    files = authority.issue(role, folder.name, [folder.name, "localhost", "127.0.0.1", *more], folder, force=True)
    files.key.rename(folder / "key.pem")
    files.cert.rename(cert)
    shutil.copyfile(authority.cacert, folder / "ca.pem")
    return True


def profile(swop: str) -> dict[str, Any]:
    """One pair, in the network of this swarm."""
    project, sl = os.environ["PROJECT"], f"{swop}-sl"
    identity = {"aType": "KEY", "mType": "VOLUME", "src": f"{project}_cert-{sl}", "tgt": "/swarm-cert", "subPath": None}
    files = {"CERT": "cert.pem", "KEY": "key.pem", "CACERT": "ca.pem"}
    pair = {
        "idx": int(swop.rpartition("-")[2]) - 1,
        "identity": [{"attribute": identity}],
        "slhostname": sl,
        "slhostip": sl,
        "slport": None,
        "slenvvars": [{f"SWARM_ID_{kind}": f"/swarm-cert/{file}"} for kind, file in files.items()],
        "privatedata": None,
        "usrhostname": f"{swop}-ml",
        "usrenvvars": None,
    }
    return {
        "groupname": f"{project}-{swop}",
        "taskrunner": RUNNER,
        "policyuri": "policy.yaml",
        "resourcemgr": {"mgrtype": "DOCKER", "accessinfo": {"accesstype": "FROMENV"}},
        "network": project,
        "apls": {"locator": {"host": "license-server", "port": 5814}},
        "apisrv": {"locator": {"host": f"sn-{swop.rpartition('-')[2]}", "port": 30304, "service": None}},
        "nodes": [{"slnodedef": pair}],
    }


if __name__ == "__main__":
    try:
        main()
    except SwarmError as error:
        sys.exit(f"ERROR: {error}")
