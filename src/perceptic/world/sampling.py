"""Random scenes: what is in them, where, and which split they may appear in."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Literal, get_args

import numpy as np

from perceptic.errors import ConfigError
from perceptic.world.charts import sample_chart
from perceptic.world.placement import (
    Band,
    place_alike,
    place_apart,
    place_beside,
    place_inside,
    place_overlapping,
    resized,
)
from perceptic.world.randomness import between, chance, pick, seeded, shuffled, whole
from perceptic.world.rendering import SIGN_HEIGHT
from perceptic.world.scene import INNER_RADIUS, Background, Scene, SceneObject, Sign, holds
from perceptic.world.vocabulary import (
    BACKGROUND_COLOURS,
    BACKGROUND_PATTERNS,
    COLOURS,
    LETTERS,
    ORDERED_HELDOUT_PAIRS,
    ORDERED_HELDOUT_WORDS,
    SEEN_PAIRS,
    SEEN_WORDS,
    SHAPES,
    SIZES,
    TEXTURES,
    Split,
    check_split,
)

Layout = Literal["single", "objects", "group", "overlap", "inside", "chart"]
LAYOUTS: Final[tuple[Layout, ...]] = get_args(Layout)
_LAYOUT_WEIGHTS: Final[dict[Layout, float]] = {
    "single": 0.12, "objects": 0.45, "group": 0.15, "overlap": 0.14, "inside": 0.09, "chart": 0.05,
}  # fmt: skip

MAX_OBJECTS: Final = 6
_MAX_ROTATION: Final = 14.0
_MIN_CONTRAST: Final = 110.0
"""RGB distance between an object's colour and the background's."""
_WORD_SHAPES: Final = ("circle", "square", "hexagon")
_LETTER_SHAPES: Final = (*_WORD_SHAPES, "triangle", "diamond", "heart", "flower", "house", "drop")
_ALL_PAIRS: Final = tuple((colour, shape) for shape in SHAPES for colour in COLOURS)


def sample_scene(
    seed: int | np.random.Generator,
    split: str = "train",
    *,
    num_objects: int | None = None,
    layout: str | None = None,
    text_fraction: float = 0.25,
) -> Scene:
    """A random scene of a split.

    Args:
        seed: a number (streams of different splits never meet) or a generator to draw from.
        split: "train" and "validation" hold seen pairs and words only; in "heldout_pairs" at least one object has an
            unseen colour-shape pair; in "heldout_words" one unseen word can be read.
        num_objects: 1 to 6; with None the layout decides.
        layout: one of LAYOUTS; with None drawn at random.
        text_fraction: share of scenes that carry a letter, a word or a sign.

    Raises:
        ConfigError: unknown split or layout, or a number of objects the layout cannot hold.
    """
    known = check_split(split)
    rng = seeded(seed, "scene", known)
    chosen = _choose_layout(rng, layout, num_objects, known)
    if chosen == "chart":
        return _chart_scene(rng, known)
    with_text = known == "heldout_words" or chance(rng, text_fraction)
    # Only in free layouts can an object be made large enough for an unseen word; elsewhere a sign carries it.
    needs_sign = known == "heldout_words" and chosen not in ("single", "objects")
    sign = _sample_sign(rng, known) if with_text and (needs_sign or chance(rng, 0.5)) else None
    word_bearer = known == "heldout_words" and sign is None
    objects = _arrange(rng, known, chosen, num_objects, band_beside(sign), word_bearer)
    if with_text and sign is None:
        objects = _with_text(rng, known, objects)
    return Scene(tuple(objects), sample_background(rng, [item.colour for item in objects]), sign, split=known)


def sample_background(rng: np.random.Generator, avoid: list[str]) -> Background:
    """A background whose colours stand apart from the object colours named in `avoid`."""
    usable = [name for name in BACKGROUND_COLOURS if all(_differs(name, colour) for colour in avoid)]
    if not usable:
        # Twelve backgrounds against many colours: take the one whose closest object colour is farthest.
        usable = [max(BACKGROUND_COLOURS, key=lambda name: min(_gap(name, colour) for colour in avoid))]
    first, second = pick(rng, usable), pick(rng, usable)
    pattern = "plain" if chance(rng, 0.35) or first == second else pick(rng, BACKGROUND_PATTERNS)
    return Background(pattern, first, first if pattern == "plain" else second, round(between(rng, 0.0, 1.0), 4))


def sample_look(rng: np.random.Generator, pair: tuple[str, str], size: str | None = None) -> SceneObject:
    """An object of a (colour, shape) pair with random size, texture and tilt, at the picture's centre."""
    size = size or pick(rng, tuple(SIZES))
    texture = "solid" if chance(rng, 0.3) else pick(rng, TEXTURES)
    return SceneObject(
        shape=pair[1],
        colour=pair[0],
        size=size,
        texture=texture,
        x=0.5,
        y=0.5,
        radius=round(SIZES[size] * between(rng, 0.94, 1.06), 6),
        depth=0.5,
        rotation=round(between(rng, -_MAX_ROTATION, _MAX_ROTATION), 3),
        tint=whole(rng, -7, 7),
    )


