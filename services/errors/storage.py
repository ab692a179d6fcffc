"""A directory or disk: exit code 17."""

from services.errors.base import SwarmError


class StorageError(SwarmError):
    code = "storage"
    grpc_status = "INTERNAL"
    exit_code = 17
    message = "{path} cannot be written: {problem}"
    remedy = "Make it writable for the user that runs the node, or choose another --data-dir."


class DiskFull(StorageError):
    code = "disk-full"
    grpc_status = "RESOURCE_EXHAUSTED"
    message = "The disk of {path} is full: {needed} bytes are needed, {free} are free"
    remedy = "Free space there, or choose another --data-dir; no half-written file was kept."


class FileExists(StorageError):
    code = "file-exists"
    grpc_status = "ALREADY_EXISTS"
    message = "{path} exists already and is not overwritten"
    remedy = "Choose another name or directory, or replace it for good with --force."
