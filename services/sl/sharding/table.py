"""How a merge is shared: which node merges, has made, and holds which segments. Plain data, no I/O."""

from collections.abc import Iterable, Sequence

from services.sl.sharding.messages import Run

# A result is safe when this many nodes hold all of it: any one of them may be lost.
COPIES = 2


def runs_of(indices: Iterable[int]) -> tuple[Run, ...]:
    """``[3, 4, 5, 9]`` as ``((3, 6), (9, 10))``."""
    runs: list[Run] = []
    for index in sorted(indices):
        if runs and runs[-1][1] == index:
            runs[-1] = (runs[-1][0], index + 1)
        else:
            runs.append((index, index + 1))
    return tuple(runs)


def dealt(indices: Sequence[int], mergers: Sequence[str]) -> dict[str, Sequence[int]]:
    """Deals evenly, in runs as long as possible; shares differ by at most one segment."""
    cuts = [len(indices) * number // len(mergers) for number in range(len(mergers) + 1)]
    return {name: indices[cuts[number] : cuts[number + 1]] for number, name in enumerate(mergers)}


class ShardTable:
    """The segments of one attempt, dealt to ``mergers``. Methods that deal return the segments newly dealt to each.

    ``hashes``: as first reported. A reported hash stays; if a segment turns out to differ, the attempt is void.
    """

    def __init__(self, count: int, mergers: Sequence[str]) -> None:
        self.count = count
        self.mergers = list(mergers)
        self.hashes: list[bytes | None] = [None] * count
        self._told_by = [""] * count
        self._owner = [""] * count
        self._dealt_again = bytearray(count)
        self._made = bytearray(count)
        self._holders: list[set[str]] = [set() for _ in range(count)]
        self._held: dict[str, int] = {}  # how many segments of the result each node holds
        self._owed = dict.fromkeys(mergers, 0)  # how many segments each merger still has to make
        self._unmade = count

    def deal(self) -> dict[str, Sequence[int]]:
        """The first deal, of all segments."""
        return self._deal(range(self.count))

    def lose(self, name: str) -> dict[str, Sequence[int]]:
        """``name`` is gone. Its unmade segments, and made ones that no other node holds, go to the other mergers."""
        orphans = []
        for index in range(self.count):
            self._drop(name, index)
            if self._made[index] and not self._holders[index]:
                self._made[index] = 0
                self._unmade += 1
                orphans.append(index)
            elif not self._made[index] and self._owner[index] == name:
                orphans.append(index)
        if name in self.mergers:
            self.mergers.remove(name)
        self._owed.pop(name, None)
        return self._deal(orphans) if self.mergers else {}

    def owns(self, name: str, start: int, stop: int) -> bool:
        """Whether all of these are dealt to ``name``."""
        return 0 <= start < stop <= self.count and all(owner == name for owner in self._owner[start:stop])

    def contradicted(self, start: int, hashes: Sequence[bytes]) -> str | None:
        """Who reported another hash of one of these segments before, "" if unknown; None if nobody did."""
        for index, found in enumerate(hashes, start):
            if self.hashes[index] not in (None, found):
                return self._told_by[index]
        return None

    def made(self, name: str, start: int, hashes: Sequence[bytes]) -> bool:
        """``name`` serves these segments of the result, which were dealt to it. True if that is new."""
        news = False
        for index, found in enumerate(hashes, start):
            news |= self._know(index, found, name) or name not in self._holders[index]
            self._hold(name, index)
        return news

    def seen(self, name: str, index: int, found: bytes) -> bool:
        """``name`` holds a segment that its merger has not reported yet. False if another hash is known."""
        if self.hashes[index] not in (None, found):
            return False
        self._know(index, found, "" if self._dealt_again[index] else self._owner[index])
        self._hold(name, index)
        return True

    def holds(self, name: str, indices: Iterable[int]) -> None:
        """``name`` has fetched these; their merger may not have reported them yet."""
        for index in indices:
            self._hold(name, index)

    def of(self, name: str) -> list[int]:
        """The segments dealt to ``name``."""
        return [index for index, owner in enumerate(self._owner) if owner == name]

    def owes(self, name: str) -> bool:
        """Whether a merger still has segments to make."""
        return self._owed.get(name, 0) > 0

    def holder_of(self, index: int) -> str | None:
        """A node that can serve this segment."""
        holders = self._holders[index]
        owner = self._owner[index]
        return owner if owner in holders else next(iter(sorted(holders)), None)

    @property
    def known(self) -> bool:
        """Whether all segments of the result have been made."""
        return not self._unmade

    def whole(self) -> list[str]:
        """The nodes that hold all of the result."""
        return [name for name, held in self._held.items() if held == self.count]

    def _deal(self, indices: Sequence[int]) -> dict[str, Sequence[int]]:
        first = sorted(self.mergers, key=lambda name: self._owed[name])  # stable: those with the least to do first
        ordered = first if any(self._owed.values()) else self.mergers
        shares = {name: share for name, share in dealt(indices, ordered[::-1]).items() if share}
        for name, share in shares.items():
            self._owed[name] += len(share)
            for index in share:
                self._dealt_again[index] = bool(self._owner[index])
                self._owner[index] = name
        return shares

    def _know(self, index: int, found: bytes, by: str) -> bool:
        """Notes that the segment is made. True if that is new."""
        if self.hashes[index] is None:
            self.hashes[index], self._told_by[index] = found, by
        if self._made[index]:
            return False
        self._made[index] = 1
        self._unmade -= 1
        if self._owner[index] in self._owed:
            self._owed[self._owner[index]] -= 1
        return True

    def _hold(self, name: str, index: int) -> None:
        if name not in self._holders[index]:
            self._holders[index].add(name)
            self._held[name] = self._held.get(name, 0) + 1

    def _drop(self, name: str, index: int) -> None:
        if name in self._holders[index]:
            self._holders[index].remove(name)
            self._held[name] -= 1
