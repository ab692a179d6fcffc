"""What is asked: one description of a request, which both clients carry out, each in its way."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial, update_wrapper
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload
from urllib.parse import quote

from pydantic import TypeAdapter

Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")

ANSWER_WITHIN_S = 120.0  # an SN answers within 30 s, or it is said that it does not


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
        """Raises ValueError. Fields that a later version added are passed over."""
        found: Result = _reader(self.result).validate_python(data)  # type: ignore[arg-type]  # classes are hashable
        return found


def path(*parts: str | int) -> str:
    """Each part may hold any character."""
    return "".join(f"/{quote(str(part), safe='')}" for part in parts)


class Blocking(Protocol):
    """A client that waits."""

    def ask(self, call: Call[Result]) -> Result: ...

    def follow(self, call: Call[Result]) -> Generator[Result]: ...


class AwaitedClient(Protocol):
    """A client that is awaited."""

    async def ask_async(self, call: Call[Result]) -> Result: ...

    def follow_async(self, call: Call[Result]) -> AsyncGenerator[Result]: ...


class Asks(Generic[Arguments, Result]):
    """A method of both clients that asks once: the function below it describes the call."""

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
    """A method of both clients that follows a stream of states."""

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

    return update_wrapper(method, partial(describe, client), assigned=("__doc__",), updated=())


@cache
def _reader(result: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(result)
