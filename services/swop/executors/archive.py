"""Directories and volumes as tar archives, the form in which container engines accept and return them."""

import io
import posixpath
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

IGNORE_FILE = ".dockerignore"
IGNORE_FILE_LIMIT_BYTES = 1024 * 1024


def build_context(volume: BinaryIO | None, target: BinaryIO, dockerfile: str, text: bytes) -> int:
    """Makes the archive that a build begins with: a volume's content without what does not belong in an archive
    (devices, pipes, links that lead out of it), and the Dockerfile, which no step can see.

    Returns how many entries of the volume were copied.
    """
    copied = 0
    ignored = f"{dockerfile}\n{IGNORE_FILE}\n".encode()
    with tarfile.open(fileobj=target, mode="w:", format=tarfile.PAX_FORMAT) as new:
        if volume is not None:
            with tarfile.open(fileobj=volume, mode="r:") as old:
                for member in _harmless(old):
                    content = old.extractfile(member) if member.isreg() else None
                    copied += 1
                    if member.name == IGNORE_FILE and content is not None:
                        ignored = content.read(IGNORE_FILE_LIMIT_BYTES) + b"\n" + ignored
                        continue
                    new.addfile(member, content)
        for name, extra in ((dockerfile, text), (IGNORE_FILE, ignored)):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(extra), 0o644
            new.addfile(entry, io.BytesIO(extra))
    return copied


def unpacked(source: BinaryIO, directory: Path) -> None:
    """Extracts an archive below a directory, without what ``build_context`` leaves out."""
    with tarfile.open(fileobj=source, mode="r:") as archive:
        for member in _harmless(archive):
            archive.extract(member, directory, set_attrs=False)
            if not member.issym():
                (directory / member.name).chmod(member.mode)


def packed(directory: Path, target: BinaryIO) -> None:
    """Writes a directory's content as an archive, owned by root, without what ``build_context`` leaves out."""

    def belongs_to_root(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if member.issym() and _leaves(posixpath.join(posixpath.dirname(member.name), member.linkname)):
            return None
        member.uid = member.gid = 0
        member.uname = member.gname = "root"
        return member if member.isreg() or member.isdir() or member.issym() or member.islnk() else None

    with tarfile.open(fileobj=target, mode="w:", format=tarfile.PAX_FORMAT) as archive:
        for entry in sorted(directory.iterdir()):
            archive.add(entry, arcname=entry.name, filter=belongs_to_root)


def _harmless(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members that stay inside the archive, each name once, owned by root, writable by the owner only."""
    seen: set[str] = set()
    links: set[str] = set()
    for member in archive:
        name = posixpath.normpath(member.name)
        parents = {str(parent) for parent in PurePosixPath(name).parents}
        if name == "." or _leaves(name) or name in seen or parents & links:
            continue
        if member.issym():
            if _leaves(posixpath.join(posixpath.dirname(name), member.linkname)):
                continue
            links.add(name)
        elif member.islnk():
            member.linkname = posixpath.normpath(member.linkname)
            if member.linkname not in seen or member.linkname in links:
                continue
        elif not (member.isreg() or member.isdir()):
            continue
        seen.add(name)
        member.name = name
        member.uid = member.gid = 0
        member.uname = member.gname = "root"
        member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
        member.pax_headers = {}
        yield member


def _leaves(path: str) -> bool:
    return path.startswith("/") or posixpath.normpath(path).split("/")[0] == ".."


def empty() -> BinaryIO:
    """An archive without members."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:"):
        pass
    content.seek(0)
    return content


def directory_of(name: str, uid: int, gid: int) -> BinaryIO:
    """An archive of one empty directory that only this owner can use."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:") as archive:
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode, entry.uid, entry.gid = tarfile.DIRTYPE, 0o700, uid, gid
        archive.addfile(entry)
    content.seek(0)
    return content
