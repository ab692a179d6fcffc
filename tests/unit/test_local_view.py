"""What a local swarm shows of its training."""

import io
import json
from datetime import UTC, datetime

import pytest
from rich.console import Console

from services.local.status import as_data, as_text, proposal_as_data
from services.local.table import LiveTable, training_table
from services.local.view import Lines, rows
from services.rpc import swarm_pb2 as pb
from services.rpc.wording import describe_result, ends_soon, headline


def training(**changes: object) -> pb.TrainingStatus:
    status = pb.TrainingStatus(
        contract="defaultbb.cqdb.sml.hpe",
        state=pb.RoundState.CHECKIN,
        round=3,
        config=pb.Config(min_peers=2),
        participants=[
            pb.Participant(
                name="sl-1", active=True, report_round=2, loss=0.5, metric=0.75, epochs_done=1, epochs_total=4
            ),
            pb.Participant(name="sl-2", active=True),
        ],
        check_ins=[pb.CheckIn(name="sl-1")],
        awaited=["sl-2"],
        last_result=pb.RoundResult(round=2, leader="sl-2", digest=b"\xab" * 32, size=10, merged=["sl-2", "sl-1"]),
    )
    status.MergeFrom(pb.TrainingStatus(**changes))  # type: ignore[arg-type]
    return status


def test_the_headline_says_who_is_awaited() -> None:
    assert headline(training()) == "round 3 · 1 checked in, 2 needed, waiting for sl-2"


def test_the_headline_names_the_leader_while_merging() -> None:
    assert headline(training(state=pb.RoundState.MERGE, leader="sl-1")) == "round 3 · merging, led by sl-1"


def test_the_headline_says_that_the_training_is_complete() -> None:
    assert headline(training(state=pb.RoundState.COMPLETE)) == "complete after round 2"


def test_a_training_nobody_has_opened_has_a_headline() -> None:
    assert headline(pb.TrainingStatus()) == "no program has opened its channel yet"


def test_rows_show_what_each_node_does() -> None:
    assert rows(training()) == [
        ("sl-1", "2", "checked in", "0.5000", "0.7500", "1/4"),
        ("sl-2", "-", "trains", "-", "-", "-"),
    ]
    assert rows(training(state=pb.RoundState.MERGE, leader="sl-2"))[1][2] == "leads"
    assert [row[2] for row in rows(training(state=pb.RoundState.COMPLETE))] == ["done", "done"]


def test_a_loss_that_is_no_number_leaves_the_status_readable() -> None:
    status = training()
    status.participants[0].loss, status.participants[0].metric = float("nan"), float("inf")
    assert rows(status)[0][3:5] == ("nan", "inf")
    json.dumps(data := as_data(status), allow_nan=False)
    assert (data["participants"][0]["loss"], data["participants"][0]["metric"]) == ("NaN", "Infinity")
    lines = io.StringIO()
    Lines(lines).update(status)
    assert "sl-1 loss nan metric inf" in lines.getvalue()


def test_a_report_without_a_metric_is_not_one_whose_metric_is_no_number() -> None:
    status = training()
    status.participants[0].ClearField("metric")
    assert rows(status)[0][3:5] == ("0.5000", "-")
    assert as_data(status)["participants"][0]["metric"] is None
    lines = io.StringIO()
    Lines(lines).update(status)
    assert "sl-1 loss 0.5 metric -" in lines.getvalue()


def test_a_result_names_who_was_left_out_and_why() -> None:
    result = pb.RoundResult(
        round=4, leader="sl-1", merged=["sl-1"], left_out=[pb.LeftOut(name="sl-2", reason="not finite")]
    )
    assert describe_result(result) == "round 4 accepted: led by sl-1, merged sl-1; left out sl-2 (not finite)"


@pytest.mark.parametrize(
    ("left_s", "said"),
    [
        (31 * 86_400, ""),
        (5 * 86_400, "The certificate of sl-1 ends in 5 days, at 2026-07-08 14:05 UTC."),
        (7_200, "The certificate of sl-1 ends in 2 hours, at 2026-07-03 16:05 UTC."),
        (0, "The certificate of sl-1 has ended, at 2026-07-03 14:05 UTC."),
    ],
)
def test_an_end_of_a_certificate_is_said_when_it_is_near(left_s: int, said: str) -> None:
    now = datetime(2026, 7, 3, 14, 5, tzinfo=UTC).timestamp()
    assert ends_soon("sl-1", now + left_s, now) == said
    assert not ends_soon("sl-1", 0, now)  # not known


def test_lines_say_each_result_and_each_report_once() -> None:
    out = io.StringIO()
    lines = Lines(out)
    lines.update(training())
    lines.update(training(version=9))
    assert out.getvalue().splitlines() == [
        "round 2 accepted: led by sl-2, merged sl-1 sl-2",
        "round 2: sl-1 loss 0.5 metric 0.75, epoch 1/4",
    ]


def test_the_table_shows_every_node_under_the_headline() -> None:
    out = io.StringIO()
    console = Console(file=out, width=100)
    console.print(training_table(training()))
    for word in ("round 3", "waiting for sl-2", "sl-1", "0.5000", "1/4"):
        assert word in out.getvalue()


def test_the_live_table_prints_lines_as_they_are() -> None:
    out = io.StringIO()
    view = LiveTable(Console(file=out, width=40, force_terminal=True))
    view.update(training())
    view.say("a line [with brackets] that is much longer than the terminal is wide")
    view.close()
    assert "a line [with brackets] that is much longer than the terminal is wide" in out.getvalue()


def test_status_is_the_same_as_data_and_as_text() -> None:
    data = as_data(training())
    assert data["state"] == "CHECKIN"
    assert data["last_result"]["digest"] == "ab" * 32
    assert data["participants"][0]["loss"] == 0.5
    process = {"name": "sn-1", "pid": 7, "port": 30304, "alive": True, "log": "/d/logs/sn-1.log"}
    sns = [{"name": f"sn-{number}", "address": f"h:{number}", "present": number == 1} for number in (1, 2)]
    of_swarm = {
        "dir": "/d",
        "chain": "geth",
        "sn": "h:1",
        "missing": "Not known.",
        "certificates_end": {"sl-1": 1.0, "sl-2": 4e9},
    }
    votes = [pb.Vote(organization="hospital-a", by="admin/ada")]
    proposed = pb.Proposal(number=3, change="admit", organization="hospital-c", proposer="hospital-a", votes=votes)
    proposals = [proposal_as_data(proposed, 2)]
    text = as_text({**of_swarm, "processes": [process], "sns": sns, "proposals": proposals, "training": data})
    assert "\n\nNot known.\n" in text
    assert "Proposal 3: hospital-a proposes to admit hospital-c: 1 of 2 votes, since 1970-01-01 00:00 UTC" in text
    assert "sn-1       present, API at h:1\n  sn-2       lost, API at h:2" in text
    assert "sn-1       runs, pid 7, port 30304" in text
    assert "round 3 · 1 checked in" in text
    assert "The certificate of sl-1 has ended" in text and "certificate of sl-2" not in text
    assert as_data(pb.TrainingStatus())["last_result"] is None
