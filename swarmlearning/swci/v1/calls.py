"""Requests: one description of each, which both clients carry out in their own way."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial, update_wrapper
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload
from urllib.parse import quote

from pydantic import TypeAdapter

Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")

ANSWER_WITHIN_S = 120.0  # an SN that has not answered after 30 s is reported as such


@dataclass(frozen=True)
class Call(Generic[Result]):
    """``path`` is below /api/v1, ``result`` a dataclass of swarmlearning.swci.models."""

    method: str
    path: str
    result: type[Result]
    query: Mapping[str, str | float] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    within_s: float = ANSWER_WITHIN_S

    def read(self, data: Any) -> Result:
        """The result from parsed JSON. Raises ValueError. Ignores fields that a later version added."""
        found: Result = _reader(self.result).validate_python(data)  # type: ignore[arg-type]  # classes are hashable
        return found


def path(*parts: str | int) -> str:
    """A path of these parts, which may hold any character."""
    return "".join(f"/{quote(str(part), safe='')}" for part in parts)


class Blocking(Protocol):
    """The blocking client."""

    def ask(self, call: Call[Result]) -> Result: ...

    def follow(self, call: Call[Result]) -> Generator[Result]: ...


class AwaitedClient(Protocol):
    """The asynchronous client."""

    async def ask_async(self, call: Call[Result]) -> Result: ...

    def follow_async(self, call: Call[Result]) -> AsyncGenerator[Result]: ...


class Asks(Generic[Arguments, Result]):
    """A method of both clients that makes one request, which the decorated function describes."""

    def __init__(self, describe: Callable[Concatenate[Any, Arguments], Call[Result]]) -> None:
        self.describe = describe

    @overload
    def __get__(self, client: None, owner: type) -> "Asks[Arguments, Result]": ...
    @overload
    def __get__(self, client: Blocking, owner: type) -> Callable[Arguments, Result]: ...
    @overload
    def __get__(self, client: AwaitedClient, owner: type) -> Callable[Arguments, Awaitable[Result]]: ...
    def __get__(self, client: Any, owner: type) -> Any:
        if client is None:
            return self
        carry_out = client.ask if hasattr(client, "ask") else client.ask_async
        return _method(carry_out, self.describe, client)


class Watches(Generic[Arguments, Result]):
    """A method of both clients that follows a stream of states, which the decorated function describes."""

    def __init__(self, describe: Callable[Concatenate[Any, Arguments], Call[Result]]) -> None:
        self.describe = describe

    @overload
    def __get__(self, client: None, owner: type) -> "Watches[Arguments, Result]": ...
    @overload
    def __get__(self, client: Blocking, owner: type) -> Callable[Arguments, Generator[Result]]: ...
    @overload
    def __get__(self, client: AwaitedClient, owner: type) -> Callable[Arguments, AsyncGenerator[Result]]: ...
    def __get__(self, client: Any, owner: type) -> Any:
        if client is None:
            return self
        carry_out = client.follow if hasattr(client, "follow") else client.follow_async
        return _method(carry_out, self.describe, client)


def _method(carry_out: Callable[[Call[Any]], Any], describe: Callable[..., Call[Any]], client: Any) -> Any:
    def method(*given: Any, **named: Any) -> Any:
        return carry_out(describe(client, *given, **named))

    method.__doc__ = describe.__doc__
    return update_wrapper(method, partial(describe, client), assigned=(), updated=())  # for its signature


@cache
def _reader(result: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(result)
