"""The main job on one page: embed a collection, search it, label it, look inside, and say what is right and wrong."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from perceptic.errors import ConfigError
from perceptic.files import write_text
from perceptic.inference.encode import DTypeName, Encoder, load_encoder, unit_vectors
from perceptic.media.images import load_image
from perceptic.tasks.classify import LabelScore, score_labels
from perceptic.tasks.demo_collection import DemoItem, DemoQuestion, make_collection, questions
from perceptic.tasks.demo_content import DemoContent, LabelledItem, LabelShare, LookInside, RankedItem, SearchAnswer
from perceptic.tasks.demo_page import render_page
from perceptic.tasks.embed import DEFAULT_MODEL, Embeddings, embed
from perceptic.tasks.embeddings_file import Embedding
from perceptic.tasks.media_stream import OnProgress, ignore_progress
from perceptic.tasks.show import feature_map, overlay
from perceptic.tasks.similar import rank
from perceptic.tasks.zero_shot import DEFAULT_TEMPLATES, label_vectors
from perceptic.world import CLASS_NAMES
from perceptic.world import prompts as world_prompts

OWN_QUERIES = ("a person", "an animal", "food on a table", "a building", "a landscape", "text or a sign")
OWN_LABELS = ("a person", "an animal", "food", "a building", "a landscape", "a vehicle", "a document", "an object")
ATTRIBUTES = ("shape", "colour")

_SHOWN_PER_QUERY = 6
_SHOWN_LABELLED = 24
_SHOWN_INSIDE = 4


@dataclass(frozen=True)
class DemoSummary:
    """What the demo found, in numbers; shares are None where the truth is not known (a folder of yours)."""

    page: str
    model: str
    files: int
    failed: int
    embedding_size: int
    seconds: float
    files_per_second: float
    queries_right: float | None
    labels_right: dict[str, float] | None
    labels_right_unseen: dict[str, float] | None


def demo(
    out: str | Path = "demo-out",
    *,
    folder: str | Path | None = None,
    queries: Sequence[str] = (),
    labels: Sequence[str] = (),
    model: str | Path | Encoder = DEFAULT_MODEL,
    seed: int = 0,
    device: str = "auto",
    dtype: DTypeName = "auto",
    on_progress: OnProgress = ignore_progress,
) -> DemoSummary:
    """Embed, search and label a collection, and write one self-contained HTML page about it: `out`/index.html.

    Args:
        out: a folder; the synthetic collection stays in `out`/collection, to try other commands on.
        folder: your images and videos; None makes a small synthetic collection, whose truth is known.
        queries: texts to search for in `folder`; `labels`: labels for it. Without them: a few everyday ones.
        seed: another seed makes another collection.

    Raises:
        ConfigError: queries or labels without a folder, or a model without a text tower.
        DataError: the folder holds no image or video.
        OutputError: the page cannot be written.
    """
    if folder is None and (queries or labels):
        raise ConfigError("queries and labels are for your own folder: give one with --folder")
    started = time.perf_counter()
    encoder = load_encoder(model, needs_text=True, device=device, dtype=dtype)
    if folder is not None:
        items = embed([folder], model=encoder, on_progress=on_progress)
        content = _own_content(encoder, items, queries or OWN_QUERIES, labels or OWN_LABELS, started)
    else:
        collection = make_collection(Path(out) / "collection", seed)
        content = _world_content(encoder, collection, on_progress, started)
    page = Path(out) / "index.html"
    write_text(page, render_page(content))
    return _summary(page, content)


def _world_content(
    encoder: Encoder, collection: list[DemoItem], on_progress: OnProgress, started: float
) -> DemoContent:
    before = time.perf_counter()
    found = embed([item.path for item in collection], model=encoder, on_progress=on_progress)
    seconds_embedding = time.perf_counter() - before
    by_path = {str(item.path): item for item in collection}
    items = [by_path[row.path] for row in found.items]
    vectors = torch.from_numpy(found.vectors)
    scenes = [row for row, item in enumerate(items) if not item.labels]
    answers = [_world_answer(encoder, question, items, vectors, scenes) for question in questions()]
    labelled = _world_labels(encoder, items, vectors)
    return DemoContent(
        model=encoder.name,
        synthetic=True,
        embedding_size=encoder.embedding_size,
        num_images=sum(item.kind == "image" for item in items),
        num_videos=sum(item.kind == "video" for item in items),
        failures=found.failures,
        answers=answers,
        labelled=_spread(labelled, _SHOWN_LABELLED),
        shares=[_share(labelled, attribute) for attribute in ATTRIBUTES],
        insides=_look_inside(encoder, answers),
        seconds_embedding=seconds_embedding,
        seconds=time.perf_counter() - started,
    )


def _own_content(
    encoder: Encoder, found: Embeddings, queries: Sequence[str], labels: Sequence[str], started: float
) -> DemoContent:
    seconds_embedding = time.perf_counter() - started
    rows = [item for item in found.items if item.vector is not None]
    answers = [_own_answer(encoder, query, rows, found.vectors) for query in queries]
    vectors = label_vectors(encoder, labels, DEFAULT_TEMPLATES)
    labelled = [
        LabelledItem(
            RankedItem(Path(row.path), row.kind, Path(row.path).name),
            {"label": _best_label(encoder, torch.from_numpy(row.vector), vectors, labels)},
        )
        for row in rows[:_SHOWN_LABELLED]
        if row.vector is not None
    ]
    return DemoContent(
        model=encoder.name,
        synthetic=False,
        embedding_size=encoder.embedding_size,
        num_images=sum(row.kind == "image" for row in rows),
        num_videos=sum(row.kind == "video" for row in rows),
        failures=found.failures,
        answers=answers,
        labelled=labelled,
        shares=[],
        insides=_look_inside(encoder, answers),
        seconds_embedding=seconds_embedding,
        seconds=time.perf_counter() - started,
    )


def _world_answer(
    encoder: Encoder, question: DemoQuestion, items: list[DemoItem], vectors: torch.Tensor, rows: list[int]
) -> SearchAnswer:
    """The best of `rows` for a question. All of the collection's answers are known, so the ranking can be judged."""
    right = {row for row in rows if question.is_answer(items[row].shown)}
    query = unit_vectors(encoder.encode_texts([question.text]))[0].numpy()
    ranked = [(rows[place], score) for place, score in rank(query, vectors[rows].numpy(), len(rows))]
    shown = [
        RankedItem(items[row].path, items[row].kind, items[row].caption, score, row in right)
        for row, score in ranked[:_SHOWN_PER_QUERY]
    ]
    return SearchAnswer(
        text=question.text,
        tries=question.tries,
        ranked=shown,
        num_answers=len(right),
        num_right=sum(row in right for row, _ in ranked[: len(right)]),
        num_candidates=len(rows),
    )


