"""What processes hold in memory, now and at most, as the kernel counts it."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

EVERY_S = 0.01
_RESET_PEAK = "5"


@dataclass(frozen=True)
class Sample:
    """Bytes. ``resident`` has pages of files in it that the kernel may take back at any time; ``own`` has not.

    ``peak``: the most that was resident since ``forget_peak``, which no sample misses.
    """

    at: float
    resident: int
    own: int
    peak: int


def sample(pid: int) -> Sample:
    """Raises OSError where the process is gone."""
    fields = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in {"VmHWM", "VmRSS", "RssAnon"}:
            fields[name] = int(value.split()[0]) * 1024
    return Sample(time.monotonic(), fields["VmRSS"], fields["RssAnon"], fields["VmHWM"])


def forget_peak(pid: int) -> None:
    """The process's peak is counted from now."""
    Path(f"/proc/{pid}/clear_refs").write_text(_RESET_PEAK)


class Watch:
    """Samples processes, by name, while the block runs."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self.pids = dict(pids)
        self.idle = {name: sample(pid) for name, pid in self.pids.items()}
        self.samples: dict[str, list[Sample]] = {name: [] for name in self.pids}
        self._over = asyncio.Event()

    async def __aenter__(self) -> "Watch":
        for pid in self.pids.values():
            forget_peak(pid)
        self._sampling = asyncio.create_task(self._sample())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over.set()
        await self._sampling

    async def _sample(self) -> None:
        while True:
            for name, pid in self.pids.items():
                self.samples[name].append(sample(pid))
            try:
                async with asyncio.timeout(EVERY_S):
                    await self._over.wait()
            except TimeoutError:
                continue
            return

    def peak(self, name: str) -> int:
        """The most that was resident, above idle."""
        return self.samples[name][-1].peak - self.idle[name].resident

    def peak_own(self, name: str) -> int:
        """The same without pages of files, as far as samples saw it."""
        return max(entry.own for entry in self.samples[name]) - self.idle[name].own

    def peak_within(self, name: str, begin: float, end: float) -> int:
        """The most that a sample saw resident in that time, above idle; 0 where there is none."""
        seen = [entry.resident for entry in self.samples[name] if begin <= entry.at <= end]
        return max(seen, default=self.idle[name].resident) - self.idle[name].resident
