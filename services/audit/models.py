"""What model files are: what the record says about the digests of the files in a directory."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from services.audit.record import Record
from services.errors import ModelsDiffer, NothingToVerify, StorageError
from services.rpc.swarm_pb2 import RoundState
from swarm_callback.digest import digest_of_file
from swarm_callback.errors import StreamError

PATTERN = "*.safetensors"

Kind = Literal["final model", "result", "check-in", "not on the record", "unreadable"]


@dataclass(frozen=True)
class ModelFile:
    """``path``: relative to the directory. ``is_copy``: an SL keeps it under its digest, to serve it.

    ``differs``: it is not what it should be; see ``verify``.
    """

    path: Path
    digest: str
    size: int
    kind: Kind
    found: str
    is_copy: bool
    differs: bool

    def as_data(self) -> dict[str, Any]:
        return {
            "file": str(self.path),
            "digest": self.digest,
            "size": self.size,
            "kind": self.kind,
            "found": self.found,
            "differs": self.differs,
        }


def verify(record: Record, directory: Path) -> list[ModelFile]:
    """Reads every model file in ``directory`` and below.

    A copy that an SL keeps, named by its digest, may be anything on the record. Every other file is a model in use: it
    must be the result of a round, or the final model if the training is complete. Raises NothingToVerify, StorageError.
    """
    paths = sorted(path for path in directory.rglob(PATTERN) if path.is_file()) if directory.is_dir() else []
    if not paths:
        raise NothingToVerify(dir=directory)
    known = Known(record)
    return [_judged(known, directory, path) for path in paths]


def require_same(files: Iterable[ModelFile], record: Record, directory: Path) -> None:
    """Raises ModelsDiffer naming the files that differ."""
    files = list(files)
    wrong = [f"{it.path} ({it.found})" for it in files if it.differs]
    if wrong:
        final = record.final
        digest = final.result.digest if final and final.result else "none yet"
        raise ModelsDiffer(
            dir=directory, count=len(wrong), total=len(files), files=", ".join(wrong), contract=record.contract,
            digest=digest,
        )  # fmt: skip


class Known:
    """All digests on a record, and what each of them is."""

    def __init__(self, record: Record) -> None:
        self._finals: dict[str, str] = {}
        self._results: dict[str, str] = {}
        self._check_ins: dict[str, list[str]] = {}
        self._complete = record.state == RoundState.COMPLETE
        for entry in record.rounds.values():
            for check_in in entry.check_ins:
                what = f"{check_in.name} in round {entry.number}, {check_in.fate}"
                self._check_ins.setdefault(check_in.digest, []).append(what)
            if entry.result is not None:
                self._results[entry.result.digest] = f"result of round {entry.number}"
            if entry.result is not None and entry.completed:
                self._finals[entry.result.digest] = f"final model, result of round {entry.number}"

    def find(self, digest: str) -> tuple[Kind, str]:
        """What a digest is, as a kind and in words. Results come first: a result may be checked in again."""
        if digest in self._finals:
            return "final model", self._finals[digest]
        if digest in self._results:
            return "result", self._results[digest]
        if digest in self._check_ins:
            return "check-in", "checked in by " + "; ".join(self._check_ins[digest])
        return "not on the record", "not on the record"

    def is_usable(self, kind: Kind) -> bool:
        return kind == "final model" or (kind == "result" and not self._complete)


def _judged(known: Known, directory: Path, path: Path) -> ModelFile:
    name = path.relative_to(directory)
    try:
        taken = digest_of_file(path)
        digest = taken.digest().hex()
    except StreamError as error:
        return ModelFile(name, "", 0, "unreadable", str(error.facts["problem"]), is_copy=False, differs=True)
    except OSError as error:
        raise StorageError(path=path, problem=(error.strerror or str(error)).lower()) from None
    kind, found = known.find(digest)
    is_copy = path.stem == digest
    differs = kind == "not on the record" if is_copy else not known.is_usable(kind)
    return ModelFile(name, digest, taken.size, kind, found, is_copy, differs)
