"""Leaving on signals, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

LATE = """
import os, signal
from dinodiet.io.leaving import {leave}, leave_on_signals, signals_to
leave_on_signals(continues=True)
inside = signals_to(lambda number, frame: None)
inside.__enter__()  # and a signal kept it from its end
{leave}()
del inside  # Python collects it
os.kill(os.getpid(), signal.SIGINT)
for _ in range(1000): pass
print("goes on")
"""


@pytest.mark.parametrize(("leave", "code", "printed"), [("leave_quietly", 130, ""), ("ignore_signals", 0, "goes on\n")])
def test_handlers_stay_once_a_process_has_left(leave: str, code: int, printed: str) -> None:
    words = [sys.executable, "-c", LATE.format(leave=leave)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=200, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, printed, "")
