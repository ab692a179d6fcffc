"""Deep nesting is seen without parsing."""

import pytest

from swarm_callback.nesting import deeper_than


@pytest.mark.parametrize(
    ("text", "depth"),
    [
        (b"", 0),
        (b"7", 0),
        (b'{"a":1}', 1),
        (b'{"a":[1,2],"b":[3]}', 2),
        (b'{"a":{"shape":[],"data_offsets":[0,0]}}', 3),
        (b'{"[[[[":"{{{"}', 1),
        (b'{"a\\"[[[":1}', 1),
        (b"[" * 1_000_000, 1_000_000),
        (b'"' + b"[" * 50, 50),
    ],
)
def test_depth_counts_what_is_open_outside_of_strings(text: bytes, depth: int) -> None:
    assert not deeper_than(depth, text)
    assert depth == 0 or deeper_than(depth - 1, text)
