"""A page that shows exactly what the language model is fed: chunks with their boxes, tokens, and which it learns.

The page stands alone: pictures are inside it. Everything shown is made from the sample itself, not from its row.
"""

from __future__ import annotations

import html
import io
import itertools
from collections.abc import Iterable, Iterator

import torch

from perceptic.data.check_page import page, section
from perceptic.data.plm_check import ShownSample
from perceptic.data.plm_samples import TrainingSample
from perceptic.media.preprocess import tensor_to_image
from perceptic.text.llama_tokenizer import LlamaTokenizer

_EXACT_SIDE = 128
"""Chunks up to this side are shown as PNG; larger ones as JPEG, a tenth of the size and alike to the eye."""

_INTRODUCTION = """<p>Every chunk in its order, every token in its place. <mark>Learned tokens</mark> are marked; the
rest is only read. <span class="pictures">Picture tokens</span> stand where the chunks' features go;
<span class="special">special tokens</span> are made by the template.</p>
"""


def fed_page(shown: Iterable[ShownSample], tokenizer: LlamaTokenizer, summary: str = "") -> str:
    """The page as HTML. A sample with 36 tiles of 448 pixels takes about 2 MB: show a few dozen.

    Args:
        summary: HTML to stand above the samples.
    """
    sections = "".join(_section(item, tokenizer) for item in shown)
    return page("What the model is fed", f"{summary}{_INTRODUCTION}{sections}")


def _section(shown: ShownSample, tokenizer: LlamaTokenizer) -> str:
    sample = shown.sample
    facts = [
        sample.media_type.replace("_", " "),
        f"{0 if sample.chunks is None else len(sample.chunks)} chunks",
        f"{sample.num_inputs} tokens read",
        f"{len(sample.label_positions)} learned",
        *(["later turns do not fit and are left out"] if sample.is_cut else []),
    ]
    chunks = [] if sample.chunks is None else [_encoded(chunk) for chunk in sample.chunks]
    return section(shown.where, facts, chunks, "".join(_text(sample, tokenizer)), sample.tile_columns)


def _encoded(chunk: torch.Tensor) -> bytes:
    stream = io.BytesIO()
    image = tensor_to_image(chunk)
    if max(image.size) <= _EXACT_SIDE:
        image.save(stream, "PNG")
    else:
        image.save(stream, "JPEG", quality=90)
    return stream.getvalue()


def _text(sample: TrainingSample, tokenizer: LlamaTokenizer) -> Iterator[str]:
    """Runs of tokens of one kind; a run is decoded at once, since a letter may be several tokens."""
    learned, special = set(sample.tokens.response_positions), set(tokenizer.special_ids.values())

    def kind(place: tuple[int, int]) -> tuple[bool, str]:
        position, token = place
        is_special = "pictures" if token == tokenizer.image_id else "special" if token in special else ""
        return position in learned, is_special

    for (is_learned, name), run in itertools.groupby(enumerate(sample.tokens.token_ids), kind):
        ids = [token for _, token in run]
        text = html.escape(tokenizer.decode(ids[:1] if name == "pictures" else ids))
        if name:
            text = f'<span class="{name}">{text}{f" × {len(ids)}" if name == "pictures" else ""}</span>'
        yield f"<mark>{text}</mark>" if is_learned else text
