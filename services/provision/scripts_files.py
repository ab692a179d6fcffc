"""The scripts of a kit for hosts without containers: check a node, start it, start a training program beside an SL."""

from services.provision.project import Project, ProjectNode, ProjectOrganization
from services.provision.settings_files import channel

COMMANDS = {"license": "license-server", "sn": "sn", "sl": "sl", "swop": "swop", "swci": "swci"}

_START = """#!/bin/sh
# Starts a node of this kit in the foreground, without containers: ./start NAME
set -eu
cd "$(dirname "$0")"
case "${{1:-}}" in
{cases}
  *) echo "ERROR: '${{1:-}}' is no node of this kit. Give one of: {names}." >&2; exit 2 ;;
esac
umask 077
mkdir -p "data/$1" "pipes/$1"
set -a
. "./nodes/$1.env"
set +a
exec swarm "$command"
"""

_CHECK = """#!/bin/sh
# Says what this host lacks for a node of this kit, or for all: ./check [NAME]
set -u
cd "$(dirname "$0")"
worst=0
known=
look() {{
  if [ -n "$wanted" ] && [ "$wanted" != "$1" ]; then return; fi
  known=yes
  echo "== $1"
  (
    set -a
    . "./nodes/$1.env"
    set +a
    shift
    exec swarm preflight "$@"
  ) || worst=$?
}}
wanted=${{1:-}}
{looks}
if [ -z "$known" ]; then echo "ERROR: '$wanted' is no node of this kit. Give one of: {names}." >&2; exit 2; fi
exit "$worst"
"""

_TRAIN = """#!/bin/sh
# Starts a training program beside an SL of this kit: ./train NAME COMMAND...
set -eu
kit=$(cd "$(dirname "$0")" && pwd)
case "${{1:-}}" in
  {names_or}) ;;
  *) echo "ERROR: '${{1:-}}' is no SL of this kit. Give one of: {names}." >&2; exit 2 ;;
esac
[ $# -ge 2 ] || {{ echo "ERROR: no program is given: ./train $1 python3 train.py" >&2; exit 2; }}
{exports}
shift
exec "$@"
"""


def start(organization: ProjectOrganization) -> str:
    """The script ``start``."""
    nodes = [node for node in organization.nodes if node.role != "admin"]
    cases = "\n".join(f"  {node.name}) command={COMMANDS[node.role]} ;;" for node in nodes)
    return _START.format(cases=cases, names=_names(nodes))


def check(project: Project, organization: ProjectOrganization) -> str:
    """The script ``check``."""
    nodes = [node for node in organization.nodes if node.role != "admin"]
    looks = "\n".join(f"look {' '.join(_options(project, node))}" for node in nodes)
    return _CHECK.format(looks=looks, names=_names(nodes))


def train(organization: ProjectOrganization) -> str:
    """The script ``train``."""
    nodes = organization.of_role("sl")
    exports = "\n".join(
        f'export {name}="$kit/{path.replace(nodes[0].name, "$1")}"' for name, path in channel(nodes[0]).items()
    )
    names_or = "|".join(node.name for node in nodes)
    return _TRAIN.format(names=_names(nodes), names_or=names_or, exports=exports)


def _options(project: Project, node: ProjectNode) -> list[str]:
    found = [node.name, "--role", node.role, "--data-dir", f"data/{node.name}"]
    if node.role in ("license", "sn", "sl"):
        found += ["--host-ip", str(node.address), "--port", str(node.listens_on)]
    if node.role == "sn" and node.name != project.sentinel.name:
        found += ["--sn-ip", str(project.sentinel.address), "--sn-api-port", str(project.sentinel.listens_on)]
    return found


def _names(nodes: list[ProjectNode]) -> str:
    return ", ".join(node.name for node in nodes)
