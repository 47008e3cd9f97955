"""Measures a command: `python -I -S alone.py FILE COMMAND ...` writes its wall and CPU seconds and its peak memory.

A process's peak counts from that of the one that starts it: this one is small. Imports nothing that is large.
"""

import json
import os
import sys
import time

file, *command = sys.argv[1:]
begun = time.perf_counter()
_, status, usage = os.wait4(os.posix_spawn(command[0], command, os.environ), 0)
wall = time.perf_counter() - begun
with open(file, "w") as out:  # noqa: PTH123 - pathlib is not imported
    json.dump({"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "peak_mib": usage.ru_maxrss / 1024}, out)
sys.exit(os.waitstatus_to_exitcode(status))
