"""Prints what the container that runs it consists of, as CycloneDX 1.6: packages of Python and Debian, geth.

``docker run --rm -i --network none --entrypoint python3 IMAGE - NAME VERSION < docker/sbom.py``, as docker/build does.
Python's standard library is all it needs.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import Distribution, distributions
from typing import Any
from urllib.parse import quote

DEBIAN_FIELDS = "${db:Status-Abbrev}\t${Package}\t${Version}\t${Architecture}\n"

Component = dict[str, Any]


def main(name: str, version: str) -> None:
    components = sorted([*python(), *debian(), *geth()], key=lambda component: str(component["purl"]))
    listed = hashlib.sha256("\n".join(component["purl"] for component in components).encode()).hexdigest()
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
            "component": {
                "type": "container",
                "bom-ref": f"{name}@{listed[:12]}",
                "name": name,
                "version": version,
            },
        },
        "components": components,
    }
    print(json.dumps(document, indent=1))


def python() -> list[Component]:
    found = {re.sub(r"[-_.]+", "-", item.name).lower(): item for item in distributions()}
    return [
        component("pypi", name, item.version, licenses_of(item))
        for name, item in found.items()
        if name and item.version
    ]


def licenses_of(item: Distribution) -> list[dict[str, Any]]:
    """An SPDX expression where the distribution says one."""
    expression = item.metadata.get("License-Expression")
    return [{"expression": expression}] if expression else []


def debian() -> list[Component]:
    if shutil.which("dpkg-query") is None:
        return []
    listed = subprocess.run(["dpkg-query", "--show", f"--showformat={DEBIAN_FIELDS}"], capture_output=True, check=True)
    rows = [line.split("\t") for line in listed.stdout.decode().splitlines()]
    return [
        component("deb/debian", name, version, qualifier=f"?arch={architecture}")
        for status, name, version, architecture in rows
        if status.startswith("ii")
    ]


def geth() -> list[Component]:
    if shutil.which("geth") is None:
        return []
    said = subprocess.run(["geth", "version"], capture_output=True, check=True, text=True).stdout
    version = re.search(r"^Version: ([0-9.]+)", said, re.MULTILINE)
    return [component("golang/github.com/ethereum", "go-ethereum", f"v{version[1]}")] if version else []


def component(
    kind: str, name: str, version: str, licenses: list[dict[str, Any]] | None = None, qualifier: str = ""
) -> Component:
    purl = f"pkg:{kind}/{name}@{quote(version, safe='.~-')}{qualifier}"
    made = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    return {**made, "licenses": licenses} if licenses else made


if __name__ == "__main__":
    main(*sys.argv[1:])
