"""Runs modules of examples one after the other in this process, as ``python -m`` would: ``examples_alone.py NAME...``.

What each leaves is called as the module.
"""

import os
import runpy
import sys

for name in sys.argv[1:]:
    os.environ["RUN_NAME"] = name
    runpy.run_module(name, run_name="__main__")
