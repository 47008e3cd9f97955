"""The server: for this machine alone, or with a token; it reads and never writes."""

import contextlib
import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest

from dinodiet.errors import UserError
from dinodiet.results.__main__ import main
from dinodiet.results.report.serve import COOKIE, Server, is_loopback, serve
from dinodiet.results.report.site import Site
from tests.results import studies
from tests.web import in_thread

Headers = dict[str, str]


@contextlib.contextmanager
def served(site: Site, host: str) -> Iterator[Server]:
    server = Server(site, host, 0)
    with in_thread(server):
        yield server


@pytest.fixture
def site(tmp_path: Path) -> Site:
    studies.write(tmp_path / "study", studies.results())
    return Site([tmp_path / "study"])


def asked(server: Server, path: str, method: str = "GET", **headers: str) -> tuple[int, Headers, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read()


def test_pages_for_this_machine(site: Site) -> None:
    with served(site, "127.0.0.1") as server:
        assert server.token is None and server.address == f"http://127.0.0.1:{server.server_address[1]}/"
        status, headers, body = asked(server, "/")
        assert status == 200 and b"dinov2-base" in body and headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store" and headers["Server"].strip() == "dinodiet"
        assert asked(server, "/nothing")[0] == 404
        status, headers, body = asked(server, "/plotly.js", "HEAD")
        assert status == 200 and int(headers["Content-Length"]) > 10**6 and body == b""


def test_pages_elsewhere_cannot_read_through_a_browser(site: Site) -> None:
    with served(site, "127.0.0.1") as server:
        assert asked(server, "/", Host="evil.example")[0] == 403
        assert asked(server, "/", Host="127.0.0.1.evil.example:80")[0] == 403
        assert asked(server, "/", Host="localhost:1234")[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_is_written(site: Site, method: str) -> None:
    with served(site, "127.0.0.1") as server:
        assert asked(server, "/", method)[0] == 501


def test_others_need_the_token(site: Site) -> None:
    with served(site, "0.0.0.0") as server:
        assert server.token is not None and server.address.endswith(f"/?token={server.token}")
        assert asked(server, "/")[0] == 403
        assert asked(server, "/?token=wrong")[0] == 403
        assert asked(server, "/", Cookie=f"{COOKIE}=wrong")[0] == 403
        assert asked(server, "/", Cookie="a=b;;=;\x01")[0] == 403
        status, headers, _ = asked(server, f"/?token={server.token}")
        cookie = headers["Set-Cookie"]
        assert status == 303 and headers["Location"] == "/" and "HttpOnly" in cookie and "SameSite=Strict" in cookie
        assert asked(server, "/", Cookie=cookie.partition(";")[0])[0] == 200
        assert asked(server, f"////evil.example?token={server.token}")[1]["Location"] == "/evil.example"


def test_a_study_that_cannot_be_read_is_a_line(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(address: str) -> None:
        raise UserError(f"{address}: gone")

    with served(site, "127.0.0.1") as server:
        monkeypatch.setattr(site, "answer", fail)
        assert asked(server, "/")[::2] == (503, b"/: gone\n")


def test_what_no_run_has_is_refused_before_anything_is_served(site: Site) -> None:
    with pytest.raises(UserError, match="nope: no such metric"):
        serve(Site(site.paths, metrics=["nope"]), "127.0.0.1", 0)


def test_what_is_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "localhost", "::1", "127.9.9.9")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "example.org", "10.0.0.1")))


def test_a_port_that_is_taken_is_one_line(site: Site) -> None:
    with served(site, "127.0.0.1") as server, pytest.raises(UserError, match="Address already in use; --port 0"):
        serve(site, "127.0.0.1", server.server_address[1])


def test_options_are_refused_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options, said in (
        (["--port", "80"], "--host and --port: of --serve"),
        (["--serve", "--port", "70000"], "--port: 70000; choose from: 0 to 65535"),
        (["--html", "a.pdf"], "a.pdf: ends in '.pdf'; choose from: .html"),
        (["--serve"], "no such folder"),
        (
            ["--html", "a.html", "--rows", "seed"],
            "--rows: not of a report; --html and --serve take --where and --metric",
        ),
    ):
        assert main([str(tmp_path / "none"), *options]) == 1
        assert said in capsys.readouterr().err
