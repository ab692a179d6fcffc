"""Organizations that share one project file and no network train together out of the containers of their kits.

Takes minutes, and so it is no part of `make test`: `make test-kits` runs it.
"""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from kit_sites import SWARM, Site, gone_at_the_end, node

from examples.digits.compose_swarm import run
from services.local.swarm import CONTRACT
from swarm_callback.digest import digest_of_file

pytestmark = [pytest.mark.needs("docker"), pytest.mark.timeout(1200), pytest.mark.usefixtures("images")]


OF_A = (("license-1", "license"), ("sn-1", "sn"), ("sl-1", "sl"), ("swci-1", "swci"))
REFUSED = re.compile("does not trust the CA that issued (it|our certificate)")


class Coordinator:
    """Keeps the project file, and gives each organization its kit."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(exist_ok=True)
        self.file, self.made = file, file.with_suffix("")
        self.members: list[dict[str, Any]] = []

    async def add(self, site: Site, *nodes: dict[str, Any]) -> None:
        ca = await site.make_ca()
        self.members.append({"name": site.name, "ca": str(ca), "nodes": list(nodes)})

    async def provision(self) -> str:
        content = {"project": self.file.stem, "organizations": self.members}
        self.file.write_text(yaml.safe_dump(content, sort_keys=False))
        return await run(SWARM, "provision", str(self.file), "--encrypt")

    def files(self) -> dict[str, bytes]:
        """All that was made, by path."""
        return {str(path.relative_to(self.made)): path.read_bytes() for path in self.made.rglob("*") if path.is_file()}


async def opened(site: Site, made: Path) -> None:
    """From the archive to what can be started."""
    site.unpack(made)
    await site.certify()
    site.settle()


async def train(*sites: Site) -> None:
    """They end with equal models, and with what the SN of each holds to be the last one."""
    for index, site in enumerate(sites):
        given = f"env SWARM_NODE_INDEX={index} SWARM_NODE_COUNT={len(sites)}"
        await site.train(f"sl-{site.number}", f"{given} python3 programs/train.py honest out")
    codes = await asyncio.gather(*(site.exit_code(f"ml-for-sl-{site.number}") for site in sites))
    said = "\n".join([await site.said() for site in sites])
    assert set(codes) == {0}, said
    assert "Traceback" not in said
    models = [site.kit / "out" / f"{index}.safetensors" for index, site in enumerate(sites)]
    digests = {digest_of_file(model).digest().hex() for model in models}
    digests |= {await site.final_digest() for site in sites}
    assert len(digests) == 1


async def refused_everywhere(stranger: Site, members: Coordinator, mine: list[dict[str, Any]]) -> None:
    """With an unknown CA: each door says so, and its own nodes end with one sentence that does."""
    nodes = [one for member in members.members for one in member["nodes"] if one["role"] != "admin"]
    doors = [(one["role"], f"{one['address']}:{one['port']}") for one in nodes]
    for one in mine:
        said = await stranger.ends(one["name"])
        assert said.count("ERROR: ") == 1, said
        assert REFUSED.search(said), said
        assert "Traceback" not in said, said
    asks = {"sn": stranger.asks_to_join, "license": stranger.asks_a_license_server, "swci": stranger.asks_a_swci}
    for role, where in doors:
        if role in asks:
            assert REFUSED.search(told := await asks[role]("sn-3", where)), told
    found = await stranger.looks(mine[0]["name"], *(f"{role}@{where}" for role, where in doors))
    refusals = {check["subject"]: check["found"] for check in found if check["state"] == "failed"}
    for role, where in doors:
        assert REFUSED.search(refusals[f"{role} {where}"]), refusals


async def let_in(sn: str, *voters: tuple[Site, str]) -> None:
    """The votes for an SN that asks to come in, once it does."""
    site, administrator = voters[0]
    asking: list[dict[str, Any]] = []
    async with asyncio.timeout(120):
        while not asking:  # each time a process of its own
            asking = [it for it in (await site.org(administrator, "list"))["proposals"] if it["node"] == sn]
    for site, administrator in voters:
        await site.org(administrator, "approve", str(asking[0]["number"]))


async def test_organizations_train_out_of_their_kits_and_one_more_joins(tmp_path: Path) -> None:
    a, b, c, d = (Site(number, f"hospital-{name}", tmp_path / name) for number, name in enumerate("abcd", start=1))
    flu = Coordinator(tmp_path / "flu.yaml")
    await flu.add(a, *(node(1, name, role) for name, role in OF_A))
    await flu.add(b, node(2, "sn-2", "sn"), node(2, "sl-2", "sl"), {"name": "ada", "role": "admin"})
    await flu.provision()
    # A file that a and b have never seen: the kit of c is as good as theirs but for its CA.
    elsewhere = Coordinator(tmp_path / "elsewhere" / "flu.yaml")
    elsewhere.members = list(flu.members)
    of_c = [node(3, "sl-3", "sl", sn="sn-1"), node(3, "sn-3", "sn")]
    await elsewhere.add(c, *of_c)
    await elsewhere.provision()
    async with gone_at_the_end(a, b, c, d):
        for site in (a, b):
            await opened(site, flu.made)
            await site.up()
        await opened(c, elsewhere.made)
        await refused_everywhere(c, flu, of_c)
        await train(a, b)
        await a.renew("sn-1", "certs", "renew")
        await b.renew("sn-2", "certs", "rotate")

        before = flu.files()
        await flu.add(d, node(4, "sn-4", "sn"), node(4, "sl-4", "sl"))
        await flu.provision()
        after = flu.files()
        changed = {path for path, content in before.items() if after[path] != content}
        assert changed == {
            path
            for name in (a.name, b.name)
            for path in (f"{name}.zip", f"kits/{name}/README.md", f"kits/{name}/trust/trust.yaml")
        }
        assert {f"kits/{name}/trust/{d.name}-cas.pem" for name in (a.name, b.name)} <= set(after) - set(before)
        await opened(d, flu.made)
        assert REFUSED.search(await d.ends("sn-4"))  # until the others have taken over its CA
        for site in (a, b):
            site.unpack(flu.made)
            await site.compose(*site.told_to("docker compose restart "))
            await site.up()
        await a.org("swci-1", "propose", d.name)
        await b.org("ada", "approve", "1")
        await asyncio.gather(d.up(), let_in("sn-4", (a, "swci-1"), (b, "ada")))
        await a.command(f"RESET CONTRACT {CONTRACT}")
        await train(a, b, d)
