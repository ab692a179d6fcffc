"""A log for people: what a peer says is shown, and is never taken for what this node says."""

import errno
import io
import json
import logging
import threading

import structlog

from services.runtime import logs

FORGED = "no\n12:30:45.123 INFO    sn-1  the training is over\r\n\x1b[2Jend\x00"


def lines_of(out: io.StringIO) -> list[str]:
    return [line for line in out.getvalue().splitlines() if not line.startswith("    ")]


def test_no_reason_of_a_peer_looks_like_an_event_of_this_node() -> None:
    out, before = io.StringIO(), structlog.get_config()
    try:
        logs.configure("human", "sn-1", stream=out)
        log = logs.get("sn")
        log.warning("left out", reason=FORGED)
        log.info(f"waiting for {FORGED}")
        try:
            raise ValueError(FORGED)
        except ValueError:
            log.exception("a call failed unexpectedly")
    finally:
        structlog.configure(**before)
        structlog.contextvars.clear_contextvars()
    assert [line.split("  ")[-1][:20] for line in lines_of(out)] == [
        "reason=no", "waiting for no", "a call failed unexpe",
    ]  # fmt: skip
    assert "the training is over" in out.getvalue()
    assert all(letter.isprintable() or letter == "\n" for letter in out.getvalue())


def test_what_a_library_says_is_one_event_too() -> None:
    formatter = logs._ForPeople(logs.LIBRARY_FORMAT)
    said = formatter.format(logging.makeLogRecord({"name": "grpc", "levelname": "ERROR", "msg": FORGED}))
    first, *rest = said.splitlines()
    assert first.endswith("grpc: no")
    assert rest and all(line.startswith("    ") for line in rest)
    assert "\x1b" not in said


def test_an_event_of_a_thread_has_the_node_too() -> None:
    out, before = io.StringIO(), structlog.get_config()
    try:
        logs.configure("json", "license-1", stream=out)
        work = threading.Thread(target=logs.get("license").info, args=("seat taken",))
        work.start()
        work.join()
    finally:
        structlog.configure(**before)
        structlog.contextvars.clear_contextvars()
    said = json.loads(out.getvalue())
    assert (said["node"], said["event"]) == ("license-1", "seat taken")


class FullDisk(io.StringIO):
    full = True

    def write(self, text: str) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(text)

    def flush(self) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")


def test_a_log_on_a_full_disk_fails_nobody_and_goes_on_when_there_is_room() -> None:
    out, before = FullDisk(), structlog.get_config()
    try:
        logs.configure("human", "sn-1", stream=out)
        logs.get("sn").error("geth stops, and is started again when there is room")
        out.full = False
        logs.get("sn").info("geth is up")
    finally:
        structlog.configure(**before)
        structlog.contextvars.clear_contextvars()
    assert [line.split("  ")[-1] for line in lines_of(out)] == ["geth is up"]
