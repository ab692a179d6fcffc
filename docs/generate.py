"""Writes docs/errors.md and docs/settings.md from the classes they describe: ``python docs/generate.py [--check]``."""

import json
import sys
from pathlib import Path
from string import Formatter

from pydantic import AliasChoices, Field, create_model
from pydantic.fields import FieldInfo

from services.audit.settings import AuditSettings
from services.errors import SwarmError
from services.license_server.settings import LicenseServerSettings
from services.licensing.settings import LicenseAdminSettings
from services.preflight.settings import PreflightSettings
from services.provision.project import Project
from services.runtime.settings import NodeSettings
from services.sl.settings import SLSettings
from services.sn.settings import SNSettings
from services.swci.catalog import COMMANDS
from services.swci.grammar.command import Group
from services.swci.settings import SWCISettings
from services.swop.policy_file import Policy
from services.swop.profile import Profile
from services.swop.settings import SwopSettings
from services.tasks.definition import BODIES, TaskFields

HERE = Path(__file__).parent

ERRORS_INTRODUCTION = """# Errors

A node or command that fails prints one line, `ERROR: what is wrong, where. What to do.`, and ends with the exit code
below. The code in each heading is stable, and other nodes get it with the error. Words in *italics* are replaced by the
facts of the case.

A training script that the swarm refuses prints the sentence that its SL received, and ends with exit code 1, as every
Python program does after an uncaught exception.
"""

SETTINGS_INTRODUCTION = """# Settings

A flag takes precedence over its environment variable. A node refuses to start if a variable has one of our prefixes
but is not a setting, and suggests the nearest name. Variables that Kubernetes and Docker links inject for services
(`SN_SERVICE_HOST`, `SL_FS_PORT=tcp://...`) are ignored.
"""

NODES: dict[str, type[NodeSettings]] = {
    "swarm sn": SNSettings,
    "swarm sl": SLSettings,
    "swarm swop": SwopSettings,
    "swarm swci": SWCISettings,
    "swarm license-server": LicenseServerSettings,
    "swarm audit": AuditSettings,
    "swarm license": LicenseAdminSettings,
    "swarm preflight": PreflightSettings,
}


def errors_page() -> str:
    lines = [ERRORS_INTRODUCTION]
    for exit_code in sorted({cls.exit_code for cls in _errors()}):
        lines.append(f"## Exit code {exit_code}\n")
        for cls in sorted(_errors(), key=lambda cls: cls.code):
            if cls.exit_code == exit_code:
                lines.append(f"### `{cls.code}`\n\n{_readable(cls.message)}.\n{_readable(cls.remedy)}\n")
    return "\n".join(lines)


def settings_page() -> str:
    lines = [SETTINGS_INTRODUCTION]
    for command, settings in NODES.items():
        lines.append(f"## `{command}`\n\n| setting | environment | default | meaning |\n|---|---|---|---|")
        for name, field in settings.model_fields.items():
            variables = ", ".join(f"`{variable}`" for variable in _variables(field)) or "none"
            default = "required" if field.is_required() else f"`{field.get_default(call_default_factory=True)}`"
            meaning = " ".join((field.description or "").split()).replace("|", "\\|")
            lines.append(f"| `{name}` | {variables} | {default} | {meaning} |")
        lines.append("")
    return "\n".join(lines)


def _errors() -> list[type[SwarmError]]:
    found: list[type[SwarmError]] = []
    pending: list[type[SwarmError]] = [SwarmError]
    while pending:
        cls = pending.pop()
        found.append(cls)
        pending.extend(cls.__subclasses__())
    return found


def _readable(template: str) -> str:
    parts = (text + (f"*{field}*" if field else "") for text, field, _, _ in Formatter().parse(template))
    return " ".join("".join(parts).split())


def _variables(field: FieldInfo) -> list[str]:
    alias = field.validation_alias
    if isinstance(alias, AliasChoices):
        return [choice for choice in alias.choices if isinstance(choice, str) and choice.isupper()]
    return [alias] if isinstance(alias, str) else []


def schema_pages() -> dict[Path, str]:
    """JSON schemas of what users write: tasks, the profile and the policy of a SWOP, a project."""
    schemas = {
        "profile": Profile.model_json_schema(by_alias=True),
        "policy": Policy.model_json_schema(by_alias=True),
        "project": Project.model_json_schema(by_alias=True),
    }
    for task_type, body in BODIES.items():
        task = create_model(f"{body.__name__}Task", __base__=TaskFields, body=(body, Field(alias="Body")))
        schema = task.model_json_schema(by_alias=True)
        schema["properties"]["TaskType"] = {"const": str(task_type)}
        schemas[str(task_type).lower().replace("_", "-")] = schema
    return {
        HERE / "schemas" / f"{name}.schema.json": json.dumps(
            {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=1, ensure_ascii=False
        )
        + "\n"
        for name, schema in schemas.items()
    }


def commands_page() -> str:
    """Every command of SWCI, from the classes that carry them out."""
    lines = ["# Commands of SWCI\n", "In the order of `HELP`; how they are given: [swci.md](swci.md).\n"]
    for group in Group:
        lines.append(f"## {group}\n\n| command | what it does |\n|---|---|")
        for command in (command for command in COMMANDS if command.group is group):
            syntax, summary = command.syntax.replace("|", "\\|"), command.summary().replace("|", "\\|")
            lines.append(f"| `{syntax}` | {summary} |")
        lines.append("")
    return "\n".join(lines)


def main() -> int:
    pages = {HERE / "errors.md": errors_page(), HERE / "settings.md": settings_page(), **schema_pages()}
    pages[HERE / "swci-commands.md"] = commands_page()
    stale = [path for path, text in pages.items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            sys.stderr.write(f"ERROR: {path} is not current. Run `make docs`.\n")
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(exist_ok=True)
        path.write_text(pages[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
