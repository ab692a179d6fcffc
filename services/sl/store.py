"""Parameter streams on disk, named by their digest: written once, hashed while written, never half there."""

import contextlib
import errno
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from services.errors import DiskFull, StorageError, StreamDamaged
from services.sl.view import Model
from swarm_callback.digest import StreamDigest
from swarm_callback.errors import StreamError
from swarm_callback.params import TensorSpec, parse_header

STREAM = ".safetensors"
SEGMENTS = ".json"
_PARTIAL = ".partial"
_TRASH = ".trash"
_FULL = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True)
class Stored:
    """A complete stream. ``segments``: SHA-256 of each segment of its body; ``header_size`` includes the length."""

    model: Model
    path: Path
    header_size: int
    segments: tuple[bytes, ...]

    def header(self) -> bytes:
        with self.path.open("rb") as file:
            return file.read(self.header_size)

    def specs(self) -> list[TensorSpec]:
        """Its tensors, in the order of the stream."""
        return parse_header(self.header(), self.model.size)

    def sync(self) -> None:
        """Returns once the disk has it under its name: beside the training, not in a round."""
        for path in (self.path, self.path.parent):
            number = os.open(path, os.O_RDONLY)
            try:
                os.fsync(number)
            finally:
                os.close(number)


class Store:
    """All streams of one SL, below ``root``. Methods may be called from any thread.

    What a process that was killed left half written is removed when it is opened. Raises StorageError.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._index: dict[str, Stored] = {}
        self._numbers = itertools.count()
        with _storage_errors(root):
            root.mkdir(parents=True, exist_ok=True)
            if not os.access(root, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            self._read_index()

    def get(self, digest: str) -> Stored | None:
        return self._index.get(digest)

    def incoming(self, node: str, size: int) -> "Incoming":
        """A place for a stream of ``size`` bytes that ``node`` sends. Raises DiskFull, StorageError."""
        free = shutil.disk_usage(self.root).free
        if size > free:
            raise DiskFull(path=self.root, needed=size, free=free)
        return Incoming(self, node, size, self.root / f"{os.getpid()}-{next(self._numbers)}{_PARTIAL}")

    def keep_only(self, digests: frozenset[str]) -> list[Path]:
        """Forgets all others at once; gives the files that remain to be deleted."""
        trash = []
        for digest in self._index.keys() - digests:
            stored = self._index.pop(digest)
            # Renamed first: the same parameters may come in again while a large file is being deleted.
            path = self.root / f"{digest}-{next(self._numbers)}{_TRASH}"
            with contextlib.suppress(FileNotFoundError):
                stored.path.rename(path)
                stored.path.with_suffix(SEGMENTS).unlink(missing_ok=True)
                trash.append(path)
        return trash

    def adopt(self, partial: Path, taken: StreamDigest) -> Stored:
        """Makes a complete file a stream of this store."""
        model = Model(taken.digest().hex(), taken.size, taken.layout.hex())
        stored = Stored(model, self.root / (model.digest + STREAM), taken.header_size, tuple(taken.segments))
        if self._index.get(model.digest) is not None:
            partial.unlink()
            return stored
        stored.path.with_suffix(SEGMENTS).write_text(json.dumps(_described(stored)))
        partial.rename(stored.path)
        self._index[model.digest] = stored
        return stored

    def _read_index(self) -> None:
        for path in [*self.root.glob("*" + _PARTIAL), *self.root.glob("*" + _TRASH)]:
            path.unlink(missing_ok=True)
        for path in self.root.glob("*" + SEGMENTS):
            stream = path.with_suffix(STREAM)
            try:
                stored = _stored(stream, json.loads(path.read_text()))
                complete = stream.stat().st_size == stored.model.size
            except (ValueError, KeyError, TypeError, FileNotFoundError):
                complete = False
            if complete:
                self._index[stored.model.digest] = stored
            else:
                path.unlink(missing_ok=True)
                stream.unlink(missing_ok=True)


class Incoming:
    """A stream that is being written. Left without ``commit``, nothing of it remains.

    Raises DiskFull, StorageError, StreamDamaged (of the node that sends it).
    """

    def __init__(self, store: Store, node: str, size: int, path: Path) -> None:
        self._store = store
        self._node = node
        self._size = size
        self._path = path
        self._taken = StreamDigest()
        with self._errors():
            self._file = path.open("wb", buffering=0)

    @property
    def taken(self) -> StreamDigest:
        """Size and hashes of what was written so far."""
        return self._taken

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Takes the next bytes."""
        with self._errors():
            if self._taken.size + len(data) > self._size:
                raise StreamError(problem=f"it has more than the {self._size} bytes announced")
            self._taken.update(data)
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]

    def commit(self, expected: str | None = None) -> Stored:
        """The stream, now part of the store; None of it stays where its header is not a strict one.

        ``expected``: the digest it must have.
        """
        with self._errors():
            if self._taken.size != self._size:
                raise StreamError(problem=f"it ends after {self._taken.size} of {self._size} bytes")
            if expected is not None and self._taken.digest().hex() != expected:
                raise StreamError(problem=f"its digest is {self._taken.digest().hex()}, not {expected}")
            self._file.close()
            with self._path.open("rb") as file:
                parse_header(file.read(self._taken.header_size), self._size)
            return self._store.adopt(self._path, self._taken)

    def discard(self) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()  # after a commit there is nothing left of this name

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            with _storage_errors(self._store.root, self._size):
                yield
        except StreamError as error:
            raise StreamDamaged(node=self._node, problem=error.facts["problem"]) from None


@contextlib.contextmanager
def _storage_errors(root: Path, needed: int = 0) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull(path=root, needed=needed, free=shutil.disk_usage(root).free) from None
        problem = error.strerror or str(error)
        raise StorageError(path=root, problem=problem[:1].lower() + problem[1:]) from None


def _described(stored: Stored) -> dict[str, object]:
    return {
        "digest": stored.model.digest,
        "size": stored.model.size,
        "layout": stored.model.layout,
        "header_size": stored.header_size,
        "segments": [segment.hex() for segment in stored.segments],
    }


def _stored(path: Path, described: dict[str, object]) -> Stored:
    """Raises KeyError, TypeError, ValueError for a file that this store did not write."""
    size, header_size, segments = described["size"], described["header_size"], described["segments"]
    if not isinstance(size, int) or not isinstance(header_size, int) or not isinstance(segments, list):
        raise TypeError(path)
    model = Model(str(described["digest"]), size, str(described["layout"]))
    if path.name != model.digest + STREAM:
        raise ValueError(path)
    return Stored(model, path, header_size, tuple(bytes.fromhex(segment) for segment in segments))
