"""Files from the network: with a progress bar, checked, and continued where an earlier attempt was cut off.

What has come of a file lies beside its place, as `NAME.incomplete`, and survives failures and kills: the next attempt
asks for the rest. The file gets its name when it is whole and its digest, where one is published, is right.
"""

from __future__ import annotations

import hashlib
import http.client
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, getproxies, urlopen

from filelock import FileLock
from huggingface_hub import constants
from tqdm import tqdm

from dinodiet.io.room import check_room

CHUNK = 1 << 20
CONNECT_SECONDS, READ_SECONDS, PAUSE_SECONDS = 5.0, 30.0, 1.0
RANGE_NOT_SATISFIABLE = 416


def transfer(
    url: str,
    target: Path,
    *,
    sha256: str = "",
    md5: str | None = None,
    headers: Mapping[str, str] | None = None,
    name: str | None = None,
) -> None:
    """Get a file into its place, unless it is there by now; one process at a time.

    A connection that breaks is taken up again as long as something comes over it.

    Args:
        url: http, or what else `urllib` opens.
        target: where the file is to lie.
        sha256, md5: published digests, of the first its beginning is enough.
        headers: for this server and not those it redirects to, such as an authorization.
        name: what the progress bar calls it.

    Raises:
        OSError: it cannot be had (what came is kept, and continued next time), or is not the published file.
    """
    part = target.with_name(f"{target.name}.incomplete")
    lock = target.with_name(f"{target.name}.lock")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock):
            if target.exists():  # another job was faster
                return
            while not _receive(url, part, headers or {}, name or target.name):
                time.sleep(PAUSE_SECONDS)
            _check(part, sha256, md5)
            part.replace(target)
    finally:
        if not part.exists():  # else another process may be about to take it up, behind this lock
            lock.unlink(missing_ok=True)


def _receive(url: str, part: Path, headers: Mapping[str, str], name: str) -> bool:
    """Append what is missing of a file; return whether it is whole, or raise where nothing more came."""
    have = part.stat().st_size if part.exists() else 0
    request = Request(url, headers={"User-Agent": "dinodiet", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    for key, value in headers.items():
        request.add_unredirected_header(key, value)
    try:
        with urlopen(request, timeout=READ_SECONDS) as response:
            start = have if getattr(response, "status", None) == http.HTTPStatus.PARTIAL_CONTENT else 0
            length = response.headers.get("Content-Length")
            total = None if length is None else start + int(length)
            check_room(part.parent, 0 if total is None else total - have)
            _append(response, part, start, total, name)
    except HTTPError as error:
        if error.code != RANGE_NOT_SATISFIABLE or not have:
            raise
        if error.headers.get("Content-Range") == f"bytes */{have}":
            return True
        part.unlink()  # it is longer than the file: something else
        return False
    except (OSError, http.client.HTTPException):
        if part.exists() and part.stat().st_size > have:
            return False
        raise
    size = part.stat().st_size
    if total is not None and size < total and size <= have:
        raise ConnectionError(f"the connection was closed after {size:,} of {total:,} bytes")
    return total is None or size >= total


def _append(response: http.client.HTTPResponse, part: Path, start: int, total: int | None, name: str) -> None:
    """Write what comes behind the first `start` bytes; the bar is drawn on a terminal."""
    bar = tqdm(
        total=total,
        initial=start,
        desc=name[-40:],
        unit="B",
        unit_scale=True,
        disable=None,
        leave=False,
        mininterval=0.5,
    )
    with part.open("ab" if start else "wb") as file, bar:
        while chunk := response.read(CHUNK):
            file.write(chunk)
            file.flush()  # a kill costs no more than what is on its way
            bar.update(len(chunk))


def _check(part: Path, sha256: str, md5: str | None) -> None:
    """Remove and refuse a file that is not the published one: continuing it would never end well."""
    for kind, expected in (("sha256", sha256), ("md5", md5)):
        if expected and not (found := digest(part, kind)).startswith(expected):
            part.unlink()
            raise OSError(f"what came has {kind.upper()} {found}, published is {expected}; it was removed")


def digest(path: Path, kind: str) -> str:
    """Return a file's digest in hexadecimal; `kind` as in `hashlib`."""
    found = hashlib.new(kind, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            found.update(chunk)
    return found.hexdigest()


def check_hub() -> None:
    """Fail at once where the hub cannot be asked, which its clients find out after up to a minute of retries.

    Raises:
        OSError: there is no connection, or HF_HUB_OFFLINE forbids one.
    """
    if constants.HF_HUB_OFFLINE:
        raise ConnectionError("HF_HUB_OFFLINE is set")
    parts = urlsplit(constants.ENDPOINT)
    if parts.hostname is not None and not getproxies():  # a proxy may reach what this machine cannot
        port = parts.port or (80 if parts.scheme == "http" else 443)
        socket.create_connection((parts.hostname, port), timeout=CONNECT_SECONDS).close()
