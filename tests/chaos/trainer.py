"""The ML program of a run: a few numbers that every node moves in its own way, and a diary of what went in and out.

``python -m tests.chaos.trainer FILE``, with a JSON file (see Settings). The ``probe`` is what the checker recomputes;
``ballast`` only makes the model large.
"""

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swarm_callback import wire
from swarm_callback.base import SwarmCallbackBase
from swarm_callback.digest import StreamDigest
from swarm_callback.errors import SwarmCallbackError
from swarm_callback.options import Options
from swarm_callback.params import Tensor, encode
from swarm_callback.session import Session

# What a newcomer may bring, and the tensor in which it differs from what the others have.
OTHER_MODELS = {
    "another shape": "probe",
    "another dtype": "probe",
    "a tensor more": "extra",
    "a tensor less": "ballast",
}


def _header(text: str) -> bytes:
    return len(text).to_bytes(8, "little") + text.encode()


_TENSOR = '{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'

# Streams that no reader may take, by what is wrong with them.
GARBAGE = {
    "a huge header": (2**62).to_bytes(8, "little") + bytes(1000),
    "no JSON": _header("{{{{") + bytes(8),
    "overlapping offsets": _header('{"a":' + _TENSOR + ',"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}')
    + bytes(12),
    "a truncated body": _header('{"a":' + _TENSOR + "}") + bytes(4),
    "duplicate keys": _header('{"a":' + _TENSOR + ',"a":' + _TENSOR + "}") + bytes(8),
    "a path for a name": _header('{"../../a":' + _TENSOR + "}") + bytes(8),
    "a negative shape": _header('{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}') + bytes(8),
}

POISONS = {"nan": np.nan, "inf": -np.inf, "huge": 1e30}


@dataclass(frozen=True)
class Settings:
    """``diary``: file that gets a line for all that happens; ``finish``: a file whose appearance ends the training;
    ``poison``: a file with the name of a poison, taken once.
    """

    node: str
    contract: str
    min_peers: int
    diary: str
    finish: str
    poison: str
    seed: int
    weight: int = 1
    checkin: str = "snapshot"
    batch_s: float = 0.02
    probe: int = 8
    ballast_floats: int = 0
    rounds: int = 0
    garbage: str = ""
    model: str = ""
    compression: str = "none"
    first_merge: str = "leader"


class Walk(SwarmCallbackBase):
    """Moves at random, seeded by node and incarnation, so that no two contributions are alike."""

    PLATFORMS = ("NUMPY",)

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.random = np.random.default_rng([settings.seed, os.getpid()])
        self.tensors = _model(settings, self.random.normal(size=settings.probe))
        self.diary = Path(settings.diary).open("a", buffering=1)  # noqa: SIM115 - to the end
        self.say("started")
        super().__init__(
            syncFrequency=1, minPeers=settings.min_peers, trainingContract=settings.contract, totalEpochs=1,
            nodeWeightage=settings.weight, checkinModelOnTrainEnd=settings.checkin, adsValData="any",
            transferCompression=settings.compression, firstMerge=settings.first_merge, logger=logging.getLogger("ml"),
        )  # fmt: skip
        self.say("enrolled")

    def say(self, did: str, **facts: Any) -> None:
        line = {"t": time.monotonic(), "node": self.settings.node, "pid": os.getpid(), "did": did, **facts}
        self.diary.write(json.dumps(line) + "\n")

    def verify_platform(self, options: Options) -> None:
        """Numpy is always there."""

    def set_validation_data(self, data: Any, batch_size: int | None) -> None:
        """Any will do."""

    def extract_parameters(self) -> Mapping[str, Tensor]:
        """Noted before it is sent: whether it arrives is not known to one who dies meanwhile."""
        self.say("sends", digest=self.digest(), probe=[repr(value) for value in self.tensors["probe"].tolist()])
        return self.tensors

    def load_parameters(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = {name: np.array(value) for name, value in tensors.items()}

    def evaluate(self) -> tuple[float, float]:
        return float(np.abs(self.tensors["probe"]).mean()), 0.5

    def digest(self) -> str:
        header, data = encode(self.tensors)
        digest = StreamDigest()
        digest.update(header)
        for piece in data:
            digest.update(piece)
        return digest.digest().hex()

    def _take(self, session: Session, merged: wire.Merged) -> None:
        """The bytes that came are noted as they came, before anything is made of them."""
        digest = StreamDigest()
        digest.update(session.merged)
        super()._take(session, merged)
        self.say(
            "gets",
            round=merged.round,
            digest=digest.digest().hex() if len(session.merged) else "",
            contributed=merged.contributed,
            over=merged.training_over,
            note=merged.note,
            probe=[repr(value) for value in self.tensors["probe"].tolist()],
        )

    def train_a_batch(self) -> None:
        self.tensors["probe"] = self.tensors["probe"] + self.random.normal(size=self.settings.probe)
        threading.Event().wait(self.settings.batch_s)  # what a real batch takes, without its work
        poison = Path(self.settings.poison)
        if poison.exists():
            self.tensors["probe"][1] = POISONS[poison.read_text()]
            self.say("poisoned")
            poison.unlink()
        self.on_batch_end()


def _model(settings: Settings, probe: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """As all nodes have it, or as a newcomer has it that brings another one."""
    tensors: dict[str, NDArray[Any]] = {"ballast": np.zeros(settings.ballast_floats, np.float32), "probe": probe}
    match settings.model:
        case "another shape":
            tensors["probe"] = np.append(probe, 1.0)
        case "another dtype":
            tensors["probe"] = probe.astype(np.float32)
        case "a tensor more":
            tensors["extra"] = np.zeros(3)
        case "a tensor less":
            del tensors["ballast"]
    return tensors


def main(arguments: list[str]) -> int:
    """Gives the exit code that the program would have: 1, and a sentence, for an error of the callback."""
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(message)s")
    settings = Settings(**json.loads(Path(arguments[0]).read_text()))
    try:
        (send_garbage if settings.garbage else train)(settings)
    except SwarmCallbackError as error:
        print(f"ERROR: {error}", flush=True)
        return 1
    return 0


def send_garbage(settings: Settings) -> None:
    """What a broken program may send."""
    session = Session.connect(os.environ, logging.getLogger("ml"))
    session.open(
        wire.Open(
            contract=settings.contract, sync_frequency=1, min_peers=settings.min_peers, merge_method="mean",
            node_weightage=1, checkin_model_on_train_end="snapshot", use_adaptive_sync=False, total_epochs=1,
            framework="NUMPY", pid=os.getpid(), transfer_compression=settings.compression,
            first_merge=settings.first_merge,
        )
    )  # fmt: skip
    session.sync(0, 0, GARBAGE[settings.garbage], [])


def train(settings: Settings) -> None:
    walk = Walk(settings)
    walk.on_train_begin()
    finish, batches = Path(settings.finish), 0
    while not walk.training_over and not finish.exists() and not 0 < settings.rounds <= batches:
        walk.train_a_batch()
        batches += 1
    walk.on_epoch_end()
    walk.on_train_end()
    walk.say("ends", digest=walk.digest())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
