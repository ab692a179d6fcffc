"""gen-cert: a CA for this host and certificates for its nodes, made with openssl, for trials with several hosts."""

from __future__ import annotations

import argparse
import ipaddress
import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from services.errors import HostNotReady, OptionUnusable

ROLES = ("sn", "sl", "swci", "swop", "license", "admin")
TRUST_DOMAIN = "swarm.local"
DAYS = 365
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252})")

_CA = """[req]
prompt = no
distinguished_name = name
x509_extensions = ca
[name]
OU = Swarm-Learning
CN = CA-{index}
[ca]
basicConstraints = critical, CA:true, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
subjectAltName = URI:spiffe://{domain}
"""
_NODE = """[req]
prompt = no
distinguished_name = name
[name]
CN = {name}
[node]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {names}
"""


def generate(words: Sequence[str]) -> int:
    """Writes workspace/EXAMPLE/cert; only the owner can read keys. Raises OptionUnusable, HostNotReady."""
    arguments = _parser().parse_args(list(words))
    for option, value in (("-e", arguments.example), ("-i", arguments.index)):
        if not _NAME.fullmatch(value):
            raise OptionUnusable(
                option=option, problem=f"'{value}' is not a name (letters, digits, '.', '-', '_')", script="gen-cert"
            )
    hosts = list(dict.fromkeys([*arguments.host, *_own_addresses()]))
    for host in hosts:
        if not _is_address(host) and not _HOST.fullmatch(host):
            raise OptionUnusable(option="--host", problem=f"'{host}' is not a host name or address", script="gen-cert")
    directory = Path("workspace") / arguments.example / "cert"
    capath = directory / "ca" / "capath"
    ca_cert, ca_key = capath / f"ca-{arguments.index}-cert.pem", directory / "ca" / f"ca-{arguments.index}-key.pem"
    if ca_key.exists() and not arguments.force:
        problem = f"{ca_key} exists already and is not overwritten"
        raise HostNotReady(problem=problem, advice="Give another -i, or say --force to replace it for good.")
    if shutil.which("openssl") is None:
        raise HostNotReady(
            problem="openssl is not installed here", advice="Install it (on Debian: apt install openssl)."
        )
    os.umask(0o077)
    capath.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        _make_ca(Path(scratch), ca_cert, ca_key, arguments.index)
        for role in ROLES:
            _issue(Path(scratch), directory, f"{role}-{arguments.index}", hosts, (ca_cert, ca_key))
    for path in (ca_cert, *directory.glob(f"*-{arguments.index}-cert.pem")):
        path.chmod(0o644)
    print(f"{directory}: certificates of {', '.join(f'{role}-{arguments.index}' for role in ROLES)}")
    print(f"Copy {ca_cert} into ca/capath of every other host, and theirs into {capath}. Keys stay here.")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gen-cert", description="Makes a CA for this host and certificates for its nodes, below workspace/EXAMPLE."
    )
    parser.add_argument("-e", dest="example", required=True, help="name of the example")
    parser.add_argument("-i", dest="index", required=True, help="index of this host, such as 1")
    parser.add_argument(
        "--host", action="append", default=[], metavar="HOST",
        help="another name or address of this host, at which its nodes can be reached; may be repeated",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="replace an existing CA, for good")
    return parser


def _make_ca(scratch: Path, cert: Path, key: Path, index: str) -> None:
    config = scratch / "ca.cnf"
    config.write_text(_CA.format(index=index, domain=TRUST_DOMAIN), encoding="ascii")
    _new_key(key)
    _openssl("req", "-x509", "-new", "-key", key, "-days", DAYS * 10, "-sha256", "-config", config, "-out", cert)


def _issue(scratch: Path, directory: Path, name: str, hosts: Sequence[str], authority: tuple[Path, Path]) -> None:
    names = [f"URI:spiffe://{TRUST_DOMAIN}/{name.partition('-')[0]}/{name}", f"DNS:{name}"]
    names += [f"{'IP' if _is_address(host) else 'DNS'}:{host}" for host in hosts]
    config, request = scratch / f"{name}.cnf", scratch / f"{name}.csr"
    config.write_text(_NODE.format(name=name.upper(), names=", ".join(names)), encoding="ascii")
    key = directory / f"{name}-key.pem"
    _new_key(key)
    serial = f"0x{os.urandom(16).hex()}"
    _openssl("req", "-new", "-key", key, "-config", config, "-out", request)
    _openssl(
        "x509", "-req", "-in", request, "-CA", authority[0], "-CAkey", authority[1], "-set_serial", serial,
        "-days", DAYS, "-sha256", "-extfile", config, "-extensions", "node", "-out", directory / f"{name}-cert.pem",
    )  # fmt: skip


def _new_key(path: Path) -> None:
    _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path)


def _openssl(*words: object) -> None:
    done = subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        problem = f"`openssl {words[0]}` failed: {lines[-1] if lines else 'it says nothing'}"
        raise HostNotReady(
            problem=problem, advice="OpenSSL 1.1.1 or later is needed, and a folder that can be written."
        )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _own_addresses() -> list[str]:
    """The known names and addresses of this host."""
    found = ["localhost", socket.gethostname(), "127.0.0.1"]
    if shutil.which("hostname"):
        said = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=False)
        found += [word for word in said.stdout.split() if _is_address(word)]
    return found
