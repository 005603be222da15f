"""What a weights file is, is decided by its bytes; every way of being no checkpoint has its own message."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from perceptic.errors import WeightsError
from perceptic.weights.checkpoint import open_checkpoint

STATE = {"a.weight": torch.arange(12.0).reshape(3, 4), "a.bias": torch.arange(4.0), "scale": torch.tensor(2.5)}


def write_safetensors(path: Path) -> None:
    save_file(STATE, path)


def write_zip(path: Path) -> None:
    torch.save(STATE, path)


def write_legacy(path: Path) -> None:
    torch.save(STATE, path, _use_new_zipfile_serialization=False)


WRITERS = [write_safetensors, write_zip, write_legacy]


def read_all(path: Path) -> dict[str, torch.Tensor]:
    checkpoint = open_checkpoint(path)
    return checkpoint.read(checkpoint.shapes.keys())


def assert_state(state: dict[str, torch.Tensor]) -> None:
    assert state.keys() == STATE.keys()
    assert all(torch.equal(state[key], STATE[key]) for key in STATE)


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("name", ["model.safetensors", "model.pt", "model.bin", "model"])
def test_content_decides_not_the_name(write: Callable[[Path], None], name: str, tmp_path: Path) -> None:
    write(tmp_path / name)
    assert_state(read_all(tmp_path / name))


@pytest.mark.parametrize("padding", range(32))
def test_every_header_size(padding: int, tmp_path: Path) -> None:
    """Headers grow by 8 bytes: one of these sizes begins with 0x80, as pickles do."""
    save_file(STATE, tmp_path / "w", metadata={"note": "x" * 8 * padding})
    assert_state(read_all(tmp_path / "w"))


@pytest.mark.parametrize("write", WRITERS)
def test_tensors_are_private_to_the_process(write: Callable[[Path], None], tmp_path: Path) -> None:
    write(tmp_path / "w")
    before = (tmp_path / "w").read_bytes()
    read_all(tmp_path / "w")["a.weight"].add_(1)
    assert (tmp_path / "w").read_bytes() == before


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("step_bytes", [4, 20, 1 << 20])
def test_cast_in_small_steps(
    write: Callable[[Path], None], step_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perceptic.weights.checkpoint._MIN_STEP_BYTES", step_bytes)
    write(tmp_path / "w")
    checkpoint = open_checkpoint(tmp_path / "w")
    cast = checkpoint.cast(["a.weight", "scale"], torch.bfloat16)
    assert cast.keys() == {"a.weight", "scale"}
    for key, value in cast.items():
        assert value.dtype == torch.bfloat16
        assert torch.equal(value, STATE[key].bfloat16())


@pytest.mark.parametrize("wrapper", ["state_dict", "weights", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_wrappers_are_removed(wrapper: str, prefix: str, tmp_path: Path) -> None:
    inner = {prefix + key: value for key, value in STATE.items()}
    torch.save({"epoch": 3, "optimizer": {"state": {}}, wrapper: inner}, tmp_path / "w.pt")
    assert_state(read_all(tmp_path / "w.pt"))


def test_wrappers_in_wrappers(tmp_path: Path) -> None:
    torch.save({"model": {"state_dict": STATE}}, tmp_path / "w.pt")
    assert_state(read_all(tmp_path / "w.pt"))


def test_module_is_removed_in_front_only(tmp_path: Path) -> None:
    state = {"module.head.module.weight": torch.zeros(2)}
    torch.save(state, tmp_path / "w.pt")
    assert open_checkpoint(tmp_path / "w.pt").shapes.keys() == {"head.module.weight"}


def test_parameters_are_tensors(tmp_path: Path) -> None:
    torch.save({key: torch.nn.Parameter(value) for key, value in STATE.items()}, tmp_path / "w.pt")
    assert_state(read_all(tmp_path / "w.pt"))


class Payload:
    """What an attacker would put into a pickle."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("echo ran > /dev/null",)


class Custom:
    pass


def write_code(path: Path) -> None:
    torch.save({"a": torch.zeros(2), "payload": Payload()}, path)


def write_object(path: Path) -> None:
    torch.save({"a": torch.zeros(2), "object": Custom()}, path)


def write_plain_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"a": Payload()}, protocol=2))


@pytest.mark.parametrize("write", [write_code, write_object, write_plain_pickle])
def test_code_is_refused_not_run(
    write: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "evil.pt")
    ran: list[str] = []
    monkeypatch.setattr(os, "system", ran.append)
    with pytest.raises(WeightsError, match=r"evil\.pt: holds Python code or objects \(.+\), not only tensors.*refused"):
        open_checkpoint(tmp_path / "evil.pt")
    assert ran == []


@pytest.mark.parametrize("content", [{"a": Payload()}, {"a": 1}, [1, 2]])
def test_a_modern_pickle_is_refused(content: Any, tmp_path: Path) -> None:
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(content, protocol=4))
    with pytest.raises(WeightsError, match=r"w\.pkl: is damaged, or a pickle of something other than tensors"):
        open_checkpoint(tmp_path / "w.pkl")


