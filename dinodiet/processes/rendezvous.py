"""How processes of several machines meet without an agreed port: the first one writes where it listens into a file."""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from torch.distributed import TCPStore  # type: ignore[attr-defined]  # it is documented

from dinodiet.errors import UserError
from dinodiet.processes.place import Place, machine_name

POLL_SECONDS = 0.2
TRY_SECONDS = 5.0  # for a machine to answer


def rendezvous(place: Place, address: Path, patience: timedelta) -> TCPStore:
    """Return the store through which the processes of a run find one another.

    Args:
        place: of this process.
        address: a file that all processes see, of these processes alone; the first one writes it.
        patience: for the first process to listen, and for all that is asked of the store later.

    Raises:
        UserError: the first process could not be found.
    """
    if place.rank == 0:
        return _listening(address, place.size, patience)
    deadline = time.monotonic() + patience.total_seconds()
    while time.monotonic() < deadline:
        if (store := _found(address, place.size, patience)) is not None:
            return store
        time.sleep(POLL_SECONDS)
    raise UserError(
        f"processes: process {place.rank} on {machine_name()} did not find process 0 within "
        f"{patience.total_seconds():.0f} s; it writes where it listens into {address}"
    )


def _listening(address: Path, size: int, patience: timedelta) -> TCPStore:
    """Listen on a free port, and write where that is; a reader sees all of the file or none."""
    store = TCPStore("localhost", 0, size, is_master=True, timeout=patience, wait_for_workers=False)
    token = secrets.token_hex(8)
    store.set(token, "")
    address.parent.mkdir(parents=True, exist_ok=True)
    unfinished = address.with_name(f".{address.name}.{token}")
    unfinished.write_text(json.dumps({"hosts": _own_names(), "port": store.port, "token": token}))
    unfinished.replace(address)
    return store


def _own_names() -> list[str]:
    """Return what other machines may call this one, the likeliest first."""
    return list(dict.fromkeys(name for name in (socket.gethostname(), machine_name(), _own_address()) if name))


def _own_address() -> str | None:
    """Return the address that this machine has in its network; nothing is sent for it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect(("10.255.255.255", 1))
        except OSError:
            return None
        return str(asked.getsockname()[0])


def _found(address: Path, size: int, patience: timedelta) -> TCPStore | None:
    """Return the store of the first process; None where it does not listen yet, or where another one does."""
    try:
        said: dict[str, Any] = json.loads(address.read_text())
    except (OSError, ValueError):
        return None
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # torch tells of every attempt
    for host in said["hosts"]:
        try:
            socket.create_connection((host, said["port"]), TRY_SECONDS).close()
            store = TCPStore(host, said["port"], size, is_master=False, timeout=patience, wait_for_workers=False)
            if store.check([said["token"]]):
                return store
        except (OSError, RuntimeError):
            continue
    return None
