"""YAML as plain data with the line of each value. No input can take more resources than its size justifies."""

import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from services.errors import DocumentUnusable, FileUnreadable

SIZE_LIMIT_BYTES = 1024 * 1024
DEPTH_LIMIT = 20
SHOWN_CHARACTERS = 60

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """``data``: dicts, lists, strings, numbers, booleans and None. ``source``: its name in errors."""

    source: str
    data: Any
    lines: Mapping[Path, int]

    def line(self, path: Path) -> int:
        """The line of a value; for a missing key, the line where its mapping begins."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def problem(self, path: Path, problem: str) -> DocumentUnusable:
        """The error for a value. ``problem``: what is there and what is allowed."""
        return DocumentUnusable(source=self.source, line=self.line(path), path=shown_path(path), problem=problem)


def read_document(file: pathlib.Path, source: str) -> Document:
    """Raises FileUnreadable, and what ``parse`` raises."""
    try:
        with file.open("rb") as opened:
            raw = opened.read(SIZE_LIMIT_BYTES + 1)
    except OSError as error:
        raise FileUnreadable(path=file, problem=error.strerror or str(error)) from None
    return parse(raw, source)


def parse(text: bytes | str, source: str) -> Document:
    """Raises DocumentUnusable for text that is not UTF-8, not YAML, too large, too deep, refers to parts of itself, has
    a key twice, or contains anything but plain values.
    """
    raw = text.encode() if isinstance(text, str) else text
    if len(raw) > SIZE_LIMIT_BYTES:
        problem = f"the file has more than {SIZE_LIMIT_BYTES:,} bytes"
        raise DocumentUnusable(source=source, line=1, path="file", problem=problem)
    try:
        decoded = raw.decode()
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        problem = f"byte 0x{raw[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise DocumentUnusable(source=source, line=line, path="file", problem=problem) from None
    try:
        return _DocumentReader(decoded, source).read()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = f"this is not YAML: {error.problem or 'it cannot be read'}"
        raise DocumentUnusable(source=source, line=line, path="file", problem=problem) from None
    except yaml.YAMLError as error:
        problem = f"this is not YAML: {getattr(error, 'reason', 'it cannot be read')}"
        raise DocumentUnusable(source=source, line=1, path="file", problem=problem) from None


def shown_path(path: Sequence[str | int]) -> str:
    """Such as ``Body.Envvars[0]``; ``file`` for the whole."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "file"


def shown(value: Any) -> str:
    """A value as quoted in an error, shortened."""
    if value is None:
        return "~ (not set)"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 1]}…"


class _DocumentReader:
    def __init__(self, text: str, source: str) -> None:
        self._loader = yaml.SafeLoader(text)
        self._source = source
        self._lines: dict[Path, int] = {}

    def read(self) -> Document:
        """The only document of the file."""
        try:
            self._refuse_references()
            node = self._loader.get_single_node()
            data = None if node is None else self._value(node, ())
            return Document(self._source, data, self._lines)
        finally:
            self._loader.dispose()

    def _refuse_references(self) -> None:
        """Refuses anchors and aliases before anything is built: nested aliases could expand without limit."""
        for event in yaml.parse(self._loader.buffer.rstrip("\0"), yaml.SafeLoader):
            anchor = getattr(event, "anchor", None)
            if anchor is not None:
                self._refuse(event, (), f"'{anchor}' refers to another part of the file; write the value out")

    def _value(self, node: yaml.Node, path: Path) -> Any:
        self._lines[path] = node.start_mark.line + 1
        if len(path) > DEPTH_LIMIT:
            self._refuse(node, path, f"values are nested deeper than {DEPTH_LIMIT} levels")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(part, (*path, index)) for index, part in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key: Any = self._scalar(key_node, path) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                self._refuse(key_node, path, f"the key {shown(key)} is not a word")
            if key in found:
                self._refuse(key_node, (*path, key), "this key stands here twice")
            found[key] = self._value(value_node, (*path, key))
        return found

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        if node.tag == "tag:yaml.org,2002:timestamp":
            return node.value  # dates stay as their author wrote them
        try:
            value = self._loader.construct_object(node)
        except (yaml.YAMLError, ValueError, OverflowError):
            self._refuse(node, path, f"the tag {node.tag} is not allowed; write a plain value")
        if value is None or isinstance(value, str | int | float | bool):
            return value
        return self._refuse(node, path, f"the tag {node.tag} is not allowed; write a plain value")

    def _refuse(self, at: yaml.Node | yaml.Event, path: Path, problem: str) -> Any:
        line = at.start_mark.line + 1 if at.start_mark else 1
        raise DocumentUnusable(source=self._source, line=line, path=shown_path(path), problem=problem)
