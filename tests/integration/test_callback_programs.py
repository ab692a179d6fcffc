"""What a program may do with its pipes: once, alone, to the end; and the errors if it does otherwise."""

import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from callback_swarm import Numbers, Swarm

from swarm_callback import wire
from swarm_callback.channel import SLListener
from swarm_callback.errors import AlreadyTrained, AlreadyTraining, ChannelClosed, PipesInUse, Stopped

DEADLINE_S = 60
LOGGER = logging.getLogger("test-callback")


def made(phases: int = 1) -> Numbers:
    return Numbers(2, 1, logger=LOGGER, phases=phases)


def program(how: str) -> subprocess.Popen[str]:
    """A process that runs this file; see its end."""
    return subprocess.Popen([sys.executable, __file__, how], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_second_program_is_refused_and_the_first_goes_on(serve):
    served = serve(Swarm())
    first = made()
    first.on_train_begin()
    second = program("begin")
    _, said = second.communicate(timeout=DEADLINE_S)
    assert second.returncode == 1
    assert f"Another program (process {os.getpid()}) talks over" in said
    assert "Traceback" not in said
    first.on_train_end()
    served.result(DEADLINE_S)


def test_a_cell_that_runs_again_is_told_so_and_the_first_callback_goes_on(serve):
    served = serve(Swarm())
    first = made()
    first.on_train_begin()
    with pytest.raises(AlreadyTraining, match="already has a SwarmCallback"):
        made()
    first.on_train_end()
    served.result(DEADLINE_S)


def test_a_second_training_is_refused_at_once_where_the_sl_has_gone_with_the_first(serve, tmp_path):
    served = serve(Swarm())
    first = made()
    first.on_train_begin()
    first.on_train_end()
    served.result(DEADLINE_S)
    with pytest.raises(AlreadyTrained, match="SL sidecar has ended with it"):
        first.on_train_begin()
    for pipe in tmp_path.glob("*.channel"):
        pipe.unlink()
    with pytest.raises(AlreadyTrained, match=r"once for each"):
        made()


def test_a_program_that_forgets_its_end_says_so_and_tells_the_sl(serve):
    swarm = Swarm()
    served = serve(swarm)
    forgetful = program("forget")
    _, said = forgetful.communicate(timeout=DEADLINE_S)
    served.result(DEADLINE_S)
    assert forgetful.returncode == 0
    assert "on_train_end was not called" in said
    last = swarm.heard[-1]
    assert isinstance(last, wire.Abort)
    assert "on_train_end was not called" in last.message


def test_a_program_that_trains_fewer_phases_than_it_said_is_named_to_the_sl(serve):
    swarm = Swarm()
    served = serve(swarm)
    program("one of two").communicate(timeout=DEADLINE_S)
    served.result(DEADLINE_S)
    assert "only 1 of its 2 phases were trained" in swarm.heard[-1].message


def test_an_error_in_the_users_loop_is_named_to_the_sl(serve):
    swarm = Swarm()
    served = serve(swarm)
    failing = program("fail")
    failing.communicate(timeout=DEADLINE_S)
    served.result(DEADLINE_S)
    assert "with ZeroDivisionError" in swarm.heard[-1].message


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
def test_the_death_of_a_program_is_seen_at_once_whatever_its_forked_children_hold(tmp_path, monkeypatch, by):
    with SLListener(tmp_path / "request.channel", tmp_path / "response.channel") as listener:
        monkeypatch.setenv("SL_REQUEST_CHANNEL", str(listener.request))
        monkeypatch.setenv("SL_RESPONSE_CHANNEL", str(listener.response))
        killed = program("fork")
        channel = listener.accept()
        channel.receive("it was tested")
        channel.send(wire.Opened("sl-1", 1, False, 0), doing="it was tested")
        child = int(killed.stdout.readline())
        killed.send_signal(by)
        killed.wait(DEADLINE_S)
        try:
            with pytest.raises(ChannelClosed):
                channel.receive("it was tested")
            assert Path(f"/proc/{child}").exists()
        finally:
            os.kill(child, signal.SIGKILL)
            channel.close()
            killed.stdout.close()
            killed.stderr.close()


@pytest.fixture
def ctrl_c():
    """Makes Ctrl-C work even if the tests run in the background of a shell, where it is ignored from the start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_in_a_wait_is_a_sentence_and_the_sl_is_told(serve):
    waits = threading.Event()

    def interrupted(body: bytes) -> bytes:
        os.kill(os.getpid(), signal.SIGINT)
        waits.wait(DEADLINE_S)
        return body

    swarm = Swarm(merge=interrupted)
    served = serve(swarm)
    callback = made()
    with pytest.raises(Stopped, match="interrupted while it waited for the swarm"):
        callback.on_train_begin()
    waits.set()
    with pytest.raises(ChannelClosed):
        served.result(DEADLINE_S)
        raise ChannelClosed(peer="the program", doing="it was tested")


def test_pipes_in_use_is_an_error_of_the_channel():
    assert "process 7" in str(PipesInUse(path="p", pid=7))


if __name__ == "__main__":
    LOGGER.addHandler(logging.NullHandler())
    callback = made(2 if sys.argv[1] == "one of two" else 1)
    if sys.argv[1] == "fork":
        child = os.fork()
        if not child:
            os.close(1)
            os.close(2)
            signal.pause()
        print(child, flush=True)  # noqa: T201 - the test reads it
        signal.pause()
    callback.on_train_begin()
    if sys.argv[1] == "fail":
        1 / 0  # noqa: B018
    if sys.argv[1] == "one of two":
        callback.on_train_end()
