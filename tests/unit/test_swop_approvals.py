"""A person confirms exactly what would run; anything else waits again."""

from pathlib import Path

import pytest

from services.errors import FileUnreadable, StorageError, UnknownApproval
from services.swop.approvals import Approvals

ONE, OTHER = b"\x01" * 32, b"\x02" * 32


def test_what_was_confirmed_may_run_and_nothing_else(tmp_path: Path) -> None:
    approvals = Approvals(tmp_path / "approvals")
    assert approvals.ask(ONE, {"task": "train"})
    assert not approvals.ask(ONE, {"task": "train"})
    assert approvals.waiting() == {ONE.hex(): {"task": "train"}}
    assert approvals.approve(ONE.hex()[:16]) == {"task": "train"}
    assert approvals.given(ONE) and not approvals.given(OTHER)
    assert approvals.waiting() == {}


def test_an_approval_needs_one_task_that_waits(tmp_path: Path) -> None:
    approvals = Approvals(tmp_path / "approvals")
    approvals.open()
    for answer in (approvals.approve, lambda hash_: approvals.refuse(hash_, "")):
        for unknown in ("01", ""):
            with pytest.raises(UnknownApproval, match="no task waits under that hash"):
                answer(unknown)
    approvals.ask(b"\x01\x01" * 16, {"task": "a"})
    approvals.ask(b"\x01\x02" * 16, {"task": "b"})
    with pytest.raises(UnknownApproval, match="several tasks begin so"):
        approvals.approve("01")


def test_the_last_answer_counts(tmp_path: Path) -> None:
    approvals = Approvals(tmp_path / "approvals")
    approvals.ask(ONE, {"task": "train"})
    assert approvals.refusal(ONE) is None
    assert approvals.refuse(ONE.hex()[:16], "not before größe is known") == {"task": "train"}
    assert approvals.refusal(ONE) == "not before größe is known"
    assert approvals.waiting() == {} and not approvals.given(ONE)
    approvals.approve(ONE.hex()[:16])
    assert approvals.refusal(ONE) is None and approvals.given(ONE)
    approvals.refuse(ONE.hex()[:16], "")
    assert approvals.refusal(ONE) == "" and not approvals.given(ONE)


def test_the_files_are_the_owners_alone(tmp_path: Path) -> None:
    approvals = Approvals(tmp_path / "approvals")
    approvals.ask(ONE, {"task": "train"})
    approvals.approve(ONE.hex())
    assert approvals.directory.stat().st_mode & 0o777 == 0o700


def test_whoever_looks_where_no_swop_has_worked_is_told_so(tmp_path: Path) -> None:
    approvals = Approvals(tmp_path / "approvals")
    for answer in (approvals.waiting, lambda: approvals.approve("01"), lambda: approvals.refuse("01", "")):
        with pytest.raises(FileUnreadable, match="approvals cannot be read: it is not there, so no SWOP has worked"):
            answer()
    approvals.open()
    assert approvals.waiting() == {}
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="File exists"):
        Approvals(tmp_path / "file").open()
