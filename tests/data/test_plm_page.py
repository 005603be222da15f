"""The page shows the chunks and tokens of its samples, and nothing that a row wrote becomes markup."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import torch
from PIL import Image

from perceptic.data.plm_check import ShownSample
from perceptic.data.plm_page import fed_page
from perceptic.data.plm_samples import TrainingSample
from perceptic.media.preprocess import image_to_tensor
from perceptic.text.conversations import MediaTokens, training_tokens
from perceptic.text.llama_tokenizer import LlamaTokenizer

TOKENIZER = LlamaTokenizer.from_file(Path(__file__).parents[1] / "goldens" / "plm" / "tokenizer" / "tokenizer.model")


class Page(HTMLParser):
    """Text of the page, text inside marks, and pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text, self.marked = "", ""
        self.images: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.images.append(str(dict(attrs)["src"]))
        elif tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "pre" in self.open:
            self.text += data
            self.marked += data if "mark" in self.open else ""


def shown(question: str, answer: str, chunks: torch.Tensor | None) -> ShownSample:
    conversation = [{"from": "human", "value": question}, {"from": "assistant", "value": answer}]
    media = MediaTokens("text") if chunks is None else MediaTokens("image", len(chunks), 4)
    tokens = training_tokens(TOKENIZER, conversation, media, 999)
    assert tokens is not None
    return ShownSample("rows", "rows<1>.jsonl:3", TrainingSample(media.media_type, tokens, chunks))


def test_everything_is_shown() -> None:
    chunks = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    content = fed_page([shown("Größe <b>?", "<script> 🐈 & co", chunks)], TOKENIZER)
    page = Page()
    page.feed(content)
    page.close()
    assert page.open == []
    assert "<|image|> × 8Größe <b>?<|eot_id|>" in page.text
    assert page.marked == ("<|start_header_id|>assistant<|end_header_id|>\n\n<script> 🐈 & co<|eot_id|><|end_of_text|>")
    assert "<script" not in content
    assert "rows&lt;1&gt;.jsonl:3" in content
    pictures = [base64.b64decode(source.partition("base64,")[2]) for source in page.images]
    for chunk, picture in zip(chunks, pictures, strict=True):
        assert torch.equal(image_to_tensor(Image.open(io.BytesIO(picture))), chunk)
    assert re.search(r"image, 2 chunks, \d+ tokens read, \d+ learned<", content)


def test_text_alone() -> None:
    content = fed_page([shown("What?", "That.", None)] * 2, TOKENIZER)
    assert content.count("<section>") == 2
    assert "<img" not in content
    assert "text, 0 chunks" in content
