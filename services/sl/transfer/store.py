"""Parameter streams on disk, named by their digest: written once, hashed while written, and never visible in part."""

import contextlib
import errno
import io
import itertools
import json
import os
import shutil
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from services.errors import DiskFull, StorageError, StreamDamaged
from services.runtime.signals import ChangeSignal
from services.sl.transfer.partials import Manifest, Partial, PartialEnded
from services.sl.view import Model
from swarm_callback.digest import StreamDigest
from swarm_callback.errors import StreamError
from swarm_callback.params import TensorSpec, parse_header

STREAM = ".safetensors"
SEGMENTS = ".json"
_PARTIAL = ".partial"
_PART = ".part"  # segments of a stream, with which a later start continues
_PARTS = ".parts"  # their expected hashes
_DRAFT = ".draft"  # segments of a result whose digest is not known yet
_TRASH = ".trash"
_FULL = {errno.ENOSPC, errno.EDQUOT}

# Parameters reveal something about their training data: no other user of this host may read them, whatever the umask.
PRIVATE_DIRECTORY = 0o700
PRIVATE_FILE = 0o600


@dataclass(frozen=True)
class Stored:
    """A complete stream. ``segments``: SHA-256 of each segment of its body; ``header_size`` includes the length."""

    model: Model
    path: Path
    header_size: int
    segments: tuple[bytes, ...]

    @property
    def manifest(self) -> Manifest:
        return Manifest(self.model.size, self.header_size, bytes.fromhex(self.model.layout), self.segments)

    def header(self) -> bytes:
        with self.path.open("rb") as file:
            return file.read(self.header_size)

    def specs(self) -> list[TensorSpec]:
        """The tensor specs, in the order of the stream."""
        return parse_header(self.header(), self.model.size)

    def sync(self) -> None:
        """Syncs file and name to disk. Meant to run beside the training, not in a round."""
        for path in (self.path, self.path.parent):
            number = os.open(path, os.O_RDONLY)
            try:
                os.fsync(number)
            finally:
                os.close(number)


