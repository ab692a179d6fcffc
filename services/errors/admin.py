"""What the administration of a license server refuses: exit code 20."""

from services.errors.base import SwarmError


class AdminError(SwarmError):
    code = "admin"
    grpc_status = "INVALID_ARGUMENT"
    exit_code = 20
    message = "{problem}"
    remedy = "Correct it and try again."


class SignInRequired(AdminError):
    code = "sign-in-required"
    grpc_status = "UNAUTHENTICATED"
    message = "Nobody is signed in here: {problem}"
    remedy = "Sign in, or show an API token or an administrator's certificate."


class SignInFailed(AdminError):
    code = "sign-in-failed"
    grpc_status = "UNAUTHENTICATED"
    message = "The name, the password or the code is wrong"
    remedy = "Try again; an administrator can set a new password."


class SignInLocked(AdminError):
    code = "sign-in-locked"
    grpc_status = "RESOURCE_EXHAUSTED"
    message = "Too many failed attempts; the next one is possible in {seconds} s"
    remedy = "Wait until then, or ask an administrator to unlock you."


class CodeNeeded(AdminError):
    code = "code-needed"
    grpc_status = "UNAUTHENTICATED"
    message = "A code from the authenticator app is needed too"
    remedy = "Enter the six digits that it shows now."


class NotPermitted(AdminError):
    code = "not-permitted"
    grpc_status = "PERMISSION_DENIED"
    message = "{name} may not do this: it needs {scope}"
    remedy = "An administrator gives roles to users and scopes to API tokens."


class NoSuchThing(AdminError):
    code = "no-such-thing"
    grpc_status = "NOT_FOUND"
    message = "There is no {what} {name}"
    remedy = "List them; it may have been removed meanwhile."


class NoSuchPage(NoSuchThing):
    code = "no-such-page"
    message = "There is no page {name}"
    remedy = "Start from the dashboard; what this address showed may have been removed."


class ThingExists(AdminError):
    code = "thing-exists"
    grpc_status = "ALREADY_EXISTS"
    message = "There is already a {what} {name}"
    remedy = "Choose another name, or remove that one first."


class SetupOver(AdminError):
    code = "setup-over"
    grpc_status = "FAILED_PRECONDITION"
    message = "The setup link is not valid: {problem}"
    remedy = "Restart a server that has no users for a new link, or have an administrator make a user."


class LastAdmin(AdminError):
    code = "last-admin"
    grpc_status = "FAILED_PRECONDITION"
    message = "{name} is the last administrator"
    remedy = "Make another administrator first."


class TooManyRequests(AdminError):
    code = "too-many-requests"
    grpc_status = "RESOURCE_EXHAUSTED"
    message = "Too many requests from {address}"
    remedy = "Try again in {seconds} s."


class FormRefused(AdminError):
    code = "form-refused"
    grpc_status = "PERMISSION_DENIED"
    message = "This form is out of date, or it was sent from somewhere else"
    remedy = "Load the page again and send it from there; nothing was changed."


class BodyTooLarge(AdminError):
    code = "body-too-large"
    message = "The request is larger than {limit} bytes, or does not say how large it is"
    remedy = "Send less at once, with a Content-Length."


class BackupUnusable(AdminError):
    code = "backup-unusable"
    message = "This backup cannot be restored: {problem}"
    remedy = "Choose another backup; nothing was changed."
