"""How results are written for people."""

import time

import pytest

from services.swci import wording


@pytest.fixture(autouse=True)
def in_berlin(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_a_time_is_local_with_its_zone_and_age() -> None:
    assert wording.moment(1_783_080_309, lambda: 1_783_080_312.4) == "2026-07-03 14:05:09 CEST (3 s ago)"
    assert wording.moment(1_768_000_000, lambda: 1_768_000_000) == "2026-01-10 00:06:40 CET (0 s ago)"
    assert wording.moment(0) == "never"
    assert wording.heard(0) == "-"
    assert wording.heard(1_768_000_000).startswith("2026-01-10 00:06:40 CET (")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "0 s"), (59, "59 s"), (60, "1 min"), (125, "2 min 5 s"), (3600, "1 h"), (11_400, "3 h 10 min"),
     (180_000, "2 d 2 h")],
)  # fmt: skip
def test_an_age_has_its_two_largest_units(seconds: float, words: str) -> None:
    assert wording.age(seconds) == words


@pytest.mark.parametrize(("count", "words"), [(0, "0 B"), (999, "999 B"), (1_000, "1.0 KB"), (20_100_000, "20.1 MB")])
def test_a_size_is_readable(count: int, words: str) -> None:
    assert wording.size(count) == words


def test_columns_are_aligned() -> None:
    assert wording.table(("A", "B"), [("long", 1), ("x", 22)]) == ["A     B", "long  1", "x     22"]


def test_text_of_others_commands_no_terminal() -> None:
    assert wording.clean("a\x1b[2J\x07\u202eb\tc") == "a [2J  b c"
    assert wording.lines_of("first\nzweite größe\r\n\x1b[31mthird") == ["first", "zweite größe", " [31mthird"]
