"""Use over time as paths of an SVG, with steps, as a seat is either held or not. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.license_server.usage import UsagePoint

WIDTH, HEIGHT = 1000, 200
TICKS = 5


@dataclass(frozen=True)
class DenialMark:
    """Denials at one time: the place ``x`` and their number."""

    x: float
    denied: int


@dataclass(frozen=True)
class Chart:
    """``line``, ``area``, ``limit``: paths in a box of WIDTH x HEIGHT, which is stretched to the available space."""

    line: str
    area: str
    limit: str
    marks: tuple[DenialMark, ...]
    top: int
    peak: int
    mean: float
    denied: int
    capacity: int
    times: tuple[datetime, ...]
    points: tuple[UsagePoint, ...]

    @classmethod
    def of(cls, points: Sequence[UsagePoint], *, to_peak: bool = False) -> "Chart":
        """``points``: at least one, evenly spaced, oldest first. ``to_peak``: the box is as high as the line goes."""
        peak = max(point.used for point in points)
        highest = max(point.capacity for point in points)
        top = max(peak, 1) if to_peak else _round_up(max(peak, highest if highest <= 4 * max(peak, 1) else 2 * peak, 4))
        step = WIDTH / len(points)
        line = _steps([point.used for point in points], step, top)
        return cls(
            line=line,
            area=f"{line}V{HEIGHT}H0Z",
            limit=_steps([point.capacity for point in points], step, top),
            marks=tuple(
                DenialMark(round((number + 0.5) * step, 1), point.denied)
                for number, point in enumerate(points)
                if point.denied
            ),
            top=top,
            peak=peak,
            mean=sum(point.used for point in points) / len(points),
            denied=sum(point.denied for point in points),
            capacity=points[-1].capacity,
            times=tuple(points[number * (len(points) - 1) // (TICKS - 1)].at for number in range(TICKS)),
            points=tuple(points),
        )

    @property
    def limit_shows(self) -> bool:
        """Whether the capacity is within the box; a box that high could flatten the line."""
        return any(point.capacity <= self.top for point in self.points)

    def data(self) -> str:
        """The values, for the script in the browser: 'seconds,used,capacity,denied;...'."""
        return ";".join(f"{p.at.timestamp():.0f},{p.used},{p.capacity},{p.denied}" for p in self.points)


def _steps(values: Sequence[int], step: float, top: int) -> str:
    heights = [round(HEIGHT - min(value, top * 2) * HEIGHT / top, 1) for value in values]
    path, before = [f"M0 {heights[0]:g}"], heights[0]
    for number, height in enumerate(heights[1:], start=1):
        if height != before:
            path.append(f"H{number * step:.1f}V{height:g}")
            before = height
    return "".join([*path, f"H{WIDTH}"])


def _round_up(value: int) -> int:
    """Rounds up to 4, 8, 12, 20, 40, 80, ...: multiples of 4, so that half and quarter are whole."""
    scale = 4
    while True:
        for factor in (1, 2, 3, 5):
            if value <= scale * factor:
                return scale * factor
        scale *= 10
