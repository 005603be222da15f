"""The public namespace is the list below, no more and no less, and costs nothing until it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import perceptic

PUBLIC = [
    "Assistant",
    "CLIP",
    "ClipConfig",
    "ClipTokenizer",
    "ConfigError",
    "DataError",
    "Encoder",
    "GenerationOptions",
    "HubError",
    "ImageTransform",
    "MediaError",
    "MissingDependencyError",
    "NetworkError",
    "NotEnoughMemoryError",
    "OutputError",
    "PercepticError",
    "PerceptionLM",
    "Preprocessing",
    "Seeing",
    "TextConfig",
    "TextError",
    "TextTransformer",
    "TrainError",
    "VisionConfig",
    "VisionTransformer",
    "WeightsError",
    "WeightsNotFoundError",
    "__version__",
    "ask",
    "caption",
    "classify",
    "dense_describe",
    "describe",
    "embed",
    "load_encoder",
    "load_image",
    "locate",
    "read_video",
    "show",
    "similar",
    "transforms",
    "world",
    "zoo",
]
HEAVY = ("torch", "numpy", "av", "PIL", "tokenizers", "huggingface_hub", "safetensors", "pyarrow", "rich", "yaml")


def test_public_names_are_these() -> None:
    assert sorted(perceptic.__all__) == PUBLIC == sorted(PUBLIC)
    assert dir(perceptic) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_name_resolves_and_is_documented(name: str) -> None:
    value = getattr(perceptic, name)
    assert getattr(value, "__doc__", None)
    assert getattr(perceptic, name) is value


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = perceptic.nonsense  # type: ignore[attr-defined]


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(perceptic.__file__).read_text(encoding="utf-8"))
    blocks = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    seen = {
        alias.name
        for block in blocks
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == set(PUBLIC) - {"__version__"}


@pytest.mark.parametrize(
    "program",
    [
        "import perceptic; dir(perceptic)",
        "import perceptic; perceptic.zoo.cards(); perceptic.VisionConfig; perceptic.WeightsError",
        "from perceptic.cli.main import run; assert run(['--help']) == 0",
        "from perceptic.cli.main import run; assert run(['--version']) == 0",
    ],
)
def test_nothing_heavy_is_imported(program: str) -> None:
    report = f"\nimport sys; print('HEAVY', [name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program + report], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def test_original_entry_points() -> None:
    import perceptic.pe as pe
    import perceptic.transforms as transforms

    assert pe.CLIP is perceptic.CLIP
    assert pe.VisionTransformer is perceptic.VisionTransformer
    assert callable(transforms.get_image_transform)
    assert callable(transforms.get_text_tokenizer)
