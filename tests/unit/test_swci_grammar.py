"""Every command of the reference is understood, explained, and answered in one sentence where it is written wrongly."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import CommandError, SwarmError
from services.swci.catalog import COMMANDS, GRAMMAR, ShowHelp
from services.swci.commands import context, contract, files, general, organization, task, taskrunner
from services.swci.grammar.command import Command, syntax_of
from services.swci.grammar.syntax import Slot

RUNNER = "defaulttaskbb.taskdb.sml.hpe"

# The command list of the product whose users must feel at home, a line for each way of writing one.
REFERENCE: list[tuple[str, Command]] = [
    ("CREATE CONTEXT c WITH IP 10.0.0.1", context.CreateContextWithIP(name="c", ip="10.0.0.1")),
    ("CREATE CONTEXT c WITH IP sn-1 30404", context.CreateContextWithIP(name="c", ip="sn-1", port=30404)),
    ("CREATE CONTEXT c WITH SERVICE api.sn.swarm:8443",
     context.CreateContextWithService(name="c", service="api.sn.swarm:8443")),
    ("SWITCH CONTEXT c", context.SwitchContext(name="c")),
    ("LIST CONTEXTS", context.ListContexts()),
    ("GET CONTEXT INFO", context.GetContextInfo()),
    ("GET CONTEXT INFO c", context.GetContextInfo(name="c")),
    ("GET CONTEXT VERSION", context.GetContextVersion()),
    ("LIST CONTEXT ENV", context.ListContextEnv()),
    ("LIST CONTEXT ENV c", context.ListContextEnv(name="c")),
    ("GET CONTEXT ENV V", context.GetContextEnv(env="V")),
    ("GET CONTEXT ENV c V", context.GetContextEnv(name="c", env="V")),
    ("SET CONTEXT ENV V 1", context.SetContextEnv(env="V", value="1")),
    ("SET CONTEXT ENV c V 'two words'", context.SetContextEnv(name="c", env="V", value="two words")),
    ("CREATE CONTRACT t", contract.CreateContract(name="t")),
    ("CREATE CONTRACT t FOR a, b", contract.CreateContractFor(name="t", organizations="a, b")),
    ("LIST ORGANIZATIONS", organization.ListOrganizations()),
    (
        f"PROPOSE ORGANIZATION a {'5' * 64} {'6' * 64}",
        organization.ProposeOrganization(name="a", fingerprints=f"{'5' * 64} {'6' * 64}"),
    ),
    ("APPROVE PROPOSAL 3", organization.ApproveProposal(number=3)),
    ("WITHDRAW PROPOSAL 3", organization.WithdrawProposal(number=3)),
    ("REMOVE ORGANIZATION a", organization.RemoveOrganization(name="a")),
    ("EXPEL NODE sl-1", organization.ExpelNode(node="sl-1")),
    ("EXPEL NODE sl-1 SL", organization.ExpelNode(node="sl-1", role="sl")),
    ("LIST CONTRACTS", contract.ListContracts()),
    ("GET CONTRACT INFO t", contract.GetContractInfo(name="t")),
    ("GET CONTRACT STATUS t", contract.GetContractStatus(name="t")),
    ("RESET CONTRACT t", contract.ResetContract(name="t")),
    ("PERFDATA t", contract.PerfData(name="t")),
    ("CREATE TASK FROM taskdefs/run.yaml", task.CreateTaskFrom(file="taskdefs/run.yaml")),
    ("CREATE TASK RUN_SWARM run 'A. Author' build out",
     task.CreateTask(type="RUN_SWARM", name="run", author="A. Author", prereq="build", outcome="out")),
    ("APPEND TASK BODY run 2   Command: a.py # not a comment",
     task.AppendTaskBody(name="run", idx=2, line="  Command: a.py # not a comment")),
    ("FINALIZE TASK run", task.FinalizeTask(name="run")),
    ("DELETE TASK run", task.DeleteTask(name="run")),
    ("LIST TASKS", task.ListTasks()),
    ("GET TASK INFO run", task.GetTaskInfo(name="run")),
    ("GET TASK BODY run", task.GetTaskBody(name="run")),
    (f"CREATE TASKRUNNER {RUNNER}", taskrunner.CreateTaskRunner(name=RUNNER)),
    ("LIST TASKRUNNERS", taskrunner.ListTaskRunners()),
    (f"GET TASKRUNNER INFO {RUNNER}", taskrunner.GetTaskRunnerInfo(name=RUNNER)),
    (f"LIST TASKRUNNER PEERS {RUNNER}", taskrunner.ListTaskRunnerPeers(name=RUNNER)),
    (f"GET TASKRUNNER STATUS {RUNNER}", taskrunner.GetTaskRunnerStatus(name=RUNNER)),
    (f"GET TASKRUNNER PEER STATUS {RUNNER} 0", taskrunner.GetTaskRunnerPeerStatus(name=RUNNER, peer="0")),
    (f"GET TASKRUNNER PEER STATUS {RUNNER} swop-1", taskrunner.GetTaskRunnerPeerStatus(name=RUNNER, peer="swop-1")),
    (f"ASSIGN TASK run TO {RUNNER} WITH 2 PEERS", taskrunner.AssignTask(task="run", taskrunner=RUNNER, peers=2)),
    (f"ASSIGN TASK run TO {RUNNER} WITH ALL PEERS", taskrunner.AssignTaskToAll(task="run", taskrunner=RUNNER)),
    (f"ASSIGN TASK run TO {RUNNER} TARGET swop-1",
     taskrunner.AssignTaskToTarget(task="run", taskrunner=RUNNER, swop="swop-1")),
    (f"WAIT FOR TASKRUNNER {RUNNER}", taskrunner.WaitForTaskRunner(name=RUNNER)),
    (f"RESET TASKRUNNER {RUNNER}", taskrunner.ResetTaskRunner(name=RUNNER)),
    ("LIST NODES", general.ListNodes()),
    (f"REPLACE KEY SL sl-1 {'Ab' * 32}", general.ReplaceKey(role="sl", node="sl-1", fingerprint="ab" * 32)),
    ("WAIT FOR IP 10.0.0.1", general.WaitForIP(ip="10.0.0.1")),
    ("WAIT FOR IP 10.0.0.1 30404 10", general.WaitForIP(ip="10.0.0.1", port=30404, retries=10)),
    ("WAIT FOR SERVICE api.sn.swarm", general.WaitForService(service="api.sn.swarm")),
    ("WAIT FOR SERVICE api.sn.swarm 10", general.WaitForService(service="api.sn.swarm", retries=10)),
    ("SLEEP 15", general.Sleep(seconds=15)),
    ("EXIT ON FAILURE", general.ExitOnFailure()),
    ("EXIT ON FAILURE OFF", general.ExitOnFailure(switch="OFF")),
    ("EXIT", general.Exit()),
    ("HELP", ShowHelp()),
    ("HELP ASSIGN TASK", ShowHelp(command="ASSIGN TASK")),
    ("cd taskdefs", files.Cd(path="taskdefs")),
    ("ls", files.Ls()),
    ("ls -l taskdefs", files.LsLong(path="taskdefs")),
    ("pwd", files.Pwd()),
]  # fmt: skip

WRONG = [
    ("LSIT NODES", "There is no command 'LSIT NODES'. Did you mean LIST NODES? HELP lists all commands."),
    ("EXIT ON FAILUR", "There is no command 'EXIT ON FAILUR'. Did you mean EXIT ON FAILURE?"),
    ("frobnicate", "There is no command 'FROBNICATE'. HELP lists all commands."),
    ("GET CONTRACT", "'GET CONTRACT' is only the beginning of a command. Write: GET CONTRACT INFO or GET CONTRACT STA"),
    ("LIST NODES now", "LIST NODES takes no more words: 'now' is too many. Write: LIST NODES."),
    ("GET TASK INFO", "GET TASK INFO lacks <name>. Write: GET TASK INFO <name>."),
    ("GET CONTEXT ENV", "GET CONTEXT ENV lacks <env>. Write: GET CONTEXT ENV [name] <env>."),
    ("WAIT FOR IP h 1 2 3", "WAIT FOR IP takes no more words: '3' is too many."),
    ("CREATE CONTEXT c WIHT IP h", "'WIHT' cannot stand after c: WITH is expected."),
    ("CREATE CONTEXT c WITH HOST h", "'HOST' cannot stand after WITH: IP or SERVICE is expected."),
    ("CREATE CONTEXT c WITH IP h 99999", "99999 is not a port (1 to 65535)."),
    ("CREATE CONTEXT c WITH IP h x1", "'x1' is not a port (1 to 65535)."),
    ("CREATE CONTEXT c WITH IP a:b:c", "'a:b:c' is not an IP address or the name of a host."),
    ("ASSIGN TASK t TO r", "ASSIGN TASK lacks WITH or TARGET."),
    ("ASSIGN TASK t TO r WITH no PEERS", "'no' is not a number of peers (1 to 100000)."),
    ("ASSIGN TASK t TO r WITH 0 PEERS", "0 is not a number of peers (1 to 100000)."),
    ("ASSIGN TASK t TO r WITH 2", "ASSIGN TASK lacks PEERS."),
    ("CREATE TASK RUN_SWRM t a p o", "'RUN_SWRM' is none of RUN_SWARM,"),
    ("CREATE TASK FROM", "CREATE TASK FROM lacks <file>."),
    ("APPEND TASK BODY t 0 x", "0 is not the number of a line (1 to 100000)."),
    ("SLEEP soon", "'soon' is not a number of seconds."),
    ("SLEEP nan", "nan is not a number of seconds (0 to 604800)."),
    ("EXIT ON FAILURE maybe", "'MAYBE' is none of ON, OFF."),
    ("GET TASK INFO 'a b", "the quote before 'a b' is not closed."),
    ("'LIST NODES\n", "There is no command 'LIST NODES'"),
    ("GET TASK INFO ''", "the name of a task is empty."),
    (f"GET TASK INFO {'n' * 200}", "the name of a task has 200 characters, and 128 are allowed."),
    ("GET TASK INFO t\x1b[2J", "is not the name of a task: it holds control characters."),
    ("HELP frobnicate", "There is no command 'FROBNICATE'"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "command"), REFERENCE, ids=[line for line, _ in REFERENCE])
def test_a_command_of_the_reference_is_understood_in_any_case(line: str, command: Command) -> None:
    assert GRAMMAR.parse(line) == command
    head = " ".join(syntax_of(type(command)).head)
    assert GRAMMAR.parse(head.lower() + line[len(head) :]) == command
    assert GRAMMAR.parse(f"  {line}") == command


def test_there_is_no_command_beside_the_reference() -> None:
    assert {type(command) for _, command in REFERENCE} == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_a_command_has_help_in_whole_sentences(command: type[Command]) -> None:
    assert command.summary()[0].isupper()
    assert command.help().endswith(".")
    assert all(len(line) <= 120 for line in command.help().splitlines())
    assert syntax_of(command).head
    slots = {part.name for part in syntax_of(command).elements if isinstance(part, Slot)}
    assert slots == {field.name for field in dataclasses.fields(command)}


@pytest.mark.parametrize(("line", "sentence"), WRONG, ids=[line[:30] for line, _ in WRONG])
def test_what_is_wrong_with_a_line_is_one_sentence(line: str, sentence: str) -> None:
    with pytest.raises(SwarmError) as refused:
        command = GRAMMAR.parse(line)
        assert isinstance(command, ShowHelp)
        GRAMMAR.helped(command.command)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.exit_code == CommandError.exit_code


def test_a_command_that_a_program_builds_is_judged_as_one_that_is_written() -> None:
    with pytest.raises(CommandError, match="99999 is not a port"):
        context.CreateContextWithIP(name="c", ip="h", port=99999)


@pytest.mark.parametrize("line", ["", "   ", "# a comment", "  # LIST NODES", "#LIST NODES 'open"])
def test_blank_lines_and_comments_are_no_commands(line: str) -> None:
    assert GRAMMAR.parse(line) is None


def test_a_comment_may_follow_a_command() -> None:
    assert GRAMMAR.parse("LIST NODES # 'all of them") == general.ListNodes()


def test_what_may_follow_is_known_for_completion() -> None:
    def offered(*words: str) -> set[str]:
        return {str(it) for _, it in GRAMMAR.goes_on(words)}

    assert offered("GET", "CONTRACT") == {"INFO", "STATUS"}
    assert offered("get", "contract", "status") == {"<name>"}
    assert offered("ASSIGN", "TASK", "t", "TO", "r", "WITH") == {"<peers>", "ALL"}
    assert any(isinstance(it, Slot) for _, it in GRAMMAR.goes_on(["EXIT", "ON", "FAILURE"]))
    assert offered("EXIT", "ON", "FAILURE") == {"[ON|OFF]"}
    assert offered("LIST", "NODES") == set()


WORDS = ["CREATE", "CONTEXT", "TASK", "GET", "LIST", "<name>", "0", "'", '"', "#", "--json"]


@given(st.text(max_size=80) | st.lists(st.sampled_from(WORDS)).map(" ".join))
def test_any_line_is_a_command_or_a_sentence(line: str) -> None:
    try:
        GRAMMAR.parse(line)
    except CommandError as refused:
        assert str(refused).endswith((".", "?"))
