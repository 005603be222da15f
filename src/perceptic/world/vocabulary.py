"""The words of the world and which combinations of them training never sees.

Everything a scene can contain is listed here. The compositional split is a fixed set of colour-shape pairs and a fixed
set of words: split "train" and "validation" never contain them, neither in pixels nor in captions or questions.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final, Literal, get_args

from perceptic.errors import ConfigError

Split = Literal["train", "validation", "heldout_pairs", "heldout_words"]
SPLITS: Final[tuple[Split, ...]] = get_args(Split)

SHAPES: Final = (
    "circle", "square", "triangle", "diamond", "hexagon", "star", "heart", "cross",
    "crescent", "ring", "arrow", "drop", "flower", "bolt", "house", "hourglass",
)  # fmt: skip

COLOURS: Final = MappingProxyType(
    {
        "red": (214, 24, 32),
        "orange": (255, 134, 0),
        "yellow": (250, 226, 32),
        "green": (26, 148, 52),
        "cyan": (52, 214, 230),
        "blue": (28, 66, 222),
        "purple": (126, 36, 176),
        "pink": (255, 128, 196),
        "brown": (122, 70, 28),
        "black": (18, 18, 18),
        "grey": (132, 132, 132),
        "white": (248, 248, 248),
    }
)
"""Colour name to its standard sRGB value."""

TEXTURES: Final = ("solid", "striped", "dotted", "checkered", "shaded", "bordered")

SIZES: Final = MappingProxyType({"small": 0.105, "medium": 0.16, "large": 0.235})
"""Size name to its nominal radius as a fraction of the image side."""

BACKGROUND_COLOURS: Final = MappingProxyType(
    {
        "white": (240, 240, 238),
        "light grey": (200, 200, 204),
        "dark grey": (72, 74, 80),
        "black": (22, 22, 26),
        "light blue": (172, 206, 240),
        "dark blue": (22, 34, 88),
        "light green": (182, 224, 176),
        "dark green": (16, 64, 40),
        "cream": (244, 228, 192),
        "light pink": (246, 204, 214),
        "dark red": (88, 18, 28),
        "lilac": (208, 190, 236),
    }
)
BACKGROUND_PATTERNS: Final = ("plain", "gradient", "striped", "dotted", "checkered")
UNSEEN_BACKGROUND_PATTERNS: Final = ("bricks", "ripples", "zigzag")
"""Only in the out-of-distribution variant "poses_and_backgrounds"."""

WORDS: Final = (
    "ANT", "ARM", "BAG", "BED", "BEE", "BOX", "BUS", "CAR", "CAT", "COW", "CUP", "DOG", "EGG", "FAN", "FOX", "GEM",
    "HAT", "HEN", "ICE", "JAM", "JET", "KEY", "LEG", "MAP", "NET", "OAK", "OWL", "PEN", "PIG", "RUG", "SUN", "TEA",
    "VAN", "WAX", "YAK", "ZOO", "BIRD", "BOAT", "CAKE", "DESK", "FISH", "FROG", "GOAT", "KITE", "LAMP", "LION",
    "MILK", "MOON", "NEST", "PARK", "QUIZ", "ROPE", "SHIP", "TREE", "VASE", "WOLF", "YARN", "ZEBRA", "APPLE",
    "BREAD", "CLOUD", "HORSE", "JUICE", "MOUSE", "PIANO", "QUEEN", "TIGER", "WATCH",
)  # fmt: skip
LETTERS: Final = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
"""Single glyphs that an object may carry."""

HELDOUT_WORDS: Final = frozenset(
    {"BEE", "CUP", "FOX", "HAT", "OWL", "SUN", "BOAT", "FISH", "LAMP", "NEST", "CLOUD", "TIGER"}
)


def _heldout_pairs() -> frozenset[tuple[str, str]]:
    colours = tuple(COLOURS)
    # Two colours a shape, walking through the colours with a stride prime to their number: each colour is held out
    # two or three times and every shape is still seen in ten colours.
    return frozenset((colours[5 * step % len(colours)], SHAPES[step // 2]) for step in range(2 * len(SHAPES)))


HELDOUT_PAIRS: Final = _heldout_pairs()
"""(colour, shape) pairs that only split "heldout_pairs" contains."""

SEEN_PAIRS: Final = tuple(
    (colour, shape) for shape in SHAPES for colour in COLOURS if (colour, shape) not in HELDOUT_PAIRS
)
ORDERED_HELDOUT_PAIRS: Final = tuple(sorted(HELDOUT_PAIRS))
SEEN_WORDS: Final = tuple(word for word in WORDS if word not in HELDOUT_WORDS)
ORDERED_HELDOUT_WORDS: Final = tuple(sorted(HELDOUT_WORDS))


def is_seen_pair(colour: str, shape: str) -> bool:
    """Whether training may show this colour on this shape."""
    return (colour, shape) not in HELDOUT_PAIRS


def check_split(split: str) -> Split:
    """Return `split` if it exists. Raises ConfigError naming the known ones."""
    for known in SPLITS:
        if split == known:
            return known
    raise ConfigError(f"split '{split}' does not exist; choose one of {', '.join(SPLITS)}")
