"""Bugs on purpose, to prove that the checker finds them: builds of nodes that no swarm runs but the tests'."""

import dataclasses
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.chaos import liar
from tests.chaos.world import Build

ARTIFACTS_VARIABLE = "CHAOS_ARTIFACTS"

# What is put at the beginning of two functions of the contract, so that they refuse nothing.
_NO_FENCES = {
    "function _fence(State expected, uint64 givenRound, uint32 givenTerm) private view {": (
        "if (uint8(expected) < 255 && givenRound < type(uint64).max && givenTerm < type(uint32).max) return;"
    ),
    "function _onlyLeader(string calldata name) private view {": "if (bytes(name).length > 0) return;",
}
_NO_SIZE = {"function _agreeOnSize(uint64 size) private {": "if (size > 0) return;"}


def build_without_fences(directory: Path) -> Build:
    """Compiles a contract that takes results from anybody, of any round and term; nor do SNs look. Raises
    CompilationFailed.
    """
    return dataclasses.replace(_build(directory, _NO_FENCES), sn="tests.chaos.planted:take_what_is_published")


def build_without_sizes(directory: Path) -> Build:
    """Compiles a contract that takes results of any size. Raises CompilationFailed."""
    return _build(directory, _NO_SIZE)


def _build(directory: Path, bug: Mapping[str, str]) -> Build:
    from contracts import compile as compiler

    sources, artifacts = directory / "src", directory / "artifacts"
    shutil.copytree(compiler.SOURCES, sources)
    artifacts.mkdir()
    contract = sources / "TrainingContract.sol"
    text = contract.read_text()
    for head, first in bug.items():
        if text.count(head) != 1:
            raise ValueError(f"the contract has no '{head}' to plant a bug in")
        text = text.replace(head, f"{head}\n        {first}")
    contract.write_text(text)
    original, compiler.SOURCES = compiler.SOURCES, sources
    try:
        for name, artifact in compiler.compile_contracts().items():
            (artifacts / name).write_text(artifact)
    finally:
        compiler.SOURCES = original
    return Build(sn="tests.chaos.planted:take_artifacts", environment={ARTIFACTS_VARIABLE: str(directory)})


BUILD_THAT_ASKS_FOR_NO_COPY = Build(sn="tests.chaos.planted:ask_for_no_copy")
BUILD_THAT_TRUSTS = Build(sl="tests.chaos.planted:trust_everybody")
BUILD_THAT_BELIEVES = Build(sl="tests.chaos.planted:believe_accusers")
BUILD_THAT_READS_ANYTHING = Build(sl="tests.chaos.planted:read_anything")
BUILD_THAT_KEEPS_HASHES = Build(sl="tests.chaos.planted:keep_hashes")
BUILD_THAT_CLOSES_DRAFTS = Build(sl="tests.chaos.planted:close_drafts")


def take_artifacts() -> None:
    """In an SN, before it starts: its contracts are those of another directory."""
    from services.chain import abi

    directory = Path(os.environ.pop(ARTIFACTS_VARIABLE))
    abi.resources = SimpleNamespace(files=lambda _package: directory)  # type: ignore[assignment]
    abi.contract_abi.cache_clear()
    abi.all_errors.cache_clear()


def take_what_is_published() -> None:
    """In an SN, before it starts: it leaves it to such contracts whose result is taken."""
    from services.sn import api
    from services.sn.live import LiveTraining

    take_artifacts()
    LiveTraining.require_leader = lambda *_: None  # type: ignore[method-assign]
    api.require_copy = lambda *_: None


def ask_for_no_copy() -> None:
    """In an SN, before it starts: it takes a result that no other participant has signed for."""
    from services.sn import api

    api.require_copy = lambda *_: None


def trust_everybody() -> None:
    """In an SL, before it starts: whatever digest a stream has, it is taken."""
    from services.errors import DigestMismatch
    from services.sl.transfer.peers import Peers

    _lie()
    checked = Peers._fetch_from

    async def trusting(self: Peers, holder: Any, digest: str, *rest: Any) -> Any:
        _size, incoming, _moved = rest
        try:
            return await checked(self, holder, digest, *rest)
        except DigestMismatch:
            return incoming.commit()

    Peers._fetch_from = trusting  # type: ignore[method-assign]


def believe_accusers() -> None:
    """In an SL, before it starts: whoever leads leaves out whom any merger accuses."""
    from services.sl.sharding import messages
    from services.sl.sharding.scheduler import ShardScheduler
    from services.sl.view import Exclusion

    _lie()
    careful = ShardScheduler.heard

    def hasty(self: ShardScheduler, name: str, message: Any) -> None:
        if isinstance(message, messages.FoundNonFinite | messages.Unusable):
            self._leave_out(Exclusion(message.name, "so it is said"))
        else:
            careful(self, name, message)

    ShardScheduler.heard = hasty  # type: ignore[method-assign]


def read_anything() -> None:
    """In an SL, before it starts: a message is whatever its fields hold, and what it causes is the leader's fault."""
    from services.sl.sharding import leader, messages
    from services.sl.sharding.scheduler import ShardScheduler

    _lie()

    def decode(text: str, *_said_by: Any) -> Any:
        said = json.loads(text)
        kind, _ = messages._READERS[said.pop("kind")]
        return kind(**{field.name: said[field.name] for field in dataclasses.fields(kind)})

    def hear(self: leader.ShardLeader, sharing: ShardScheduler, name: str, what: Any) -> None:
        if isinstance(what, leader.Broken):
            sharing.lost(name, what.why)
        else:
            sharing.heard(name, what)

    leader.decode = decode  # type: ignore[assignment]
    leader.ShardLeader._hear = hear  # type: ignore[method-assign]


def keep_hashes() -> None:
    """In an SL, before it starts: whoever is distrusted loses its share, but the hashes that it told stay."""
    from services.sl.sharding.scheduler import ShardScheduler

    _lie()
    merged = ShardScheduler._merged

    def first_come(self: ShardScheduler, name: str, start: int, hashes: Any) -> None:
        if self._shards.contradicted(start, [bytes.fromhex(entry) for entry in hashes]) is None:
            merged(self, name, start, hashes)

    def lose(self: ShardScheduler, name: str, why: str) -> None:
        if name not in self._distrusted:
            self._distrusted.add(name)
            self.lost(name, why)

    ShardScheduler._distrust = lose  # type: ignore[method-assign]
    ShardScheduler._merged = first_come  # type: ignore[method-assign]


def close_drafts() -> None:
    """In an SL, before it starts: a draft is closed as soon as all of it is there, whatever may still be dealt, and
    what is dealt is made again although it is there.
    """
    from services.sl.sharding.attempts import Attempt
    from services.sl.sharding.share import Share
    from services.sl.transfer.partials import Partial

    _lie()
    patient, merge_some, has = Attempt._finish_when_complete, Share._merge_some, Partial.has

    def hasty(self: Attempt) -> None:
        self._untold = 0
        patient(self)

    def again(self: Share, *given: Any, **more: Any) -> Any:
        self._draft.has = lambda _: False  # type: ignore[method-assign]
        try:
            return merge_some(self, *given, **more)
        finally:
            self._draft.has = has.__get__(self._draft)  # type: ignore[method-assign]

    Attempt._finish_when_complete = hasty  # type: ignore[method-assign]
    Share._merge_some = again  # type: ignore[method-assign]


def _lie() -> None:
    """Where a run's nodes can lie, those of a planted build can, too."""
    if liar.VARIABLE in os.environ:
        liar.become()
