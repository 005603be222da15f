"""Offline is known at once, not after the hub client's retries."""

from __future__ import annotations

import socket

import pytest

from perceptic.network import hub_is_known


def test_an_unknown_name_is_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*arguments: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    assert not hub_is_known()


def test_a_proxy_resolves_names_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def unasked(*arguments: object) -> None:
        raise AssertionError("the proxy would have been by-passed")

    monkeypatch.setattr(socket, "getaddrinfo", unasked)
    monkeypatch.setattr("urllib.request.getproxies", lambda: {"https": "http://proxy:3128"})
    assert hub_is_known()


def test_a_known_name_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments: asked.append(arguments[0]))
    monkeypatch.setattr("urllib.request.getproxies", dict)
    assert hub_is_known()
    assert asked == ["huggingface.co"]
