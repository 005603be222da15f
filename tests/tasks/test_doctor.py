"""The doctor finds what is broken and does not call what is merely missing a fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from perceptic.tasks import doctor
from perceptic.tasks.doctor import Finding, Report, examine


def by_topic(report: Report) -> dict[str, Finding]:
    return {finding.topic: finding for finding in report.findings}


def test_missing_is_no_fault_and_broken_is() -> None:
    assert Report((Finding("a", "ok", ""), Finding("b", "missing", ""))).healthy
    assert not Report((Finding("a", "ok", ""), Finding("b", "broken", ""))).healthy


def test_parts_that_every_installation_has() -> None:
    found = by_topic(examine())
    assert found["versions"].state == found["device"].state == found["video (PyAV)"].state == "ok"
    assert "switched off by HF_HUB_OFFLINE" in found["hub"].text  # the test suite runs offline


def test_a_damaged_model_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "good.bin").write_bytes(b"abc")
    (tmp_path / "model" / "bad.bin").write_bytes(b"abd")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # of b"abc"
    names = ("good", "bad", "gone")
    (tmp_path / "SHA256SUMS").write_text("".join(f"{digest}  model/{name}.bin\n" for name in names))
    monkeypatch.setattr(doctor, "CHECKSUMS", tmp_path / "SHA256SUMS")
    finding = by_topic(examine())["bundled model"]
    assert finding.state == "broken"
    assert "model/bad.bin, model/gone.bin" in finding.text
    assert "good" not in finding.text


def test_torchcodec_that_does_not_load_is_only_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "load_failure", lambda: "no FFmpeg")
    finding = by_topic(examine())["video (torchcodec)"]
    assert finding == Finding("video (torchcodec)", "missing", "no FFmpeg; PyAV is used")


def test_a_check_that_falls_over_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("libav is gone")

    monkeypatch.setattr(doctor, "read_video", fail)
    report = examine()
    assert any(f.state == "broken" and "libav is gone" in f.text for f in report.findings)
    assert not report.healthy
