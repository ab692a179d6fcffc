"""What nodes report about rounds: one JSON object per line with round and term, and one trace per round
across nodes.
"""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sl_swarm import swarm_of

from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.runtime import logs, traces

NAMES = ("sl-1", "sl-2")
CONTRACT = "defaultbb.cqdb.sml.hpe"

# The log events that report on a round, at any node.
OF_A_ROUND = {
    "checked in", "merging", "leads the round", "round accepted", "merged model", "training complete", "reported",
    "step",
}  # fmt: skip


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    traces.use(provider)
    yield exporter
    traces.use(None)
    provider.shutdown()


async def train(pki: Any, directory: Path, **changes: Any) -> str:
    """Trains with two nodes for four rounds; returns the address of the training's contract."""
    async with swarm_of(pki, directory, *NAMES, **changes) as swarm:
        programs = [
            swarm.ml(name, {"w": np.full(8, i, np.float32)}, lambda it, _number: it, min_peers=2)
            for i, name in enumerate(NAMES)
        ]
        await asyncio.gather(*(program.run() for program in programs))
        for name in NAMES:
            assert await swarm.nodes[name].ended() is None
        return str(swarm.view.location)


async def test_each_event_is_a_json_object_and_those_of_a_round_say_which(
    pki: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWARM_LOG_FORMAT", "json")  # of every node, the license server too
    await train(pki, tmp_path)
    events = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    of_a_round = [it for it in events if it["event"] in OF_A_ROUND and it.get("state") not in ("Unopened", "Enrolling")]
    assert {it["event"] for it in of_a_round} >= {"checked in", "merging", "leads the round", "round accepted"}
    for it in of_a_round:
        assert it["contract"] == CONTRACT and it["round"] >= 1, it
        assert {"timestamp", "level", "part"} <= it.keys()
        assert "term" in it or it["event"] == "reported", it  # a report may come long after its round
    by_node = Counter(it["node"] for it in of_a_round if "node" in it)
    assert all(by_node[name] > 10 for name in NAMES)
    accepted = [(it["round"], it["term"]) for it in events if it["event"] == "round accepted"]
    assert accepted == [(1, 1), (2, 1), (3, 1), (4, 1)]
    taken = [(it["round"], it["term"]) for it in events if it["event"] == "merged model" and it["node"] == "sl-1"]
    assert taken == accepted


def test_what_a_library_says_has_the_same_form(capfd: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    kept, root.handlers = root.handlers, []
    try:
        logs.configure("json", "sn-1")
        try:
            raise ValueError("a reason")
        except ValueError:
            logging.getLogger("grpc").exception("it failed\nin two lines")
        (line,) = capfd.readouterr().out.splitlines()
    finally:
        root.handlers = kept
    said = json.loads(line)
    assert (said["node"], said["part"], said["level"]) == ("sn-1", "grpc", "error")
    assert said["event"] == "it failed\nin two lines" and "a reason" in said["exception"]


async def test_a_round_is_one_trace_across_sls_leader_and_sn(
    pki: Any, tmp_path: Path, spans: InMemorySpanExporter
) -> None:
    await train(pki, tmp_path)
    second = [span for span in spans.get_finished_spans() if facts(span).get("round") == 2]
    (trace,) = {span.context.trace_id for span in second if span.context}
    by_node = {name: [span.name for span in second if facts(span).get("node") == name] for name in NAMES}
    for name in NAMES:
        assert Counter(by_node[name])["round"] == 1
        assert {"store", "check-in", "fetch"} <= set(by_node[name])
    assert "wait" in by_node[NAMES[0]] + by_node[NAMES[1]]  # the leader need not wait if it checks in last
    led = [name for name in NAMES if "merge" in by_node[name]]
    assert len(led) == 1 and "publish" in by_node[led[0]]
    served = {span.name.rsplit("/", 1)[-1]: span for span in second if facts(span).get("caller")}
    assert {"CheckIn", "Publish"} <= served.keys()
    assert facts(served["Publish"]) == {"caller": led[0], "contract": CONTRACT, "round": 2, "term": 1}
    parents = {span.context.span_id: span.name for span in second if span.context}
    assert parents[served["Publish"].parent.span_id] == "publish"  # type: ignore[union-attr]
    assert parents[served["CheckIn"].parent.span_id] == "check-in"  # type: ignore[union-attr]
    others = {span.context.trace_id for span in spans.get_finished_spans() if facts(span).get("round") == 3}  # type: ignore[union-attr]
    assert trace not in others


def facts(span: ReadableSpan) -> dict[str, Any]:
    return {name.removeprefix("swarm."): value for name, value in (span.attributes or {}).items()}


async def test_without_an_endpoint_nothing_is_traced_or_carried(
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(traces.ENDPOINT_VARIABLE, raising=False)
    traces.configure("swarm-sl", "sl-1")
    assert not traces.on()
    assert traces.carried() is None
    span = traces.begin_in(traces.RoundOf("0x1", 1), "round", {})
    assert span is traces.OFF and span.begin("store", {}) is traces.OFF
    async with swarm_of(pki, tmp_path) as swarm:
        identity = pki.identity("admin", "admin")
        async with SNClient(f"localhost:{swarm.sn_port}", identity) as client:
            assert (await client.network.GetInfo(pb.GetInfoRequest())).name == "sn-1"
