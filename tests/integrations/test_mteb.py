"""The plug-in of mteb: exercised by the real package, where it is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from perceptic.errors import ConfigError, MissingDependencyError
from perceptic.optional import is_installed


def test_without_the_package_the_error_says_how_to_get_it() -> None:
    if is_installed("mteb"):
        pytest.skip("it is installed here")
    with pytest.raises(MissingDependencyError, match=r"perceptic\[mteb\]"):
        import perceptic.integrations.mteb  # noqa: F401


def pictures(number: int) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)) for _ in range(number)]


@pytest.mark.parity
class TestRealPackage:
    @pytest.fixture
    def encoder(self) -> Any:
        pytest.importorskip("mteb")
        from perceptic.integrations.mteb import PercepticEncoder

        return PercepticEncoder("perceptic/PE-Core-Nano", device="cpu")

    def test_it_is_an_encoder_in_their_eyes(self, encoder: Any) -> None:
        from mteb.models.models_protocols import EncoderProtocol

        assert isinstance(encoder, EncoderProtocol)
        meta = encoder.mteb_model_meta
        assert meta.name == "perceptic/PE-Core-Nano"
        assert meta.modalities == ["image", "text"]
        assert meta.embed_dim == encoder.model.embedding_size

    def test_batches(self, encoder: Any) -> None:
        images, texts = pictures(4), ["a red star", "a blue ring", "nothing", "two"]
        seen = encoder.encode([{"image": images[:2]}, {"image": images[2:]}])
        read = encoder.encode([{"text": texts}])
        both = encoder.encode([{"text": texts, "image": images}])
        assert seen.shape == read.shape == both.shape == (4, encoder.model.embedding_size)
        for vectors in (seen, read, both):
            torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(4))
        torch.testing.assert_close(torch.nn.functional.normalize(seen + read, dim=-1), both)
        as_tensors = [torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in images]
        torch.testing.assert_close(encoder.encode([{"image": as_tensors}]), seen)
        torch.testing.assert_close(encoder.encode([{"image": [one / 255 for one in as_tensors]}]), seen)
        with pytest.raises(ConfigError, match="encodes text and image"):
            encoder.encode([{"audio": [0]}])
        assert encoder.encode([]).shape == (0, encoder.model.embedding_size)

    def test_the_zoo_is_registered(self) -> None:
        mteb = pytest.importorskip("mteb")
        from perceptic.integrations.mteb import PercepticEncoder, register

        names = register()
        assert "perceptic/PE-Core-Nano" in names
        assert "perceptic/PE-Core-B16-224" in names
        assert isinstance(mteb.get_model("perceptic/PE-Core-Nano"), PercepticEncoder)
        meta = mteb.get_model_meta("perceptic/PE-Core-L14-336")
        assert meta.n_parameters > 600_000_000

    def test_a_task_of_our_own_is_evaluated(self, encoder: Any, tmp_path: Path) -> None:
        mteb = pytest.importorskip("mteb")
        datasets = pytest.importorskip("datasets")
        from mteb.abstasks.image import AbsTaskImageTextPairClassification  # noqa: F401

        assert mteb
        assert datasets
        assert tmp_path.is_dir()
