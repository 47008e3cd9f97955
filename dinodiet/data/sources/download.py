"""Published archives and files: downloaded, checked, unpacked aside, and moved to their place in one piece."""

from __future__ import annotations

from functools import partial
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from dinodiet.data.sources.published import require
from dinodiet.errors import NotOnDisk, one_line
from dinodiet.io.assets import Asset, present
from dinodiet.io.scratch import scratch_folder
from dinodiet.io.transfer import transfer
from dinodiet.io.unpack import BROKEN, UnsafeArchive, unpack


def download(url: str, target: Path, name: str, md5: str | None = None) -> None:
    """Get a file, or an archive whose content has the name of `target`, unless it is there by now.

    What has come before a failure or a kill is kept beside `target` and continued next time; so is a whole archive
    whose unpacking was interrupted.

    Raises:
        NotOnDisk: the download failed, and the line says how to get it by hand; or the archive is not to be trusted.
    """
    try:
        with scratch_folder(target.parent, target.name) as scratch:
            if target.exists():  # another job was faster
                return
            if not is_archive(url):
                transfer(url, target, md5=md5)
                return
            archive = target.parent / file_name(url)
            transfer(url, archive, md5=md5)
            unpack(archive, scratch, holds=target.name)
            (scratch / target.name).replace(target)
            archive.unlink()
    except UnsafeArchive as error:
        raise NotOnDisk(f"{name}: {url} is not unpacked: {error}; nothing was written, the file was removed") from error
    except (OSError, RuntimeError, HTTPException, *BROKEN) as error:
        raise NotOnDisk(
            f"{name}: {target} not found, and the download failed ({one_line(error)}); {by_hand(url, target)}"
        ) from error


def ensure(url: str, target: Path, name: str, allowed: bool, md5: str | None = None) -> None:
    """Have a published file or folder in its place: it is there, or it is downloaded where that is allowed.

    Raises:
        NotOnDisk: neither; one line that says how to get it.
    """
    if target.exists():
        return
    if not allowed:
        raise NotOnDisk(f"{name}: {target} not found; {by_hand(url, target)}, or set download=true")
    download(url, target, name, md5)


def by_hand(url: str, target: Path) -> str:
    """Return how a file or archive is got without this module."""
    return f"get {url} and {'unpack it in' if is_archive(url) else 'put it in'} {target.parent}"


def is_archive(url: str) -> bool:
    """Return whether what is published there has to be unpacked."""
    return url.endswith((".tar.gz", ".zip"))


def file_name(url: str) -> str:
    """Return the name of a published file."""
    return Path(urlsplit(url).path).name


def published_assets(url: str, target: Path, name: str, allowed: bool, md5: str | None = None) -> list[Asset]:
    """Return what `ensure` will need."""
    return [Asset(name, str(target), partial(present, target), partial(ensure, url, target, name, allowed, md5))]


def local_assets(target: Path, name: str, how: str) -> list[Asset]:
    """Return a file or folder that is got by hand alone; `how` is told where it is missing."""
    return [Asset(name, str(target), partial(present, target), partial(require, target, name, how))]
