"""Credentials for a registry, from the Docker config.json of this host."""

import base64
import json
from pathlib import Path

from services.errors import AuthFileUnusable

FILE_LIMIT_BYTES = 1024 * 1024
DOCKER_HUB = "https://index.docker.io/v1/"


def auth_header(path: str, repository: str) -> str:
    """The value of ``X-Registry-Auth`` for the registry of ``repository``.

    Raises AuthFileUnusable if the file cannot be read or has nothing for that registry.
    """
    registry = registry_of(repository)
    entry = _entries(path).get(registry)
    if entry is None:
        raise AuthFileUnusable(path=path, problem=f"it has nothing for the registry {registry}")
    said: dict[str, str] = {"serveraddress": registry}
    if isinstance(token := entry.get("identitytoken"), str):
        said["identitytoken"] = token
    else:
        said["username"], said["password"] = _user_and_password(path, registry, entry)
    return base64.urlsafe_b64encode(json.dumps(said).encode()).decode()


def registry_of(repository: str) -> str:
    """The registry in a repository's name, as config.json writes it."""
    return repository.partition("/")[0] if has_registry(repository) else DOCKER_HUB


def has_registry(repository: str) -> bool:
    """Whether a repository's name begins with its registry."""
    first, slash, _ = repository.partition("/")
    return bool(slash) and ("." in first or ":" in first or first == "localhost")


def _entries(path: str) -> dict[str, dict[str, object]]:
    try:
        with Path(path).open("rb") as file:
            content = json.loads(file.read(FILE_LIMIT_BYTES))
    except OSError as error:
        raise AuthFileUnusable(path=path, problem=error.strerror) from None
    except ValueError:
        raise AuthFileUnusable(path=path, problem="it is not JSON") from None
    found = content.get("auths") if isinstance(content, dict) else None
    if not isinstance(found, dict) or not all(isinstance(entry, dict) for entry in found.values()):
        raise AuthFileUnusable(path=path, problem="it has no `auths`, as Docker's config.json has")
    if content.get("credsStore") or content.get("credHelpers"):
        found = {name: entry for name, entry in found.items() if entry}
    return found


def _user_and_password(path: str, registry: str, entry: dict[str, object]) -> tuple[str, str]:
    try:
        user, colon, password = base64.b64decode(str(entry["auth"]), validate=True).decode().partition(":")
    except (KeyError, ValueError):
        colon = ""
    if not colon:
        raise AuthFileUnusable(path=path, problem=f"its `auth` for {registry} is not a user and a password")
    return user, password
