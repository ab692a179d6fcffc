"""A handful of runs with fixed seeds, and runs of builds with a bug in them, which must be found."""

from pathlib import Path

import pytest

from tests.chaos.check import violations
from tests.chaos.faults import FAULTS
from tests.chaos.main import Worlds, one_run
from tests.chaos.plan import plan_of
from tests.chaos.planted import (
    BUILD_THAT_ASKS_FOR_NO_COPY,
    BUILD_THAT_BELIEVES,
    BUILD_THAT_CLOSES_DRAFTS,
    BUILD_THAT_KEEPS_HASHES,
    BUILD_THAT_READS_ANYTHING,
    BUILD_THAT_TRUSTS,
    build_without_fences,
    build_without_sizes,
)
from tests.chaos.report import line_of
from tests.chaos.world import Build, World

SEED = "ci"

# One of each sort. What once found a bug stands here with the bug's name.
KINDS = {
    "leader killed after publishing": "an accepted result was lost with the leader that alone held it",
    "leader killed before collecting": "nobody found a leader that had come back at another port",
    "leader stopped after writing, before publishing": "",
    "merger killed in the middle of its share": "",
    "merger stopped in the middle of its share": "",
    "program killed while writing": "",
    "not a number": "",
    "another shape": "a newcomer was told how many bytes came, not which tensor differs",
    "contribution served wrong": "a leader waited for a liar until it was itself voted out",
    "result served wrong": "",
    "size announced in the first round": "mergers' tasks ended unseen, and each honest leader was deposed",
    "result of a shared merge that nobody holds": "all who needed it asked for it until they ended",
    "size of a manifest": "all of it was kept in memory, without end",
    "broken merge line after segments were served": "a leader wrote to a draft that was closed, and ended",
    "odd messages on the merge line": "one message ended a leader and its program",
    "false accusations": "one liar had all others left out",
    "distrusted hashes": "no leader but the liar itself could end a round",
    "replayed requests": "",
    "every key replaced": "running nodes read their files at their start only",
    "node expelled": "",
    "license server killed": "",
    "SN killed": "a node that was away when a training ended found nobody who had the final model",
    "everything killed": "",
    "disk full": "",
    "sentinel lost": "",
    "leader cut off in the middle of the merge": "",
    "slow leader": "",
}


@pytest.mark.needs("geth")
@pytest.mark.timeout(600)
async def test_a_handful_of_faults_breaks_no_invariant(tmp_path: Path) -> None:
    worlds, failed = Worlds(tmp_path), []
    try:
        for kind in KINDS:
            if why := FAULTS[kind].applies():
                print(f"left out: {kind} ({why})")
                continue
            history = await one_run(await worlds.fit_for(FAULTS[kind]), plan_of(f"{SEED}.{kind}", [FAULTS[kind]]))
            if trouble := await worlds.trouble_of(FAULTS[kind]):
                history.trouble.append(trouble)
            if found := violations(history):
                failed.append(line_of(len(failed), history, found))
    finally:
        killed = await worlds.close()
    assert not failed, "\n".join(failed)
    assert not killed


async def first_violations(build: Build, directory: Path, kind: str) -> list[str]:
    """Of the first of a few runs that has any."""
    world = await World.open(directory / "world", build=build)
    try:
        for number in range(5):
            history = await one_run(world, plan_of(f"{SEED}.{kind}.{number}", [FAULTS[kind]]))
            if found := violations(history):
                return found
    finally:
        await world.close()
    return []


@pytest.mark.needs("geth", "node")
@pytest.mark.timeout(300)
async def test_a_contract_without_fences_is_found(tmp_path: Path) -> None:
    build = build_without_fences(tmp_path / "planted")
    found = await first_violations(build, tmp_path, "leader stopped after writing, before publishing")
    assert any(text.startswith("I1") for text in found), found


@pytest.mark.needs("geth", "node")
@pytest.mark.timeout(300)
async def test_a_contract_that_takes_any_size_is_found(tmp_path: Path) -> None:
    build = build_without_sizes(tmp_path / "planted")
    found = await first_violations(build, tmp_path, "size published by a leader")
    assert any(text.startswith("I3: it has 1099511627776 bytes") for text in found), found


@pytest.mark.needs("geth")
@pytest.mark.timeout(300)
async def test_an_sn_that_takes_a_result_without_a_second_copy_is_found(tmp_path: Path) -> None:
    found = await first_violations(BUILD_THAT_ASKS_FOR_NO_COPY, tmp_path, "result that nobody holds")
    assert any(text.startswith("I2") and "has made it up" in text for text in found), found


@pytest.mark.needs("geth")
@pytest.mark.timeout(300)
async def test_a_follower_that_does_not_check_digests_is_found(tmp_path: Path) -> None:
    found = await first_violations(BUILD_THAT_TRUSTS, tmp_path, "result served wrong")
    assert any(text.startswith("I2") for text in found), found


@pytest.mark.needs("geth")
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("build", "kind", "promise"),
    [
        (BUILD_THAT_BELIEVES, "false accusations", "without a reason: so it is said"),
        (BUILD_THAT_READS_ANYTHING, "odd messages on the merge line", "liveness: sl of"),
        # A leader that can never end its round: seen as its fall, or as a round that does not come in time.
        (BUILD_THAT_KEEPS_HASHES, "distrusted hashes", "liveness:"),
        (BUILD_THAT_CLOSES_DRAFTS, "broken merge line after segments were served", "liveness: sl of"),
    ],
    ids=["believes accusers", "reads anything", "keeps the hashes of liars", "closes drafts"],
)
async def test_a_leader_that_believes_what_is_said_on_its_lines_is_found(
    tmp_path: Path, build: Build, kind: str, promise: str
) -> None:
    found = await first_violations(build, tmp_path, kind)
    assert any(promise in text for text in found), found
