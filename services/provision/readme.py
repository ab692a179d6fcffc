"""The page that comes with a kit: what is in it, which ports its firewall must let through, and three commands."""

from services.provision.project import Node, Organization, Project
from services.runtime.addresses import join_address

_PAGE = """# {organization} in {project}

| node | role | address |
|---|---|---|
{nodes}

## Firewall

{inbound}
{outbound}

## Certificates

{certificates}

## Three commands

```
./check                                              # what this host lacks, and what to do about it
RUN_AS=$(id -u):$(id -g) docker compose up -d        # starts the nodes above
{train}
```

`./check` needs `pip install 'swarm-learning[services]'`; it complains of nodes of others until they run. Nodes keep
their data in `data/`, programs write to `out/`. Without containers: `./start NAME` for each node{without}.

A newer kit goes over this one; your data, and keys that were made here, stay. Changes of your own belong in
`compose.override.yaml`, which no kit has.
{order}{swop}"""

_OWN_CA = """Your organization signs for its own nodes. On the host where they run:

```
swarm certs request certs/requests.yaml              # a key, which stays here, and a request for each node
swarm certs sign --dir YOUR-CA certs/*.csr           # where your CA is; other software of a CA can sign them as well
```

The certificates belong beside the requests as `certs/NAME-cert.pem`. `certs/cas.pem` holds the CAs of all."""

_PROJECT_CA = """Certificates and keys are in `certs/`. Whoever has this kit can act as your nodes: keep it to yourself,
and let only your user read it (`chmod -R go= .`)."""

_SWOP = """
## SWOP

A SWOP needs a profile of this host, `usr/NAME-profile.yaml` (docs/swop.md); let its `policyuri` be `policy.yaml`:
with it a person confirms every task (`swarm swop approve`). Then `docker compose --profile swop up -d`.
"""


def as_text(project: Project, organization: Organization) -> str:
    """One page."""
    sls = organization.of_role("sl")
    nodes = "\n".join(f"| {node.name} | {node.role} | {_address(node)} |" for node in organization.nodes)
    first = project.sentinel
    begins = any(node.name == first.name for node in organization.nodes)
    order = "" if begins else f"\nNodes wait for nobody: start them when {first.name} ({_address(first)}) runs.\n"
    program = "PROGRAM='python3 programs/train.py'"
    train = f"RUN_AS=$(id -u):$(id -g) ML_IMAGE=yours {program} docker compose --profile train up" if sls else ""
    return _PAGE.format(
        organization=organization.name,
        project=project.project,
        nodes=nodes,
        inbound=_inbound(project, organization),
        outbound=_outbound(project, organization),
        certificates=_OWN_CA if organization.ca else _PROJECT_CA,
        train=train or "docker compose logs -f",
        without=f", `./train {sls[0].name} python3 train.py` for a program" if sls else "",
        order=order,
        swop=_SWOP if organization.of_role("swop") else "",
    )


def _inbound(project: Project, organization: Organization) -> str:
    others = [it for it in project.organizations if it.name != organization.name]
    sls = ", ".join(dict.fromkeys(str(node.address) for it in others for node in it.of_role("sl")))
    sns = ", ".join(dict.fromkeys(str(node.address) for it in others for node in it.of_role("sn")))
    rows = []
    for node in organization.nodes:
        if node.role == "license":
            rows.append((node.listens_on, node.name, "every node of the project"))
        elif node.role == "sn":
            rows.append((node.listens_on, node.name, "every node of the project"))
            rows.append((node.p2p, f"{node.name}, the chain", sns or "other SNs, when there are any"))
        elif node.role == "sl":
            rows.append((node.listens_on, node.name, sls or "other SLs, when there are any"))
    if not rows:
        return "Nobody calls these nodes."
    head = "| let in, TCP | to | from |\n|---|---|---|\n"
    return head + "\n".join(f"| {port} | {name} | {who} |" for port, name, who in rows) + "\n"


def _outbound(project: Project, organization: Organization) -> str:
    mine = {node.name for node in organization.nodes}
    rows = [
        f"| {join_address(str(node.address), port)} | {node.name} |"
        for node in project.nodes
        if node.name not in mine and node.role in ("license", "sn", "sl")
        for port in (node.listens_on, node.p2p)
        if port
    ]
    return "| let out, TCP | to |\n|---|---|\n" + "\n".join(rows) if rows else "Nothing need be let out."


def _address(node: Node) -> str:
    return join_address(node.address, node.listens_on) if node.address and node.listens_on else node.address or "-"