def allowed_pairs(split: Split) -> tuple[tuple[str, str], ...]:
    """The (colour, shape) pairs that objects of a split may have."""
    return _ALL_PAIRS if split == "heldout_pairs" else SEEN_PAIRS


def allowed_words(split: Split) -> tuple[str, ...]:
    """The words that may be written in scenes of a split."""
    return ORDERED_HELDOUT_WORDS if split == "heldout_words" else SEEN_WORDS


def _choose_layout(rng: np.random.Generator, layout: str | None, num_objects: int | None, split: Split) -> Layout:
    if num_objects is not None and not 1 <= num_objects <= MAX_OBJECTS:
        raise ConfigError(f"num_objects {num_objects}: a scene holds 1 to {MAX_OBJECTS} objects")
    if layout is None:
        return _random_layout(rng, num_objects, split)
    if layout not in LAYOUTS:
        raise ConfigError(f"layout '{layout}' does not exist; choose one of {', '.join(LAYOUTS)}")
    fits: dict[str, tuple[int, int]] = {
        "single": (1, 1), "objects": (1, MAX_OBJECTS), "group": (2, MAX_OBJECTS), "overlap": (2, 4), "inside": (2, 4),
    }  # fmt: skip
    low, high = fits.get(layout, (0, 0))
    if num_objects is not None and not low <= num_objects <= high:
        raise ConfigError(f"layout '{layout}' holds {low} to {high} objects, not {num_objects}")
    return next(known for known in LAYOUTS if known == layout)


def _random_layout(rng: np.random.Generator, num_objects: int | None, split: Split) -> Layout:
    if num_objects == 1:
        return "single"
    weights = dict(_LAYOUT_WEIGHTS)
    if num_objects is not None:
        weights = {"objects": 0.6, "group": 0.4} if num_objects > 4 else {"objects": 0.7, "group": 0.1, "overlap": 0.2}
    elif split == "heldout_pairs":
        # A chart has no colour-shape pair to hold out.
        weights["chart"] = 0.0
    ticket = float(rng.random()) * sum(weights.values())
    for layout, weight in weights.items():
        ticket -= weight
        if ticket < 0:
            return layout
    return "objects"


def _chart_scene(rng: np.random.Generator, split: Split) -> Scene:
    chart = sample_chart(rng, allowed_words(split))
    if split == "heldout_words" and not chart.title:
        chart = replace(chart, title=pick(rng, ORDERED_HELDOUT_WORDS))
    return Scene((), sample_background(rng, ["white"]), chart=chart, split=split)


def _sample_sign(rng: np.random.Generator, split: Split) -> Sign:
    return Sign(pick(rng, allowed_words(split)), pick(rng, ("top", "bottom")), chance(rng, 0.5))


def band_beside(sign: Sign | None) -> Band:
    """The rows a sign leaves to objects."""
    if sign is None:
        return Band()
    return Band(top=SIGN_HEIGHT) if sign.place == "top" else Band(bottom=1.0 - SIGN_HEIGHT)


