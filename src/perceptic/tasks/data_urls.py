"""`data:` addresses: a file inside a string (RFC 2397), as chat messages carry pictures."""

from __future__ import annotations

import base64
import binascii
import urllib.parse
from dataclasses import dataclass

from perceptic.errors import MediaError

_SHOWN_OF_DATA = 40
_SHOWN_OF_PATHS = 1000


@dataclass(frozen=True)
class DataUrl:
    """What a data address holds; `mime_type` in lower case, `text/plain` where it names none."""

    mime_type: str
    content: bytes


def is_data_url(text: str) -> bool:
    """Whether a string is one, well formed or not."""
    return text[:5].lower() == "data:"


def parse_data_url(url: str) -> DataUrl:
    """Read a data address, base64 or percent-encoded. Raises MediaError if it is damaged or empty."""
    header, comma, body = url[5:].partition(",")
    name = short_address(url)
    if not comma:
        raise MediaError(name, "a data address needs a comma before its content", "data:image/png;base64,...")
    mime_type, *parameters = [part.strip().lower() for part in header.split(";")]
    content = urllib.parse.unquote_to_bytes(body)
    if "base64" in parameters:
        try:
            # Line breaks and a missing `=` at the end are common and harmless.
            plain = b"".join(content.split())
            content = base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)
        except binascii.Error as error:
            raise MediaError(name, f"damaged base64: {error}") from error
    if not content:
        raise MediaError(name, "holds no data")
    return DataUrl(mime_type or "text/plain", content)


def short_address(address: str) -> str:
    """An address for messages: of a data address or a very long path, the beginning."""
    longest = _SHOWN_OF_DATA if is_data_url(address) else _SHOWN_OF_PATHS
    return address if len(address) <= longest else address[:longest] + "..."
