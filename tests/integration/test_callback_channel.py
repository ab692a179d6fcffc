"""The channel over real pipes: bodies of any size, interruption, and the death of either end in a real process."""

import contextlib
import errno
import logging
import os
import select
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from swarm_callback import wire
from swarm_callback.channel import PIECE_BYTES, Channel, MLEnd, SLListener
from swarm_callback.errors import (
    ChannelClosed,
    ChannelError,
    Interrupted,
    NoChannel,
    PipeNotMade,
    Refused,
    StreamError,
    WireError,
)
from swarm_callback.params import encode
from swarm_callback.rounding import rounded
from swarm_callback.session import Session

DEADLINE_S = 30
OPEN = wire.Open("c", 1, 1, "mean", 1, "snapshot", False, 0, "TEST", 1)

# A training script with the smallest possible model, as its user would start it.
ML_PROGRAM = """
import sys
import numpy as np
from swarm_callback.base import SwarmCallbackBase

class Callback(SwarmCallbackBase):
    PLATFORMS = ("TEST",)
    def verify_platform(self, options): self.values = np.zeros(int(sys.argv[1]), np.uint8)
    def set_validation_data(self, data, batch_size): raise NotImplementedError
    def extract_parameters(self): return {"x": self.values}
    def load_parameters(self, tensors): self.values = tensors["x"].copy()
    def evaluate(self): return 0.0, 0.0

callback = Callback(syncFrequency=int(sys.argv[2]), minPeers=2)
callback.on_train_begin()
callback.on_train_end()
"""
SL_PROGRAM = """
import sys
from pathlib import Path
from swarm_callback import wire
from swarm_callback.channel import SLListener

channel = SLListener(Path(sys.argv[1]), Path(sys.argv[2])).accept()
channel.receive("it opened")
channel.send(wire.Opened("sl-1", 1, False, 0), doing="it waited")
if sys.argv[3] == "after the body":
    channel.receive("it sent")
    channel.read_body(lambda piece: None, "it sent")
else:
    channel.receive("it sent")
print("now", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def pipes(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "request.channel", tmp_path / "response.channel"


@pytest.fixture
def listener(pipes) -> Iterator[SLListener]:
    with SLListener(*pipes) as listener:
        yield listener


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


@pytest.fixture
def ends(listener, pipes, pool) -> Iterator[tuple[MLEnd, Channel]]:
    """Both ends in this process; the first message has been read."""
    ml = MLEnd.connect(*pipes, print)
    ml.send(OPEN, doing="it opened")
    sl = listener.accept()
    sl.receive("it opened")
    yield ml, sl
    ml.close()
    sl.close()


def start_ml(pipes, *, size: int = 1000, frequency: int = 5, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", ML_PROGRAM, str(size), str(frequency)]
    variables = {"SL_REQUEST_CHANNEL": str(pipes[0]), "SL_RESPONSE_CHANNEL": str(pipes[1])}
    env = os.environ | variables | environment
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def start_sl(pipes, when: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SL_PROGRAM, *map(str, pipes), when]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_pipes_are_private(listener, pipes):
    for path in pipes:
        assert stat.S_ISFIFO(path.stat().st_mode)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@contextlib.contextmanager
def another_user() -> Iterator[None]:
    """Acts as another user if this is root, whom no file mode stops."""
    mine = os.geteuid()
    if mine == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(mine)


@pytest.mark.parametrize(("what", "mode"), [("pipe", 0o040), ("directory", 0o640)])
def test_a_pipe_of_another_user_is_named_with_its_owner_and_mode(what, mode):
    with tempfile.TemporaryDirectory() as directory:
        pipes = (Path(directory) / "request", Path(directory) / "response")
        for path in pipes:
            os.mkfifo(path)
            path.chmod(0o040 if what == "pipe" else 0o666)
        Path(directory).chmod(0o755 if what == "pipe" else 0o640)
        wanted = rf"user \d+ may not open it, as .*belongs to user {os.geteuid()}, group \d+, with mode {mode:04o}"
        with another_user(), pytest.raises(ChannelError, match=wanted):
            MLEnd.connect(*pipes, print)
        Path(directory).chmod(0o700)


def test_pipes_that_are_there_are_taken(pipes):
    os.mkfifo(pipes[0], 0o600)
    SLListener(*pipes).close()
    assert not pipes[0].exists()


def test_where_there_can_be_no_pipe_its_file_system_is_named(pipes, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(os, "mkfifo", unsupported)
    words = rf"the file system of {pipes[0].parent} has no named pipes \(Operation not supported\)\. Choose a directory"
    with pytest.raises(PipeNotMade, match=words):
        SLListener(*pipes)


def test_a_file_in_the_place_of_a_pipe_is_refused_by_both_ends(pipes):
    for path in pipes:
        path.write_text("precious")
    with pytest.raises(ChannelError, match="is there already and is no pipe"):
        SLListener(*pipes)
    with pytest.raises(ChannelError, match="is no pipe"):
        MLEnd.connect(*pipes, print)
    assert pipes[0].read_text() == "precious"


@pytest.mark.parametrize("size", [1, PIECE_BYTES, 5 * PIECE_BYTES + 17])
def test_a_body_passes_both_ways_unchanged(ends, pool, tmp_path, size):
    ml, sl = ends
    body = np.random.default_rng(0).bytes(size)
    path = tmp_path / "stored"
    sent = pool.submit(ml.send, wire.Sync(1, 0), [memoryview(body[:1]), memoryview(body[1:])], doing="it sent")
    assert sl.receive("it sent") == (wire.Sync(1, 0), size)
    with path.open("wb", buffering=0) as file:
        sl.read_body(file.write, "it sent")
    sent.result(DEADLINE_S)
    assert path.read_bytes() == body

    merged = wire.Merged(1, 1, True, "", 1, False)
    sent = pool.submit(sl.send_file, merged, path, doing="it waited")
    assert ml.receive("it waited") == (merged, size)
    back = bytearray(size)
    ml.read_body_into(memoryview(back), "it waited")
    sent.result(DEADLINE_S)
    assert back == body


def test_a_body_is_never_whole_in_memory_where_it_is_stored(ends, pool):
    ml, sl = ends
    pieces: list[int] = []
    body = memoryview(bytes(10 * PIECE_BYTES))
    sent = pool.submit(ml.send, wire.Sync(1, 0), [body], doing="it sent")
    sl.receive("it sent")
    sl.read_body(lambda piece: pieces.append(len(piece)), "it sent")
    sent.result(DEADLINE_S)
    assert sum(pieces) == len(body)
    assert max(pieces) <= PIECE_BYTES


def test_a_body_must_be_read_before_the_next_message(ends):
    ml, sl = ends
    ml.send(wire.Sync(1, 0), [memoryview(b"body")], doing="it sent")
    sl.receive("it sent")
    with pytest.raises(WireError, match="4 bytes of the last body"):
        sl.receive("it sent")
    with pytest.raises(StreamError, match="it has 4 bytes, but 5 are expected"):
        sl.read_body_into(memoryview(bytearray(5)), "it sent")


def test_bytes_that_are_no_message_are_refused(listener, pipes):
    with open(pipes[1], "rb", opener=lambda path, _: os.open(path, os.O_RDONLY | os.O_NONBLOCK)):
        with pipes[0].open("wb") as request:
            request.write(b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n")
        sl = listener.accept()
        with pytest.raises(WireError, match="begins with b'GET '"):
            sl.receive("it opened")
        sl.close()


def test_each_end_can_be_interrupted_while_it_waits(ends, pool):
    for end in ends:
        waiting = pool.submit(end.receive, "it waited")
        end.interrupt()
        with pytest.raises(Interrupted):
            waiting.result(DEADLINE_S)


def test_a_writer_can_be_interrupted_while_nobody_reads(ends, pool):
    ml, _ = ends
    writing = pool.submit(ml.send, wire.Sync(1, 0), [memoryview(bytes(20 * PIECE_BYTES))], doing="it sent")
    ml.interrupt()
    with pytest.raises(Interrupted):
        writing.result(DEADLINE_S)


def test_a_listener_interrupts_its_wait_and_its_sessions(listener, ends, pool):
    _, sl = ends
    waiting = pool.submit(sl.receive, "it trained")
    listener.interrupt()
    with pytest.raises(Interrupted):
        waiting.result(DEADLINE_S)
    with pytest.raises(Interrupted):
        listener.accept()


def test_an_ml_program_that_comes_and_goes_without_a_word_is_noticed(listener, pipes):
    MLEnd.connect(*pipes, print).close()
    with pytest.raises(ChannelClosed, match="The ML program ended while its session was about to open"):
        listener.accept()


def test_a_pipe_that_seems_hung_up_while_the_other_end_opens_it_ends_neither(listener, pipes, pool, monkeypatch):
    """Linux reports this for nanoseconds, in some 5 of 300,000 openings that somebody watches."""
    real, told = select.poll, set()

    class Poll:
        def __init__(self):
            self.poller, self.pipe = real(), None

        def register(self, fd, events):
            self.pipe = fd if self.pipe is None else self.pipe
            self.poller.register(fd, events)

        def poll(self, *timeout):
            if self.pipe not in told:
                told.add(self.pipe)
                return [(self.pipe, select.POLLHUP)]
            return self.poller.poll(*timeout)

    monkeypatch.setattr(select, "poll", Poll)
    ml = MLEnd.connect(*pipes, print)
    ml.send(OPEN, doing="it opened")
    sl = listener.accept()
    answer = pool.submit(ml.receive, "it waited")
    opened = wire.Opened("sl-1", 1, False, 0)
    sl.send(opened, doing="it waited")
    assert answer.result(DEADLINE_S) == (opened, 0)
    assert len(told) == 2
    ml.close()
    sl.close()


def test_the_next_program_finds_the_listener_again(listener, pipes, pool):
    for number in (1, 2):
        accepted = pool.submit(listener.accept)
        ml = MLEnd.connect(*pipes, print)
        ml.send(wire.Sync(number, 0), doing="it opened")
        sl = accepted.result(DEADLINE_S)
        assert sl.receive("it opened") == (wire.Sync(number, 0), 0)
        ml.close()
        sl.close()


def test_an_ml_program_waits_for_its_sl_and_says_so(pipes, pool):
    said: list[str] = []
    spoke = threading.Event()

    def waiting(text: str) -> None:
        said.append(text)
        spoke.set()

    connecting = pool.submit(MLEnd.connect, *pipes, waiting)
    assert spoke.wait(DEADLINE_S)
    with SLListener(*pipes):
        connecting.result(DEADLINE_S).close()
    assert said[0] == f"Waiting for the SL sidecar to open {pipes[1]}"


@pytest.mark.parametrize(
    ("when", "size", "words"),
    [
        ("after the body", 1000, "while this program waited for the merged model"),
        ("before the body", 50 * PIECE_BYTES, "while this program sent its parameters"),
    ],
)
def test_an_sl_that_is_killed_is_reported_at_once_by_the_waiting_program(pipes, when, size, words):
    sl = start_sl(pipes, when)
    ml = start_ml(pipes, size=size)
    assert sl.stdout.readline() == "now\n"
    assert ml.poll() is None
    sl.send_signal(signal.SIGKILL)
    _, errors = ml.communicate(timeout=DEADLINE_S)
    sl.communicate()
    assert ml.returncode == 1
    assert errors == f"ERROR: The SL sidecar ended {words}. See its log for the cause, then start both again.\n"


def test_an_ml_program_that_is_killed_in_the_middle_of_a_body_is_reported(listener, pipes):
    ml = start_ml(pipes, size=50 * PIECE_BYTES)
    sl = listener.accept()
    sl.receive("it opened its session")
    sl.send(wire.Opened("sl-1", 1, False, 0), doing="it waited")
    _, size = sl.receive("it sent its parameters")
    taken: list[int] = []

    def sink(piece: memoryview) -> None:
        taken.append(len(piece))
        if len(taken) == 1:
            ml.kill()
            ml.wait(DEADLINE_S)

    with pytest.raises(ChannelClosed, match="The ML program ended while it sent its parameters"):
        sl.read_body(sink, "it sent its parameters")
    assert 0 < sum(taken) < size
    sl.close()
    ml.communicate()


def test_an_ml_program_that_is_killed_while_it_waits_is_reported(listener, pipes, pool):
    ml = start_ml(pipes)
    sl = listener.accept()
    sl.receive("it opened its session")
    sl.send(wire.Opened("sl-1", 1, False, 0), doing="it waited")
    sl.receive("it sent its parameters")
    sl.read_body(lambda piece: None, "it sent its parameters")
    waiting = pool.submit(sl.receive, "it waited for the merged model")
    ml.kill()
    ml.communicate()
    with pytest.raises(ChannelClosed, match="The ML program ended while it waited for the merged model"):
        waiting.result(DEADLINE_S)
    with pytest.raises(ChannelClosed):
        sl.send(wire.Merged(1, 1, True, "", 5, False), doing="it waited for the merged model")
    sl.close()


def test_a_refusal_is_the_last_line_of_the_program(listener, pipes):
    ml = start_ml(pipes)
    sl = listener.accept()
    sl.receive("it opened its session")
    sl.send(wire.Notice("2 of 3 peers are in"), doing="it waited")
    sl.send(wire.OpenRefused("name-taken", "The name sl-1 is taken. Use another."), doing="it waited")
    output, errors = ml.communicate(timeout=DEADLINE_S)
    sl.close()
    assert "2 of 3 peers are in" in output
    assert (ml.returncode, errors) == (1, "ERROR: The name sl-1 is taken. Use another.\n")


@pytest.mark.parametrize("coarse", [False, True], ids=["whole", "bf16"])
def test_an_exchange_takes_no_more_memory_than_the_merged_model(ends, pool, coarse):
    ml, sl = ends
    session = Session(ml, logging.getLogger("test"))
    values = np.ones(2 * 1024 * 1024, np.float32)
    header, data = encode({"x": values})

    def merge():
        sl.receive("it sent")
        sl.read_body(lambda piece: None, "it sent")
        sl.send(wire.Merged(1, 1, True, "", 0, False), [memoryview(header), values.data.cast("B")], doing="it waited")

    merging = pool.submit(merge)
    tracemalloc.start()
    try:
        given = [*(rounded(header, data) if coarse else data)]
        session.sync(0, 0, header, given)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    merging.result(DEADLINE_S)
    assert not given  # no copy of it is kept while the merged model is loaded
    assert peak < values.nbytes + 3 * PIECE_BYTES


def test_an_sl_that_gives_up_during_a_body_is_heard(ends, pool):
    ml, sl = ends
    session = Session(ml, logging.getLogger("test"))
    header, data = encode({"x": np.zeros(50 * PIECE_BYTES, np.uint8)})
    syncing = pool.submit(session.sync, 0, 0, header, data)
    sl.receive("it sent")
    sl.send(wire.Abort("disk-full", "The disk is full. Free space."), doing="it sent")
    sl.close()
    with pytest.raises(Refused, match=r"^The disk is full\. Free space\.$"):
        syncing.result(DEADLINE_S)


@pytest.mark.parametrize(
    ("environment", "frequency", "sentence"),
    [
        ({"SL_REQUEST_CHANNEL": ""}, 5, str(NoChannel(name="SL_REQUEST_CHANNEL"))),
        ({"SL_RESPONSE_CHANNEL": "", "SL_REQUEST_CHANNEL": "x"}, 5, str(NoChannel(name="SL_RESPONSE_CHANNEL"))),
        (
            {"SWARM_LOOPBACK": "true"},
            0,
            "syncFrequency is 0, but it must be a whole number, at least 1. Correct it in the call of SwarmCallback.",
        ),
    ],
)
def test_a_program_that_is_set_up_wrongly_ends_with_one_sentence(pipes, environment, frequency, sentence):
    ml = start_ml(pipes, frequency=frequency, **environment)
    _, errors = ml.communicate(timeout=DEADLINE_S)
    assert (ml.returncode, errors) == (1, f"ERROR: {sentence}\n")


def test_loopback_needs_no_channel(pipes):
    ml = start_ml(pipes, SWARM_LOOPBACK="true")
    assert ml.communicate(timeout=DEADLINE_S) == ("", "")
    assert ml.returncode == 0
    assert not pipes[0].exists()
