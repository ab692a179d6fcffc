"""What a SWOP removes after a task: all that it started, and nothing of another swarm's SWOP of the same name."""

import sys
from pathlib import Path
from typing import Any

from services.identity.certificates import authority_of, read_chain
from services.swop.executors.environments import LocalEnvironment
from services.swop.executors.process import ProcessExecutor
from services.swop.executors.spec import NodeSpec
from services.swop.pairs import labels_of
from services.swop.work import Cleaning


def authority(files: Any) -> str:
    return authority_of(read_chain(files.cert)[0])


def test_an_authority_stays_the_same_when_a_certificate_is_renewed(pki: Any, foreign_pki: Any) -> None:
    first, renewed = pki.issue("swop", "swop-1"), pki.issue("swop", "swop-1")
    assert authority(first) == authority(renewed) != authority(foreign_pki.issue("swop", "swop-1"))


async def test_a_swop_of_another_swarm_keeps_what_it_started(tmp_path: Path) -> None:
    async with ProcessExecutor(tmp_path, {"env": LocalEnvironment(Path(sys.executable))}) as executor:
        for name in ("ours", "theirs"):
            labels = labels_of("swop-1", "runner", 1, authority=name, node="ml", index="0")
            await executor.start(
                NodeSpec(name=name, image="env", entrypoint=("sleep",), command=("600",), labels=labels)
            )
        try:
            await Cleaning(executor, "swop-1", "runner", 1.0, keep=False, authority="ours").clean(1)
            assert [node.name for node in await executor.find({})] == ["theirs"]
        finally:
            for node in await executor.find({}):
                await executor.remove(node.id)
