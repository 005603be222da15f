"""The demo's page is whole, needs nothing else, and says what is true."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from perceptic.errors import ConfigError, DataError
from perceptic.tasks.demo import demo
from perceptic.tasks.demo_collection import DemoItem, make_collection, questions
from perceptic.tasks.demo_page import RELEASED_LINE

VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Checks that tags close, and gathers what a reader and a browser would look for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.without_words: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        self.sources += [found[name] or "" for name in ("src", "href", "poster") if name in found]
        if tag in ("img", "video") and not (found.get("alt") or found.get("aria-label")):
            self.without_words.append(tag)
        if "id" in found:
            self.ids.append(found["id"] or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text += data


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> list[DemoItem]:
    return make_collection(tmp_path_factory.mktemp("collection"))


def test_every_question_has_answers_and_non_answers(collection: list[DemoItem]) -> None:
    scenes = [item for item in collection if not item.labels]
    for question in questions():
        answers = sum(question.is_answer(item.shown) for item in scenes)
        assert 4 <= answers <= 12 < len(scenes), question.text


def test_truth_agrees_with_the_captions(collection: list[DemoItem]) -> None:
    """Two ways to the truth: the predicate on the scene, and the words written from it."""
    reading = next(question for question in questions() if question.tries == "reading")
    for item in collection:
        if item.kind == "image" and not item.labels and '"' in item.caption:
            assert reading.is_answer(item.shown) == ('"CAT"' in item.caption), item.caption


def test_only_some_questions_show_what_training_never_did(collection: list[DemoItem]) -> None:
    unseen = [item for item in collection if item.unseen]
    assert {item.caption for item in unseen if item.labels}, "single objects with unseen pairs"
    assert 0 < len(unseen) < len(collection) / 2


def test_same_seed_same_files(collection: list[DemoItem], tmp_path: Path) -> None:
    again = make_collection(tmp_path)
    assert [item.path.name for item in again] == [item.path.name for item in collection]
    for one, other in zip(again[:20], collection, strict=False):
        assert one.path.read_bytes() == other.path.read_bytes()


def test_the_page_of_the_synthetic_collection(tiny_clip: Path, tmp_path: Path) -> None:
    summary = demo(tmp_path / "out", model=tiny_clip)
    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    page = Page(text)
    assert all(source.startswith("data:") for source in page.sources), "the page asks for something outside itself"
    assert not re.search(r"url\(|@import|https?://", text)
    assert not page.without_words
    assert len(page.ids) == len(set(page.ids))
    for question in questions():
        assert question.text in page.text
    assert RELEASED_LINE in page.text
    assert summary.files == 192
    assert summary.failed == 0
    for shares in (summary.labels_right, summary.labels_right_unseen):
        assert shares is not None
        assert shares.keys() == {"shape", "colour"}
        for share in shares.values():
            assert 0 <= share < 0.5, "an untrained model cannot know"
            assert f"{share:.0%}" in page.text
    assert summary.queries_right is not None
    assert summary.queries_right < 0.5


def test_the_page_of_your_folder(tiny_clip: Path, media: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(media, tmp_path / "mine")
    (folder / "a.png").rename(folder / '<script>alert("1")<&.png')
    summary = demo(
        tmp_path / "out", folder=folder, queries=["a <b>red</b> circle"], labels=["x & y", "z"], model=tiny_clip
    )
    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    page = Page(text)
    assert text.count("<script>") == 1, "a file's name became a program"
    assert "a <b>red</b> circle" in page.text
    assert '<script>alert("1")<&.png' in page.text
    assert "2 files could not be read" in page.text
    assert (summary.files, summary.failed, summary.queries_right, summary.labels_right) == (6, 2, None, None)
    assert all(source.startswith("data:") for source in page.sources)


def test_mistakes(tiny_clip: Path, tiny_tower: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="for your own folder"):
        demo(tmp_path / "out", queries=["x"], model=tiny_clip)
    with pytest.raises(ConfigError, match="without a text tower"):
        demo(tmp_path / "out", model=tiny_tower)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image or video"):
        demo(tmp_path / "out", folder=tmp_path / "empty", model=tiny_clip)
