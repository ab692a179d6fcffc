"""A host of compose/host.yaml joins a swarm that runs elsewhere, and trains with it.

Takes minutes, and so it is no part of `make test`: `make test-kits` runs it.
"""

import os
import shutil
from pathlib import Path

import pytest
import yaml
from compose_swarms import PROGRAMS
from images import ML, TAG, named
from kit_sites import SWARM, Site, address, gone_at_the_end, network, node

from examples.digits.compose_swarm import FOLDER, ContainersFailed, docker, hand_over, run, run_as
from swarm_callback.digest import digest_of_file

FIRST, NUMBER = 8, 9
PROJECT = f"host-{os.getpid()}"

pytestmark = [pytest.mark.needs("docker"), pytest.mark.timeout(1200), pytest.mark.usefixtures("images")]


class Host:
    """One that is told its settings by a file, as the head of host.yaml says."""

    def __init__(self, directory: Path) -> None:
        self.certs, self.out, self.programs = (directory / name for name in ("certs", "out", "programs"))
        self._settings, self._network = directory / "my-host.env", directory / "network.yaml"
        for path in (self.certs, self.out, self.programs):
            path.mkdir(parents=True)
        hand_over(self.out)

    async def certify(self, ca: Path) -> None:
        for role, more in (("sn", ["--host", "sn"]), ("sl", [])):
            named_so = ("--role", role, "--name", f"{role}-{NUMBER}", "--host", address(NUMBER), *more)
            await run(SWARM, "certs", "issue", "--dir", str(ca), *named_so, "--out", str(self.certs))
            for kind in ("cert", "key"):
                (self.certs / f"{role}-{role}-{NUMBER}-{kind}.pem").rename(self.certs / f"{role}-{kind}.pem")
        for path in self.certs.iterdir():
            hand_over(path)

    def settle(self, **more: str) -> None:
        shutil.copyfile(PROGRAMS / "train.py", self.programs / "train.py")
        settings = {
            "HOST_IP": address(NUMBER), "RUN_AS": run_as(), "CERTS": str(self.certs), "OUTPUT": str(self.out),
            "PROGRAMS": str(self.programs), "TAG": TAG, "ML_IMAGE": named(ML), **more,
        }  # fmt: skip
        self._settings.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        self._network.write_text(yaml.safe_dump(network(NUMBER)))

    async def compose(self, *words: str) -> str:
        files = ("-f", str(FOLDER / "host.yaml"), "-f", str(self._network), "--env-file", str(self._settings))
        return await docker("compose", "-p", PROJECT, *files, *words)


async def test_a_host_brings_its_nodes_into_a_swarm_that_runs(tmp_path: Path) -> None:
    first, host = Site(FIRST, "first", tmp_path / "first"), Host(tmp_path / "host")
    nodes = [node(FIRST, "license-1", "license"), node(FIRST, "sn-8", "sn"), node(FIRST, "sl-8", "sl")]
    ca = str(await first.make_ca())
    theirs = [{"name": f"{role}-{NUMBER}", "role": role, "address": address(NUMBER)} for role in ("sn", "sl")]
    members = [
        {"name": first.name, "ca": ca, "nodes": nodes}, {"name": "host", "ca": ca, "nodes": theirs},
    ]  # fmt: skip
    (tmp_path / "flu.yaml").write_text(yaml.safe_dump({"project": "flu", "organizations": members}))
    await run(SWARM, "provision", str(tmp_path / "flu.yaml"), "--encrypt")
    await host.certify(first.ca)
    trust = tmp_path / "host" / "trust"
    shutil.copytree(tmp_path / "flu" / "kits" / "host" / "trust", trust)
    trust.chmod(0o755)
    host.settle(
        TRUST=str(trust), CA="",
        LICENSE_HOST=address(FIRST), LICENSE_PORT=str(nodes[0]["port"]),
        SENTINEL=f"{address(FIRST)}:{nodes[1]['port']}", SWARM_INDEX="1", PEERS="2",
        PROGRAM="python3 /programs/train.py honest /out",
    )  # fmt: skip
    async with gone_at_the_end(first):
        first.unpack(tmp_path / "flu")
        await first.certify()
        first.settle()
        await first.up()
        try:
            await host.compose("up", "--detach", "--quiet-pull")
            await first.train("sl-8", "env SWARM_NODE_INDEX=0 SWARM_NODE_COUNT=2 python3 programs/train.py honest out")
            ended = [await first.exit_code("ml-for-sl-8"), int(await docker("wait", f"{PROJECT}-ml-1"))]
            assert ended == [0, 0], await first.said() + await host.compose("logs", "--no-color", "--tail", "40")
            models = (first.kit / "out" / "0.safetensors", host.out / "1.safetensors")
            assert {digest_of_file(model).digest().hex() for model in models} == {await first.final_digest()}
        except ContainersFailed as error:
            raise AssertionError(f"{error}\n{await host.compose('logs', '--no-color', '--tail', '40')}") from None
        finally:
            await host.compose("down", "--volumes", "--timeout", "5")
