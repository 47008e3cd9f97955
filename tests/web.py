"""A web server on loopback that can be cut off, and that stands for a weight hub: downloads are tested for real."""

from __future__ import annotations

import contextlib
import hashlib
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

COMMIT = "a" * 40


@dataclass
class Web:
    """What is published, and what was asked for.

    Attributes:
        files: content by path.
        folder: whose files are published too.
        moved: from a path to what a hub answers there: the headers of a redirect.
        cuts: how many bytes the next answers to GET send before they hang up; None: all.
        ranges: whether parts of files are served.
        asked: (method, path, Range or nothing, Authorization or nothing) of every request.
    """

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    folder: Path | None = None
    moved: dict[str, dict[str, str]] = field(default_factory=dict)
    cuts: list[int | None] = field(default_factory=list)
    ranges: bool = True
    asked: list[tuple[str, str, str, str]] = field(default_factory=list)

    def gets(self) -> list[tuple[str, str]]:
        """Return (path, Range) of the files that were asked for; the hub's client also has questions of its own."""
        return [(path, part) for method, path, part, _ in self.asked if method == "GET" and "/api/" not in path]

    def content(self, path: str) -> bytes | None:
        """Return what is published under a path."""
        found = None if self.folder is None else self.folder / path.partition("?")[0].lstrip("/")
        return found.read_bytes() if found is not None and found.is_file() else self.files.get(path)

    def publish(self, repo: str, file: str, content: bytes, *, sha256: str | None = None) -> str:
        """Put a file on the hub, kept on another host, and return the path it is kept under."""
        digest = sha256 or hashlib.sha256(content).hexdigest()
        kept = f"/kept/{digest}"
        self.files[kept] = content
        answer = {
            "Location": self.address.replace("127.0.0.1", "localhost") + kept,
            "X-Repo-Commit": COMMIT,
            "X-Linked-Etag": f'"{digest}"',
            "X-Linked-Size": str(len(content)),
        }
        self.moved |= {f"/{repo}/resolve/{revision}/{file}": answer for revision in ("main", COMMIT)}
        return kept


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 5

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(send=False)

    def do_GET(self) -> None:
        self.answer(send=True)

    def answer(self, *, send: bool) -> None:
        web, wanted = self.server.web, self.headers.get("Range") or ""
        web.asked.append((self.command, self.path, wanted, self.headers.get("Authorization") or ""))
        if self.path in web.moved:
            self.head(302, web.moved[self.path])
            return
        content = web.content(self.path)
        if content is None:
            self.head(404, {"X-Error-Code": "EntryNotFound"})
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and web.ranges else 0
        if start >= len(content) > 0:
            self.head(416, {"Content-Range": f"bytes */{len(content)}"})
            return
        self.head(206 if start else 200, {"Content-Length": str(len(content) - start)})
        if send:
            cut = web.cuts.pop(0) if web.cuts else None
            self.wfile.write(content[start:] if cut is None else content[start : start + cut])

    def head(self, code: int, headers: dict[str, str]) -> None:
        self.send_response(code)
        for key, value in {"Content-Length": "0", **headers}.items():
            self.send_header(key, value)
        self.end_headers()


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    web: Web

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up."""


@contextlib.contextmanager
def serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """Yield a server that stands for the hub, whose caches lie below tmp_path."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.web = web = Web(f"http://127.0.0.1:{server.server_port}")
    for name, value in {"no_proxy": "127.0.0.1,localhost", "TORCH_HOME": str(tmp_path / "torch")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("dinodiet.io.transfer.PAUSE_SECONDS", 0.0)
    for name, constant in {
        "ENDPOINT": web.address,
        "HUGGINGFACE_CO_URL_TEMPLATE": web.address + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HF_HUB_OFFLINE": False,
    }.items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", constant)
        with contextlib.suppress(AttributeError):  # before 1.0 it had a copy of its own
            monkeypatch.setattr(f"huggingface_hub.file_download.{name}", constant)
    with in_thread(server):
        yield web


@contextlib.contextmanager
def in_thread(server: socketserver.BaseServer) -> Iterator[None]:
    """Serve in a thread, and close the server at the end."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def published(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield the address, ending in /, of a server that publishes a folder."""
    with serving(folder, monkeypatch) as web:
        web.folder = folder
        yield f"{web.address}/"
