"""Text that came from others, as a person may see it: nothing in it commands a terminal or hides what stands there."""

import json
from typing import Any


def replaced(text: str, by: str = "?") -> str:
    """In one line: a character that cannot be seen gives way to ``by``."""
    return "".join(letter if letter.isprintable() else by for letter in text)


def replaced_in_lines(text: str) -> str:
    """Each of its lines so; a tab is a space."""
    return "\n".join(replaced(line.replace("\t", " ")) for line in text.splitlines())


def as_json(data: Any, indent: int | None = None) -> str:
    """Letters of any script as they are; what cannot be seen is escaped."""
    text = json.dumps(data, indent=indent, ensure_ascii=False)
    return "".join(letter if letter.isprintable() or letter == "\n" else _escape(letter) for letter in text)


def _escape(letter: str) -> str:
    return json.dumps(letter)[1:-1]
