"""Reports are written together, and never hold up the end of an SN."""

import asyncio

from services.sn.reports import NodeReport, ReportWriter


def report(name: str, loss: float = 1.0) -> NodeReport:
    return NodeReport(1, name, loss, 0.5, 1, 3)


async def test_what_is_held_is_written_at_the_end_the_newest_of_each_node() -> None:
    written: list[NodeReport] = []

    async def write(one: NodeReport) -> None:
        written.append(one)

    writer = ReportWriter("training", write)
    for one in (report("sl-1", 2.0), report("sl-2"), report("sl-1")):
        writer.put(one)
    await writer.finish()
    assert sorted(written, key=lambda one: one.name) == [report("sl-1"), report("sl-2")]


async def test_a_chain_that_stands_still_does_not_hold_up_the_end() -> None:
    async def write(_: NodeReport) -> None:
        await asyncio.Event().wait()

    writer = ReportWriter("training", write)
    writer.put(report("sl-1"))
    await writer.finish(within_s=0.01)
