"""Every error says what to do, is told apart by its code, and is explained in the docs."""

import ast
import re
from pathlib import Path
from string import Formatter

import pytest

from services import errors
from services.errors import Behind, LicenseError, PeerFailed, SNUnreachable, SwarmError, TooManyCalls, by_code

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "errors.md"


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


@pytest.mark.parametrize("module", sorted(ROOT.joinpath("services").rglob("*.py")), ids=lambda it: it.stem)
def test_an_error_is_made_with_all_facts_of_its_sentence(module: Path) -> None:
    """Of those that are written down: facts may also be passed on (``**facts``), of a peer or of another error."""
    assert {(call.lineno, cls.__name__, name) for call, cls in made_in(module) for name in lacks(call, cls)} == set()


def made_in(module: Path) -> list[tuple[ast.Call, type[SwarmError]]]:
    calls = [node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Call)]
    named = [(call, getattr(errors, getattr(call.func, "attr", getattr(call.func, "id", "")), None)) for call in calls]
    return [(call, cls) for call, cls in named if isinstance(cls, type) and issubclass(cls, SwarmError)]


def lacks(call: ast.Call, cls: type[SwarmError]) -> set[str]:
    given = {keyword.arg for keyword in call.keywords}
    in_sentence = {name for text in (cls.message, cls.remedy) for _, name, _, _ in Formatter().parse(text) if name}
    # Whoever answers for a license server knows the address it was asked by.
    added = {"address"} if issubclass(cls, LicenseError) else set()
    return set() if None in given else in_sentence - given - added


def test_a_missing_fact_does_not_hide_the_error() -> None:
    assert "?" in str(SNUnreachable(address="sn-1:30304"))


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (Behind(base=1, lastAccepted=7), 7),
        (Behind(base=1), 0),
        (Behind(base=1, lastAccepted="seven"), 0),
        (TooManyCalls(seconds=2), 2.0),
        (SNUnreachable(problem=["no", "text"]), ""),
    ],
)
def test_a_fact_that_code_reads_has_its_type_whatever_a_peer_sends(error: SwarmError, found: object) -> None:
    read = {Behind: "last_accepted", TooManyCalls: "seconds", SNUnreachable: "problem"}[type(error)]
    value = getattr(error, read)
    assert (type(value), value) == (type(found), found)
