"""Files from the network: with a progress bar, checked, and continued where an earlier attempt was cut off.

Each process writes a file of its own, `NAME.<host>.<process>.<token>.part`, and needs no lock: the file gets its name
when it is whole and its digest, where one is published, is right. Processes that want one file at the same time each
fetch it; `mode=fetch` before a sweep fetches it once.

What has come survives failures and kills, and the next attempt asks for the rest. A process that gives up leaves
`NAME.incomplete`, which one other takes over by renaming it. A part is taken over, too, when its process on this host
is no more. One of another host may belong to a process that only sleeps: it is copied after an hour of silence.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import http.client
import os
import platform
import secrets
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tqdm import tqdm

from dinodiet.io.answers import READ_SECONDS, in_time
from dinodiet.io.room import check_room

CHUNK = 1 << 20
PAUSE_SECONDS = 1.0
WINDOW_SECONDS = 20.0
LEAST_RATE = 1024  # bytes/s over a window, pauses and new connections counted; less is given up
SILENT_SECONDS = 3600.0  # a process that lives writes, or gives up, within a minute
RANGE_NOT_SATISFIABLE = 416


class TooSlow(OSError):  # noqa: N818 - a statement about a server
    """A file comes more slowly than `LEAST_RATE`."""


class WrongDigest(OSError):  # noqa: N818 - a statement about a file from elsewhere
    """What came is not the published file."""


def transfer(
    url: str,
    target: Path,
    *,
    sha256: str = "",
    md5: str | None = None,
    headers: Mapping[str, str] | None = None,
    name: str | None = None,
) -> None:
    """Get a file into its place, unless it is there.

    A connection that breaks is taken up again as long as at least `LEAST_RATE` comes over it. A server that is silent,
    or slower, is left within a minute.

    Args:
        url: http, or what else `urllib` opens.
        target: where the file is to lie.
        sha256, md5: published digests, of the first its beginning is enough.
        headers: for this server and not those it redirects to, such as an authorization.
        name: what the progress bar calls it.

    Raises:
        OSError: it cannot be had (what came is kept, and continued next time), or is not the published file.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        return
    part, pace = _own_part(target), _Pace()
    try:
        while not _receive(url, part, headers or {}, name or target.name, pace):
            time.sleep(PAUSE_SECONDS)
        _check(part, sha256, md5)
        part.replace(target)
    except BaseException:
        _give_up(part, target)
        raise


def _own_part(target: Path) -> Path:
    """Return the file that this process writes, with what another process has left of it."""
    own = target.with_name(f"{target.name}.{platform.node()}.{os.getpid()}.{secrets.token_hex(4)}.part")
    with contextlib.suppress(FileNotFoundError):
        return _given_up(target).rename(own)
    for part in target.parent.glob(f"{glob.escape(target.name)}.*.part"):
        with contextlib.suppress(FileNotFoundError):  # a third process was faster
            if _writer_is_gone(part):
                return part.rename(own)
            if time.time() - part.stat().st_mtime > SILENT_SECONDS:
                shutil.copyfile(part, own)
                part.unlink()
                return own
    return own


def _writer_is_gone(part: Path) -> bool:
    """Return whether a part was written by a process of this host that is no more."""
    host, process = part.name.removesuffix(".part").rpartition(".")[0].rsplit(".", 1)
    if not host.endswith(f".{platform.node()}") or not process.isdigit():
        return False
    try:
        os.kill(int(process), 0)  # asks only
    except ProcessLookupError:
        return True
    except OSError:  # it lives, as another user's
        return False
    return False


def _given_up(target: Path) -> Path:
    return target.with_name(f"{target.name}.incomplete")


def _give_up(part: Path, target: Path) -> None:
    """Leave what has come for the next attempt; of two processes that give up, the one that has more."""
    with contextlib.suppress(FileNotFoundError):
        size, place = part.stat().st_size, _given_up(target)
        if size == 0 or (place.exists() and place.stat().st_size >= size):
            part.unlink()
        else:
            part.replace(place)


class _Pace:
    """How fast a file comes, over all connections that it takes."""

    def __init__(self) -> None:
        self._last, self._seconds, self._bytes = time.monotonic(), 0.0, 0

    def note(self, received: int) -> None:
        """Count what came.

        Raises:
            TooSlow: at the end of a window, where it was less than the least rate.
        """
        now = time.monotonic()
        self._seconds += min(now - self._last, READ_SECONDS)  # more is no wait: the process was suspended
        self._last, self._bytes = now, self._bytes + received
        if self._seconds < WINDOW_SECONDS:
            return
        if self._bytes < LEAST_RATE * WINDOW_SECONDS:
            raise TooSlow(f"the server sent {self._bytes:,} bytes in {self._seconds:.0f} s, which is given up")
        self._seconds, self._bytes = 0.0, 0


def _receive(url: str, part: Path, headers: Mapping[str, str], name: str, pace: _Pace) -> bool:
    """Append what is missing of a file; return whether it is whole, or raise where nothing more came."""
    have = part.stat().st_size if part.exists() else 0
    request = Request(url, headers={"User-Agent": "dinodiet", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    for key, value in headers.items():
        request.add_unredirected_header(key, value)
    try:
        with in_time(lambda: urlopen(request, timeout=READ_SECONDS)) as response:
            start = have if getattr(response, "status", None) == http.HTTPStatus.PARTIAL_CONTENT else 0
            length = response.headers.get("Content-Length")
            total = None if length is None else start + int(length)
            check_room(part.parent, 0 if total is None else total - have)
            _append(response, part, start, total, name, pace)
    except HTTPError as error:
        error.close()
        if error.code != RANGE_NOT_SATISFIABLE or not have:
            raise
        if error.headers.get("Content-Range") == f"bytes */{have}":
            return True
        part.unlink()  # it is longer than the file: something else
        return False
    except TooSlow:
        raise
    except (OSError, http.client.HTTPException):
        if part.exists() and part.stat().st_size > have:
            pace.note(0)
            return False
        raise
    size = part.stat().st_size
    if total is not None and size < total and size <= have:
        raise ConnectionError(f"the connection was closed after {size:,} of {total:,} bytes")
    if total is not None and size < total:
        pace.note(0)
    return total is None or size >= total


def _append(
    response: http.client.HTTPResponse, part: Path, start: int, total: int | None, name: str, pace: _Pace
) -> None:
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
        while chunk := response.read1(CHUNK):  # what has come, and not a whole chunk: that a server may never send
            file.write(chunk)
            file.flush()  # a kill costs no more than what is on its way
            bar.update(len(chunk))
            pace.note(len(chunk))


def _check(part: Path, sha256: str, md5: str | None) -> None:
    """Remove and refuse a file that is not the published one: continuing it would never end well."""
    for kind, expected in (("sha256", sha256), ("md5", md5)):
        if expected and not (found := digest(part, kind)).startswith(expected):
            part.unlink()
            raise WrongDigest(f"what came has {kind.upper()} {found}, expected is {expected}; it was removed")


def digest(path: Path, kind: str) -> str:
    """Return a file's digest in hexadecimal; `kind` as in `hashlib`."""
    found = hashlib.new(kind, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            found.update(chunk)
    return found.hexdigest()
