"""What may come next in a line: words of commands, and names that currently exist in the swarm."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from services.errors import SwarmError
from services.rpc import swarm_pb2 as pb
from services.swci.commands.contract import KIND
from services.swci.grammar.command import kinds_of
from services.swci.grammar.grammar import Grammar
from services.swci.grammar.kinds import ParameterKind
from services.swci.grammar.syntax import Literal
from services.swci.grammar.words import COMMENT, QUOTES, Word, split
from services.swci.session import CommandSession

FRESH_S = 2.0  # how long fetched names are reused
ASK_S = 2.0  # nobody waits longer for a completion


class LiveNames:
    """Names of contexts, contracts, tasks, taskrunners, SWOPs, peers and files; none of the swarm if no SN answers."""

    def __init__(self, session: CommandSession) -> None:
        self._session = session
        self._known: dict[tuple[str, ...], tuple[float, list[str]]] = {}
        self._ask: dict[str, Callable[[Sequence[str]], Awaitable[list[str]]]] = {
            "contexts": self._contexts,
            "variables": self._variables,
            "contracts": self._contracts,
            "tasks": self._tasks,
            "taskrunners": self._taskrunners,
            "swops": self._swops,
            "peers": self._peers,
            "files": self._files,
        }

    async def of(self, live: str, words: Sequence[str]) -> list[str]:
        """``words``: the words so far; the last one is the beginning of the word to complete."""
        ask = self._ask.get(live)
        if ask is None:
            return []
        key = (live, *words[-2:])
        if key in self._known and time.monotonic() - self._known[key][0] < FRESH_S:
            return self._known[key][1]
        found: list[str] = []
        with contextlib.suppress(SwarmError, TimeoutError):
            async with asyncio.timeout(ASK_S):
                found = await ask(words)
        self._known = {key: (time.monotonic(), found)}
        return found

    async def _contexts(self, _words: Sequence[str]) -> list[str]:
        return [context.name for context in self._session.contexts]

    async def _variables(self, _words: Sequence[str]) -> list[str]:
        return list(self._session.contexts.named().environment)

    async def _contracts(self, _words: Sequence[str]) -> list[str]:
        client = await self._session.sn()
        entries = (await client.network.ListContracts(pb.ListContractsRequest())).contracts
        return [entry.name for entry in entries if entry.kind == KIND]

    async def _tasks(self, _words: Sequence[str]) -> list[str]:
        client = await self._session.sn()
        return [entry.header.name for entry in await client.list_tasks()]

    async def _taskrunners(self, _words: Sequence[str]) -> list[str]:
        client = await self._session.sn()
        return [entry.name for entry in (await client.runners.ListRunners(pb.ListRunnersRequest())).runners]

    async def _swops(self, _words: Sequence[str]) -> list[str]:
        client = await self._session.sn()
        nodes = (await client.network.ListNodes(pb.ListNodesRequest())).nodes
        return [node.name for node in nodes if node.role == "swop"]

    async def _peers(self, words: Sequence[str]) -> list[str]:
        client = await self._session.sn()
        status = await client.runners.GetRunner(pb.GetRunnerRequest(runner=words[-2]))
        indexes = (str(number) for number in range(len(status.peers)))
        return [*indexes, *(peer.name or peer.agent for peer in status.peers)]

    async def _files(self, words: Sequence[str]) -> list[str]:
        directory, slash, _ = words[-1].rpartition("/")
        entries = self._session.files.entries(directory or slash or ".")
        return [f"{directory}{slash}{entry.name}{'/' if entry.is_dir() else ''}" for entry in entries]


class CommandCompleter(Completer):
    """Completes commands and names for the shell."""

    def __init__(self, grammar: Grammar, session: CommandSession) -> None:
        self._grammar = grammar
        self._names = LiveNames(session)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        """Offers words of commands only. Names need the network: ``get_completions_async`` offers them."""
        words = typed(document.text_before_cursor)
        offered = (it.word for _, it in self._grammar.goes_on(_texts(words)[:-1]) if isinstance(it, Literal))
        yield from _offer(offered, words[-1])

    async def get_completions_async(self, document: Document, complete_event: CompleteEvent) -> Any:
        for completion in self.get_completions(document, complete_event):
            yield completion
        words = typed(document.text_before_cursor)
        async for completion in self._arguments(words):
            yield completion

    async def _arguments(self, words: list[Word]) -> AsyncIterator[Completion]:
        texts = _texts(words)
        kinds: dict[ParameterKind, None] = {}
        for command, following in self._grammar.goes_on(texts[:-1]):
            if not isinstance(following, Literal):
                kinds[kinds_of(command)[following.name]] = None
        for kind in kinds:
            names = [*kind.choices, *(await self._names.of(kind.live, texts))]
            for completion in _offer(map(quoted, names), words[-1]):
                yield completion


def typed(text: str) -> list[Word]:
    """The words of a line. The last one is still being typed; it is empty after a space."""
    words = split(text)
    goes_on = bool(words) and (words[-1].open or not text[-1].isspace())
    return words if goes_on else [*words, Word("", len(text), len(text))]


def quoted(name: str) -> str:
    """The name as written in a line: in quotes if it would otherwise be several words or a comment."""
    if not any(character.isspace() for character in name) and not name.startswith((COMMENT, *QUOTES)):
        return name
    quote = next((mark for mark in reversed(QUOTES) if mark not in name), QUOTES[0])
    return f"{quote}{name}{quote}"


def _texts(words: list[Word]) -> list[str]:
    return [word.text for word in words]


def _offer(names: Iterable[str], begun: Word) -> Iterator[Completion]:
    for name in dict.fromkeys(names):
        if name.strip("".join(QUOTES)).upper().startswith(begun.text.upper()):
            yield Completion(name, start_position=begun.start - begun.end)
