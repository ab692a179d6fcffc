"""A setting is missing, malformed or contradicts another: exit code 2."""

from services.errors.base import SwarmError


class SettingsError(SwarmError):
    code = "settings"
    grpc_status = "INVALID_ARGUMENT"
    exit_code = 2
    message = "{name} is not usable: {problem}"
    remedy = "Correct it and start again; `swarm {command} --help` lists the settings."


class UnknownSetting(SettingsError):
    code = "unknown-setting"
    message = "The environment variable {name} is not a setting of this node"
    remedy = "Did you mean {nearest}? Correct or unset it."


class OptionUnusable(SettingsError):
    """An option of a script in scripts/bin."""

    code = "option"
    message = "{option}: {problem}"
    remedy = "`{script} --help` lists the options."
