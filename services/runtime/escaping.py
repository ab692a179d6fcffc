"""Makes text from others safe to show: nothing in it can control a terminal or hide other text."""

import json
from typing import Any


def replaced(text: str, by: str = "?") -> str:
    """One line, with ``by`` in place of each invisible character."""
    return "".join(letter if letter.isprintable() else by for letter in text)


def replaced_in_lines(text: str) -> str:
    """The same for each line of a text; a tab becomes a space."""
    return "\n".join(replaced(line.replace("\t", " ")) for line in text.splitlines())


def as_json(data: Any, indent: int | None = None) -> str:
    """JSON with letters of any script as they are; invisible characters are escaped."""
    text = json.dumps(data, indent=indent, ensure_ascii=False)
    return "".join(letter if letter.isprintable() or letter == "\n" else _escape(letter) for letter in text)


def _escape(letter: str) -> str:
    return json.dumps(letter)[1:-1]
