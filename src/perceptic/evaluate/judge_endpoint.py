"""A judge behind an OpenAI-compatible chat endpoint: vLLM, llama.cpp, Ollama, or a service on the web.

Retried with growing pauses: refusals for load (429, with Retry-After), errors of the server (5xx), broken or slow
connections, and bodies that are not the protocol's JSON (proxies answer so while a server starts). Not retried: wrong
keys, unknown models and anything else that the same request would meet again.
"""

from __future__ import annotations

import email.utils
import http.client
import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

from perceptic.errors import ConfigError, NetworkError, PercepticError
from perceptic.evaluate.judge import ENVIRONMENT, MAX_REPLY_TOKENS, JudgeFacts, JudgePrompt

PAUSES_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0)
_LONGEST_PAUSE = 120.0
_SHOWN = 200


class _RetryableError(Exception):
    """What may pass. `pause` is the server's own wish in seconds."""

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause


@dataclass(frozen=True)
class EndpointJudge:
    """A model at an address, asked greedily.

    Attributes:
        url: of the API, such as `http://localhost:8000/v1`.
        key: sent as a bearer token; "" sends none. It appears in no message and no file.
        concurrency: requests under way at once.
        timeout_seconds: for each request.
        pauses: seconds before each further try.
        sleep: waits; tests put their own.
    """

    url: str
    model: str
    key: str = ""
    concurrency: int = 8
    timeout_seconds: float = 120.0
    pauses: Sequence[float] = PAUSES_SECONDS
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"judge {self.url!r}: expected an address such as http://localhost:8000/v1")
        if parts.username or parts.password or parts.query:
            raise ConfigError(f"the judge's address must not hold a key; put it in {ENVIRONMENT['key']}")
        if self.concurrency < 1:
            raise ConfigError(f"concurrency must be at least 1, not {self.concurrency}")

    def __repr__(self) -> str:
        return f"EndpointJudge(url={self.url!r}, model={self.model!r})"

    @property
    def facts(self) -> JudgeFacts:
        settings = {"url": self.url, "temperature": 0, "max_tokens": MAX_REPLY_TOKENS}
        return JudgeFacts("endpoint", self.model, True, settings)

    def replies(self, prompts: Sequence[JudgePrompt]) -> Iterator[tuple[int, str]]:
        """See `Judge.replies`."""
        stop = threading.Event()

        def ask(prompt: JudgePrompt) -> str | None:
            try:
                return None if stop.is_set() else self.reply(prompt)
            except PercepticError:
                stop.set()  # the others would meet the same
                raise

        with ThreadPoolExecutor(self.concurrency, thread_name_prefix="judge") as pool:
            numbers = {pool.submit(ask, prompt): number for number, prompt in enumerate(prompts)}
            failure: BaseException | None = None
            try:
                for future in as_completed(numbers):
                    error = future.exception()
                    if error is not None:
                        # What is under way is paid for already: it is waited for and given out.
                        failure = failure or error
                    elif (text := future.result()) is not None:
                        yield numbers[future], text
            finally:
                stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
            if failure is not None:
                raise failure

    def reply(self, prompt: JudgePrompt) -> str:
        """One reply.

        Raises:
            NetworkError: it did not come after all tries.
            ConfigError: the endpoint refuses key, model or request.
        """
        tries = len(self.pauses) + 1
        for number in range(tries):
            try:
                return self._try(prompt)
            except _RetryableError as error:
                if number == tries - 1:
                    raise NetworkError(
                        f"judge {self.url}: {error} ({tries} tries). Replies so far are kept; run the command again"
                    ) from None
                pause = self.pauses[number] if error.pause is None else max(error.pause, self.pauses[number])
                self.sleep(min(pause, _LONGEST_PAUSE))
        raise AssertionError("the last try returns or raises")

    def _try(self, prompt: JudgePrompt) -> str:
        try:
            with urllib.request.urlopen(self._request(prompt), timeout=self.timeout_seconds) as response:
                return _content(response.read())
        except urllib.error.HTTPError as error:
            with error:
                raise self._refusal(error) from None
        except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
            reason = getattr(error, "reason", None) or error
            raise _RetryableError(f"no answer: {reason or type(error).__name__}") from None

    def _request(self, prompt: JudgePrompt) -> urllib.request.Request:
        messages = [{"role": "system", "content": prompt.system}, {"role": "user", "content": prompt.user}]
        body = {"model": self.model, "messages": messages, "temperature": 0, "max_tokens": MAX_REPLY_TOKENS}
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        address = f"{self.url.rstrip('/')}/chat/completions"
        return urllib.request.Request(address, json.dumps(body).encode(), headers, method="POST")

    def _refusal(self, error: urllib.error.HTTPError) -> Exception:
        said = _told(error)
        if error.code == 429 or error.code >= 500 or error.code == 408:
            return _RetryableError(f"status {error.code}{said}", _retry_after(error.headers.get("Retry-After")))
        if error.code in (401, 403):
            have = "refused the key" if self.key else "wants a key"
            return ConfigError(f"judge {self.url}: {have} (status {error.code}); set {ENVIRONMENT['key']}")
        return ConfigError(f"judge {self.url}, model {self.model}: status {error.code}{said}")


def _content(body: bytes) -> str:
    """The reply in a body of the protocol; a model may well say nothing."""
    try:
        value: Any = json.loads(body)
        content = value["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError):
        shown = body[:_SHOWN].decode("utf-8", "replace")
        raise _RetryableError(f"not an answer of the chat protocol: {shown!r}") from None
    if content is not None and not isinstance(content, str):
        raise _RetryableError(f"content is no text: {str(content)[:_SHOWN]!r}")
    return content or ""


def _told(error: urllib.error.HTTPError) -> str:
    """What the server says of the error, in short."""
    try:
        text = error.read(4096).decode("utf-8", "replace").strip()
    except OSError:
        return ""
    return f": {' '.join(text.split())[:_SHOWN]}" if text else ""


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait, from seconds or a date; None where it says nothing."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
