"""What to do where the hub refuses a file: its terms are to be accepted, or it is somebody's own."""

from __future__ import annotations

REFUSED = (401, 403)


def access(error: BaseException, page: str) -> str:
    """Return what gives access to a repository, as a clause that ends a message; empty where nothing was refused.

    Args:
        error: what the hub's client raised; what it was raised from is looked at too.
        page: where the terms are accepted.
    """
    found: BaseException | None = error
    while found is not None:
        status = getattr(getattr(found, "response", None), "status_code", None)
        if status in REFUSED or "gated" in str(found).lower():
            return f"; where it is gated, accept its terms on {page} and set HF_TOKEN to a token of yours"
        found = found.__cause__
    return ""
