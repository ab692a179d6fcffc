"""Where the time of a round goes, from what SLs log of their steps at the level DEBUG."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.report import percentile

# What a node does while it is in a state; the leader's time in Merging is cut at the lines that it logs there.
STATES = {"CheckingIn": "check_in", "Awaiting": "wait", "Publishing": "publish", "Fetching": "fetch"}
LEADS = (("leads the round", "collect"), ("collected", "merge"), ("written", "copy"))

Seconds = Mapping[str, list[float]]


def phases_of(logs: Sequence[Path], merged_at: Sequence[Sequence[float]]) -> dict[str, dict[str, float]]:
    """``p50_s`` and ``max_s`` of each phase over nodes and rounds, which overlap between nodes.

    ``merged_at``: when each node's program had the merged model of each round, from that before the first; seconds
    since the epoch. ``write``: from there to the next model, whole and hashed in the SL's store.
    """
    found: dict[str, list[float]] = defaultdict(list)
    for log, times in zip(logs, merged_at, strict=True):
        entries = [entry for entry in _entries(log) if times[0] <= entry["at"] <= times[-1]]
        steps = [entry for entry in entries if entry.get("event") == "step"]
        _add_states(steps, found)
        _add_lead(entries, found)
        offered = [entry["at"] for entry in steps if entry["on"] == "Offered"]
        handed = [entry["at"] for entry in entries if entry.get("event") == "merged model"]
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
            yield {**entry, "at": datetime.fromisoformat(entry["timestamp"]).timestamp()}


def _add_states(steps: Sequence[Mapping[str, Any]], found: dict[str, list[float]]) -> None:
    entered = 0.0
    for before, after in pairwise(steps):
        if before["to"] != before["state"] or not entered:
            entered = before["at"]
        if after["to"] != after["state"] and after["state"] in STATES:
            found[STATES[after["state"]]].append(after["at"] - entered)


def _add_lead(entries: Sequence[Mapping[str, Any]], found: dict[str, list[float]]) -> None:
    names = dict(LEADS)
    doing, since = "", 0.0
    for entry in entries:
        merged = entry.get("event") == "step" and entry["on"] == "Merged"
        if entry.get("event") in names or merged:
            if doing:
                found[doing].append(entry["at"] - since)
            doing, since = names.get(entry["event"], ""), entry["at"]
