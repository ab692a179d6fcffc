"""Pages passed to a real pipe: the reader gets every byte, wherever the buffer is and whatever the system supports."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from swarm_callback.pages import WORTH_BYTES, PipeWriter

SIZE = 3_000_003  # more than the pipe holds, and not a whole number of pages


@pytest.fixture
def pipe():
    read, write = os.pipe()
    os.set_blocking(write, False)
    yield read, write
    for fd in (read, write):
        os.close(fd)


def _read(fd: int, size: int) -> bytes:
    found = b""
    while len(found) < size:
        found += os.read(fd, size - len(found))
    return found


def _write(writer: PipeWriter, data: memoryview) -> int:
    """Writes everything, retrying while the pipe is full. Returns how often it was full."""
    full = 0
    while data:
        try:
            data = data[writer.write(data) :]
        except BlockingIOError:
            full += 1
    return full


@pytest.mark.parametrize("start", [0, 1, 4095])
@pytest.mark.parametrize("read_only", [False, True])
def test_every_byte_arrives_wherever_the_buffer_lies(pipe, start, read_only):
    values = np.random.default_rng(start).integers(0, 256, SIZE, np.uint8)
    data = memoryview(values.tobytes() if read_only else values)[start:]
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(_read, pipe[0], len(data))
        _write(PipeWriter(pipe[1]), data)
        assert reading.result(30) == data


def test_a_full_pipe_takes_no_more_until_it_is_read(pipe):
    data = memoryview(bytearray(SIZE))
    writer = PipeWriter(pipe[1])
    taken = writer.write(data)
    assert 0 < taken < SIZE
    with pytest.raises(BlockingIOError):
        writer.write(data)
    assert len(_read(pipe[0], taken)) == taken
    assert writer.write(data) > 0


def test_a_pipe_that_nobody_reads_is_broken():
    read, write = os.pipe()
    os.close(read)
    with pytest.raises(BrokenPipeError):
        PipeWriter(write).write(memoryview(bytearray(WORTH_BYTES)))
    os.close(write)


def test_where_pages_cannot_be_given_bytes_are_copied(tmp_path):
    data = memoryview(os.urandom(SIZE))
    with (tmp_path / "no-pipe").open("wb", buffering=0) as file:
        assert _write(PipeWriter(file.fileno()), data) == 0
    assert (tmp_path / "no-pipe").read_bytes() == data


def test_what_is_changed_before_it_is_read_is_read_as_it_is_by_then(pipe):
    """Shows why a buffer must not change until the other end has answered, and that nothing was copied."""
    data = bytearray(WORTH_BYTES)
    taken = PipeWriter(pipe[1]).write(memoryview(data))
    data[:] = b"x" * len(data)
    assert _read(pipe[0], taken) == b"x" * taken
