"""Published archives and files: downloaded, checked, unpacked aside, and moved to their place in one piece."""

from __future__ import annotations

import logging
from functools import partial
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from dinodiet.data.sources.published import require
from dinodiet.errors import NotOnDisk, one_line
from dinodiet.io.assets import Asset, present
from dinodiet.io.files import write_atomically, write_text
from dinodiet.io.scratch import scratch_folder
from dinodiet.io.transfer import WrongDigest, digest, transfer
from dinodiet.io.unpack import BROKEN, UnsafeArchive, unpack

log = logging.getLogger(__name__)


def download(
    url: str, target: Path, name: str, md5: str | None = None, sha256: str = "", *, loose: bool = False
) -> None:
    """Get a file, or an archive whose content has the name of `target`, unless it is there by now.

    The content of a `loose` archive has no folder of its own: `target` is made for it.

    What has come before a failure or a kill is kept beside `target` and continued next time; so is a whole archive
    whose unpacking was interrupted. Where no checksum is published, that of what came is told and kept beside the
    target, and a later download has to have it.

    Raises:
        NotOnDisk: the download failed, and the line says how to get it by hand; or the archive is not to be trusted.
    """
    try:
        with scratch_folder(target.parent, target.name) as scratch:
            if target.exists():  # another job was faster
                return
            file = target.parent / file_name(url) if is_archive(url) else target
            _get(url, file, md5, sha256)
            if is_archive(url):
                unpack(file, scratch / target.name if loose else scratch, holds=None if loose else target.name)
                (scratch / target.name).replace(target)
            if not md5 and not sha256:
                _keep_checksum(url, file, name)
            if is_archive(url):
                file.unlink()
    except UnsafeArchive as error:
        raise NotOnDisk(f"{name}: {url} is not unpacked: {error}; nothing was written, the file was removed") from error
    except (OSError, RuntimeError, HTTPException, *BROKEN) as error:
        raise NotOnDisk(
            f"{name}: {target} not found, and the download failed ({one_line(error)}); {by_hand(url, target, loose)}"
        ) from error


def _get(url: str, file: Path, md5: str | None, sha256: str) -> None:
    """Get a file whose checksum is published, or was kept when it came before."""
    known = _kept_checksum(file)
    kept = known.read_text(encoding="utf-8", errors="replace").split() if known.is_file() else []
    if md5 or sha256 or not kept:
        transfer(url, file, md5=md5, sha256=sha256)
        return
    try:
        transfer(url, file, sha256=kept[0].lower())
    except WrongDigest as error:
        raise OSError(f"{error}; if it was published anew, remove {known}") from error


def _keep_checksum(url: str, file: Path, name: str) -> None:
    known = _kept_checksum(file)
    if not known.is_file():
        found = digest(file, "sha256")
        log.warning("%s: %s has no published checksum: its SHA-256 is %s, kept in %s", name, url, found, known)
        write_atomically(known, lambda stream: write_text(stream, f"{found}  {file.name}\n"))


def _kept_checksum(file: Path) -> Path:
    return file.with_name(f"{file.name}.sha256")


def ensure(url: str, target: Path, name: str, allowed: bool, md5: str | None = None, sha256: str = "") -> None:
    """Have a published file or folder in its place: it is there, or it is downloaded where that is allowed.

    Raises:
        NotOnDisk: neither; one line that says how to get it.
    """
    if target.exists():
        return
    if not allowed:
        raise NotOnDisk(f"{name}: {target} not found; {by_hand(url, target)}, or set download=true")
    download(url, target, name, md5, sha256)


def by_hand(url: str, target: Path, loose: bool = False) -> str:
    """Return how a file or archive is got without this module."""
    return f"get {url} and {'unpack it in' if is_archive(url) else 'put it in'} {target if loose else target.parent}"


def is_archive(url: str) -> bool:
    """Return whether what is published there has to be unpacked."""
    return url.endswith((".tar.gz", ".tgz", ".tar", ".zip"))


def file_name(url: str) -> str:
    """Return the name of a published file."""
    return Path(urlsplit(url).path).name


def published_assets(
    url: str, target: Path, name: str, allowed: bool, md5: str | None = None, sha256: str = ""
) -> list[Asset]:
    """Return what `ensure` will need."""
    get = partial(ensure, url, target, name, allowed, md5, sha256)
    return [Asset(name, str(target), partial(present, target), get)]


def local_assets(target: Path, name: str, how: str) -> list[Asset]:
    """Return a file or folder that is got by hand alone; `how` is told where it is missing."""
    return [Asset(name, str(target), partial(present, target), partial(require, target, name, how))]
