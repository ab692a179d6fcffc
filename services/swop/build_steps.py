"""What the lines of a Dockerfile would fetch, and which privileges they ask for. No I/O."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

SCRATCH = "scratch"

_DIRECTIVE = re.compile(r"^\s*#\s*(syntax|escape|check)\s*=", re.IGNORECASE)
_CONTINUES = re.compile(r"\\[ \t]*$")
_FLAG = re.compile(r"^--([a-z-]+)(?:=(.*))?$")
_REMOTE = re.compile(r"^(?:[a-z][a-z0-9+.-]*://|git@)", re.IGNORECASE)


@dataclass(frozen=True)
class Steps:
    """``images``: those that the build starts from or copies from, as written. ``downloads``: what ADD fetches.

    ``faults``: what no build may contain, in words.
    """

    images: tuple[str, ...]
    downloads: tuple[str, ...]
    faults: tuple[str, ...]


def examine(steps: Sequence[str]) -> Steps:
    """Reads the steps as a builder does, and more strictly where builders differ."""
    images: list[str] = []
    downloads: list[str] = []
    faults = list(_faults_of_lines(steps))
    stages: set[str] = set()
    # Each line is also examined by itself, as builders differ in which lines continue the one before.
    for instruction, words in _instructions([*_logical(steps), *steps]):
        flags, rest = _flags(words)
        match instruction:
            case "FROM" if rest:
                images.extend(_unless_stage(rest[0], stages, numbers=False))
                if len(rest) == 3 and rest[1].upper() == "AS":
                    stages.add(rest[2].lower())
            case "COPY":
                for value in flags.get("from", ()):
                    images.extend(_unless_stage(value, stages))
            case "ADD":
                downloads.extend(word for word in rest[:-1] if _REMOTE.match(word))
            case "RUN":
                faults.extend(_faults_of_run(flags))
                images.extend(_mounted(flags, stages))
    return Steps(_once(images), _once(downloads), _once(faults))


def _faults_of_lines(steps: Iterable[str]) -> Iterator[str]:
    for number, step in enumerate(steps, 1):
        if "\n" in step or "\r" in step or "\0" in step:
            yield f"build step {number} has several lines; each step is one line"
        elif (found := _DIRECTIVE.match(step)) is not None:
            yield f"build step {number} has the directive '{found[1].lower()}', which changes how the others are read"


def _faults_of_run(flags: dict[str, list[str]]) -> Iterator[str]:
    if any(value != "sandbox" for value in flags.get("security", ())):
        yield "a build step asks for privileges (RUN --security)"
    if any(value == "host" for value in flags.get("network", ())):
        yield "a build step asks for the network of the host (RUN --network=host)"
    for mount in flags.get("mount", ()):
        kind = _options(mount).get("type", "bind")
        if kind in {"ssh", "secret"}:
            yield f"a build step asks for keys of this host (RUN --mount=type={kind})"


def _mounted(flags: dict[str, list[str]], stages: set[str]) -> Iterator[str]:
    for mount in flags.get("mount", ()):
        if source := _options(mount).get("from"):
            yield from _unless_stage(source, stages)


def _options(mount: str) -> dict[str, str]:
    return {name.strip().lower(): value for name, _, value in (part.partition("=") for part in mount.split(","))}


def _unless_stage(image: str, stages: set[str], *, numbers: bool = True) -> Iterator[str]:
    """Yields the image unless it is a stage of this build, given by name or (except in FROM) by number."""
    if image.lower() not in stages and image != SCRATCH and not (numbers and image.isdecimal()):
        yield image


def _logical(steps: Iterable[str]) -> Iterator[str]:
    """Joins each line with its continuation lines. Like builders, it skips comments and empty lines in between."""
    waiting = ""
    for step in steps:
        if waiting and (not step.strip() or step.lstrip().startswith("#")):
            continue
        if _CONTINUES.search(step):
            waiting += _CONTINUES.sub("", step)
            continue
        yield waiting + step
        waiting = ""
    if waiting:
        yield waiting


def _instructions(lines: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    for line in lines:
        words = _CONTINUES.sub("", line).split()
        if words and words[0].upper() == "ONBUILD":
            words = words[1:]
        if words:
            yield words[0].upper(), words[1:]


def _flags(words: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    flags: dict[str, list[str]] = {}
    for position, word in enumerate(words):
        found = _FLAG.match(word)
        if found is None:
            return flags, words[position:]
        flags.setdefault(found[1], []).append((found[2] or "").strip("\"'"))
    return flags, []


def _once(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))
