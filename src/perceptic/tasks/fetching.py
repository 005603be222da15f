"""Files from the web, for callers that allow it: only http and https, within limits of size and time."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request

from perceptic.errors import MediaError

MAX_BYTES = 256 * 1024 * 1024
STALL_SECONDS = 30.0
TOTAL_SECONDS = 300.0
_BLOCK = 1 << 16
_HEADERS = {"User-Agent": "perceptic", "Accept": "image/*, video/*, */*;q=0.1"}

# urllib, its parsers and sockets; ValueError is what it makes of impossible addresses.
_FAILURES = (OSError, http.client.HTTPException, ValueError)


def fetch(
    url: str,
    *,
    max_bytes: int = MAX_BYTES,
    stall_seconds: float = STALL_SECONDS,
    total_seconds: float = TOTAL_SECONDS,
) -> bytes:
    """The content at an http or https address; redirections are followed to such addresses only.

    Args:
        max_bytes: a longer content is refused, as soon as its length is known.
        stall_seconds: how long the server may be silent.
        total_seconds: how long the whole may take.

    Raises:
        MediaError: it cannot be reached, answers with an error, is empty, too long or too slow.
    """
    deadline = time.monotonic() + total_seconds
    content = bytearray()
    try:
        request = urllib.request.Request(url, headers=_HEADERS)
        with _opener().open(request, timeout=stall_seconds) as response:
            stated = response.headers.get("Content-Length", "")
            expected = int(stated) if stated.isdecimal() else 0
            _check_length(url, expected, max_bytes)
            while block := response.read1(_BLOCK):
                content += block
                _check_length(url, len(content), max_bytes)
                if time.monotonic() > deadline:
                    raise MediaError(url, f"took longer than {total_seconds:g} s to download")
    except urllib.error.HTTPError as error:
        error.close()
        raise MediaError(url, f"the server answered {error.code} {error.reason}") from error
    except _FAILURES as error:
        raise MediaError(url, f"cannot be fetched: {getattr(error, 'reason', None) or error}") from error
    if len(content) < expected:
        raise MediaError(url, f"was cut off after {len(content):,} of {expected:,} bytes", "try again")
    if not content:
        raise MediaError(url, "is empty")
    return bytes(content)


def _check_length(url: str, num_bytes: int, max_bytes: int) -> None:
    if num_bytes > max_bytes:
        raise MediaError(url, f"is larger than the limit of {max_bytes:,} bytes", "download it and give the file")


def _opener() -> urllib.request.OpenerDirector:
    """Knows http and https alone: a redirection must not lead to a file of this machine."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener
