"""A layer imports only layers below it: the imports of every module, read from its syntax tree."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import perceptic

ROOT = Path(perceptic.__file__).parent
# Bottom to top, as in docs/architecture.md. Names on one line may not import each other.
LAYERS: list[set[str]] = [
    {"__about__"},
    {"errors"},
    {"optional", "network"},
    {"metrics"},
    {"files"},
    {"configs"},
    {"configs_plm"},
    {"zoo"},
    {"text", "media"},
    {"models"},
    {"weights"},
    {"inference"},
    {"world"},
    {"data"},
    {"tasks"},
    {"search"},
    {"train"},
    {"evaluate"},
    {"serve"},
    {"integrations"},
    {"pe", "transforms"},
    {"__init__"},
    {"cli"},
    {"__main__"},
]
# Closer rules than the order: what else these may know.
ONLY: dict[str, set[str]] = {
    "errors": set(),
    "metrics": {"errors"},
    "configs": {"errors"},
    "configs_plm": {"errors", "configs"},
    "zoo": {"errors", "configs"},
    "models": {"errors", "configs", "configs_plm"},
}
MODULES = sorted(ROOT.rglob("*.py"))


def layer_of(name: str) -> int:
    for level, names in enumerate(LAYERS):
        if name in names:
            return level
    raise AssertionError(f"perceptic.{name} has no place in LAYERS: give it one")


def own_layer(path: Path) -> str:
    first = path.relative_to(ROOT).parts[0]
    return first.removesuffix(".py")


def imported_layers(path: Path) -> set[str]:
    """First components below `perceptic` of everything a module imports, inside functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the layer; write perceptic.{node.module}"
            parts = (node.module or "").split(".")
            if parts[0] == "perceptic":
                found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            found |= {parts[1] if len(parts) > 1 else "__init__" for parts in names if parts[0] == "perceptic"}
    # `from perceptic import CLIP` goes through the package itself.
    known = set().union(*LAYERS)
    return {name if name in known else "__init__" for name in found}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_only_below(path: Path) -> None:
    own = own_layer(path)
    for name in imported_layers(path):
        if name == own:
            continue
        assert layer_of(name) < layer_of(own), f"{path.relative_to(ROOT)} ({own}) imports perceptic.{name} above it"
        assert name in ONLY.get(own, {name}), f"{own} may import only {ONLY[own] or 'nothing'}, not {name}"


def test_the_walk_sees_what_it_should() -> None:
    assert imported_layers(ROOT / "models" / "vision.py") == {"configs", "errors", "models"}
    assert {"models", "weights", "zoo", "text"} <= imported_layers(ROOT / "weights" / "pretrained.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_torch_load_never_runs_code(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            settings = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert settings.get("weights_only") == "True", f"{path}:{node.lineno}: torch.load without weights_only=True"
