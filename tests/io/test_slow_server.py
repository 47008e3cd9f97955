"""A server that is silent, stalls, trickles or ends early is left in time; what came is continued."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dinodiet.backbones.weights.released import HubFile
from dinodiet.errors import UserError
from dinodiet.io import answers
from dinodiet.io import transfer as module
from dinodiet.io.transfer import transfer

CONTENT = bytes(range(256)) * 40
ENOUGH = 25.0  # seconds, on a busy machine
Answer = Callable[[socket.socket, int], None]


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    wait(monkeypatch, 0.6, 0.4, 0.6)
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.0)


def wait(monkeypatch: pytest.MonkeyPatch, opens: float, read: float, window: float) -> None:
    """Set the seconds that are waited for an answer, for its next bytes, and for enough of them."""
    monkeypatch.setattr(answers, "OPEN_SECONDS", opens)
    for place, name, seconds in ((answers, "READ", read), (module, "READ", read), (module, "WINDOW", window)):
        monkeypatch.setattr(place, f"{name}_SECONDS", seconds)


@contextlib.contextmanager
def serving(*answers: Answer) -> Iterator[str]:
    """Yield the address of a server that gives these answers, one a connection, and then the last one again."""
    server = socket.create_server(("127.0.0.1", 0))
    left, held = list(answers), []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                held.append(connection)
                asked = connection.recv(65536).decode().lower()
                start = int(asked.partition("range: bytes=")[2].partition("-")[0] or 0)
                answer = left.pop(0) if len(left) > 1 else left[0]
                threading.Thread(target=_quietly, args=(answer, connection, start), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/set.zip"
    finally:
        for one in (server, *held):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def _quietly(answer: Answer, connection: socket.socket, start: int) -> None:
    with contextlib.suppress(OSError):
        answer(connection, start)


def head(connection: socket.socket, start: int) -> None:
    code = "206 Partial Content" if start else "200 OK"
    connection.sendall(f"HTTP/1.1 {code}\r\nContent-Length: {len(CONTENT) - start}\r\n\r\n".encode())


def silent(connection: socket.socket, start: int) -> None:
    """Say nothing at all."""


def without_a_body(connection: socket.socket, start: int) -> None:
    head(connection, start)


def drip(connection: socket.socket, content: bytes) -> None:
    for place in range(len(content)):
        connection.sendall(content[place : place + 1])
        time.sleep(0.05)


def dripping_head(connection: socket.socket, start: int) -> None:
    drip(connection, b"HTTP/1.1 200 OK\r\nContent-Length: " + b"0" * 4000)


def dripping(connection: socket.socket, start: int) -> None:
    head(connection, start)
    drip(connection, CONTENT[start:])


def dripping_without_length(connection: socket.socket, start: int) -> None:
    connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
    drip(connection, CONTENT)


def dripping_chunks(connection: socket.socket, start: int) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for place in range(start, len(CONTENT)):
        connection.sendall(b"1\r\n" + CONTENT[place : place + 1] + b"\r\n")
        time.sleep(0.05)


def stalling(connection: socket.socket, start: int) -> None:
    """Send a few more bytes over each connection, and hold it."""
    head(connection, start)
    connection.sendall(CONTENT[start : start + 100])


def ending_early(connection: socket.socket, start: int) -> None:
    head(connection, start)
    connection.sendall(CONTENT[start : start + 3])
    time.sleep(0.05)
    connection.close()


def whole(connection: socket.socket, start: int) -> None:
    head(connection, start)
    connection.sendall(CONTENT[start:])
    connection.close()


NOTHING = (silent, without_a_body, dripping_head)
SOMETHING = (dripping, dripping_without_length, dripping_chunks, stalling, ending_early)


@pytest.mark.parametrize("answer", [*NOTHING, *SOMETHING])
def test_a_server_that_gives_too_little_is_left_and_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    target, since = tmp_path / "set.zip", time.monotonic()
    if answer in SOMETHING:  # which a busy machine may send late
        wait(monkeypatch, ENOUGH, 1.0 if answer is stalling else ENOUGH, 1.5 if answer is stalling else 0.6)
    with serving(answer) as url, pytest.raises(OSError, match=r"answer|timed out|the server sent|closed") as caught:
        transfer(url, target)
    assert time.monotonic() - since < ENOUGH  # with the real limits 60 s
    assert "\n" not in str(caught.value)
    kept = tmp_path / "set.zip.incomplete"
    assert not kept.exists() or kept.read_bytes() == CONTENT[: kept.stat().st_size]
    assert kept.exists() == (answer in SOMETHING)
    wait(monkeypatch, ENOUGH, ENOUGH, ENOUGH)
    with serving(whole) as url:
        transfer(url, target)
    assert target.read_bytes() == CONTENT
    assert list(tmp_path.iterdir()) == [target]


def test_a_server_that_stalls_and_then_serves_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wait(monkeypatch, ENOUGH, 1.0, ENOUGH)
    with serving(stalling, ending_early, whole) as url:
        transfer(url, tmp_path / "set.zip")
    assert (tmp_path / "set.zip").read_bytes() == CONTENT


def test_the_real_limits_end_within_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert answers.OPEN_SECONDS + module.WINDOW_SECONDS + answers.READ_SECONDS < 60


@pytest.mark.parametrize("answer", [silent, dripping_head])
def test_a_hub_that_gives_no_answer_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer) -> None:
    monkeypatch.setattr(answers, "getproxies", dict)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with serving(answer) as url:
        address = url.removesuffix("/set.zip")
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        monkeypatch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/{revision}/{filename}"
        )
        with pytest.raises(OSError, match=r"no answer|timed out"):
            answers.check_hub(answers=True)
        with pytest.raises(UserError, match=r"could it be fetched .*no answer"):
            HubFile("owner/models", "net.pth").get()
