"""What leader and mergers say to each other arrives as it was said; nothing else arrives at all."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.sl.sharding import messages as say

HASH = "0f" * 32

MESSAGES = [
    say.BeginAttempt(1, 2, 3, ("a", "b")),
    say.Deal(((0, 3), (5, 6))),
    say.AssignedRuns("a", ((0, 1),)),
    say.Measure(1, 0, (1.5).hex()),
    say.Settled(None),
    say.Settled(((1 / 3).hex(), (0.0).hex(), (5e-324).hex(), (-1e300).hex())),
    say.Serves("a", 3, (HASH, HASH)),
    say.Moves(4, True),
    say.Unusable("a", "b", 3),
    say.FoundNonFinite(1, "a", 7),
    say.Measured(1, 0, 2, ("AA==",)),
    say.MergedSegments(1, 2, (HASH,)),
    say.Holds(1, (2, 3)),
    say.Declined("why"),
    say.ServedWrong(1, "a"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_messages_arrive_as_they_were_sent(message: say.ShardMessage) -> None:
    assert say.decode(say.encode(message)) == message


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_only_a_leader_gives_orders_and_only_a_merger_answers(message: say.ShardMessage) -> None:
    mine, other = (say.Order, say.Answer) if isinstance(message, say.Order) else (say.Answer, say.Order)
    assert say.decode(say.encode(message), mine) == message
    with pytest.raises(say.Unreadable):
        say.decode(say.encode(message), other)


@pytest.mark.parametrize("message", [say.Examine("a", 1), say.Examined("a", 1, ""), say.Seen(1, 0, (HASH,))])
def test_what_a_leader_says_to_itself_comes_on_no_line(message: say.ShardMessage) -> None:
    with pytest.raises(say.Unreadable):
        say.decode(say.encode(message))


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", "null", '{"kind":"ShardMessage"}',
        '{"kind":"Order"}', '{"kind":"Deal"}', '{"kind":"Deal","runs":[[1]]}',
        '{"kind":"Moves","count":"1","waits":true}', '{"kind":"Moves","count":1,"waits":true,"more":1}',
        '{"kind":"Moves","count":1,"waits":1}', '{"kind":"Moves","count":true,"waits":true}',
        '{"kind":["Deal"],"runs":[]}', "[" * 100_000, '{"kind":"Deal","runs":' + "[" * 100_000,
        '{"kind":"Moves","count":' + "9" * 5000 + ',"waits":true}', '{"kind":"Moves","count":NaN,"waits":true}',
        '{"kind":"Moves","count":-1,"waits":true}', '{"kind":"Moves","count":1.5,"waits":true}',
        '{"kind":"Moves","count":1,"waits":true} ' + "x", '{"kind":"Declined","reason":"\\ud800"}',
    ],
)  # fmt: skip
def test_what_is_no_message_is_refused(text: str) -> None:
    with pytest.raises(say.Unreadable):
        say.decode(text)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (say.Deal, {"runs": [[0, 10**12]]}), (say.Deal, {"runs": [[3, 3]]}), (say.Deal, {"runs": [[4, 2]]}),
        (say.Deal, {"runs": [[0, 5], [4, 6]]}), (say.Deal, {"runs": [[5, 6], [0, 1]]}), (say.Deal, {"runs": []}),
        (say.BeginAttempt, {"names": []}), (say.BeginAttempt, {"names": ["a", "a"]}),
        (say.BeginAttempt, {"names": "ab"}),
        (say.BeginAttempt, {"names": [["a"]]}), (say.BeginAttempt, {"names": ["a" * 201]}),
        (say.BeginAttempt, {"names": ["a\n"]}),
        (say.AssignedRuns, {"by": 7}), (say.AssignedRuns, {"by": None}), (say.AssignedRuns, {"by": ""}),
        (say.Measure, {"scale": "no number"}), (say.Measure, {"scale": "0x1p+99999"}), (say.Measure, {"scale": "nan"}),
        (say.Measure, {"scale": "inf"}), (say.Measure, {"scale": 1.5}), (say.Measure, {"centre": -1}),
        (say.Settled, {"shares": ["no number"]}), (say.Settled, {"shares": []}), (say.Settled, {"shares": [0.5]}),
        (say.Serves, {"hashes": [5]}), (say.Serves, {"hashes": ["00"]}), (say.Serves, {"hashes": []}),
        (say.Serves, {"hashes": [HASH.upper()]}), (say.Serves, {"hashes": [HASH + "\n"]}),
        (say.MergedSegments, {"hashes": [5]}), (say.MergedSegments, {"hashes": ["00"]}),
        (say.MergedSegments, {"start": 2**70}),
        (say.MergedSegments, {"hashes": HASH}), (say.MergedSegments, {"attempt": None}),
        (say.Holds, {"segments": ["x"]}), (say.Holds, {"segments": [2, 2]}), (say.Holds, {"segments": [3, 2]}),
        (say.Holds, {"segments": [-1]}), (say.Holds, {"segments": [2**40]}), (say.Holds, {"segments": 3}),
        (say.Measured, {"parts": [7]}), (say.Measured, {"parts": ["!!!!"]}), (say.Measured, {"parts": [""]}),
        (say.FoundNonFinite, {"segment": "w"}), (say.FoundNonFinite, {"name": {}}),
        (say.Unusable, {"reason": "x" * 1001}),
        (say.Unusable, {"reason": "two\nlines"}), (say.Declined, {"reason": ["why"]}),
    ],
)  # fmt: skip
def test_what_is_not_of_its_type_or_size_is_refused(kind: type[say.ShardMessage], change: dict[str, Any]) -> None:
    message = next(entry for entry in MESSAGES if type(entry) is kind)
    with pytest.raises(say.Unreadable, match=kind.__name__):
        say.decode(json.dumps({**json.loads(say.encode(message)), **change}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)


@settings(max_examples=200)
@given(st.sampled_from(MESSAGES), st.data())
def test_whatever_stands_in_a_field_is_of_its_type_or_refused(message: say.ShardMessage, data: st.DataObject) -> None:
    said = json.loads(say.encode(message))
    field = data.draw(st.sampled_from(sorted(said)))
    said[field] = data.draw(JSON)
    try:
        read: say.ShardMessage = say.decode(json.dumps(said))
    except say.Unreadable as error:
        assert len(str(error)) <= 200
    else:
        assert say.decode(say.encode(read)) == read


@pytest.mark.parametrize("text", ["two\nlines\tand \x1b[31m more", "x" * 5000, "", "\ud800"])
def test_words_of_any_kind_become_a_line_that_arrives(text: str) -> None:
    assert say.decode(say.encode(say.Declined(say.words(text)))) == say.Declined(say.words(text))


def test_a_long_list_is_said_in_several_messages() -> None:
    parts = list(say.in_messages(range(70_000)))
    assert [index for part in parts for index in part] == list(range(70_000))
    for part in parts:
        assert len(say.encode(say.Holds(1, tuple(part)))) < say.MESSAGE_BYTES
        assert len(say.encode(say.MergedSegments(1, 0, (HASH,) * len(part)))) < say.MESSAGE_BYTES
