"""What the demo found, as plain data, before it becomes a page."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from PIL import Image

from perceptic.tasks.classify import LabelScore


@dataclass(frozen=True)
class RankedItem:
    """A file with its words; `right` says whether it answers the query, None if nobody knows."""

    path: Path
    kind: Literal["image", "video", "unknown"]
    caption: str
    similarity: float | None = None
    right: bool | None = None


@dataclass(frozen=True)
class SearchAnswer:
    """A query's best files. `num_answers` files of the collection answer it, `num_right` of the first that many do."""

    text: str
    tries: str
    ranked: list[RankedItem]
    num_answers: int | None
    num_right: int | None
    num_candidates: int


@dataclass(frozen=True)
class LabelledItem:
    """A file with its likeliest label for each attribute, and the true ones where they are known."""

    item: RankedItem
    guesses: dict[str, LabelScore]
    truth: dict[str, str] = field(default_factory=dict)
    unseen: bool = False

    def is_right(self, attribute: str) -> bool:
        return self.guesses[attribute].label == self.truth[attribute]


@dataclass(frozen=True)
class LabelShare:
    """How often one attribute was labelled rightly, on colour-shape pairs that training showed and on others."""

    attribute: str
    num_classes: int
    seen_right: int
    seen_total: int
    unseen_right: int
    unseen_total: int

    @property
    def seen_share(self) -> float:
        return self.seen_right / self.seen_total

    @property
    def unseen_share(self) -> float:
        return self.unseen_right / self.unseen_total


@dataclass(frozen=True)
class LookInside:
    """A picture beside its feature map, its likeness to its own centre, and its likeness to a text."""

    picture: Image.Image
    components: Image.Image
    to_point: Image.Image
    to_text: Image.Image
    caption: str
    text: str


@dataclass(frozen=True)
class DemoContent:
    """Everything on the page. `synthetic`: the collection is the world's, and its truth is known."""

    model: str
    synthetic: bool
    embedding_size: int
    num_images: int
    num_videos: int
    failures: dict[str, str]
    answers: list[SearchAnswer]
    labelled: list[LabelledItem]
    shares: list[LabelShare]
    insides: list[LookInside]
    seconds_embedding: float
    seconds: float

    @property
    def num_files(self) -> int:
        return self.num_images + self.num_videos

    @property
    def files_per_second(self) -> float:
        return self.num_files / max(self.seconds_embedding, 1e-9)

    @property
    def queries_right(self) -> float | None:
        """Mean over queries of right answers among as many first places as there are answers; None if unknown."""
        shares = [a.num_right / a.num_answers for a in self.answers if a.num_right is not None and a.num_answers]
        return sum(shares) / len(shares) if shares else None
