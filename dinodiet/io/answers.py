"""Servers that may not answer: each is waited for so long and no longer, and the hub is asked before its client is."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, getproxies, urlopen

from huggingface_hub import constants

Found = TypeVar("Found")
CONNECT_SECONDS, OPEN_SECONDS, READ_SECONDS = 5.0, 20.0, 15.0


def in_time(call: Callable[[], Found]) -> Found:
    """Return what a call returns that asks a server.

    It is made in a thread: names are looked up, addresses tried, and heads read byte by byte, without an end.

    Raises:
        TimeoutError: it is not over in time.
        Exception: as the call.
    """
    answer: futures.Future[Found] = futures.Future()

    def ask() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=ask, name="download", daemon=True).start()
    if not futures.wait([answer], OPEN_SECONDS).done:
        answer.add_done_callback(_close)
        raise TimeoutError(f"the server gave no answer in {OPEN_SECONDS:.0f} s")
    return answer.result()


def _close(answer: futures.Future[Any]) -> None:
    if answer.exception() is None and hasattr(answer.result(), "close"):
        answer.result().close()


def check_hub(*, answers: bool = False) -> None:
    """Fail at once where the hub cannot be asked, which its clients find out after a minute of retries or more.

    Args:
        answers: also wait for an answer: some accept a connection and say nothing.

    Raises:
        OSError: there is no connection or no answer, or HF_HUB_OFFLINE forbids one.
    """
    if constants.HF_HUB_OFFLINE:
        raise ConnectionError("HF_HUB_OFFLINE is set")
    parts = urlsplit(constants.ENDPOINT)
    if parts.hostname is not None and not getproxies():  # a proxy may reach what this machine cannot
        port = parts.port or (80 if parts.scheme == "http" else 443)
        in_time(lambda: socket.create_connection((parts.hostname, port), timeout=CONNECT_SECONDS).close())
    if not answers:
        return
    try:
        in_time(lambda: urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=READ_SECONDS)).close()
    except HTTPError as error:  # which is an answer
        error.close()
