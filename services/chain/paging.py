"""How much of a long history is read at once: pages of about equal size, each of as many blocks as fit."""

from dataclasses import dataclass

from services.errors import ChainError

FIRST_BLOCKS = 16
GROWTH = 4

# What geth adds to the data of one event: address, hashes, topics, numbers.
BYTES_BESIDE_DATA = 700


@dataclass(frozen=True)
class PageSize:
    """Bounds of one page, in bytes of geth's answer.

    ``wanted_bytes``: intended size of a page; by default about 500 check-ins, which are decoded quickly.
    ``most_bytes``: a longer answer is discarded and requested in smaller parts. ``most_blocks``: limit of blocks,
    however little happens in them.
    """

    wanted_bytes: int = 512 * 1024
    most_bytes: int = 8 * 2**20
    most_blocks: int = 2048


class Stride:
    """How many blocks the next page covers, given the size of the last one."""

    def __init__(self, size: PageSize) -> None:
        self._size = size
        self.blocks = min(FIRST_BLOCKS, size.most_blocks)

    def came(self, answered_bytes: int) -> None:
        """The page had this size: adjusts the number of blocks of the next one."""
        fitting = self.blocks * self._size.wanted_bytes // max(1, answered_bytes)
        self.blocks = max(1, min(fitting, self.blocks * GROWTH, self._size.most_blocks))

    def too_long(self, from_block: int) -> None:
        """The page was too long: halves the number of blocks. Raises ChainError if it was a single block."""
        if self.blocks == 1:
            problem = f"the events of block {from_block} are more than {self._size.most_bytes} bytes"
            raise ChainError(problem=problem, log="geth.log")
        self.blocks //= 2
