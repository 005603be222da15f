"""`torch.compile` takes every model as one graph, `torch.export` with a free batch size, `torch.jit` is not needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from perceptic.configs import TextConfig
from perceptic.models.text import TextTransformer
from perceptic.weights.pretrained import CLIP, VisionTransformer

MakeModel = Callable[[str], CLIP | VisionTransformer]
MakeTower = Callable[[str], VisionTransformer]
# With and without class token, with and without layer scale, pooled and not; the slow ones add the other pairs.
KINDS = [
    "PE-Core-B16-224",
    "PE-Spatial-G14-448",
    pytest.param("PE-Core-G14-448", marks=pytest.mark.slow),
    pytest.param("PE-Lang-L14-448", marks=pytest.mark.slow),
]


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def pixels_for(tower: VisionTransformer, batch: int = 2, rows: int = 3, columns: int = 3) -> Tensor:
    patch = tower.config.patch_size
    return torch.randn(batch, 3, rows * patch, columns * patch, generator=torch.Generator().manual_seed(1))


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_compile_full_graph(name: str, make_tower: MakeTower) -> None:
    tower = make_tower(name)
    compiled = torch.compile(tower, fullgraph=True, backend="eager")
    with torch.no_grad():
        close(compiled(pixels_for(tower)), tower(pixels_for(tower)))
        close(compiled(pixels_for(tower, 1, 2, 5)), tower(pixels_for(tower, 1, 2, 5)))


@pytest.mark.slow
def test_compile_the_backward(make_tower: MakeTower) -> None:
    tower = make_tower("PE-Lang-L14-448").train()
    pixels = pixels_for(tower)
    tower(pixels).square().sum().backward()
    expected = {
        key: parameter.grad.clone() for key, parameter in tower.named_parameters() if parameter.grad is not None
    }
    tower.zero_grad()
    torch.compile(tower, fullgraph=True, backend="aot_eager")(pixels).square().sum().backward()
    for key, parameter in tower.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, expected[key], atol=1e-3, rtol=1e-3, msg=key)


def test_compile_the_text_tower(text_config: TextConfig) -> None:
    text = TextTransformer(text_config).eval()
    ids = torch.randint(1, 60, (2, 9))
    with torch.no_grad():
        close(torch.compile(text, fullgraph=True, backend="eager")(ids), text(ids))


def test_compile_clip(make_model: MakeModel) -> None:
    model = make_model("PE-Core-B16-224")
    assert isinstance(model, CLIP)
    pixels, ids = pixels_for(model.visual), torch.randint(1, 60, (2, 9))
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad():
        for ours, theirs in zip(compiled(pixels, ids), model(pixels, ids), strict=True):
            close(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["PE-Core-B16-224", "PE-Lang-G14-448"])
def test_inductor(name: str, make_tower: MakeTower) -> None:
    tower = make_tower(name)
    compiled = torch.compile(tower, fullgraph=True)
    with torch.no_grad():
        close(compiled(pixels_for(tower)), tower(pixels_for(tower)))


def export_with_free_batch(model: nn.Module, example: Tensor) -> nn.Module:
    program = torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},))
    exported: nn.Module = program.module()
    return exported


@pytest.mark.parametrize("name", KINDS)
def test_export_with_a_free_batch(name: str, make_tower: MakeTower) -> None:
    tower = make_tower(name)
    with torch.no_grad():
        exported = export_with_free_batch(tower, pixels_for(tower, 2))
        for batch in (1, 2, 5):
            close(exported(pixels_for(tower, batch)), tower(pixels_for(tower, batch)))


def test_export_the_text_tower(text_config: TextConfig) -> None:
    text = TextTransformer(text_config).eval()
    with torch.no_grad():
        exported = export_with_free_batch(text, torch.randint(1, 60, (2, 32)))
        for batch in (1, 3):
            ids = torch.randint(1, 60, (batch, 32))
            close(exported(ids), text(ids))
