"""Released weights: files of the Hugging Face hub, and files that publishers keep themselves, each in its usual cache.

Released weights do not change: a cached file is used without asking the network.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit

import torch
from huggingface_hub import (
    constants,
    get_hf_file_metadata,
    get_token,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import EntryNotFoundError
from huggingface_hub.file_download import repo_folder_name

from dinodiet.backbones.weights.files import first_line
from dinodiet.errors import NotReleased, UserError
from dinodiet.io.answers import OPEN_SECONDS, check_hub, in_time
from dinodiet.io.assets import Asset, present
from dinodiet.io.gated import access
from dinodiet.io.transfer import digest, transfer

AHEAD = "mode=fetch gets it ahead of time where there is a network"


@dataclass(frozen=True)
class HubFile:
    """A published file: its repository and name on the hub, and the start of its SHA-256, where that is published.

    `otherwise` is the name of a file that serves where the first is not there.
    """

    repo: str
    file: str
    sha256: str = ""
    revision: str | None = None
    otherwise: str | None = None

    @property
    def name(self) -> str:
        """What to call it."""
        return f"{self.repo}/{self.file}"

    @property
    def place(self) -> Path:
        """The cache."""
        return Path(constants.HF_HUB_CACHE)

    def find(self) -> Path | None:
        """Return where it is in the hub's cache, None where it is not."""
        for file in filter(None, (self.file, self.otherwise)):
            found = try_to_load_from_cache(self.repo, file, cache_dir=constants.HF_HUB_CACHE, revision=self.revision)
            if isinstance(found, str):
                return Path(found)
        return None

    def get(self) -> Path:
        """Return where it is in the hub's cache, fetched where it is not there yet.

        Raises:
            UserError: it is neither cached nor can it be fetched, or what came is not the published file.
        """
        if (cached := self.find()) is not None:
            return cached
        try:
            check_hub()
            path = _from_hub(self)
        except Exception as error:  # offline, blocked, gated or moved: each layer of the client raises types of its own
            raise UserError(
                f"weights: hub, but {self.file} of {self.repo} is neither in the cache {self.place} (set by "
                f"HF_HOME) nor could it be fetched ({first_line(error)}); {AHEAD}, a copy of {_url(self, self.file)} "
                f"is used with weights=/path/to/file{access(error, _page(self))}"
            ) from error
        _check_digest(path, self, self.sha256)
        return path


@dataclass(frozen=True)
class UrlFile:
    """A published file that is on no hub; it is kept where torch.hub keeps it."""

    url: str

    @property
    def name(self) -> str:
        """What to call it."""
        return Path(urlsplit(self.url).path).name

    @property
    def place(self) -> Path:
        """Where it lies or will lie."""
        return Path(torch.hub.get_dir()) / "checkpoints" / self.name

    def find(self) -> Path | None:
        """Return where it is, None where it is not there."""
        return present(self.place)

    def get(self) -> Path:
        """Return where it is, fetched where it is not there yet.

        Raises:
            UserError: it is neither there nor can it be fetched.
        """
        try:
            if constants.HF_HUB_OFFLINE and not self.place.exists():
                raise ConnectionError("HF_HUB_OFFLINE is set")
            transfer(self.url, self.place)
        except Exception as error:  # as above
            raise UserError(
                f"weights: hub, but {self.url} is neither in the cache {self.place.parent} (set by TORCH_HOME) "
                f"nor could it be fetched ({first_line(error)}); {AHEAD}, a copy of it is used there or with "
                "weights=/path/to/file"
            ) from error
        return self.place


Release = HubFile | UrlFile


def _url(release: HubFile, file: str) -> str:
    return hf_hub_url(release.repo, file, revision=release.revision)


def _from_hub(release: HubFile) -> Path:
    if release.otherwise is None:
        return _file_from_hub(release, release.file)
    try:
        return _file_from_hub(release, release.file)
    except EntryNotFoundError:
        return _file_from_hub(release, release.otherwise)


def _file_from_hub(release: HubFile, file: str) -> Path:
    """Fetch a file into the hub's cache, and hold it against the digest that the hub tells.

    The content comes by `transfer`, which leaves a slow server; the hub's client finds it there and gives it its name.
    """
    url = _url(release, file)
    found = in_time(lambda: get_hf_file_metadata(url, timeout=2 * OPEN_SECONDS))
    known = re.fullmatch("[0-9a-f]{64}", found.etag or "")  # of large files
    if found.etag:
        folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=release.repo, repo_type="model")
        try:
            transfer(url, folder / "blobs" / found.etag, headers=_authorization(), name=file)
        except URLError as error:
            if not isinstance(error.reason, ssl.SSLError):  # the client brings certificates of its own
                raise
    path = Path(hf_hub_download(release.repo, file, revision=release.revision, cache_dir=constants.HF_HUB_CACHE))
    _check_digest(path, release, known[0] if known else "")
    return path


def _authorization() -> dict[str, str]:
    token = get_token()
    return {} if token is None else {"Authorization": f"Bearer {token}"}


def _check_digest(path: Path, release: HubFile, sha256: str) -> None:
    found = digest(path, "sha256") if sha256 else ""
    if not found.startswith(sha256):
        content = path.resolve()
        path.unlink()  # else the cache would hand it out next time
        content.unlink(missing_ok=True)
        raise UserError(
            f"weights: {release.file} of {release.repo} has SHA-256 {found}, published is "
            f"{sha256[:16]}...; it was removed from the cache"
        )


def weights_assets(weights: str, release: Release | None, name: str) -> list[Asset]:
    """Return what a model's `weights` need: `hub`, `none`, or a file that has to be there.

    Raises:
        NotReleased: there is no release.
    """
    if weights == "none":
        return [Asset(name, "weights=none")]
    if weights == "hub":
        if release is None:
            raise no_release(name)
        return [Asset(release.name, str(release.place), release.find, release.get)]
    path = Path(weights).expanduser()
    return [Asset(path.name, str(path), partial(present, path), partial(require_file, path))]


def released_name(size: str | int, names: Mapping[str, str | None]) -> str:
    """Return under which name a size of a family is published; `names` has null for what never was.

    Raises:
        NotReleased: there are no weights of this size.
        UserError: there is no such size.
    """
    released = ", ".join(key for key, name in names.items() if name is not None)
    if str(size) not in names:
        raise UserError(f"size: {str(size)!r}; choose from: {released}")
    if (name := names[str(size)]) is None:
        raise NotReleased(f"size: {str(size)!r} of this family was never released; choose from: {released}")
    return name


def no_release(name: str, note: str = "") -> NotReleased:
    """Return the error of a model without weights."""
    return NotReleased(f"weights: hub, but {name} has no released weights; choose from: none, or a file{note}")


def require_file(path: Path) -> Path:
    """Return a file that has to be there.

    Raises:
        UserError: it is not.
    """
    if not path.exists():
        raise UserError(f"weights: no file {path.absolute()}; choose from: hub, none, or a file that exists")
    return path


def _page(file: HubFile) -> str:
    return f"https://huggingface.co/{file.repo}"
