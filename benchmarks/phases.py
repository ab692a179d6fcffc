"""Where the time of a round goes, from what SLs log of their steps at the level DEBUG."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.report import percentile

# What a node does while it is in a state.
STATES = {
    "CheckingIn": "check_in",
    "Awaiting": "wait",
    "Merging": "lead",
    "Publishing": "publish",
    "Fetching": "fetch",
}

# What lies between two lines of a log; the first of a pair is the leader's, the second each node's.
BETWEEN = (
    ("share", "shared out", "merged its share"),
    ("gather", "merged its share", "holds the result"),
    ("collect", "leads the round", "collected"),  # where the leader merges alone
    ("merge", "collected", "written"),
)


def phases_of(logs: Sequence[Path], merged_at: Sequence[Sequence[float]]) -> dict[str, dict[str, float]]:
    """``p50_s`` and ``max_s`` of each phase over nodes and rounds, which overlap between nodes.

    ``merged_at``: when each node's program had the merged model of each round, from that before the first; seconds
    since the epoch. ``write``: from there to the next model, whole and hashed in the SL's store.
    """
    found: dict[str, list[float]] = defaultdict(list)
    said: dict[tuple[str, int], float] = {}  # the last time, by any node
    nodes = [list(_entries(log)) for log in logs]
    for entries in nodes:
        said |= {(entry["event"], entry["round"]): entry["at"] for entry in entries if "round" in entry}
    for entries, times in zip(nodes, merged_at, strict=True):
        timed = [entry for entry in entries if times[0] <= entry["at"] <= times[-1]]
        steps = [entry for entry in timed if entry["event"] == "step"]
        _add_states(steps, found)
        _add_between(timed, said, found)
        offered = [entry["at"] for entry in steps if entry["on"] == "ParametersOffered"]
        handed = [entry["at"] for entry in timed if entry["event"] == "merged model"]
        found["write"] += [came - since for came, since in zip(offered, times, strict=False)]
        found["deliver"] += [taken - given for taken, given in zip(times[1:], handed, strict=False)]
    return {
        name: {"p50_s": round(percentile(seconds, 50), 3), "max_s": round(max(seconds), 3)}
        for name, seconds in found.items()
    }


def _entries(log: Path) -> Iterable[dict[str, Any]]:
    for line in log.read_text().splitlines():
        if line.startswith("{"):
            entry = json.loads(line)
            yield {"event": "", **entry, "at": datetime.fromisoformat(entry["timestamp"]).timestamp()}


def _add_states(steps: Sequence[Mapping[str, Any]], found: dict[str, list[float]]) -> None:
    entered = 0.0
    for before, after in pairwise(steps):
        if before["to"] != before["state"] or not entered:
            entered = before["at"]
        if after["to"] != after["state"] and after["state"] in STATES:
            found[STATES[after["state"]]].append(after["at"] - entered)


def _add_between(
    entries: Sequence[Mapping[str, Any]], said: Mapping[tuple[str, int], float], found: dict[str, list[float]]
) -> None:
    own: dict[tuple[str, int], float] = {}
    for entry in entries:
        for name, first, second in BETWEEN:
            if entry["event"] == second and "round" in entry:
                since = own.get((first, entry["round"])) or said.get((first, entry["round"]))
                if since is not None:
                    found[name].append(entry["at"] - since)
        if "round" in entry:
            own[entry["event"], entry["round"]] = entry["at"]
