"""Look inside: draw a picture beside what the model sees in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from perceptic.errors import ConfigError, DataError
from perceptic.files import atomic_path
from perceptic.inference.encode import DTypeName, Encoder, load_encoder
from perceptic.media.collection import media_kind
from perceptic.media.images import load_image
from perceptic.media.preprocess import ImageTransform
from perceptic.media.video import read_video
from perceptic.tasks.colours import components_to_lch, heat
from perceptic.tasks.embed import DEFAULT_MODEL
from perceptic.tasks.feature_maps import principal_components, similarity_to_point, similarity_to_text, stretch

Colours = Literal["lch", "rgb"]
MapKind = Literal["components", "point", "text"]

_PANEL_HEIGHT = 384
_GAP = 12
_OVERLAY_SHARE = 0.65


@dataclass(frozen=True)
class Shown:
    """A drawing: the input and the map side by side.

    `values` is (rows, columns) cosines for a point or text, (rows, columns, 3) in [0, 1] for components.
    """

    image: Image.Image
    map_kind: MapKind
    values: NDArray[np.float32]


def show(
    path: str | Path,
    output: str | Path | None = None,
    *,
    model: str | Path | Encoder = DEFAULT_MODEL,
    point: tuple[float, float] | None = None,
    text: str | None = None,
    layer: int = -1,
    size: int | None = None,
    colours: Colours = "lch",
    device: str = "auto",
    dtype: DTypeName = "auto",
) -> Shown:
    """Draw the features of an image, or of a video's middle frame, beside it.

    Without `point` and `text`: the three principal components of the patch features as colours, so that alike patches
    look alike. With `point` or `text`: how much each patch is like the patch under the point, or like the text.

    Args:
        output: a PNG to write; None only returns the drawing.
        point: (x, y) in pixels of the picture, or as fractions if both are at most 1.
        text: needs a PE-Core model, and the last layer.
        layer: which block's features; 0 is the first, -1 the last.
        size: side in pixels at which the model sees the picture; more pixels, finer map. Default: the model's own.
        colours: how components become colours: "lch" (lightness, chroma, hue) or "rgb" (one channel each).

    Raises:
        ConfigError: both a point and a text, a point outside, no such layer, a bad size, or text without a text tower.
        MediaError: the file cannot be read.
        OutputError: the PNG cannot be written.
    """
    if point is not None and text is not None:
        raise ConfigError("give a point or a text, not both")
    encoder = load_encoder(model, needs_text=text is not None, device=device, dtype=dtype)
    picture = _load_picture(Path(path))
    kind, values = feature_map(encoder, picture, point=point, text=text, layer=layer, size=size)
    drawing = _draw(picture, kind, values, point, colours)
    if output is not None:
        if Path(output).suffix.lower() != ".png":
            raise ConfigError(f"{output}: the drawing is a PNG; give a name that ends in .png")
        with atomic_path(output) as temporary:
            drawing.save(temporary, format="PNG")
    return Shown(drawing, kind, values)


def feature_map(
    encoder: Encoder,
    picture: Image.Image,
    *,
    point: tuple[float, float] | None = None,
    text: str | None = None,
    layer: int = -1,
    size: int | None = None,
) -> tuple[MapKind, NDArray[np.float32]]:
    """The numbers behind `show`, with its arguments: what kind of map, and (rows, columns[, 3]) values."""
    side = size if size is not None else encoder.preprocessing.image_size
    # The whole picture is shown, so it is squashed even where the model was trained on centre crops.
    transform = ImageTransform(encoder.preprocessing.replace(image_size=side, resize_mode="squash"))
    features = encoder.patch_features(transform(picture)[None], layer)
    if point is not None:
        x, y = _as_fractions(point, picture)
        return "point", similarity_to_point(features, x, y).numpy()
    if text is not None:
        if layer not in (-1, encoder.tower.config.layers - 1):
            raise ConfigError(f"text is compared with the last layer's features only, not with layer {layer}")
        return "text", similarity_to_text(encoder, features, text).numpy()
    return "components", principal_components(features).numpy()


def paint(kind: MapKind, values: NDArray[np.float32], colours: Colours = "lch") -> Image.Image:
    """A map's values as a small picture, one pixel per patch. Cosines are stretched over the whole heat scale."""
    tensor = torch.from_numpy(values)
    if kind != "components":
        rgb = heat(stretch(tensor.flatten()[:, None], ignore=0.0)[:, 0].unflatten(0, tensor.shape))
    elif colours == "lch":
        rgb = components_to_lch(tensor)
    else:
        rgb = (tensor * 255).round().to(torch.uint8)
    return Image.fromarray(rgb.numpy())


def overlay(picture: Image.Image, kind: MapKind, values: NDArray[np.float32], colours: Colours = "lch") -> Image.Image:
    """The map at the picture's size; cosine maps are laid over the grey picture, so that one sees what is meant."""
    painted = paint(kind, values, colours)
    if kind == "components":
        return painted.resize(picture.size, Image.Resampling.NEAREST)
    grey = picture.convert("L").convert("RGB")
    return Image.blend(grey, painted.resize(picture.size, Image.Resampling.BICUBIC), _OVERLAY_SHARE)


def _draw(
    picture: Image.Image,
    kind: MapKind,
    values: NDArray[np.float32],
    point: tuple[float, float] | None,
    colours: Colours,
) -> Image.Image:
    height = max(_PANEL_HEIGHT, min(picture.height, 2 * _PANEL_HEIGHT))
    width = max(1, round(picture.width * height / picture.height))
    shown = picture.resize(
        (width, height), Image.Resampling.LANCZOS if height < picture.height else Image.Resampling.BICUBIC
    )
    panels = [shown, overlay(shown, kind, values, colours)]
    if point is not None:
        x, y = _as_fractions(point, picture)
        for panel in panels:
            _mark(panel, x * width, y * height)
    drawing = Image.new("RGB", (2 * width + _GAP, height), "white")
    drawing.paste(panels[0], (0, 0))
    drawing.paste(panels[1], (width + _GAP, 0))
    return drawing


def _mark(panel: Image.Image, x: float, y: float) -> None:
    radius = max(4, panel.height // 60)
    draw = ImageDraw.Draw(panel)
    for grown, colour in ((2, "black"), (0, "white")):
        r = radius + grown
        draw.ellipse((x - r, y - r, x + r, y + r), outline=colour, width=2 + grown)


def _as_fractions(point: tuple[float, float], picture: Image.Image) -> tuple[float, float]:
    x, y = point
    if not (0 <= x <= 1 and 0 <= y <= 1):
        x, y = x / picture.width, y / picture.height
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise ConfigError(
            f"point {point[0]:g},{point[1]:g} lies outside the picture ({picture.width} x {picture.height})"
        )
    return x, y


def _load_picture(path: Path) -> Image.Image:
    if path.is_dir():
        raise DataError(f"{path}: is a folder; give one image or video")
    if media_kind(path) == "video":
        return Image.fromarray(read_video(path, num_frames=1).pixels[0].permute(1, 2, 0).numpy())
    return load_image(path)
