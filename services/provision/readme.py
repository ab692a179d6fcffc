"""The README of a kit: its content, the ports to open in the firewall, and three commands."""

from services.provision.asking import CERT, KEY, PASSPHRASE
from services.provision.compose_file import IMAGES
from services.provision.project import Project, ProjectNode, ProjectOrganization
from services.provision.trust import TRUST, cas_of
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

## Trust

Nodes go by `{trust}` (docs/organizations.md): whose CAs may name which nodes. It names those of the project
alone. When the project has a new node or CA, `trust/` is to be replaced at every site: see below, A newer kit.
A newer revocation list takes the place of its `.crl` there at any time (`mv`), without a restart; give it to
whoever makes the kits too, since a newer kit brings the one that they have.

## Once

```
echo "RUN_AS=$(id -u):$(id -g)" > .env               # nodes run as the owner of this directory
```

Images are taken from this host: `docker/build {images}` in a clone of the project makes them. Those of
a registry are named in `.env` by `IMAGES=registry.example/swarm-learning` and `TAG`.

## Three commands

```
./check                                              # what this host lacks, and what to do about it
docker compose up -d                                 # starts the nodes above; `docker compose ps` shows them healthy
{train}
```

`./check` needs `pip install 'swarm-learning[services]'`; it complains of nodes that do not run yet, so
run it again when they do.{programs}
Nodes keep their data in `data/`. A node that finds another one not there yet ends, and Docker starts it again; an SN
first asks for two minutes.
Without containers: `./start NAME` for each node{without}.
{order}
## A newer kit

It is unpacked over this one; your data, keys that were made here, `.env` and `compose.override.yaml`, where changes of
your own belong, stay. Nodes take over certificates and the trust file; connections of before go by the older one until
they end. So, between two trainings:

```{request}
docker compose up -d                                 # what is new of your nodes
docker compose restart {restarted}
```
{swci}{swop}"""

_OWN_CA = """Your organization signs for its own nodes. On the host where they run:

```
swarm certs request certs/requests.yaml              # a key, which stays here, and a request for each node
swarm certs sign --dir YOUR-CA certs/*/*.csr         # where your CA is; other software of a CA can sign them as well
```

The certificates belong beside the requests as `certs/NAME/NAME-cert.pem`. A newer certificate or key that is put in the
place of one (`mv`) is taken over by the running node (docs/organizations.md)."""

_ENCRYPTED = f"""
Keys are encrypted: write a passphrase of your own into `certs/{PASSPHRASE}` first, on one line (`chmod 600`).
Nodes read it at each start."""

_PROJECT_CA = """Certificates and keys are in `certs/`. Whoever has this kit can act as your nodes: keep it to yourself,
and let only your user read it (`chmod -R go= .`)."""

_TRAIN = "# trains; `docker compose logs -f` beside it"

_PROGRAMS = """
Your program lies in `programs/` and writes to `out/`; `.env` says what it is and where it runs:
`PROGRAM=python3 programs/train.py`, `ML_IMAGE=your-image`. Its pipes are in its environment already; its data are
mounted by `compose.override.yaml` (docs/provision.md shows one). When it has ended, its SL ends too. For the next
training somebody with a SWCI gives `RESET CONTRACT` (docs/swci.md); then the same command starts both again."""

_SWCI = """
## SWCI

Takes commands (docs/swci.md) of this host's users who can read its key; `PUBLISH_ON=0.0.0.0` in `.env` lets other hosts
call. A training that is complete is taken back to its beginning by

```
curl --cacert {cas} --cert {cert} --key {key} \\
  -X POST 'https://localhost:{port}/exec?cmd=RESET%20CONTRACT%20defaultbb.cqdb.sml.hpe'
```
"""

_REQUEST = """
swarm certs request certs/requests.yaml              # says which requests your CA is to sign, if any"""

_SWOP = """
## SWOP

A SWOP needs a profile of this host, `usr/NAME-profile.yaml` (docs/swop.md); let its `policyuri` be `policy.yaml`:
with it a person confirms every task (`swarm swop approve`). Then `docker compose --profile swop up -d`. After
a newer kit restart it too.
"""


def as_text(project: Project, organization: ProjectOrganization) -> str:
    """One page."""
    sls = organization.of_role("sl")
    nodes = "\n".join(f"| {node.name} | {node.role} | {_address(node)} |" for node in organization.nodes)
    first = project.sentinel
    begins = any(node.name == first.name for node in organization.nodes)
    order = "" if begins else f"Start them when {first.name} ({_address(first)}) runs.\n"
    run = [node for node in organization.nodes if node.role != "admin"]
    return _PAGE.format(
        organization=organization.name,
        project=project.project,
        nodes=nodes,
        inbound=_inbound(project, organization),
        outbound=_outbound(project, organization),
        certificates=_certificates(organization),
        trust=TRUST,
        images=" ".join(dict.fromkeys(IMAGES[node.role] for node in run)),
        train=f"{f'docker compose up -d ml-for-{sls[0].name}':<52} {_TRAIN}" if sls else "docker compose logs -f",
        programs=_PROGRAMS if sls else "",
        without=f", `./train {sls[0].name} python3 train.py` for a program" if sls else "",
        order=order,
        request=_REQUEST if organization.ca else "",
        restarted=" ".join(node.name for node in run if node.role != "swop"),
        swci="".join(_swci(organization, node) for node in organization.of_role("swci")[:1]),
        swop=_SWOP if organization.of_role("swop") else "",
    )


def _certificates(organization: ProjectOrganization) -> str:
    if not organization.ca:
        return _PROJECT_CA
    return f"{_OWN_CA}\n{_ENCRYPTED}" if organization.encrypted_keys else _OWN_CA


def _swci(organization: ProjectOrganization, node: ProjectNode) -> str:
    cert, key = (f"certs/{file.format(name=node.name)}" for file in (CERT, KEY))
    return _SWCI.format(cas=cas_of(organization), cert=cert, key=key, port=node.listens_on)


def _inbound(project: Project, organization: ProjectOrganization) -> str:
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


def _outbound(project: Project, organization: ProjectOrganization) -> str:
    mine = {node.name for node in organization.nodes}
    rows = [
        f"| {join_address(str(node.address), port)} | {node.name} |"
        for node in project.nodes
        if node.name not in mine and node.role in ("license", "sn", "sl")
        for port in (node.listens_on, node.p2p)
        if port
    ]
    return "| let out, TCP | to |\n|---|---|\n" + "\n".join(rows) if rows else "Nothing need be let out."


def _address(node: ProjectNode) -> str:
    return join_address(node.address, node.listens_on) if node.address and node.listens_on else node.address or "-"