def _own_answer(encoder: Encoder, query: str, rows: list[Embedding], vectors: np.ndarray) -> SearchAnswer:
    vector = unit_vectors(encoder.encode_texts([query]))[0].numpy()
    ranked = [
        RankedItem(Path(rows[row].path), rows[row].kind, Path(rows[row].path).name, score)
        for row, score in rank(vector, vectors, _SHOWN_PER_QUERY)
    ]
    return SearchAnswer(query, "", ranked, None, None, len(rows))


def _world_labels(encoder: Encoder, items: list[DemoItem], vectors: torch.Tensor) -> list[LabelledItem]:
    rows = [row for row, item in enumerate(items) if item.labels]
    guesses: dict[int, dict[str, LabelScore]] = {row: {} for row in rows}
    for attribute in ATTRIBUTES:
        names = CLASS_NAMES[attribute]
        prompts = dict(zip(names, world_prompts(attribute), strict=True))
        of_labels = label_vectors(encoder, names, prompts)
        for row in rows:
            guesses[row][attribute] = _best_label(encoder, vectors[row], of_labels, names)
    return [
        LabelledItem(
            RankedItem(items[row].path, items[row].kind, items[row].caption),
            guesses[row],
            truth=items[row].labels,
            unseen=items[row].unseen,
        )
        for row in rows
    ]


def _best_label(encoder: Encoder, vector: torch.Tensor, of_labels: torch.Tensor, labels: Sequence[str]) -> LabelScore:
    return score_labels(vector, of_labels, labels, encoder.logit_scale, top_k=1)[0]


def _share(labelled: list[LabelledItem], attribute: str) -> LabelShare:
    def right(unseen: bool) -> tuple[int, int]:
        chosen = [item for item in labelled if item.unseen == unseen]
        return sum(item.is_right(attribute) for item in chosen), len(chosen)

    return LabelShare(attribute, len(CLASS_NAMES[attribute]), *right(False), *right(True))


def _spread(labelled: list[LabelledItem], number: int) -> list[LabelledItem]:
    """`number` items, evenly from the whole list, so that mistakes are shown as often as they happen."""
    chosen = np.linspace(0, len(labelled) - 1, min(number, len(labelled))).round().astype(int)
    return [labelled[index] for index in chosen]


def _look_inside(encoder: Encoder, answers: Sequence[SearchAnswer]) -> list[LookInside]:
    """The best picture of each query, no picture twice."""
    chosen: dict[Path, tuple[RankedItem, str]] = {}
    for answer in answers:
        pictures = (item for item in answer.ranked if item.kind == "image" and item.path not in chosen)
        for best in islice(pictures, 1):
            chosen[best.path] = (best, answer.text)
    return [_draw_inside(encoder, item, text) for item, text in islice(chosen.values(), _SHOWN_INSIDE)]


def _draw_inside(encoder: Encoder, item: RankedItem, text: str) -> LookInside:
    picture = load_image(item.path)
    components = overlay(picture, *feature_map(encoder, picture))
    to_point = overlay(picture, *feature_map(encoder, picture, point=(0.5, 0.5)))
    to_text = overlay(picture, *feature_map(encoder, picture, text=text))
    return LookInside(picture, components, to_point, to_text, item.caption, text)


def _summary(page: Path, content: DemoContent) -> DemoSummary:
    shares = {share.attribute: share for share in content.shares}
    return DemoSummary(
        page=str(page),
        model=content.model,
        files=content.num_files,
        failed=len(content.failures),
        embedding_size=content.embedding_size,
        seconds=round(content.seconds, 2),
        files_per_second=round(content.files_per_second, 1),
        queries_right=content.queries_right,
        labels_right={name: share.seen_share for name, share in shares.items()} or None,
        labels_right_unseen={name: share.unseen_share for name, share in shares.items()} or None,
    )
