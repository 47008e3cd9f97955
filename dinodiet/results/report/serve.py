"""`--serve`: a live report for browsers. It reads and never writes, and answers on this machine alone unless told."""

from __future__ import annotations

import contextlib
import http.cookies
import ipaddress
import secrets
import socket
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from dinodiet.errors import UserError, one_line
from dinodiet.results.report.page import plotly
from dinodiet.results.report.site import Answer, Site

COOKIE = "dinodiet_token"
SECONDS = 30  # that a request may take to arrive
NAMES_OF_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
PLAIN = "text/plain; charset=utf-8"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Server(ThreadingHTTPServer):
    """A server of one site; `token` is asked for where others than this machine can reach it."""

    daemon_threads = True

    def __init__(self, site: Site, host: str, port: int) -> None:
        self.site = site
        self.local = is_loopback(host)
        self.token = None if self.local else secrets.token_urlsafe(24)
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), Handler)

    @property
    def address(self) -> str:
        """What a browser is given, with the token."""
        host, port = str(self.server_address[0]), self.server_address[1]
        shown = f"[{host}]" if ":" in host else socket.gethostname() if host == "0.0.0.0" else host
        return f"http://{shown}:{port}/" + (f"?token={self.token}" if self.token else "")


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD; all else is refused by the library."""

    server: Server
    timeout = SECONDS
    server_version, sys_version = "dinodiet", ""

    def do_GET(self) -> None:
        """Answer with what lies at the address, or say why not."""
        address = urlsplit(self.path)
        if not self._is_asked_rightly():
            self._say(HTTPStatus.FORBIDDEN, "this report is for http://127.0.0.1 alone; see --host")
        elif self.server.token and self._came_with(address.query):
            self._send(HTTPStatus.SEE_OTHER, b"", PLAIN, self._admitted(address.path))
        elif self.server.token and not self._is_known():
            self._say(HTTPStatus.FORBIDDEN, "open the address that --serve has printed, with its token")
        else:
            self._answer(address.path)

    do_HEAD = do_GET  # noqa: N815 - as the library calls it

    def _answer(self, address: str) -> None:
        try:
            found = self.server.site.answer(address)
        except UserError as error:
            self._say(HTTPStatus.SERVICE_UNAVAILABLE, one_line(error))
            return
        except Exception:  # printed by the server, which goes on
            self._say(HTTPStatus.INTERNAL_SERVER_ERROR, "this page failed; see what --serve prints")
            raise
        if found is None:
            self._say(HTTPStatus.NOT_FOUND, "nothing there")
        else:
            self._found(found)

    def _found(self, found: Answer) -> None:
        keep = "max-age=86400" if found.lasting else "no-store"
        self._send(HTTPStatus.OK, found.body, found.kind, {"Cache-Control": keep})

    def _is_asked_rightly(self) -> bool:
        """Return whether the name in the request is this machine's: another one is a page elsewhere that reads here."""
        host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        return not self.server.local or host.lower() in NAMES_OF_LOOPBACK

    def _came_with(self, query: str) -> bool:
        return self._is_token(parse_qs(query).get("token", [""])[0])

    def _is_known(self) -> bool:
        with contextlib.suppress(http.cookies.CookieError):
            cookies = http.cookies.SimpleCookie(self.headers.get("Cookie", ""))
            return COOKIE in cookies and self._is_token(cookies[COOKIE].value)
        return False

    def _is_token(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), str(self.server.token).encode())

    def _admitted(self, path: str) -> dict[str, str]:
        place = "/" + path.lstrip("/\\")  # `//elsewhere` would lead there
        return {"Location": place, "Set-Cookie": f"{COOKIE}={self.server.token}; HttpOnly; SameSite=Strict; Path=/"}

    def _say(self, status: HTTPStatus, words: str) -> None:
        self._send(status, f"{words}\n".encode(), PLAIN)

    def _send(self, status: HTTPStatus, body: bytes, kind: str, more: dict[str, str] | None = None) -> None:
        with contextlib.suppress(ConnectionError, TimeoutError):
            self.send_response(status)
            for name, value in {
                **HEADERS,
                "Content-Type": kind,
                "Content-Length": str(len(body)),
                **(more or {}),
            }.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet: a page looks every ten seconds."""


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def serve(site: Site, host: str, port: int) -> None:
    """Serve a site until the process is told to stop, after saying where.

    Raises:
        UserError: nothing can be read there, the port is taken, the address is none of this machine's, or plotly or
            Jinja is missing.
    """
    plotly(), site.answer("/")  # what cannot be read or shown is told before anything is served
    try:
        server = Server(site, host, port)
    except OSError as error:
        raise UserError(
            f"--host {host} --port {port}: {error.strerror or error}; --port 0 takes any that is free"
        ) from error
    with server:
        print(f"{server.address}   (read-only; Ctrl-C ends it)", flush=True)
        server.serve_forever()
