"""Splits a line into words. A quoted text is one word; a word that begins with # begins a comment."""

from dataclasses import dataclass

QUOTES = ("'", '"')
COMMENT = "#"


@dataclass(frozen=True)
class Word:
    """``start`` and ``end``: its place in the line, including quotes. ``open``: its closing quote is missing."""

    text: str
    start: int
    end: int
    quoted: bool = False
    open: bool = False

    @property
    def begins_comment(self) -> bool:
        return not self.quoted and self.text.startswith(COMMENT)


def split(line: str) -> list[Word]:
    """All words, even those of a comment. Line endings belong to none of them."""
    line = line.rstrip("\r\n")
    found: list[Word] = []
    at = 0
    while at < len(line):
        if line[at].isspace():
            at += 1
            continue
        word = _quoted(line, at) if line[at] in QUOTES else _plain(line, at)
        found.append(word)
        at = word.end
    return found


def without_comment(words: list[Word]) -> list[Word]:
    """The words before the comment."""
    for number, word in enumerate(words):
        if word.begins_comment:
            return words[:number]
    return words


def rest_of(line: str, before: Word) -> str:
    """All that follows a word and one space, unchanged: including leading spaces and #."""
    return line[before.end :][1:].rstrip("\r\n")


def _quoted(line: str, at: int) -> Word:
    end = line.find(line[at], at + 1)
    if end < 0:
        return Word(line[at + 1 :], at, len(line), quoted=True, open=True)
    return Word(line[at + 1 : end], at, end + 1, quoted=True)


def _plain(line: str, at: int) -> Word:
    end = at
    while end < len(line) and not line[end].isspace():
        end += 1
    return Word(line[at:end], at, end)
