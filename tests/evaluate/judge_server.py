"""A stand-in for an OpenAI-compatible endpoint: a real HTTP server in a thread that says what a test puts into it."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Canned:
    """One answer of the server."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    delay_seconds: float = 0.0
    drop: bool = False


def said(text: Any) -> Canned:
    """A well-formed chat completion."""
    return Canned(body=json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode())


@dataclass
class JudgeServer:
    """Answers from `queue` in turn, then `default`; keeps what it was sent."""

    url: str = ""
    queue: list[Canned] = field(default_factory=list)
    default: Canned = field(default_factory=lambda: said('{"pred": "yes", "score": 5}'))
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    lock: Any = field(default_factory=threading.Lock)
    most_at_once: int = 0
    _now: int = 0

    def take(self, path: str, headers: dict[str, str], body: bytes) -> Canned:
        with self.lock:
            self.paths.append(path)
            self.headers.append(headers)
            self.requests.append(json.loads(body))
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            return self.queue.pop(0) if self.queue else self.default

    def done(self) -> None:
        with self.lock:
            self._now -= 1


@contextlib.contextmanager
def judge_server() -> Iterator[JudgeServer]:
    """The server while it runs; its `url` ends in /v1."""
    state = JudgeServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            canned = state.take(self.path, dict(self.headers), body)
            time.sleep(canned.delay_seconds)
            state.done()  # before the answer leaves: its reader may ask again at once
            try:
                if canned.drop:
                    self.connection.close()
                    return
                self.send_response(canned.status)
                for name, value in canned.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(canned.body)))
                self.end_headers()
                self.wfile.write(canned.body)
            except OSError:
                pass  # the client gave up first, as some tests want

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
