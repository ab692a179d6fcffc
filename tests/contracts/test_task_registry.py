"""TaskRegistry: what a task is, who may write, and that nothing changes once it is finalized."""

import hashlib
from collections.abc import Iterator
from dataclasses import astuple
from typing import Any

import pytest
from contract_bench import STRANGER, Bench
from hypothesis import given, settings
from hypothesis import strategies as st

from services import errors
from services.chain.task_events import TaskBodySet, TaskCreated, TaskFinalized, TaskHeader, TaskRemoved
from services.chain.tasks import BODY_LIMIT_BYTES, FIELD_LIMIT_BYTES, content_hash

HEADER = TaskHeader("train", "RUN_SWARM", "Ada", "ROOTTASK", "result")
WHO = ("swci/swci-1", b"\x01" * 32)
AT = 1_700_000_000_123
EMPTY = hashlib.sha256(b"").digest()


@pytest.fixture(scope="module")
def deployed() -> Bench:
    return Bench()


@pytest.fixture
def bench(deployed: Bench) -> Iterator[Bench]:
    start = deployed.snapshot()
    yield deployed
    deployed.revert(start)


def create(bench: Bench, header: TaskHeader = HEADER, body: bytes = b"body", finalize: bool = False, **by: Any) -> Any:
    return bench.send_tasks("createTask", astuple(header), *WHO, body, finalize, AT, **by)


def test_a_task_tells_of_itself_in_events(bench: Bench) -> None:
    created, body, finalized = create(bench, finalize=True)
    assert isinstance(created, TaskCreated) and isinstance(body, TaskBodySet) and isinstance(finalized, TaskFinalized)
    assert (created.header, created.registrant, created.fingerprint, created.at) == (HEADER, *WHO, AT)
    assert (body.name, body.body_hash, body.body) == ("train", hashlib.sha256(b"body").digest(), b"body")
    assert finalized.content_hash == content_hash(HEADER, b"body")


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.text(min_size=1, max_size=40)] * 5), st.binary(max_size=300))
def test_the_content_hash_is_what_python_computes(fields: tuple[str, str, str, str, str], body: bytes) -> None:
    bench, header = Bench.shared(), TaskHeader(*fields)
    start = bench.snapshot()
    try:
        create(bench, header, body)
        assert bench.read_tasks("contentHash", header.name) == content_hash(header, body)
    finally:
        bench.revert(start)


def test_a_body_is_replaced_only_by_whoever_has_seen_it(bench: Bench) -> None:
    create(bench, body=b"")
    bench.send_tasks("setBody", "train", EMPTY, b"one")
    with pytest.raises(errors.TaskChanged):
        bench.send_tasks("setBody", "train", EMPTY, b"two")
    with pytest.raises(errors.TaskChanged):
        bench.send_tasks("finalizeTask", "train", EMPTY)
    bench.send_tasks("finalizeTask", "train", hashlib.sha256(b"one").digest())


def test_a_finalized_task_never_changes(bench: Bench) -> None:
    create(bench, finalize=True)
    hashed = hashlib.sha256(b"body").digest()
    for call in (("setBody", "train", hashed, b"other"), ("finalizeTask", "train", bytes(32)), ("removeTask", "train")):
        with pytest.raises(errors.TaskIsFinalized):
            bench.send_tasks(*call)
    with pytest.raises(errors.TaskNameTaken):
        create(bench)


def test_a_removed_task_is_unknown_and_its_name_free(bench: Bench) -> None:
    create(bench)
    (removed,) = bench.send_tasks("removeTask", "train")
    assert isinstance(removed, TaskRemoved)
    for call in (("setBody", "train", EMPTY, b""), ("finalizeTask", "train", bytes(32)), ("removeTask", "train")):
        with pytest.raises(errors.UnknownTask):
            bench.send_tasks(*call)
    create(bench)
    assert bench.read_tasks("taskCount") == 1


@pytest.mark.parametrize("field", ["name", "task_type", "author", "prereq", "outcome"])
def test_fields_have_one_limit(field: str, bench: Bench) -> None:
    values = dict(zip(("name", "task_type", "author", "prereq", "outcome"), astuple(HEADER), strict=True))
    create(bench, TaskHeader(**{**values, field: "x" * FIELD_LIMIT_BYTES}))
    with pytest.raises(errors.TooLong, match=f"{FIELD_LIMIT_BYTES + 1} bytes, of at most {FIELD_LIMIT_BYTES}"):
        create(bench, TaskHeader(**{**values, field: "y" * (FIELD_LIMIT_BYTES + 1)}))


def test_a_body_of_64_kib_fits_and_no_more(bench: Bench) -> None:
    create(bench, body=b"b" * BODY_LIMIT_BYTES, finalize=True)
    with pytest.raises(errors.TooLong):
        create(bench, TaskHeader("other", "RUN_SWARM", "", "", ""), b"b" * (BODY_LIMIT_BYTES + 1))


def test_a_task_without_a_body_cannot_be_finalized(bench: Bench) -> None:
    with pytest.raises(errors.TaskHasNoBody):
        create(bench, body=b"", finalize=True)


def test_only_sns_write(bench: Bench) -> None:
    with pytest.raises(errors.NotARegisteredSN):
        create(bench, by=STRANGER)
    create(bench)
    for call in (("setBody", "train", EMPTY, b""), ("finalizeTask", "train", bytes(32)), ("removeTask", "train")):
        with pytest.raises(errors.NotARegisteredSN):
            bench.send_tasks(*call, by=STRANGER)
