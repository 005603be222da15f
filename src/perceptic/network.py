"""Whether the model hub can be reached at all, before its client tries and retries for half a minute."""

from __future__ import annotations

import socket
import urllib.parse
import urllib.request


def hub_is_known() -> bool:
    """Whether the hub's name resolves (or a proxy resolves names for us). Says nothing about files or rights."""
    from huggingface_hub import constants

    if urllib.request.getproxies():
        return True
    try:
        socket.getaddrinfo(urllib.parse.urlparse(constants.ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True
