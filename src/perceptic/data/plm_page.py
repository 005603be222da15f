"""A page that shows exactly what the language model is fed: chunks with their boxes, tokens, and which it learns.

The page stands alone: pictures are inside it. Everything shown is made from the sample itself, not from its row.
"""

from __future__ import annotations

import base64
import html
import io
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from perceptic.data.plm_samples import TrainingSample
from perceptic.media.preprocess import tensor_to_image
from perceptic.text.llama_tokenizer import LlamaTokenizer

_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>What the model is fed</title><style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 24px auto; max-width: 1100px; padding: 0 16px; color: #222; }
section { border-top: 1px solid #ccc; padding: 12px 0; }
h2 { font-size: 15px; margin: 0 0 6px; } h2 small { color: #666; font-weight: normal; }
.chunks { display: flex; flex-wrap: wrap; gap: 4px; } .chunks img { height: 96px; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f6f6f6; padding: 8px; margin: 8px 0 0; }
mark { background: #b9e5b0; color: inherit; } .pictures { color: #0a58a8; } .special { color: #888; }
</style></head><body><h1>What the model is fed</h1>
<p>Every chunk in its order, every token in its place. <mark>Learned tokens</mark> are marked; the rest is only read.
<span class="pictures">Picture tokens</span> stand where the chunks' features go;
<span class="special">special tokens</span> are made by the template.</p>
"""


@dataclass(frozen=True)
class ShownSample:
    """A sample, and the file and line it is from."""

    where: str
    sample: TrainingSample


def fed_page(shown: Iterable[ShownSample], tokenizer: LlamaTokenizer) -> str:
    """The page as HTML. Samples with 36 tiles of 448 pixels take about 10 MB each: show a few dozen."""
    return _HEAD + "".join(_section(item, tokenizer) for item in shown) + "</body></html>\n"


def _section(shown: ShownSample, tokenizer: LlamaTokenizer) -> str:
    sample = shown.sample
    facts = [
        sample.media_type.replace("_", " "),
        f"{0 if sample.chunks is None else len(sample.chunks)} chunks",
        f"{sample.num_inputs} tokens read",
        f"{len(sample.label_positions)} learned",
        *(["later turns do not fit and are left out"] if sample.is_cut else []),
    ]
    chunks = "" if sample.chunks is None else "".join(map(_image, range(len(sample.chunks)), sample.chunks))
    return (
        f"<section><h2>{html.escape(shown.where)} <small>{', '.join(facts)}</small></h2>\n"
        f'<div class="chunks">{chunks}</div>\n<pre>{"".join(_text(sample, tokenizer))}</pre></section>\n'
    )


def _image(number: int, pixels: torch.Tensor) -> str:
    stream = io.BytesIO()
    tensor_to_image(pixels).save(stream, "PNG")
    content = base64.b64encode(stream.getvalue()).decode()
    return f'<img src="data:image/png;base64,{content}" alt="chunk {number}" title="chunk {number}">'


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
