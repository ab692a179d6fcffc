"""Every error has a status of HTTP that says whose fault it is."""

from test_errors import all_errors

from services.errors import TaskChanged, WaitedInVain
from services.web.answers import HTTP_STATUS, status_of


def test_each_status_of_grpc_has_one_of_http() -> None:
    assert {cls.grpc_status for cls in all_errors()} <= HTTP_STATUS.keys()


def test_who_comes_too_late_is_not_told_of_a_fault_of_the_server() -> None:
    assert status_of(TaskChanged(name="train")) == 409
    assert status_of(WaitedInVain(what="The task", limit="1 min", states="", setting="X")) == 504
