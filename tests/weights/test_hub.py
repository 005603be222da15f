"""Everything that can go wrong between a name and a file on this disk, with the hub's own exceptions."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import errors as hub_errors

from perceptic.configs import ClipConfig, VisionConfig, vision_config
from perceptic.errors import ConfigError, HubError, OutputError, WeightsError, WeightsNotFoundError
from perceptic.weights import hub
from perceptic.weights.formats import FORMATS
from perceptic.weights.hub import HubOptions, download, parse_uri
from perceptic.weights.loading import build_empty
from perceptic.weights.pretrained import CLIP, VisionTransformer
from perceptic.weights.sources import find_files
from perceptic.zoo import HubFile

MakeClip = Callable[[], CLIP]
FILE = HubFile("facebook/PE-Core-T16-384", "PE-Core-T16-384.pt")


class FakeHub:
    """Stands for the one function that touches the network: hands out local files or raises what the hub raises."""

    def __init__(self, files: dict[str, Path], otherwise: Callable[[HubFile], Exception]) -> None:
        self.files = files
        self.otherwise = otherwise
        self.asked: list[str] = []

    def __call__(self, file: HubFile, options: HubOptions) -> str:
        self.asked.append(str(file))
        if str(file) in self.files:
            return str(self.files[str(file)])
        raise self.otherwise(file)


def http_error(kind: type[hub_errors.HfHubHTTPError], status: int) -> hub_errors.HfHubHTTPError:
    # The client library differs between versions of huggingface_hub; its response class is all that is needed.
    client = __import__(hub_errors.HfHubHTTPError.__mro__[1].__module__.partition(".")[0])
    response = client.Response(status, request=client.Request("GET", "https://huggingface.co/x"))
    return kind(f"{status} Client Error", response=response)


def no_entry(_file: HubFile) -> Exception:
    return http_error(hub_errors.RemoteEntryNotFoundError, 404)


def install(monkeypatch: pytest.MonkeyPatch, fake: FakeHub) -> FakeHub:
    monkeypatch.setattr(hub, "_hf_hub_download", fake)
    return fake


FAILURES: list[tuple[Exception, type[Exception], str]] = [
    (
        http_error(hub_errors.GatedRepoError, 401),
        HubError,
        r"facebook/PE-Core-T16-384: is gated: accept its licence at https://huggingface\.co/facebook/PE-Core-T16-384, "
        r"then log in with 'hf auth login' or set HF_TOKEN",
    ),
    (http_error(hub_errors.GatedRepoError, 403), HubError, "is gated: accept its licence"),
    (http_error(hub_errors.HfHubHTTPError, 401), HubError, r"the hub refused access \(401\)"),
    (http_error(hub_errors.HfHubHTTPError, 403), HubError, r"the hub refused access \(403\)"),
    (http_error(hub_errors.HfHubHTTPError, 429), HubError, r"asks to slow down \(429\)"),
    (http_error(hub_errors.HfHubHTTPError, 503), HubError, r"answered with an error \(503\); try again later"),
    (
        http_error(hub_errors.RepositoryNotFoundError, 404),
        WeightsNotFoundError,
        "no such repository on the hub, or it is",
    ),
    (http_error(hub_errors.RevisionNotFoundError, 404), WeightsNotFoundError, "has no revision 'v2'"),
    (http_error(hub_errors.RemoteEntryNotFoundError, 404), WeightsNotFoundError, r"has no file 'PE-Core-T16-384\.pt'"),
    (hub_errors.LocalEntryNotFoundError("x"), HubError, "not in the local cache and the hub cannot be reached"),
    (hub_errors.OfflineModeIsEnabled("x"), HubError, "not in the local cache and the hub cannot be reached"),
    (hub_errors.HFValidationError("Repo id must be"), WeightsNotFoundError, "cannot be a repository"),
    (OSError(errno.ENOSPC, "No space left on device"), OutputError, r"no space left for hf://.*cache_dir= or HF_HOME"),
    (PermissionError(errno.EACCES, "Permission denied", "/cache"), OutputError, "/cache: no permission to store"),
    (ConnectionResetError("reset by peer"), HubError, "download failed: reset by peer; check the network"),
    (TimeoutError(), HubError, "download failed: TimeoutError; check the network"),
]


@pytest.mark.parametrize(("failure", "expected", "message"), FAILURES, ids=lambda value: type(value).__name__)
def test_every_failure_has_its_message(
    failure: Exception, expected: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, FakeHub({}, lambda file: failure))
    with pytest.raises(expected, match=message) as caught:
        download(FILE, HubOptions(revision="v2"))
    assert caught.value.__cause__ is failure


def test_offline_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeHub({}, lambda file: hub_errors.LocalEntryNotFoundError("x")))
    with pytest.raises(HubError, match=r"Connect once, or give the path.*PE-Core-Nano needs no network"):
        CLIP.from_pretrained("PE-Core-T16-384")


def test_really_offline(tmp_path: Path) -> None:
    """No fake: the suite forbids the hub, and an empty cache has nothing."""
    with pytest.raises(HubError, match="not in the local cache and the hub cannot be reached"):
        CLIP.from_pretrained("PE-Core-T16-384", cache_dir=tmp_path)
    with pytest.raises(HubError, match="not in the local cache"):
        CLIP.from_pretrained("somebody/some-model", cache_dir=tmp_path, local_files_only=True)


def test_options_reach_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    def fake(**arguments: Any) -> str:
        seen.update(arguments)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fake)
    download(FILE, HubOptions(revision="abc", cache_dir=tmp_path, local_files_only=True))
    assert seen == {
        "repo_id": FILE.repo_id,
        "filename": FILE.filename,
        "revision": "abc",
        "cache_dir": tmp_path,
        "local_files_only": True,
    }


def test_the_licence_is_named_before_a_download(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "w.pt"
    torch.save(VisionTransformer.from_config("PE-Spatial-T16-512").state_dict(), path)
    file = "hf://facebook/PE-Spatial-T16-512:PE-Spatial-T16-512.pt"
    install(monkeypatch, FakeHub({file: path}, no_entry))
    with caplog.at_level(logging.INFO):
        tower = VisionTransformer.from_pretrained("pe-spatial-t16-512", cache_dir=tmp_path)
    assert f"downloading {file} (licence: Apache-2.0)" in caplog.text
    assert tower.card is not None
    assert tower.card.name == "PE-Spatial-T16-512"
    assert tower.preprocessing == tower.card.preprocessing


@pytest.mark.parametrize(
    ("source", "file"),
    [
        ("PE-Core-B16-224", "hf://facebook/PE-Core-B16-224:PE-Core-B16-224.pt"),
        ("facebook/PE-Core-B16-224", "hf://facebook/PE-Core-B16-224:PE-Core-B16-224.pt"),
        ("timm/vit_pe_core_base_patch16_224.fb", "hf://timm/vit_pe_core_base_patch16_224.fb:model.safetensors"),
        (
            "vit_pe_lang_large_patch14_448.fb_tiling",
            "hf://timm/vit_pe_lang_large_patch14_448.fb_tiling:model.safetensors",
        ),
        ("PE-Core-bigG-14-448", "hf://timm/PE-Core-bigG-14-448:open_clip_model.safetensors"),
        ("hf-hub:timm/PE-Core-B-16", "hf://timm/PE-Core-B-16:open_clip_model.safetensors"),
        ("hf://my/repo:deep/file.pt", "hf://my/repo:deep/file.pt"),
    ],
)
def test_names_mean_files(source: str, file: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "w").touch()
    fake = install(monkeypatch, FakeHub({file: tmp_path / "w"}, no_entry))
    files = find_files(source)
    assert fake.asked == [file]
    assert files.weights == tmp_path / "w"


def test_a_file_of_a_known_repository_has_its_card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, FakeHub({"hf://facebook/PE-Core-B16-224:other.pt": tmp_path / "w"}, no_entry))
    card = find_files("hf://facebook/PE-Core-B16-224:other.pt").card
    assert card is not None
    assert card.name == "PE-Core-B16-224"


def test_a_timm_name_is_no_clip_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tower = build_empty(VisionTransformer, vision_config("PE-Core-T16-384")).to_empty(device="cpu")
    state = {f"visual.{key}": torch.zeros_like(value) for key, value in tower.state_dict().items()}
    torch.save(FORMATS["timm"].from_perceptic(state), tmp_path / "w.pt")
    file = "hf://timm/vit_pe_core_tiny_patch16_384.fb:model.safetensors"
    install(monkeypatch, FakeHub({file: tmp_path / "w.pt"}, no_entry))
    with pytest.raises(WeightsError, match=r"or both towers from hf://facebook/PE-Core-T16-384:PE-Core-T16-384\.pt"):
        CLIP.from_pretrained("timm/vit_pe_core_tiny_patch16_384.fb")


@pytest.mark.parametrize("uri", ["hf://a:b", "hf://a/b", "hf://a/b/c:d", "hf://a/b:"])
def test_bad_uris(uri: str) -> None:
    with pytest.raises(ConfigError, match="expected hf://organisation/repository:file"):
        parse_uri(uri)


@pytest.mark.parametrize("form", ["perceptic", "open_clip", "original"])
def test_a_repository_of_anybody(
    form: str, make_clip: MakeClip, clip_config: ClipConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clip = make_clip()
    if form == "perceptic":
        clip.save_pretrained(tmp_path / "repo")
    else:
        (tmp_path / "repo").mkdir()
        name = "open_clip_pytorch_model.bin" if form == "open_clip" else "my-model.pt"
        torch.save(FORMATS[form].from_perceptic(clip.state_dict()), tmp_path / "repo" / name)  # type: ignore[index]
    files = {f"hf://me/my-model:{path.name}": path for path in (tmp_path / "repo").iterdir()}
    install(monkeypatch, FakeHub(files, no_entry))
    loaded = CLIP.from_pretrained("me/my-model", config=None if form == "perceptic" else clip_config)
    assert torch.equal(loaded.visual.proj, clip.visual.proj)
    assert loaded.card is None


def test_a_repository_without_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeHub({}, no_entry))
    with pytest.raises(WeightsNotFoundError, match=r"me/my-model: has none of model\.safetensors, .*my-model\.pt"):
        CLIP.from_pretrained("me/my-model")


def test_a_misspelt_repository_gets_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeHub({}, lambda file: http_error(hub_errors.RepositoryNotFoundError, 404)))
    with pytest.raises(WeightsNotFoundError, match=r"no such repository.*did you mean 'PE-Core-B16-224'"):
        CLIP.from_pretrained("facebook/PE-Core-B16-244")


def test_a_cached_repository_works_offline(
    make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_clip().save_pretrained(tmp_path / "repo")
    files = {f"hf://me/m:{name}": tmp_path / "repo" / name for name in ("config.json", "model.safetensors")}
    install(monkeypatch, FakeHub(files, lambda file: hub_errors.LocalEntryNotFoundError("x")))
    assert isinstance(CLIP.from_pretrained("me/m"), CLIP)


def test_a_missing_bundle_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("perceptic.zoo.__file__", str(tmp_path / "zoo.py"))
    with pytest.raises(WeightsNotFoundError, match=r"PE-Core-Nano: its files are missing .*reinstall perceptic"):
        CLIP.from_pretrained("PE-Core-Nano")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("PE-Core-B14", "'PE-Core-B14': no such file, folder, model or repository; did you mean 'PE-Core-B16-224'"),
        ("weights/none.pt", r"'weights/none\.pt': no such file"),
        ("nonsense", "'nonsense': no such file, folder, model or repository; known models: PE-Core-Nano"),
        (Path("PE-Core-B16-224"), "PE-Core-B16-224: no such file or folder"),
    ],
)
def test_unknown_sources(source: str | Path, message: str) -> None:
    with pytest.raises(WeightsNotFoundError, match=message):
        VisionTransformer.from_pretrained(source)


def test_an_existing_path_comes_before_a_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lang_config: VisionConfig
) -> None:
    monkeypatch.chdir(tmp_path)
    VisionTransformer(lang_config).save_pretrained("PE-Core-B16-224")
    assert VisionTransformer.from_pretrained("PE-Core-B16-224").config == lang_config
