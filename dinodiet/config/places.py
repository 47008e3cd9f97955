"""Where the configuration files lie: at the top of a checkout, inside the package once it is installed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
ROOT = PACKAGE if (PACKAGE / "conf").is_dir() else PACKAGE.parent
CONF, SWEEPS = ROOT / "conf", ROOT / "sweeps"


def own_folders(words: Sequence[str]) -> list[Path]:
    """Return the folders that `--config-dir` (or `-cd`) names among the words of a command line."""
    names = [after for word, after in pairwise(words) if word in ("--config-dir", "-cd")]
    names += [word.partition("=")[2] for word in words if word.startswith("--config-dir=")]
    return [Path(name).expanduser().resolve() for name in names]


def program() -> str:
    """Return how the user calls the command that is running."""
    return "python launch.py" if Path(sys.argv[0]).name == "launch.py" else "dinodiet"
