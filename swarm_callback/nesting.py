"""How deeply JSON is nested, checked before it is parsed.

Python's json stops at the recursion limit, which some libraries raise so far that the stack overflows first.
"""

import re
from typing import Final

_BRACKETS: Final = re.compile(rb"[\[\]{}]")
_STRINGS: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)


def deeper_than(limit: int, text: bytes | bytearray) -> bool:
    """Whether more than ``limit`` lists and objects are open at once; arbitrary for text that is not JSON."""
    depth = 0
    for bracket in _BRACKETS.finditer(_STRINGS.sub(b"", text)):
        depth += 1 if bracket[0] in b"[{" else -1
        if depth > limit:
            return True
    return False
