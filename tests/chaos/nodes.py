"""How a node of a run is started: an SL and its program, each so that it can be started again as it was."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from services.local.process import Launch
from tests.chaos import disk, liar, processes
from tests.chaos.processes import base_environment
from tests.chaos.trainer import Settings
from tests.chaos.world import LEADER_TIMEOUT_S, QUORUM_WAIT_S, World

KEEP_SERVING_S = 3.0
SN_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Shape:
    """How a run's training looks. ``followers_only``: how many nodes may not lead. ``small_disk``: of the first node.

    ``liars``: file servers can be made to lie. ``first_announces``: a false size, or so many bytes more, of the first
    node in its first check-in.
    """

    nodes: int = 3
    min_peers: int = 2
    ballast_floats: int = 0
    weights: tuple[int, ...] = (1, 1, 1, 1, 1)
    followers_only: int = 0
    checkin: str = "snapshot"
    batch_s: float = 0.02
    liars: bool = False
    first_announces: int = 0
    small_disk: bool = False
    compression: str = "none"
    first_merge: str = "leader"


@dataclass(frozen=True)
class Node:
    """One node of a run. ``number``: from 0; ``run``: the directory that all nodes of a run share."""

    name: str
    number: int
    contract: str
    sn: str
    run: Path
    shape: Shape
    seed: int

    @property
    def directory(self) -> Path:
        return self.run / self.name

    @property
    def data(self) -> Path:
        """Of its SL."""
        return self.directory / "sl"

    @property
    def request(self) -> Path:
        """The pipe into which its program writes."""
        return self.directory / "request"

    @property
    def lie(self) -> Path:
        """The file that makes its file server lie."""
        return self.run / f"{self.name}.lie"

    @property
    def poison(self) -> Path:
        """The file that makes its program send what is no number."""
        return self.run / f"{self.name}.poison"

    def prepare(self) -> None:
        self.directory.mkdir()
        if self.shape.first_announces and self.number == 0:
            self.lie.write_text(json.dumps({"announced": self.shape.first_announces}))
        if self.shape.small_disk and self.number == 0:
            disk.make(self.data)

    def sl(self, world: World, traps: Path) -> Launch:
        network, host, namespace = world.network, world.host, ""
        if network is not None:
            host, namespace = network.address(self.number), network.namespace(self.number)
        argv = [
            "sl", "--host", "0.0.0.0", "--host-ip", host, "--sl-fs-port", "0",  # noqa: S104
            "--sn-ip", world.nodes[self.sn].host, "--sn-api-port", str(world.nodes[self.sn].port),
            "--apls-ip", world.host, "--apls-port", str(world.nodes["license"].port), "--data-dir", str(self.data),
            *world.identity_flags(world.certificate("sl", self.name, host)), "--log-format", "json",
        ]  # fmt: skip
        lying = {liar.VARIABLE: str(self.lie)} if self.shape.liars else {}
        environment = base_environment(
            SL_LOG_LEVEL="DEBUG",
            SL_LEADER_FAILURE_BASE_TIMEOUT=str(LEADER_TIMEOUT_S),
            SL_KEEP_SERVING_SECONDS=str(KEEP_SERVING_S),
            SL_WAIT_FOR_FULL_QUORUM_SECONDS=str(QUORUM_WAIT_S),
            SL_SN_PATIENCE_SECONDS=str(SN_PATIENCE_S),
            SL_MAKE_ME_ADMIN=str(self.number >= self.shape.followers_only).lower(),
            **self._channels,
            **lying,
        )
        before = world.build.sl or ("tests.chaos.liar:become" if lying else "")
        return processes.node(self.name, argv, self._log("sl"), environment, traps, namespace, before)

    def program(self, **changes: object) -> Launch:
        """``changes``: of the settings of an ordinary program."""
        settings = Settings(
            node=self.name,
            contract=self.contract,
            min_peers=self.shape.min_peers,
            diary=str(self.run / f"{self.name}.diary"),
            finish=str(self.run / "finish"),
            poison=str(self.poison),
            seed=self.seed,
            weight=self.shape.weights[self.number % len(self.shape.weights)],
            checkin=self.shape.checkin,
            batch_s=self.shape.batch_s,
            ballast_floats=self.shape.ballast_floats,
            compression=self.shape.compression,
            first_merge=self.shape.first_merge,
        )
        file = self.directory / "program.json"
        file.write_text(json.dumps({**asdict(settings), **changes}))
        return processes.program(f"{self.name}.ml", file, self._log("ml"), base_environment(**self._channels))

    @property
    def _channels(self) -> dict[str, str]:
        return {"SL_REQUEST_CHANNEL": str(self.request), "SL_RESPONSE_CHANNEL": str(self.directory / "response")}

    def _log(self, part: str) -> Path:
        return self.run / "logs" / f"{self.name}.{part}.log"
