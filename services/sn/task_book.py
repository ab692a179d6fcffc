"""The tasks of the swarm with their bodies, from the events of TaskRegistry."""

from dataclasses import dataclass, replace
from itertools import islice

from services.chain import task_events as on_chain
from services.chain.task_events import TaskHeader
from services.chain.tasks import body_hash, content_hash
from services.errors import UnknownTask
from services.sn.event_fold import NOWHERE

ROOT_TASK = "ROOTTASK"


@dataclass(frozen=True)
class Task:
    """``created_at``: seconds since 1970. ``registrant``: role/name of the certificate that created it.

    ``number`` counts the tasks ever created, in the order of the chain, so it is the same on all SNs.
    """

    header: TaskHeader
    registrant: str
    fingerprint: bytes
    created_at: float
    body: bytes = b""
    finalized: bool = False
    number: int = 0

    @property
    def body_hash(self) -> bytes:
        return body_hash(self.body)

    @property
    def content_hash(self) -> bytes:
        return content_hash(self.header, self.body)


ROOT = Task(TaskHeader(ROOT_TASK, "ROOT", "", "", ""), "", b"", 0.0, finalized=True)
"""The prerequisite of a task that has none."""


class TaskBook:
    """Fold of the registry's events, in the order of the chain."""

    def __init__(self) -> None:
        self.position = NOWHERE
        self._tasks: dict[str, Task] = {ROOT_TASK: ROOT}
        self._created = 0

    def page(self, after: int, limit: int) -> list[Task]:
        """Tasks in the order of their creation, from the first whose number is above ``after``; ROOTTASK has 0."""
        return list(islice((task for task in self._tasks.values() if task.number > after), limit))

    def named(self, name: str) -> Task:
        """Raises UnknownTask."""
        if name not in self._tasks:
            raise UnknownTask(name=name or "''")
        return self._tasks[name]

    def apply(self, event: on_chain.RegistryEvent) -> None:
        """Folds one event; an event folded before changes nothing."""
        if event.position <= self.position:
            return
        self.position = event.position
        if isinstance(event, on_chain.TaskBodySet | on_chain.TaskFinalized | on_chain.TaskRemoved):
            self._change(event)
        elif isinstance(event, on_chain.TaskCreated):
            self._created += 1
            self._tasks[event.header.name] = Task(
                event.header, event.registrant, event.fingerprint, event.at / 1000, number=self._created
            )

    def _change(self, event: on_chain.TaskBodySet | on_chain.TaskFinalized | on_chain.TaskRemoved) -> None:
        """Changes a task that exists: two names on the chain that are not valid text may become one name here."""
        if event.name not in self._tasks or event.name == ROOT_TASK:
            return
        match event:
            case on_chain.TaskBodySet():
                self._tasks[event.name] = replace(self._tasks[event.name], body=event.body)
            case on_chain.TaskFinalized():
                self._tasks[event.name] = replace(self._tasks[event.name], finalized=True)
            case on_chain.TaskRemoved():
                del self._tasks[event.name]
