"""Runs a node with bugs planted in it, or in a network namespace of its own, or both.

``python -m tests.chaos.altered NAMESPACE FUNCTION <what benchmarks.log_traps gets>``: FUNCTION is ``module:function``,
called first without arguments. Either may be empty.
"""

import ctypes
import importlib
import os
import sys

from benchmarks import log_traps

CLONE_NEWNET = 0x40000000


def main(arguments: list[str]) -> int:
    """Gives the exit code of the node."""
    namespace, before, *rest = arguments
    if namespace:
        _enter_namespace(namespace)
    if before:
        module, name = before.split(":")
        getattr(importlib.import_module(module), name)()
    return log_traps.main(rest)


def _enter_namespace(name: str) -> None:
    descriptor = os.open(f"/var/run/netns/{name}", os.O_RDONLY | os.O_CLOEXEC)
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), f"cannot enter the network namespace {name}")
    os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
