"""Every error says what to do, is told apart by its code, and is explained in the docs."""

import re
from pathlib import Path

import pytest

from services.errors import PeerFailed, SNUnreachable, SwarmError, by_code

DOCS = Path(__file__).parents[2] / "docs" / "errors.md"


def all_errors() -> list[type[SwarmError]]:
    found, pending = [], [SwarmError]
    while pending:
        cls = pending.pop()
        if cls.__module__.startswith("services."):
            found.append(cls)
        pending.extend(cls.__subclasses__())
    return sorted(found, key=lambda cls: cls.code)


@pytest.mark.parametrize("cls", all_errors(), ids=lambda cls: cls.code)
def test_error_has_message_remedy_status_and_exit_code(cls: type[SwarmError]) -> None:
    assert cls.message
    assert cls.remedy.endswith((".", "?", ":\n{tail}"))  # the last lines of a log come last
    assert 0 < cls.exit_code < 126
    assert re.fullmatch(r"[a-z][a-z0-9-]+", cls.code)
    assert by_code(cls.code) is cls


def test_no_two_errors_share_a_code() -> None:
    codes = [cls.code for cls in all_errors()]
    assert sorted(set(codes)) == codes


@pytest.mark.parametrize("cls", all_errors(), ids=lambda cls: cls.code)
def test_docs_explain_the_error(cls: type[SwarmError]) -> None:
    assert f"### `{cls.code}`" in DOCS.read_text()


def test_text_says_what_where_and_what_to_do() -> None:
    text = str(SNUnreachable(address="sn-1:30304", problem="connection refused"))
    assert "sn-1:30304" in text
    assert "connection refused" in text
    assert "Check that it runs" in text


def test_what_to_do_does_not_run_on_from_a_programs_log() -> None:
    error = PeerFailed(what="The program", exit=7, problem="its last lines", tail="\n    bye now")
    assert str(error).splitlines()[-2:] == ["    bye now", error.remedy]


def test_a_missing_fact_does_not_hide_the_error() -> None:
    assert "?" in str(SNUnreachable(address="sn-1:30304"))
