"""Where CLIP's merges are found: model folder, installed open_clip, hub, nowhere."""

from __future__ import annotations

import gzip
import hashlib
import sys
from pathlib import Path

import huggingface_hub.constants
import pytest

from perceptic import optional
from perceptic.errors import TextError
from perceptic.text import clip_tokenizer
from perceptic.text.bpe_training import train_bpe
from perceptic.text.clip_tokenizer import ClipTokenizer
from perceptic.text.vocabulary import (
    CLIP_MERGES_FILE,
    CLIP_MERGES_SHA256,
    download_clip_tokenizer,
    installed_clip_merges,
    read_clip_merges,
)


@pytest.fixture(scope="module")
def clip_merges() -> Path:
    path = installed_clip_merges()
    if path is None:
        pytest.skip("CLIP's vocabulary is not installed (open_clip_torch)")
    return path


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No open_clip, and an empty hub cache (the network is off in all tests)."""
    monkeypatch.setattr(clip_tokenizer, "installed_clip_merges", lambda: None)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "empty-cache"))


def test_model_folder_comes_first(tmp_path: Path) -> None:
    train_bpe(["a cat"], 515, context_length=9).save(tmp_path / "tokenizer.json")
    tokenizer = ClipTokenizer.find(tmp_path)
    assert (tokenizer.vocab_size, tokenizer.context_length) == (515, 9)
    assert ClipTokenizer.find(tmp_path, context_length=11).context_length == 11


def test_a_damaged_file_in_the_folder_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(TextError, match=r"tokenizer\.json: is not JSON"):
        ClipTokenizer.find(tmp_path)


def test_installed_copy_comes_second(clip_merges: Path, tmp_path: Path) -> None:
    tokenizer = ClipTokenizer.find(tmp_path, context_length=72)
    assert (tokenizer.vocab_size, tokenizer.context_length) == (49408, 72)
    assert ClipTokenizer.find().context_length == 32


def test_the_installed_copy_is_found_without_importing_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "open_clip"
    package.mkdir()
    (package / "__init__.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "open_clip", raising=False)
    assert installed_clip_merges() is None, "a package without the file"
    (package / CLIP_MERGES_FILE).write_bytes(b"")
    assert installed_clip_merges() == package / CLIP_MERGES_FILE
    assert "open_clip" not in sys.modules


def test_package_folder_of_what_has_none() -> None:
    assert optional.package_folder("no_such_package_here") is None
    assert optional.package_folder("bisect") is None  # a module, not a package


def test_hub_comes_third_and_is_checked(
    clip_merges: Path, nothing_installed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloaded = tmp_path / "downloaded.json"
    monkeypatch.setattr(clip_tokenizer, "download_clip_tokenizer", lambda: downloaded)
    ClipTokenizer.from_merges(clip_merges, 77).save(downloaded)
    tokenizer = ClipTokenizer.find()
    assert (tokenizer.vocab_size, tokenizer.context_length) == (49408, 32), "77 is the file's, not the model's"
    train_bpe(["a cat"], 515).save(downloaded)
    with pytest.raises(TextError, match=r"downloaded\.json: these are not CLIP's 48894 merges"):
        ClipTokenizer.find()


def test_none_of_the_three_says_all_three_and_what_to_do(nothing_installed: None, tmp_path: Path) -> None:
    with pytest.raises(TextError) as caught:
        ClipTokenizer.find(tmp_path / "model")
    message = str(caught.value)
    assert f"(1) tokenizer.json in {tmp_path / 'model'}" in message
    assert "(2) an installed open_clip_torch: pip install 'perceptic[clip-vocabulary]'" in message
    assert "(3) openai/clip-vit-base-patch32 on the hub: " in message
    assert "\n" not in message


def test_a_cached_download_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--openai--clip-vit-base-patch32"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    file = repository / "snapshots" / "abc" / "tokenizer.json"
    file.parent.mkdir(parents=True)
    file.write_text("{}")
    assert download_clip_tokenizer() == file


def test_merges_file_may_be_packed_or_not(clip_merges: Path, tmp_path: Path) -> None:
    text = gzip.decompress(clip_merges.read_bytes())
    assert hashlib.sha256(text).hexdigest() == CLIP_MERGES_SHA256
    (tmp_path / "merges.txt").write_bytes(text)
    merges = read_clip_merges(tmp_path / "merges.txt")
    assert merges == read_clip_merges(clip_merges)
    assert len(merges) == 48_894
    assert merges[0] == ("i", "n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not CLIP's merges file: SHA-256"),
        (b"#version: 0.2\ni n\n", "is not CLIP's merges file: SHA-256"),
        (gzip.compress(b"#version: 0.2\ni n\n"), "is not CLIP's merges file: SHA-256"),
        (gzip.compress(b"i n" * 99)[:-9], "cannot be read"),
        (b"\x1f\x8bgarbage that is long enough", "cannot be read"),
    ],
    # Packed bytes hold the time: as names they would differ between the workers that collect the tests.
    ids=["empty", "other", "other-packed", "cut", "garbage"],
)
def test_another_merges_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / CLIP_MERGES_FILE
    path.write_bytes(content)
    with pytest.raises(TextError, match=message) as caught:
        ClipTokenizer.from_merges(path)
    assert str(path) in str(caught.value)


def test_a_missing_merges_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TextError, match="nowhere"):
        ClipTokenizer.from_merges(tmp_path / "nowhere.gz")
