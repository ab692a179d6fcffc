"""Commands about tasks, the jobs for SWOPs."""

import re
from typing import ClassVar

from services.errors import CredentialsInTask, TaskError
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.swci import translation
from services.swci.grammar.command import Command, Group, Say
from services.swci.grammar.kinds import LINE, LINE_NUMBER, PATH, TASK, TEXT, argument, one_of
from services.swci.session import CommandSession
from services.swci.wording import clean, facts, moment, size, table, yes
from services.tasks.definition import TaskDefinition, TaskType, check_body, read_task
from swarmlearning.swci import models

TASK_TYPE = one_of(*TaskType)

# A line that would put a user name or password on the chain, in a body written line by line.
_CREDENTIAL = re.compile(r"""[\s{,-]*["']?(user_?name|password)["']?\s*:""", re.IGNORECASE)


class TaskCommand(Command):
    group = Group.TASK


class _ShowsTask(TaskCommand):
    def show(self, result: models.Task) -> list[str]:
        return facts(
            [
                ("TASK NAME", result.name),
                ("TASK TYPE", result.type),
                ("AUTHOR", result.author),
                ("PREREQ", result.prereq or "-"),
                ("OUTCOME", result.outcome or "-"),
                ("FINALIZED", yes(result.finalized)),
                ("REGISTERED BY", result.registered_by or "-"),
                ("CREATED", moment(result.created_at)),
                ("BODY", size(result.body_size)),
                ("CONTENT HASH", result.content_hash or "-"),
            ]
        )


class CreateTaskFrom(TaskCommand):
    """Check the task definition in a YAML file and register it. Nothing is sent of one that is not valid."""

    syntax: ClassVar[str] = "CREATE TASK FROM <file>"

    file: str = argument(PATH)

    async def run(self, session: CommandSession, say: Say) -> models.Task:
        definition = read_task(session.files.read(self.file), self.file)
        say("Task definition is valid")
        return await registered(session, definition, say)

    def show(self, result: models.Task) -> list[str]:
        return [f"Task Registered : {result.name}"]


class CreateTask(_ShowsTask):
    """Register a task without a body; APPEND TASK BODY adds it, line by line.

    An author with spaces stands in quotes.
    """

    syntax: ClassVar[str] = "CREATE TASK <type> <name> <author> <prereq> <outcome>"

    type: str = argument(TASK_TYPE)
    name: str = argument(TASK)
    author: str = argument(TEXT)
    prereq: str = argument(TASK)
    outcome: str = argument(TEXT)

    async def run(self, session: CommandSession, say: Say) -> models.Task:
        header = pb.TaskHeader(
            name=self.name, type=self.type, author=self.author, prereq=self.prereq, outcome=self.outcome
        )
        client = await session.sn()
        reply = await client.tasks.CreateTask(pb.CreateTaskRequest(header=header))
        return translation.task(reply.task)

    def show(self, result: models.Task) -> list[str]:
        return [f"Task Registered : {result.name}"]


class AppendTaskBody(TaskCommand):
    """Add a line to the body of a task, or replace one. Spaces at its beginning count."""

    syntax: ClassVar[str] = "APPEND TASK BODY <name> <idx> <line>"

    name: str = argument(TASK)
    idx: int = argument(LINE_NUMBER)
    line: str = argument(LINE)

    async def run(self, session: CommandSession, say: Say) -> models.TaskBody:
        if _CREDENTIAL.match(self.line):
            raise CredentialsInTask(source=f"the body of {self.name}", line=self.idx)
        client = await session.sn()
        found = await task(client, self.name)
        lines = found.body.splitlines()
        if self.idx > len(lines) + 1:
            problem = f"its body has {len(lines)} lines, so that line {self.idx} would leave a gap"
            raise TaskError(name=self.name, problem=problem)
        lines[self.idx - 1 : self.idx] = [self.line]
        body = "\n".join(lines) + "\n"
        request = pb.SetTaskBodyRequest(name=self.name, expected_hash=found.task.body_hash, body=body)
        await client.tasks.SetTaskBody(request)
        return models.TaskBody(self.name, lines)

    def show(self, result: models.TaskBody) -> list[str]:
        return [f"Task Body Appended : {result.name}, line {self.idx} of {len(result.lines)}"]


