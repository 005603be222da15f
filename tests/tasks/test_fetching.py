"""Files from the web, served by this machine: within limits, and never a file of it."""

from __future__ import annotations

import contextlib
import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from perceptic.errors import ConfigError, MediaError
from perceptic.tasks.assistant import Assistant
from perceptic.tasks.fetching import fetch
from perceptic.tasks.media_parts import media_part
from perceptic.tasks.messages import ChatMessage


class Handler(http.server.BaseHTTPRequestHandler):
    cat: bytes = b""

    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/cat.png")
        elif self.path == "/to-a-file":
            self.send_response(302)
            self.send_header("Location", "file:///etc/hostname")
        elif self.path == "/round":
            self.send_response(302)
            self.send_header("Location", "/round")
        elif self.path in ("/cat.png", "/short", "/endless", "/slow", "/empty"):
            self.send_response(200)
        else:
            self.send_error(404)
            return
        if self.path == "/cat.png":
            self.send_header("Content-Length", str(len(self.cat)))
        if self.path == "/short":
            self.send_header("Content-Length", "1000")
        self.end_headers()
        with contextlib.suppress(OSError):  # the reader had enough
            self._body()

    def _body(self) -> None:
        if self.path == "/cat.png":
            self.wfile.write(self.cat)
        elif self.path == "/short":
            self.wfile.write(b"too little")
        elif self.path == "/endless":
            while True:
                self.wfile.write(b"x" * 65536)
        elif self.path == "/slow":
            for _ in range(100):
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.05)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(goldens: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "*")
    Handler.cat = (goldens / "media" / "cat.png").read_bytes()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def test_a_file(server: str) -> None:
    assert fetch(f"{server}/cat.png") == Handler.cat
    assert fetch(f"{server}/moved") == Handler.cat


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/gone", "the server answered 404"),
        ("/to-a-file", "the server answered 302|cannot be fetched"),
        ("/round", "302"),
        ("/short", "was cut off after 10 of 1,000 bytes"),
        ("/endless", "larger than the limit of 100,000 bytes"),
        ("/slow", "took longer than 0.3 s"),
        ("/empty", "is empty"),
    ],
)
def test_what_is_refused(server: str, path: str, reason: str) -> None:
    with pytest.raises(MediaError, match=reason) as caught:
        fetch(server + path, max_bytes=100_000, total_seconds=0.3)
    assert caught.value.path == server + path


def test_a_declared_length_is_enough(server: str) -> None:
    with pytest.raises(MediaError, match="larger than the limit of 1,000 bytes"):
        fetch(f"{server}/cat.png", max_bytes=1000)


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:1/", "http://[", "http://", "http://a:b/", "http://a b/", "http://\u2028/", "ftp://a/", "x"],
)
def test_what_cannot_be_reached(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(MediaError):
        fetch(url, stall_seconds=2)


def test_a_picture_on_the_web_is_fetched_once(
    assistant: Assistant, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{server}/cat.png"
    with pytest.raises(ConfigError, match="allow_network"):
        assistant.prepare([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}])
    part = media_part(url, allow_network=True)
    first = assistant.prepare([ChatMessage.user(part, "What?")])
    assert first.media[0].path == url
    monkeypatch.setattr(Handler, "cat", b"gone")
    assistant.prepare([ChatMessage.user(part, "And this?")])
    assistant.forget()
    with pytest.raises(MediaError, match=r"cat.png: not an image"):
        assistant.prepare([ChatMessage.user(part, "And this?")])