FOREIGN = {
    "a JPEG image": b"\xff\xd8\xff\xe0" + b"\x00" * 200,
    "a PNG image": b"\x89PNG\r\n\x1a\n" + b"\x00" * 200,
    "a PDF document": b"%PDF-1.7\n" + b"\x00" * 100,
    "a GGUF file": b"GGUF" + b"\x00" * 100,
    "a web page or XML": b"<!DOCTYPE html><html><title>404</title></html>",
    "JSON text": b'{"error": "not found"}',
    "it begins with": b"some words that mean nothing",
}


@pytest.mark.parametrize("what", FOREIGN)
def test_other_files_are_named(what: str, tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(FOREIGN[what])
    with pytest.raises(WeightsError, match=rf"w\.pt: is not a checkpoint \({what}.*expected safetensors or PyTorch"):
        open_checkpoint(tmp_path / "w.pt")


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "w.pt").touch()
    with pytest.raises(WeightsError, match=r"w\.pt: is empty \(0 bytes\)"):
        open_checkpoint(tmp_path / "w.pt")


def test_lfs_pointer(tmp_path: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 1790000000\n"
    (tmp_path / "model.safetensors").write_text(pointer)
    with pytest.raises(WeightsError, match=r"is a Git LFS pointer, not the weights; run 'git lfs pull'"):
        open_checkpoint(tmp_path / "model.safetensors")


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9, 0.99])
def test_truncated_file(write: Callable[[Path], None], keep: float, tmp_path: Path) -> None:
    write(tmp_path / "w")
    content = (tmp_path / "w").read_bytes()
    (tmp_path / "w").write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(WeightsError, match=r"w: is (cut short|damaged).*download it again"):
        open_checkpoint(tmp_path / "w")


@pytest.mark.parametrize("write", [write_safetensors, write_zip])
def test_truncation_is_called_truncation(write: Callable[[Path], None], tmp_path: Path) -> None:
    write(tmp_path / "w")
    content = (tmp_path / "w").read_bytes()
    (tmp_path / "w").write_bytes(content[:-8])
    with pytest.raises(WeightsError, match="is cut short"):
        open_checkpoint(tmp_path / "w")


def test_a_legacy_file_ends_where_it_ends(tmp_path: Path) -> None:
    write_legacy(tmp_path / "w")
    with (tmp_path / "w").open("ab") as stream:
        stream.write(b"\0")
    with pytest.raises(WeightsError, match="is damaged: it goes on behind its end"):
        open_checkpoint(tmp_path / "w")


@pytest.mark.parametrize("field", ["name length", "padding length", "name", "pickle"])
def test_wrong_zip_headers_are_seen(field: str, tmp_path: Path) -> None:
    """A mapped reader takes the place of a tensor from here and would read it shifted."""
    write_zip(tmp_path / "w")
    with zipfile.ZipFile(tmp_path / "w") as archive:
        records = {entry.filename.partition("/")[2]: entry.header_offset for entry in archive.infolist()}
    header = records["data.pkl" if field == "pickle" else "data/0"]
    at = header + {"name length": 26, "padding length": 28, "name": 31, "pickle": 64 + 40}[field]
    content = bytearray((tmp_path / "w").read_bytes())
    content[at] ^= 4
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(WeightsError, match=r"w: is damaged: .*; download it again"):
        open_checkpoint(tmp_path / "w")


def test_files_without_sums_load(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        write_zip(tmp_path / "w")
    finally:
        torch.serialization.set_crc32_options(True)
    assert_state(read_all(tmp_path / "w"))


def test_other_zip_archives(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        archive.writestr("readme.txt", "no weights here")
    with pytest.raises(WeightsError, match=r"w\.pt: is damaged or no PyTorch checkpoint"):
        open_checkpoint(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(2)], "holds a list; expected a dictionary of tensors"),
        (torch.zeros(2), "holds a Tensor; expected a dictionary of tensors"),
        ({}, "is not a state dict: it has no tensors"),
        ({"epoch": 3, "a": torch.zeros(2)}, "it has values that are not tensors: epoch"),
        ({7: torch.zeros(2)}, "it has values that are not tensors: 7"),
    ],
)
def test_other_pickles(content: Any, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=message):
        open_checkpoint(tmp_path / "w.pt")


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot be read: No such file"):
        open_checkpoint(tmp_path / "none.pt")
    with pytest.raises(WeightsError, match="cannot be read: Is a directory"):
        open_checkpoint(tmp_path)


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_zip(tmp_path / "w.pt")
    real = Path.open

    def refuse(self: Path, *args: Any, **kwargs: Any) -> Any:
        if self.name == "w.pt":
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(WeightsError, match=r"w\.pt: cannot be read: Permission denied"):
        open_checkpoint(tmp_path / "w.pt")
