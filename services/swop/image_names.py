"""Image names: their parts, and whether a policy's pattern matches one. No I/O."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Self

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
LATEST = "latest"

_HOST = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[0-9a-fA-F:]+\])"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(
    rf"(?P<repository>(?:{_HOST}(?::[0-9]{{1,5}})?/)?{_PART}(?:/{_PART})*)"
    rf"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}}))?(?:@(?P<digest>{DIGEST.pattern}))?"
)
_DEFAULT_REGISTRY = re.compile(r"^(?:(?:index\.)?docker\.io/(?:library/)?|library/)")


@dataclass(frozen=True)
class ImageName:
    """``tag`` is None if there is a digest: runtimes then look at the digest alone."""

    repository: str
    tag: str | None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError for what is not an image name, such as an option of some command."""
        found = _NAME.fullmatch(text)
        if found is None or len(text) > 512:
            raise ValueError(f"{text[:80]!r} is not the name of an image ([REGISTRY/]NAME[:TAG][@sha256:DIGEST])")
        digest = found["digest"]
        tag = None if digest else found["tag"] or LATEST
        return cls(_DEFAULT_REGISTRY.sub("", found["repository"]), tag, digest)

    def __str__(self) -> str:
        return f"{self.repository}@{self.digest}" if self.digest else f"{self.repository}:{self.tag}"

    def same_place(self, other: "ImageName") -> bool:
        """Whether both names refer to the same image of this host."""
        return (self.repository, self.tag, self.digest) == (other.repository, other.tag, other.digest)


def allowed(patterns: Iterable[str], name: ImageName, digests: Collection[str] = ()) -> bool:
    """Whether one of the patterns matches this image.

    ``sha256:…`` matches this content under any name; ``NAME@sha256:…`` this content under this name; ``NAME:TAG`` this
    tag; ``NAME`` every tag. ``*`` matches anything. ``digests``: those of the image, if it is already on this host.
    """
    known = {*digests, *([name.digest] if name.digest else [])}
    return any(_means(_DEFAULT_REGISTRY.sub("", pattern), name, known) for pattern in patterns)


def _means(pattern: str, name: ImageName, digests: Collection[str]) -> bool:
    if DIGEST.fullmatch(pattern):
        return pattern in digests
    place, _, digest = pattern.partition("@")
    if digest:
        return digest in digests and fnmatchcase(name.repository, _without_tag(place))
    if _without_tag(place) == place:
        return fnmatchcase(name.repository, place)
    return name.tag is not None and fnmatchcase(f"{name.repository}:{name.tag}", place)


def _without_tag(place: str) -> str:
    head, slash, last = place.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"
