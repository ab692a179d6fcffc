"""Text of others, on its way to a terminal."""

import json

from services.runtime import escaping

HOSTILE = "a\x1b[2J\x9b31m\u202egnp\u2028größe 訓練 🙂\U000e0041"


def test_what_cannot_be_seen_is_replaced_and_letters_of_any_script_stay() -> None:
    assert escaping.replaced(HOSTILE) == "a?[2J?31m?gnp?größe 訓練 🙂?"
    assert escaping.replaced_in_lines("one\r\ntwo\tthree\x07\n") == "one\ntwo three?"


def test_json_for_people_can_be_read_by_programs() -> None:
    data = {"text": HOSTILE, "lines": "one\ntwo\x7f"}
    for indent in (None, 1):
        shown = escaping.as_json(data, indent)
        assert json.loads(shown) == data
        assert "größe 訓練 🙂" in shown
        assert all(letter.isprintable() or letter == "\n" for letter in shown)
