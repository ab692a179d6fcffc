"""Work that nobody waits for is never lost without a word, and every task of a node is such work or waited for."""

import ast
import asyncio
import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.errors import ChainError
from services.runtime import logs
from services.runtime.background import Background

ROOT = Path(__file__).parents[2]
FOLDERS = ("sl", "sn", "chain", "rpc", "licensing")

# Tasks that the same function, or its counterpart, looks at the end of.
WAITED_FOR = {
    "services/chain/geth.py": {"ask"},
    "services/chain/geth_process.py": {"_launch", "_make_chain", "_exited_or_out_of_room"},
    "services/rpc/name_holding.py": {"keep"},
    "services/sl/transfer/replication.py": {"_one_of"},
    "services/sl/transfer/file_server.py": {"_copy"},
    "services/sl/link.py": {"while_here"},
    "services/sl/ml.py": {"_send"},
    "services/sl/transfer/parking.py": {"_over"},
    "services/sn/api.py": {"HoldName"},
    "services/sn/cluster_manager.py": {"open"},
    "services/sn/fetching.py": {"fetch_blocks"},
    "services/sn/main.py": {"_unless"},
    "services/sn/newcomer.py": {"take_chain"},
    "services/sn/peering.py": {"serve"},
}
STARTS = {"create_task", "ensure_future"}


@pytest.fixture(autouse=True)
def _json_lines() -> None:
    logs.configure("json", "sl-1")


def told(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


async def fails(error: Exception) -> None:
    raise error


async def never() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("error", "level"), [(ValueError("odd"), "error"), (ChainError(problem="it stands", log="geth.log"), "warning")]
)
async def test_an_error_is_logged_and_told_to_whom_it_concerns(
    capsys: pytest.CaptureFixture[str], error: Exception, level: str
) -> None:
    background, heard = Background("round"), asyncio.Queue[Exception]()
    background.run(fails(error), "merging a share", heard.put_nowait)
    assert await heard.get() is error
    (line,) = told(capsys)
    assert (line["event"], line["level"]) == ("merging a share failed", level)
    assert ("exception" in line) == (level == "error")


async def test_vital_work_ends_who_waits_for_it() -> None:
    background = Background("sn")
    background.run(fails(ValueError("odd")), "following the chain", vital=True)
    with pytest.raises(ValueError, match="odd"):
        await background.broken()


async def test_work_that_is_kept_begins_anew_until_it_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    background, attempts = Background("sn"), []

    async def work() -> None:
        attempts.append(len(attempts))
        if len(attempts) < 3:
            raise ValueError("odd")

    background.keep(work, "fetching blocks", again_after_s=0.0)
    await background.settle(10)
    assert attempts == [0, 1, 2]
    assert [line["event"] for line in told(capsys)] == ["fetching blocks failed"] * 2


async def test_it_ends_with_its_owner_who_hears_no_more_of_it() -> None:
    background, heard = Background("round"), list[Exception]()

    async def odd_at_the_end() -> None:
        try:
            await never()
        finally:
            raise ValueError("odd")

    tasks = [background.run(never(), "waiting"), background.run(odd_at_the_end(), "merging", heard.append)]
    await background.settle(0.01)
    await background.close()
    assert all(task.done() for task in tasks)
    assert heard == []


def starts(path: Path) -> Iterator[tuple[str, int]]:
    """The functions that begin tasks, and where."""

    class Visitor(ast.NodeVisitor):
        def __init__(self) -> None:
            self.inside: list[str] = []
            self.found: list[tuple[str, int]] = []

        def visit_FunctionDef(self, node: Any) -> None:
            self.inside.append(node.name)
            self.generic_visit(node)
            self.inside.pop()

        visit_AsyncFunctionDef = visit_FunctionDef

        def visit_Call(self, node: ast.Call) -> None:
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in STARTS:
                self.found.append((self.inside[-1] if self.inside else "", node.lineno))
            self.generic_visit(node)

    visitor = Visitor()
    gc.disable()  # Python 3.11 may fail where garbage is collected while it builds a tree (CPython 106905)
    try:
        visitor.visit(ast.parse(path.read_text()))
    finally:
        gc.enable()
    yield from visitor.found


def test_no_task_of_a_node_may_fail_unseen() -> None:
    """Each is run by Background, or by a function that looks at how it ends."""
    unseen = [
        f"{path.relative_to(ROOT)}:{line}: {function} begins a task; let services.runtime.background run it"
        for folder in FOLDERS
        for path in sorted((ROOT / "services" / folder).rglob("*.py"))
        for function, line in starts(path)
        if function not in WAITED_FOR.get(str(path.relative_to(ROOT)), set())
    ]
    assert unseen == []
