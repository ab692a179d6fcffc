"""Checks a document against a schema; reports the first fault in a sentence with file, line and key path."""

import difflib
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from services.errors import DocumentUnusable
from services.tasks.document import Document, Path, shown


class Schema(BaseModel):
    """Base of all schemas for files: no unknown keys, no conversion between types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


S = TypeVar("S", bound=Schema)


def validate(document: Document, schema: type[S], path: Path = ()) -> S:
    """The value at ``path`` as ``schema``. Raises DocumentUnusable for one fault: the first by line, unknown keys
    before others.
    """
    value = document.data
    for part in path:
        value = value[part]
    if not isinstance(value, dict):
        raise document.problem(path, f"{shown(value)} stands here, but keys and values are needed: {_keys(schema)}")
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        faults = [(details["type"], _fault(document, schema, details, path)) for details in error.errors()]
        # A misspelled key also counts as missing: report the misspelled one, which is the one to correct.
        faults.sort(key=lambda fault: (fault[0] != "extra_forbidden", int(fault[1].facts["line"])))
        raise faults[0][1] from None


def _fault(document: Document, schema: type[Schema], details: ErrorDetails, base: Path) -> DocumentUnusable:
    loc = details["loc"]
    path = (*base, *_data_path(document, base, loc))
    if details["type"] in {"missing", "extra_forbidden"} and path[len(base) :][-1:] != loc[-1:]:
        path = (*path, loc[-1])
    match details["type"]:
        case "missing":
            return document.problem(path, "this key is missing")
        case "extra_forbidden":
            known = _siblings(schema, loc)
            near = difflib.get_close_matches(str(path[-1]), known, n=1)
            hint = f"perhaps {near[0]} is meant" if near else f"allowed are {', '.join(known)}"
            return document.problem(path, f"this key is not known; {hint}")
        case _:
            return document.problem(path, f"{shown(details['input'])} stands here, but {_needed(details)}")


def _needed(details: ErrorDetails) -> str:
    facts = details.get("ctx", {})
    match details["type"]:
        case "string_type":
            return "text is needed (put it in quotes)"
        case "int_type" | "int_parsing":
            return "a whole number is needed"
        case "bool_type":
            return "true or false is needed"
        case "list_type":
            return "a list is needed"
        case "model_type" | "dict_type" | "model_attributes_type":
            return "keys and values are needed"
        case "literal_error":
            return f"it must be {facts['expected']!s}"
        case "string_too_long" | "too_long":
            unit = "characters" if details["type"] == "string_too_long" else "entries"
            return f"at most {facts['max_length']} {unit} are allowed"
        case "string_too_short" | "too_short":
            unit = "character" if details["type"] == "string_too_short" else "entry"
            return f"at least {facts['min_length']} {unit} is needed"
        case "greater_than_equal" | "less_than_equal":
            return f"{'at least' if 'ge' in facts else 'at most'} {facts.get('ge', facts.get('le'))} is needed"
        case _:
            return str(details["msg"]).removeprefix("Value error, ")


def _data_path(document: Document, base: Path, loc: tuple[int | str, ...]) -> Path:
    """``loc`` without what pydantic adds, such as the branch of a union."""
    path: Path = ()
    for part in loc:
        if (*base, *path, part) in document.lines:
            path = (*path, part)
    return path


def _siblings(schema: type[Schema], loc: tuple[int | str, ...]) -> list[str]:
    """The known keys at the place of an unknown one."""
    current: Any = schema
    for part in loc[:-1]:
        if isinstance(part, str) and isinstance(current, type) and issubclass(current, Schema):
            current = _schema_in(current.model_fields[_field(current, part)].annotation)
    return _key_list(current if isinstance(current, type) and issubclass(current, Schema) else schema)


def _field(schema: type[Schema], key: str) -> str:
    return next((name for name, field in schema.model_fields.items() if (field.alias or name) == key), key)


def _schema_in(annotation: Any) -> Any:
    """The schema within ``list[X] | None`` and the like."""
    if isinstance(annotation, type) and issubclass(annotation, Schema):
        return annotation
    for part in getattr(annotation, "__args__", ()):
        if (found := _schema_in(part)) is not None:
            return found
    return None


def _key_list(schema: type[Schema]) -> list[str]:
    return [field.alias or name for name, field in schema.model_fields.items()]


def _keys(schema: type[Schema]) -> str:
    return ", ".join(_key_list(schema))
