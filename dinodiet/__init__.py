"""dinodiet: does self-supervised training on these images make a backbone's features better?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dinodiet.run.trained import load

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    """Import `load` when it is first asked for: the command line starts without torch."""
    if name != "load":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dinodiet.run.trained import load  # noqa: PLC0415

    return load
