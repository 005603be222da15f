"""The plug-in of mteb: exercised by the real package, where it is installed."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from perceptic import world
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

    def test_a_task_of_the_world_is_evaluated(self, encoder: Any) -> None:
        mteb = pytest.importorskip("mteb")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # theirs
            result = mteb.evaluate(encoder, shapes_task(60), cache=None, show_progress_bar=False)
        (task,) = result.task_results
        assert task.task_name == "PercepticShapes"
        # One of a dozen shapes: far above chance, as our own measurement of the bundled model is.
        assert task.get_score() > 0.6


def shapes_task(number: int) -> Any:
    """Zero-shot shapes of the synthetic world as a task of mteb, made here: nothing is fetched."""
    from datasets import Dataset, DatasetDict
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.abstasks.zeroshot_classification import AbsTaskZeroShotClassification

    class PercepticShapes(AbsTaskZeroShotClassification):  # type: ignore[misc]
        metadata = TaskMetadata(
            name="PercepticShapes",
            description="Shapes of a synthetic world",
            reference=None,
            dataset={"path": "perceptic/none", "revision": "1"},
            type="ZeroShotClassification",
            category="i2t",
            modalities=["image", "text"],
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="accuracy",
            date=None,
            domains=None,
            task_subtypes=None,
            license=None,
            annotations_creators=None,
            dialect=None,
            sample_creation=None,
            bibtex_citation=None,
        )

        def load_data(self, *_: Any, **__: Any) -> None:
            scenes = list(world.zero_shot_scenes("validation", number, seed=3))
            images = [Image.fromarray(world.render_pixels(one.scene, 64)) for one in scenes]
            labels = [one.labels["shape"] for one in scenes]
            self.dataset = DatasetDict(test=Dataset.from_dict({"image": images, "label": labels}))
            self.data_loaded = True

        def get_candidate_labels(self) -> list[str]:
            return [f"a picture of a {shape}" for shape in world.SHAPES]

    return PercepticShapes()
