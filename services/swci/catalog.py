"""All commands, in the order in which HELP lists them, and HELP itself."""

from typing import ClassVar

from services.swci.commands import context, contract, files, general, organization, task, taskrunner
from services.swci.grammar.command import Command, Group, Say
from services.swci.grammar.grammar import Grammar
from services.swci.grammar.kinds import LINE, argument
from services.swci.session import CommandSession
from services.swci.wording import table
from swarmlearning.swci import models


class ShowHelp(Command):
    """List all commands, or show the syntax of the commands that begin with these words."""

    syntax: ClassVar[str] = "HELP [command]"
    group = Group.MISCELLANEOUS

    command: str = argument(LINE, default="")

    async def run(self, session: CommandSession, say: Say) -> models.Help:
        found = GRAMMAR.helped(self.command)
        return models.Help([models.CommandHelp(it.syntax, it.group, it.summary(), it.help()) for it in found])

    def show(self, result: models.Help) -> list[str]:
        if self.command.strip():
            return [line for it in result.commands for line in _one(it)][:-1]
        lines: list[str] = []
        for group in Group:
            commands = [it for it in result.commands if it.group == group]
            lines += [f"{group} commands:", *(f"  {line}" for line in _overview(commands)), ""]
        return [*lines, "HELP <command> says more. A line that begins with # is a comment. --json at the end: as JSON."]


COMMANDS: tuple[type[Command], ...] = (
    context.CreateContextWithIP,
    context.CreateContextWithService,
    context.SwitchContext,
    context.ListContexts,
    context.GetContextInfo,
    context.GetContextVersion,
    context.ListContextEnv,
    context.GetContextEnv,
    context.SetContextEnv,
    contract.CreateContract,
    contract.CreateContractFor,
    contract.ListContracts,
    contract.GetContractInfo,
    contract.GetContractStatus,
    contract.ResetContract,
    contract.PerfData,
    organization.ListOrganizations,
    organization.ProposeOrganization,
    organization.ApproveProposal,
    organization.WithdrawProposal,
    organization.RemoveOrganization,
    organization.ExpelNode,
    task.CreateTaskFrom,
    task.CreateTask,
    task.AppendTaskBody,
    task.FinalizeTask,
    task.DeleteTask,
    task.ListTasks,
    task.GetTaskInfo,
    task.GetTaskBody,
    taskrunner.CreateTaskRunner,
    taskrunner.ListTaskRunners,
    taskrunner.GetTaskRunnerInfo,
    taskrunner.ListTaskRunnerPeers,
    taskrunner.GetTaskRunnerStatus,
    taskrunner.GetTaskRunnerPeerStatus,
    taskrunner.AssignTask,
    taskrunner.AssignTaskToAll,
    taskrunner.AssignTaskToTarget,
    taskrunner.WaitForTaskRunner,
    taskrunner.ResetTaskRunner,
    general.ListNodes,
    general.ReplaceKey,
    general.WaitForIP,
    general.WaitForService,
    general.Sleep,
    general.ExitOnFailure,
    general.Exit,
    ShowHelp,
    files.Cd,
    files.Ls,
    files.LsLong,
    files.Pwd,
)
GRAMMAR = Grammar(COMMANDS)


def _overview(commands: list[models.CommandHelp]) -> list[str]:
    return table(("", ""), [(it.syntax, it.summary) for it in commands])[1:]


def _one(command: models.CommandHelp) -> list[str]:
    return [command.syntax, *(f"  {line}".rstrip() for line in command.text.splitlines()), ""]