class Store:
    """All streams of one SL, below ``root``. Methods may be called from any thread, also for the same stream at once.

    Files that a killed process left half written are removed when the store is opened. Raises StorageError.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._index: dict[str, Stored] = {}
        self._partials: dict[str, Partial] = {}
        self._drafts: dict[str, str] = {}  # digest of the stream that each became
        self.draft_grew = ChangeSignal()
        self._lock = threading.RLock()  # all in the indexes is on disk under its name
        self._begun = threading.Condition(self._lock)
        self._beginning: set[str] = set()
        self._numbers = itertools.count()
        with _storage_errors(root):
            root.mkdir(parents=True, exist_ok=True, mode=PRIVATE_DIRECTORY)
            _make_private(root)
            if not os.access(root, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            self._read_index()

    def get(self, digest: str) -> Stored | None:
        return self._index.get(digest)

    def incoming(self, node: str, size: int) -> "Incoming":
        """A place to write a stream of ``size`` bytes that ``node`` sends. Raises DiskFull, StorageError."""
        self.make_room(size)
        return Incoming(self, node, size, self.root / f"{os.getpid()}-{next(self._numbers)}{_PARTIAL}")

    def like(self, layout: str) -> Stored | None:
        """A stream here whose header has this hash; all streams with it have the same size."""
        return next((stored for stored in list(self._index.values()) if stored.model.layout == layout), None)

    def partial(self, name: str) -> Partial | None:
        """The partial stream with this digest, or the draft with this name."""
        return self._partials.get(name)

    def result(self, draft: str) -> Stored | None:
        """The stream that a draft has become."""
        return self._index.get(self._drafts.get(draft, ""))

    def begin(self, manifest: Manifest, header: bytes) -> Partial:
        """A place for the segments of a stream, with those already here. Raises DiskFull, StorageError."""
        digest = manifest.digest
        with self._begun:
            while digest in self._beginning:
                self._begun.wait()
            found = self._partials.get(digest)
            if found is not None:
                return found
            self._beginning.add(digest)
        try:
            partial = self._begin(digest, manifest, header)
        finally:
            with self._begun:
                self._beginning.discard(digest)
                self._begun.notify_all()
        return partial

    def _begin(self, digest: str, manifest: Manifest, header: bytes) -> Partial:
        path = self.root / (digest + _PART)
        with self.errors(manifest.size):
            left = path.exists()
            if not left:
                self.make_room(manifest.size)
                path.with_suffix(_PARTS).write_text(json.dumps(_described(digest, manifest)))
            partial = self._begun_as_draft(manifest, path)
            if partial is None:
                partial = Partial(path, manifest.size, header, manifest.segments)
                if left:
                    partial.recheck()
        with self._lock:
            self._partials[digest] = partial
        return partial

    def draft(self, name: str, size: int, header: bytes, count: int) -> Partial:
        """A place for a result that is being merged, held for the caller. Raises DiskFull, StorageError."""
        with self._lock:
            partial = self._partials.get(name)
            if partial is None:
                self.make_room(size)
                with self.errors(size):
                    partial = Partial(self.root / (name + _DRAFT), size, header, [None] * count)
                self._partials[name] = partial
            partial.hold()
            return partial

    def complete(self, partial: Partial) -> Stored:
        """Makes it a stream. Raises StorageError, StreamDamaged, and PartialEnded if it was given up meanwhile."""
        manifest = partial.manifest()
        if manifest is None or not partial.complete:
            raise RuntimeError(f"{partial.path.name} is not complete")
        model = Model(manifest.digest, manifest.size, manifest.layout.hex())
        stored = Stored(model, self.root / (model.digest + STREAM), manifest.header_size, manifest.segments)
        described = json.dumps(_described(model.digest, manifest))
        with self.errors(0, "a peer"):
            parse_header(partial.header, partial.size)
            with self._lock:
                if self._index.get(model.digest) is None:
                    if partial.ended:
                        raise PartialEnded
                    stored.path.with_suffix(SEGMENTS).write_text(described)
                    partial.rename(stored.path)
                    self._index[model.digest] = stored
                self._drafts |= {name: model.digest for name, known in self._partials.items() if known is partial}
                self.forget(partial)
                return self._index[model.digest]

    def forget(self, partial: Partial) -> None:
        """Deletes its file, unless it has become a stream. Later operations on it raise PartialEnded."""
        with self._lock:
            for name in [name for name, known in self._partials.items() if known is partial]:
                del self._partials[name]
            partial.end()
            if partial.path.suffix != STREAM:
                partial.path.unlink(missing_ok=True)
            partial.path.with_suffix(_PARTS).unlink(missing_ok=True)

    def give_up(self, draft: str) -> None:
        """Forgets a draft, unless ``begin`` has taken it over for a stream meanwhile."""
        with self._lock:
            if (partial := self._partials.get(draft)) is not None:
                self.forget(partial)

    def _begun_as_draft(self, manifest: Manifest, path: Path) -> Partial | None:
        """Turns an unused draft that fits ``manifest`` into the partial stream at ``path``; None if there is none."""
        with self._lock:
            for name, draft in list(self._partials.items()):
                if draft.path.suffix == _DRAFT and not draft.users and draft.expect(manifest):
                    draft.rename(path)
                    del self._partials[name]
                    self._partials[manifest.digest] = draft
                    return draft
        return None

    @contextlib.contextmanager
    def errors(self, needed: int = 0, node: str = "") -> Iterator[None]:
        """Raises errors of the disk as DiskFull or StorageError, and damage in what ``node`` sent as StreamDamaged."""
        try:
            with _storage_errors(self.root, needed):
                yield
        except StreamError as error:
            raise StreamDamaged(node=node, problem=error.facts["problem"]) from None

    def keep_only(self, digests: frozenset[str]) -> list[Path]:
        """Forgets all other streams at once, except segments in use; returns the files to delete."""
        trash = []
        with self._lock:
            self._drafts = {draft: digest for draft, digest in self._drafts.items() if digest in digests}
            for name, partial in list(self._partials.items()):
                if name not in digests and not partial.users:
                    self.forget(partial)
            for path in self.root.glob("*" + _PART):
                if path.stem not in digests and path.stem not in self._partials and path.stem not in self._beginning:
                    path.unlink(missing_ok=True)
                    path.with_suffix(_PARTS).unlink(missing_ok=True)
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
        described = json.dumps(_described(model.digest, stored.manifest))
        with self._lock:
            if self._index.get(model.digest) is not None:
                partial.unlink()
                return stored
            stored.path.with_suffix(SEGMENTS).write_text(described)
            partial.rename(stored.path)
            self._index[model.digest] = stored
        return stored

    def make_room(self, size: int) -> None:
        """Raises DiskFull if fewer than ``size`` bytes are free."""
        free = shutil.disk_usage(self.root).free
        if size > free:
            raise DiskFull(path=self.root, needed=size, free=free)

    def _read_index(self) -> None:
        for path in self.root.iterdir():
            orphan = path.suffix == _PART and not path.with_suffix(_PARTS).exists()
            if orphan or path.suffix in (_PARTIAL, _DRAFT, _TRASH):
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
    """A stream that is being written. Without ``commit``, nothing of it remains.

    Raises DiskFull, StorageError, StreamDamaged (of the node that sends it).
    """

    def __init__(self, store: Store, node: str, size: int, path: Path) -> None:
        self._store = store
        self._node = node
        self._size = size
        self._path = path
        self._taken = StreamDigest()
        with self._store.errors(self._size, self._node):
            self._file = io.FileIO(path, "w", opener=_private)

    @property
    def taken(self) -> StreamDigest:
        """Size and hashes of the bytes written so far."""
        return self._taken

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Takes the next bytes."""
        with self._store.errors(self._size, self._node):
            if self._taken.size + len(data) > self._size:
                raise StreamError(problem=f"it has more than the {self._size} bytes announced")
            self._taken.update(data)
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]

    def commit(self, expected: str | None = None) -> Stored:
        """Adds the stream to the store. Nothing of it stays if its header is not valid.

        ``expected``: the digest it must have.
        """
        with self._store.errors(self._size, self._node):
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
        self.discard()  # after a commit, no file of this name is left