def _arrange(
    rng: np.random.Generator, split: Split, layout: Layout, num_objects: int | None, band: Band, word_bearer: bool
) -> list[SceneObject]:
    if layout == "group":
        return _arrange_group(rng, split, num_objects or whole(rng, 2, 5), band)
    count = 1 if layout == "single" else num_objects or whole(rng, 2, 4)
    touching = layout in ("overlap", "inside")
    looks = [sample_look(rng, pair) for pair in _distinct_pairs(rng, split, count, first_two_contrast=touching)]
    if word_bearer:
        # Placed before the others, so that it stays large.
        bearer = resized(_recast(rng, looks, pick(rng, _WORD_SHAPES), split), "large")
        return place_beside(rng, place_apart(rng, [bearer], band), looks[1:], band)
    if layout == "overlap":
        return place_overlapping(rng, looks, band)
    if layout == "inside":
        shape = pick(rng, tuple(INNER_RADIUS))
        looks[0], outer = resized(looks[0], "small"), _recast(rng, looks, shape, split, index=1)
        # Bordered and patterned containers would hide what they hold.
        return place_inside(rng, [looks[0], replace(resized(outer, "large"), texture="solid"), *looks[2:]], band)
    return place_apart(rng, looks, band)


def _arrange_group(rng: np.random.Generator, split: Split, count: int, band: Band) -> list[SceneObject]:
    """Identical objects, and sometimes one of another kind among them."""
    alike, other = (sample_look(rng, pair) for pair in _distinct_pairs(rng, split, 2))
    with_other = 3 <= count < MAX_OBJECTS and chance(rng, 0.4)
    group = place_alike(rng, alike, count - with_other, band)
    if not with_other:
        return group
    return place_beside(rng, group, [resized(other, "small")], band)


def _distinct_pairs(
    rng: np.random.Generator, split: Split, count: int, first_two_contrast: bool = False
) -> list[tuple[str, str]]:
    """Distinct (colour, shape) pairs, so that "the red star" names one object; the first two may have to differ in
    colour, because they touch."""
    pairs = [pick(rng, ORDERED_HELDOUT_PAIRS)] if split == "heldout_pairs" else []
    while len(pairs) < count:
        pair = pick(rng, allowed_pairs(split))
        clash = first_two_contrast and len(pairs) == 1 and pair[0] == pairs[0][0]
        if pair not in pairs and not clash:
            pairs.append(pair)
    return pairs


def _recast(
    rng: np.random.Generator, looks: list[SceneObject], shape: str, split: Split, index: int = 0
) -> SceneObject:
    """`looks[index]` in another shape, in a colour that the split allows and no other look has."""
    taken = {look.colour for place, look in enumerate(looks) if place != index}
    pairs = [pair for pair in allowed_pairs(split) if pair[1] == shape and pair[0] not in taken]
    colour, _ = pick(rng, pairs)
    return replace(looks[index], shape=shape, colour=colour)


def _with_text(rng: np.random.Generator, split: Split, objects: list[SceneObject]) -> list[SceneObject]:
    """Write on one object that has room and nothing in front of it; none may have."""
    words = [word for word in allowed_words(split) if len(word) <= 4]
    for index in shuffled(rng, range(len(objects))):
        item = objects[index]
        if any(holds(other, "in front of", item) for other in objects if other is not item):
            continue
        # A member of a group must stay like the others.
        if item.texture != "solid" and any(_is_alike(item, other) for other in objects if other is not item):
            continue
        takes_word = item.size == "large" and item.shape in _WORD_SHAPES
        if takes_word and (split == "heldout_words" or chance(rng, 0.6)):
            text = pick(rng, words)
        elif split != "heldout_words" and item.size != "small" and item.shape in _LETTER_SHAPES:
            text = pick(rng, LETTERS)
        else:
            continue
        # Stripes and dots would break up the strokes.
        return [*objects[:index], replace(item, text=text, texture="solid"), *objects[index + 1 :]]
    return objects


def _is_alike(item: SceneObject, other: SceneObject) -> bool:
    return (item.colour, item.shape) == (other.colour, other.shape)


def stands_out(colour: str, background: Background) -> bool:
    """Whether an object of this colour can be told from the background."""
    return _differs(background.colour, colour) and _differs(background.second_colour, colour)


def _gap(background: str, colour: str) -> float:
    pairs = zip(BACKGROUND_COLOURS[background], COLOURS[colour], strict=True)
    return float(sum((a - b) ** 2 for a, b in pairs) ** 0.5)


def _differs(background: str, colour: str) -> bool:
    return _gap(background, colour) >= _MIN_CONTRAST
