"""How much of a long history is read at once: pages of blocks, as many as come to about the same size."""

from dataclasses import dataclass

from services.errors import ChainError

FIRST_BLOCKS = 16
GROWTH = 4

# What geth writes around the data of one event: address, hashes, topics, numbers.
BYTES_BESIDE_DATA = 700


@dataclass(frozen=True)
class PageSize:
    """Bounds of one page, counted in what the chain's program answers.

    ``wanted_bytes``: what a page should come to; about 500 check-ins by default, which are decoded in a moment.
    ``most_bytes``: a longer answer is not taken in but asked for in smaller parts. ``most_blocks``: however little
    happens in them.
    """

    wanted_bytes: int = 512 * 1024
    most_bytes: int = 8 * 2**20
    most_blocks: int = 2048


class Stride:
    """How many blocks the next page covers, given what the last one came to."""

    def __init__(self, size: PageSize) -> None:
        self._size = size
        self.blocks = min(FIRST_BLOCKS, size.most_blocks)

    def came(self, answered_bytes: int) -> None:
        """The page came to so much: the next one has more or fewer blocks."""
        fitting = self.blocks * self._size.wanted_bytes // max(1, answered_bytes)
        self.blocks = max(1, min(fitting, self.blocks * GROWTH, self._size.most_blocks))

    def too_long(self, from_block: int) -> None:
        """The page was longer than a page may be. Raises ChainError where it was one block."""
        if self.blocks == 1:
            problem = f"the events of block {from_block} are more than {self._size.most_bytes} bytes"
            raise ChainError(problem=problem, log="geth.log")
        self.blocks //= 2
