"""A real W&B whose server goes away in the middle of a run, or whose folder is full: one warning, in time."""

import gzip
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.places import ROOT
from tests.run.test_limits import MOUNTS

pytestmark = pytest.mark.slow
ANSWERED = 3  # requests that begin a record
SCRIPT = """
import os, sys, time
from pathlib import Path
from dinodiet.run import wandb
from dinodiet.run.guarded import Guarded
from dinodiet.run.trackers import Wandb
wandb.FINISH_SECONDS = float(os.environ.get("FINISH_SECONDS", wandb.FINISH_SECONDS))
tracker = Guarded(Wandb)
tracker.start("run", {"name": "study"}, Path(sys.argv[1]))
if filler := sys.argv[2:]:
    Path(*filler).write_bytes(bytes(600_000))
for step in range(1, 200):
    tracker.log({f"loss{number}": float(step) for number in range(20)}, step)
    time.sleep(0.01)
tracker.finish({"final/a": 1.0})
print("went on")
"""


class Server(ThreadingHTTPServer):
    """Answers as W&B's does until a record has begun; then it is gone, or refuses, or goes on."""

    how = "well"
    asked = 0

    def handle_error(self, request: object, client_address: object) -> None:
        pass


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_PUT(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
        self.server.asked += 1
        if self.server.asked <= ANSWERED or self.server.how == "well":
            self.answer(200, self.content(body))
        elif self.server.how == "gone":
            self.server.server_close()  # its port refuses connections from now on
            self.close_connection = True
        else:
            self.answer(int(self.server.how), b"")

    def content(self, body: bytes) -> bytes:
        if "graphql" not in self.path:
            return b"{}"
        wanted = json.loads(body)["variables"]
        if b"upsertBucket" in body:
            project = {"id": "p", "name": "p", "entity": {"id": "e", "name": "e"}}
            bucket = {"id": "i", "name": wanted["name"], "project": project, "historyLineCount": 0}
            return json.dumps({"data": {"upsertBucket": {"bucket": bucket, "inserted": True}}}).encode()
        files = [{"name": name, "uploadUrl": self.url(name)} for name in wanted.get("files") or []]
        return json.dumps({"data": {"createRunFiles": {"runID": "i", "uploadHeaders": [], "files": files}}}).encode()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/{name}"

    def answer(self, code: int, content: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def tracked(words: list[str], environment: dict[str, str]) -> list[str]:
    """Run the script, which must go on in time, and return its warnings."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    begun = time.monotonic()
    done = subprocess.run(
        words, cwd=ROOT, env={**plain, **environment}, capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stdout) == (0, "went on\n"), done.stderr
    assert time.monotonic() - begun < 100
    return done.stderr.splitlines()


@pytest.mark.parametrize(("how", "why"), [("gone", "did not take all"), ("404", "404 Not Found"), ("well", "")])
def test_a_server_that_dies_in_the_middle_costs_one_warning(tmp_path: Path, server: Server, how: str, why: str) -> None:
    server.how = how
    environment = {"WANDB_API_KEY": "a1" * 20, "WANDB_BASE_URL": f"http://127.0.0.1:{server.server_port}"}
    hasty = {} if how == "well" else {"FINISH_SECONDS": "2"}
    told = tracked([sys.executable, "-c", SCRIPT, str(tmp_path)], {**environment, **hasty})
    assert server.asked >= ANSWERED
    if how == "well":
        assert told == []
        return
    (warning,) = told
    assert why in warning
    (record,) = tmp_path.glob("wandb/run-*")  # no offline one: the record had begun
    assert f"wandb sync {record}" in warning


@pytest.mark.skipif(not MOUNTS, reason="mounts need root and unshare -m")
@pytest.mark.parametrize("fills", ["before", "in the middle"])
def test_a_full_folder_of_wandb_costs_one_warning(tmp_path: Path, fills: str) -> None:
    words = [sys.executable, "-c", SCRIPT, str(tmp_path / "run"), str(tmp_path), "filler"]
    size = "64k" if fills == "before" else "700k"
    mounted = f'mount -t tmpfs -o size={size} tmpfs {tmp_path}; exec "$@"'
    words = words[:-2] if fills == "before" else words
    told = tracked(["unshare", "-m", "sh", "-c", mounted, "sh", *words], {"WANDB_MODE": "offline"})
    assert len(told) == 1, told
    assert "KiB to write to" in told[0]
