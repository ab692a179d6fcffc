"""What every executor that builds and pulls images guarantees."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from executor_suite import LABELS, RUN

from services.errors import (
    AuthFileUnusable,
    BuildFailed,
    ImageMissing,
    PullFailed,
    VolumeEmpty,
    VolumeMissing,
    VolumeTooLarge,
)
from services.swop.executors.base import Executor
from services.swop.executors.spec import BuildSpec, NodeSpec, PullSpec, VolumeSpec


class BuildingSuite:
    """A subclass provides ``image``, ``connect`` and the ``executor`` of an ExecutorSuite."""

    image: str

    @pytest.fixture
    async def outcome(self, executor: Executor) -> AsyncIterator[str]:
        """The name of an image to build, removed at the end."""
        name = f"{RUN}-{secrets.token_hex(4)}"
        yield name
        for node in await executor.find(LABELS):
            await executor.remove(node.id)
        await executor.remove_image(name)

    @pytest.fixture
    async def context(self, executor: Executor, tmp_path: Path) -> AsyncIterator[str]:
        """A volume with what a build may COPY."""
        name = f"{RUN}-context-{secrets.token_hex(4)}"
        (tmp_path / "context" / "wheels").mkdir(parents=True)
        (tmp_path / "context" / "wheels" / "client.whl").write_text("the client")
        await executor.create_volume(VolumeSpec(name, LABELS))
        await executor.import_volume(name, tmp_path / "context")
        yield name
        await executor.remove_volume(name)

    def lines(self, *steps: str) -> tuple[str, ...]:
        return (f"FROM {self.image}", *steps)

    async def test_builds_an_image_from_lines_and_a_volume(self, executor, outcome, context) -> None:
        steps = self.lines("COPY wheels/client.whl /opt/", "RUN echo 'from a step' && cp /opt/client.whl /opt/copy")
        spec = BuildSpec(outcome, steps, context_volume=context, labels={"swarm.task": "build"})
        heard = [line async for line in executor.build(spec)]
        assert "from a step" in heard
        image = await executor.image(outcome)
        assert image.digest.startswith("sha256:") and image.labels["swarm.task"] == "build"
        shows = NodeSpec(name=outcome, image=outcome, entrypoint=("cat", "/opt/copy"), command=(), labels=LABELS)
        node = await executor.wait((await executor.start(shows)).id)
        assert (node.exit_code, await executor.tail(node.id)) == (0, ["the client"])

    async def test_the_context_is_not_in_the_image_unless_copied(self, executor, outcome, context) -> None:
        spec = BuildSpec(outcome, self.lines("COPY . /all", "RUN ls -A /all /all/wheels"), context_volume=context)
        heard = [line async for line in executor.build(spec)]
        assert "wheels" in heard and "client.whl" in heard
        assert not [line for line in heard if line.startswith(".docker")]

    async def test_a_failing_step_is_named_with_its_last_lines(self, executor, outcome) -> None:
        steps = self.lines(
            f"RUN echo kept {outcome}", f"RUN for n in $(seq 100); do echo line $n; done; exit 3 # {outcome}"
        )
        with pytest.raises(BuildFailed) as raised:
            _ = [line async for line in executor.build(BuildSpec(outcome, steps))]
        said = str(raised.value)
        assert f"Building {outcome} failed at step 3/3, RUN for n in" in said
        assert "code: 3" in said or "status 3" in said
        assert "\n  line 100" in said and "\n  line 83" in said and "line 79" not in said
        with pytest.raises(ImageMissing):
            await executor.image(outcome)
        await self.nothing_is_left(executor, outcome)

    async def test_an_image_stays_what_it_was_where_its_new_build_fails(self, executor, outcome) -> None:
        _ = [line async for line in executor.build(BuildSpec(outcome, self.lines("RUN echo first")))]
        first = await executor.image(outcome)
        with pytest.raises(BuildFailed):
            _ = [line async for line in executor.build(BuildSpec(outcome, self.lines("RUN echo other; exit 1")))]
        assert await executor.image(outcome) == first

    @pytest.mark.parametrize("steps", [("FORM nothing",), ("FROM",), ("",), ("RUN true",)])
    async def test_lines_that_are_no_dockerfile(self, executor, outcome, steps) -> None:
        with pytest.raises(BuildFailed, match=f"Building {outcome} failed"):
            _ = [line async for line in executor.build(BuildSpec(outcome, steps))]

    async def test_a_base_image_that_is_not_reached(self, executor, outcome) -> None:
        with pytest.raises(BuildFailed, match=r"127\.0\.0\.1:1/none"):
            _ = [line async for line in executor.build(BuildSpec(outcome, ("FROM 127.0.0.1:1/none",)))]

    async def test_a_context_that_is_missing_empty_or_too_large(self, executor, outcome, context, tmp_path) -> None:
        async def built(volume: str, limit: int = 1024**2) -> None:
            spec = BuildSpec(outcome, self.lines("COPY . /all"), context_volume=volume, context_limit_bytes=limit)
            _ = [line async for line in executor.build(spec)]

        with pytest.raises(VolumeMissing, match=f"{RUN}-absent"):
            await built(f"{RUN}-absent")
        assert f"{RUN}-absent" not in [volume.name for volume in await executor.find_volumes({})]
        with pytest.raises(VolumeTooLarge, match="1000 bytes"):
            await built(context, limit=1000)
        empty = f"{RUN}-empty"
        await executor.create_volume(VolumeSpec(empty, LABELS))
        with pytest.raises(VolumeEmpty, match=empty):
            await built(empty)
        await executor.remove_volume(empty)

    async def test_steps_know_nothing_of_the_swop(self, executor, outcome, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SWARM_ID_KEY", "/keys/of/the/swop")
        arguments = {"http_proxy": "http://proxy.hospital:3128"}
        steps = self.lines("RUN env; ls -d /var/run/docker.sock /run/podman/podman.sock || true")
        heard = "\n".join([line async for line in executor.build(BuildSpec(outcome, steps, arguments=arguments))])
        assert "http_proxy=http://proxy.hospital:3128" in heard
        assert "SWARM_ID_KEY" not in heard
        assert not [line for line in heard.splitlines() if line in ("/var/run/docker.sock", "/run/podman/podman.sock")]

    async def test_a_build_that_is_given_up_leaves_nothing(self, executor, outcome) -> None:
        spec = BuildSpec(outcome, self.lines(f"RUN : {outcome}; echo begun; sleep 600"))
        building = executor.build(spec)
        async with contextlib.aclosing(building):
            async for line in building:
                if line == "begun":
                    break
        await self.nothing_is_left(executor, outcome)
        with pytest.raises(ImageMissing):
            await executor.image(outcome)

    async def test_a_node_is_started_by_the_digest_of_an_image(self, executor, python) -> None:
        image = await executor.image(self.image)
        assert (await executor.image(image.digest)).digest == image.digest
        node = await executor.wait((await executor.start(python("print('here')", image=image.digest))).id)
        assert (node.exit_code, await executor.tail(node.id)) == (0, ["here"])

    async def test_a_removed_image_is_gone_and_may_be_removed_again(self, executor, outcome) -> None:
        _ = [line async for line in executor.build(BuildSpec(outcome, self.lines()))]
        await executor.remove_image(outcome)
        await executor.remove_image(outcome)
        with pytest.raises(ImageMissing, match=outcome):
            await executor.image(outcome)
        assert (await executor.image(self.image)).digest

    async def test_a_pull_that_fails_says_what_was_wanted(self, executor) -> None:
        with pytest.raises(PullFailed, match=r"127\.0\.0\.1:1/none:1\.0 cannot be pulled"):
            _ = [line async for line in executor.pull(PullSpec("127.0.0.1:1/none", "1.0"))]

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            (None, "No such file"),
            ("{", "not JSON"),
            ("[]", "no `auths`"),
            ('{"auths": {"other.example": {"auth": "dTpw"}}}', "nothing for the registry 127.0.0.1:1"),
            ('{"auths": {"127.0.0.1:1": {"auth": "!"}}}', "not a user and a password"),
            ('{"auths": {"127.0.0.1:1": {"auth": "dXNlcg=="}}}', "not a user and a password"),
        ],
    )
    async def test_credentials_that_cannot_be_used(self, executor, tmp_path, content, problem) -> None:
        path = tmp_path / "config.json"
        if content is not None:
            path.write_text(content)
        with pytest.raises(AuthFileUnusable) as raised:
            _ = [line async for line in executor.pull(PullSpec("127.0.0.1:1/none", auth_file=str(path)))]
        assert problem in str(raised.value) and str(path) in str(raised.value)
        assert "dTpw" not in str(raised.value) and "dXNlcg" not in str(raised.value)

    # --- how it is asked ----------------------------------------------------------------------------

    async def nothing_is_left(self, executor: Executor, outcome: str) -> None:
        """Waits until no container of the build is left: engines may remove them a moment later. Ignores all other
        containers.
        """
        async with asyncio.timeout(60):
            while await self.containers(executor, outcome):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.Event().wait(), 0.1)

    async def containers(self, executor: Executor, outcome: str) -> list[str]:
        """Running and ended containers with this word in their command."""
        listed = await executor.api.json("GET", "/containers/json", doing="in a test", query={"all": "true"})  # type: ignore[attr-defined]
        return [entry["Id"] for entry in listed if outcome in entry["Command"]]