class FinalizeTask(_ShowsTask):
    """Freeze a task: it cannot be changed or deleted any more, and can be assigned."""

    syntax: ClassVar[str] = "FINALIZE TASK <name>"

    name: str = argument(TASK)

    async def run(self, session: CommandSession, say: Say) -> models.Task:
        client = await session.sn()
        found = await task(client, self.name)
        if not found.task.finalized:
            check_body(found.task.header.type, found.body, f"the body of {self.name}")
        request = pb.FinalizeTaskRequest(name=self.name, expected_hash=found.task.body_hash)
        reply = await client.tasks.FinalizeTask(request)
        return translation.task(reply.task)

    def show(self, result: models.Task) -> list[str]:
        return [f"Task Finalized : {result.name}"]


class DeleteTask(TaskCommand):
    """Delete a task that is not finalized."""

    syntax: ClassVar[str] = "DELETE TASK <name>"

    name: str = argument(TASK)

    async def run(self, session: CommandSession, say: Say) -> models.Message:
        client = await session.sn()
        await client.tasks.DeleteTask(pb.DeleteTaskRequest(name=self.name))
        return models.Message(f"Task Deleted : {self.name}")

    def show(self, result: models.Message) -> list[str]:
        return [result.text]


class ListTasks(TaskCommand):
    """List the tasks of the swarm. ROOTTASK is always there: the prerequisite of a task that has none."""

    syntax: ClassVar[str] = "LIST TASKS"

    async def run(self, session: CommandSession, say: Say) -> models.Tasks:
        client = await session.sn()
        return models.Tasks([translation.task(entry) for entry in await client.list_tasks()])

    def show(self, result: models.Tasks) -> list[str]:
        columns = ("TASK NAME", "TASK TYPE", "AUTHOR", "PREREQ", "FINALIZED", "BODY")
        return table(
            columns,
            [
                (it.name, it.type or "-", it.author or "-", it.prereq or "-", yes(it.finalized), size(it.body_size))
                for it in result.tasks
            ],
        )


class GetTaskInfo(_ShowsTask):
    """Show the header of a task, and who registered it."""

    syntax: ClassVar[str] = "GET TASK INFO <name>"

    name: str = argument(TASK)

    async def run(self, session: CommandSession, say: Say) -> models.Task:
        return translation.task((await task(await session.sn(), self.name)).task)


class GetTaskBody(TaskCommand):
    """Show the body of a task, as it is on the chain, with line numbers."""

    syntax: ClassVar[str] = "GET TASK BODY <name>"

    name: str = argument(TASK)

    async def run(self, session: CommandSession, say: Say) -> models.TaskBody:
        return models.TaskBody(self.name, (await task(await session.sn(), self.name)).body.splitlines())

    def show(self, result: models.TaskBody) -> list[str]:
        if not result.lines:
            return [f"{result.name} has no body."]
        width = len(str(len(result.lines)))
        return [f"{number:>{width}} : {clean(line)}".rstrip() for number, line in enumerate(result.lines, start=1)]


async def registered(session: CommandSession, definition: TaskDefinition, say: Say) -> models.Task:
    """Registers a task in one transaction: with its body, or not at all."""
    head = definition.header
    header = pb.TaskHeader(
        name=head.name, type=head.task_type, author=head.author, prereq=head.prereq, outcome=head.outcome
    )
    client = await session.sn()
    reply = await client.tasks.CreateTask(pb.CreateTaskRequest(header=header, body=definition.body_text))
    count = len(definition.body_text.splitlines())
    say(f"Appending Task Body : batch start : 1 , len : {count} Successful")
    return translation.task(reply.task)


async def task(client: SNClient, name: str) -> pb.GetTaskReply:
    """Raises UnknownTask, and the SN's errors."""
    return await client.tasks.GetTask(pb.GetTaskRequest(name=name))