@contextlib.contextmanager
def _storage_errors(root: Path, needed: int = 0) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull(path=root, needed=needed, free=shutil.disk_usage(root).free) from None
        problem = error.strerror or str(error)
        raise StorageError(path=root, problem=problem[:1].lower() + problem[1:]) from None


def _make_private(root: Path) -> None:
    """Raises StorageError if the directory belongs to another user, who could read and change its files."""
    found = root.stat()
    if found.st_uid != os.geteuid():
        problem = f"it belongs to the user with the number {found.st_uid}, and this process runs as {os.geteuid()}"
        raise StorageError(path=root, problem=problem)
    if stat.S_IMODE(found.st_mode) != PRIVATE_DIRECTORY:
        root.chmod(PRIVATE_DIRECTORY)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, PRIVATE_FILE)


def _described(digest: str, manifest: Manifest) -> dict[str, object]:
    return {"digest": digest, **manifest.described()}


def _stored(path: Path, described: dict[str, object]) -> Stored:
    """Raises KeyError, TypeError, ValueError for a file that this store did not write."""
    size, header_size, segments = described["size"], described["header_size"], described["segments"]
    if not isinstance(size, int) or not isinstance(header_size, int) or not isinstance(segments, list):
        raise TypeError(path)
    model = Model(str(described["digest"]), size, str(described["layout"]))
    if path.name != model.digest + STREAM:
        raise ValueError(path)
    return Stored(model, path, header_size, tuple(bytes.fromhex(segment) for segment in segments))
