"""Published archives and files: downloaded into a scratch folder, checked, and moved to their place in one piece."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

from torchvision.datasets.utils import download_and_extract_archive, download_url

from dinodiet.data.files import one_line, scratch_folder
from dinodiet.errors import UserError


def download(url: str, target: Path, name: str, md5: str | None = None) -> None:
    """Get a file, or an archive whose content has the name of `target`, unless it is there by now.

    Raises:
        UserError: the download failed; the line says how to get it by hand.
    """
    packed = url.endswith((".tar.gz", ".zip"))
    try:
        with scratch_folder(target.parent, target.name) as scratch:
            if target.exists():  # another job was faster
                return
            if packed:
                download_and_extract_archive(url, scratch, md5=md5, remove_finished=True)
            else:
                download_url(url, scratch, target.name, md5)
            (scratch / target.name).replace(target)
    except (OSError, RuntimeError, EOFError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{name}: {target} not found, and the download failed ({one_line(error)}); {by_hand(url, target)}"
        ) from error


def ensure(url: str, target: Path, name: str, allowed: bool, md5: str | None = None) -> None:
    """Have a published file or folder in its place: it is there, or it is downloaded where that is allowed.

    Raises:
        UserError: neither; one line that says how to get it.
    """
    if target.exists():
        return
    if not allowed:
        raise UserError(f"{name}: {target} not found; {by_hand(url, target)}, or set dataset.source.download=true")
    download(url, target, name, md5)


def by_hand(url: str, target: Path) -> str:
    """Return how a file or archive is got without this module."""
    packed = url.endswith((".tar.gz", ".zip"))
    return f"get {url} and {'unpack it in' if packed else 'put it in'} {target.parent}"
