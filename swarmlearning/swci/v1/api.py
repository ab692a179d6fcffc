"""Every operation of /api/v1: its path, its parameters and its result."""

from collections.abc import Sequence
from typing import Any, Literal

from swarmlearning.swci import models
from swarmlearning.swci.v1.calls import ANSWER_WITHIN_S, Asks, Call, Watches, path

TaskType = Literal["RUN_SWARM", "MAKE_USER_CONTAINER", "PULL_IMAGE", "MAKE_SWARM_USER_CONTENT"]

DEFAULT_RUNNER = "defaulttaskbb.taskdb.sml.hpe"
SN_PORT = 30304


class Operations:
    """Methods of ``Client`` and ``AsyncClient``. All may raise the errors of swarmlearning.swci.v1.errors."""

    # --- nodes, help and files ----------------------------------------------------------------------

    @Asks
    def nodes(self) -> Call[models.Nodes]:
        return Call("GET", "/nodes", models.Nodes)

    @Asks
    def help(self, command: str = "") -> Call[models.Help]:
        """All commands of /exec, or those that begin with these words."""
        return Call("GET", "/help", models.Help, {"command": command})

    @Asks
    def files(self, directory: str = ".") -> Call[models.Files]:
        """The content of a directory in the SWCI's usr-dir."""
        return Call("GET", "/files", models.Files, {"path": directory})

    # --- contexts -----------------------------------------------------------------------------------

    @Asks
    def server(self) -> Call[models.Server]:
        """The SN of the active context."""
        return Call("GET", "/server", models.Server)

    @Asks
    def contexts(self) -> Call[models.Contexts]:
        return Call("GET", "/contexts", models.Contexts)

    @Asks
    def create_context(
        self, name: str, *, ip: str | None = None, port: int = SN_PORT, service: str | None = None
    ) -> Call[models.Context]:
        """Give either ``ip`` or ``service``. The SWCI first checks that the SN is up."""
        where: dict[str, Any] = {"service": service} if ip is None else {"ip": ip, "port": port}
        return Call("POST", "/contexts", models.Context, body={"name": name, **where})

    @Asks
    def context(self, name: str) -> Call[models.Context]:
        return Call("GET", path("contexts", name), models.Context)

    @Asks
    def switch_context(self, name: str) -> Call[models.Context]:
        """Makes it the active context, to which all other requests of the session apply."""
        return Call("PUT", path("contexts", name, "active"), models.Context)

    @Asks
    def variables(self, context: str) -> Call[models.Variables]:
        return Call("GET", path("contexts", context, "environment"), models.Variables)

    @Asks
    def variable(self, context: str, variable: str) -> Call[models.Variables]:
        return Call("GET", path("contexts", context, "environment", variable), models.Variables)

    @Asks
    def set_variable(self, context: str, variable: str, value: str) -> Call[models.Variables]:
        where = path("contexts", context, "environment", variable)
        return Call("PUT", where, models.Variables, body={"value": value})

    # --- training contracts -------------------------------------------------------------------------

    @Asks
    def contracts(self) -> Call[models.Contracts]:
        return Call("GET", "/contracts", models.Contracts)

    @Asks
    def create_contract(self, name: str, organizations: Sequence[str] = ()) -> Call[models.Contract]:
        """Contracts are permanent. ``organizations``: those whose SLs may take part; all if empty."""
        body = {"name": name, **({"organizations": list(organizations)} if organizations else {})}
        return Call("POST", "/contracts", models.Contract, body=body)

    @Asks
    def contract(self, name: str) -> Call[models.ContractInfo]:
        return Call("GET", path("contracts", name), models.ContractInfo)

    @Asks
    def contract_status(self, name: str) -> Call[models.ContractStatus]:
        return Call("GET", path("contracts", name, "status"), models.ContractStatus)

    @Asks
    def performance(self, contract: str) -> Call[models.PerformanceData]:
        return Call("GET", path("contracts", contract, "performance"), models.PerformanceData)

    @Asks
    def rounds(self, contract: str) -> Call[models.Rounds]:
        """Every round that was accepted, from the record on the chain."""
        return Call("GET", path("contracts", contract, "rounds"), models.Rounds)

    @Watches
    def watch_contract(self, name: str) -> Call[models.ContractStatus]:
        """The state of a training, now and after each change."""
        return Call("GET", path("contracts", name, "events"), models.ContractStatus)

    @Asks
    def reset_contract(self, name: str) -> Call[models.Message]:
        """Possible only when the training is complete."""
        return Call("POST", path("contracts", name, "reset"), models.Message)

    # --- tasks --------------------------------------------------------------------------------------

    @Asks
    def tasks(self) -> Call[models.Tasks]:
        return Call("GET", "/tasks", models.Tasks)

    @Asks
    def create_task(
        self, task_type: TaskType, name: str, author: str, *, prereq: str = "ROOTTASK", outcome: str = ""
    ) -> Call[models.Task]:
        """Creates a task without a body, which ``set_line`` writes."""
        header = {"type": task_type, "name": name, "author": author, "prereq": prereq, "outcome": outcome}
        return Call("POST", "/tasks", models.Task, body=header)

    @Asks
    def create_task_from_file(self, file: str) -> Call[models.Task]:
        """From a YAML file in the SWCI's usr-dir."""
        return Call("POST", "/tasks/from-file", models.Task, body={"file": file})

    @Asks
    def create_task_from_text(self, text: str) -> Call[models.Task]:
        """From a task definition, in the form of a YAML file."""
        return Call("POST", "/tasks/from-text", models.Task, body={"text": text})

    @Asks
    def task(self, name: str) -> Call[models.Task]:
        return Call("GET", path("tasks", name), models.Task)

    @Asks
    def task_body(self, name: str) -> Call[models.TaskBody]:
        return Call("GET", path("tasks", name, "body"), models.TaskBody)

    @Asks
    def set_line(self, task: str, line: int, text: str) -> Call[models.TaskBody]:
        """Replaces a line, or adds one after the last. The first is line 1."""
        return Call("PUT", path("tasks", task, "body", line), models.TaskBody, body={"text": text})

    @Asks
    def finalize_task(self, name: str) -> Call[models.Task]:
        """From now on the task can be assigned, but no longer changed or deleted."""
        return Call("POST", path("tasks", name, "finalize"), models.Task)

    @Asks
    def delete_task(self, name: str) -> Call[models.Message]:
        """Possible only until the task is finalized."""
        return Call("DELETE", path("tasks", name), models.Message)

    # --- taskrunners --------------------------------------------------------------------------------

    @Asks
    def taskrunners(self) -> Call[models.TaskRunners]:
        return Call("GET", "/taskrunners", models.TaskRunners)

    @Asks
    def create_taskrunner(self, name: str) -> Call[models.Contract]:
        """Taskrunners are permanent."""
        return Call("POST", "/taskrunners", models.Contract, body={"name": name})

    @Asks
    def taskrunner(self, name: str = DEFAULT_RUNNER) -> Call[models.TaskRunnerInfo]:
        """The taskrunner and its SWOPs."""
        return Call("GET", path("taskrunners", name), models.TaskRunnerInfo)

    @Asks
    def taskrunner_status(self, name: str = DEFAULT_RUNNER) -> Call[models.TaskRunnerStatus]:
        return Call("GET", path("taskrunners", name, "status"), models.TaskRunnerStatus)

    @Asks
    def peer_status(self, peer: str | int, taskrunner: str = DEFAULT_RUNNER) -> Call[models.PeerStatus]:
        """``peer``: its index or its UID."""
        return Call("GET", path("taskrunners", taskrunner, "peers", peer), models.PeerStatus)

    @Asks
    def assign(
        self, task: str, taskrunner: str = DEFAULT_RUNNER, *, peers: int | None = None, target: str | None = None
    ) -> Call[models.TaskRunnerStatus]:
        """``peers``: SL-ML pairs for RUN_SWARM, else SWOPs; all that there are without it. ``target``: one SWOP."""
        who: dict[str, Any] = {
            name: value for name, value in (("peers", peers), ("target", target)) if value is not None
        }
        body = {"task": task, **(who or {"all_peers": True})}
        return Call("POST", path("taskrunners", taskrunner, "assignment"), models.TaskRunnerStatus, body=body)

    @Asks
    def wait(self, taskrunner: str = DEFAULT_RUNNER, seconds: float = 60.0) -> Call[models.WaitResult]:
        """Returns as soon as the task has ended, or after ``seconds`` (at most 3600); then ask again."""
        where = path("taskrunners", taskrunner, "wait")
        return Call("GET", where, models.WaitResult, {"seconds": seconds}, within_s=seconds + ANSWER_WITHIN_S)

    @Watches
    def watch_taskrunner(self, name: str = DEFAULT_RUNNER) -> Call[models.TaskRunnerStatus]:
        """The state of a taskrunner, now and after each change."""
        return Call("GET", path("taskrunners", name, "events"), models.TaskRunnerStatus)

    @Asks
    def reset_taskrunner(self, name: str = DEFAULT_RUNNER, seconds: float = 60.0) -> Call[models.TaskRunnerStatus]:
        """Returns when its SWOPs have removed what they started for the task, or after ``seconds`` (at most 3600).

        ``released`` of an agent says whether it has done so.
        """
        where = path("taskrunners", name, "reset")
        return Call("POST", where, models.TaskRunnerStatus, {"seconds": seconds}, within_s=seconds + ANSWER_WITHIN_S)
