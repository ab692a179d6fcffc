"""Imports modules of ours, each in a process that has none of ours yet; tells in JSON what each said.

``python importing.py PACKAGES MODULE...``: ``PACKAGES``, by commas, are loaded first, once; then a child is forked for
each module. A child runs what is registered for its end, but does not take down all that was loaded for it.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import sys
import tempfile
import traceback
import warnings
from collections import deque
from typing import IO

AT_ONCE = os.cpu_count() or 1

Running = tuple[str, int, IO[bytes]]  # module, process, what it says


def main() -> None:
    packages, names = sys.argv[1].split(","), sys.argv[2:]
    for package in packages:
        with contextlib.suppress(ImportError):  # whoever needs it says so
            importlib.import_module(package)
    warnings.filterwarnings("ignore", "This process", DeprecationWarning)  # of forks beside threads
    gc.freeze()  # so that children share it
    said: dict[str, str] = {}
    running: deque[Running] = deque()
    for name in names:
        if len(running) == AT_ONCE:
            finish(running.popleft(), said)
        running.append(start(name))
    for child in running:
        finish(child, said)
    sys.stdout.write(json.dumps(said))
    sys.stdout.flush()
    os._exit(0)  # without what libraries say of a process in which all of them were loaded


def start(name: str) -> Running:
    output = tempfile.TemporaryFile()  # noqa: SIM115 - read and closed when the child has ended
    child = os.fork()
    if not child:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        os._exit(imported(name))
    return name, child, output


def imported(name: str) -> int:
    """The exit code."""
    code = 0
    try:
        importlib.import_module(name)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def finish(running: Running, said: dict[str, str]) -> None:
    name, child, output = running
    _, status = os.waitpid(child, 0)
    with output:
        output.seek(0)
        said[name] = f"{os.waitstatus_to_exitcode(status) or ''}{output.read().decode(errors='replace')}"


if __name__ == "__main__":
    main()
