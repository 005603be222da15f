"""A page that shows what contrastive training is fed: pictures and frames with their captions."""

from __future__ import annotations

import html

from perceptic.data.check_page import page, section
from perceptic.data.pair_check import ShownPair
from perceptic.data.samples import CAPTION_LENGTHS

_INTRODUCTION = """<p>Pictures and frames as they are decoded, made small for this page; crops and colours are varied in
training. One of a sample's captions is drawn each time, by the recipe's shares of short, medium and long.</p>
"""


def pairs_page(shown: tuple[ShownPair, ...], summary: str = "") -> str:
    """The page as HTML, `summary` above the samples."""
    return page("What contrastive training is fed", summary + _INTRODUCTION + "".join(map(_section, shown)))


def _section(shown: ShownPair) -> str:
    lines = [
        f'<span class="special">{length}</span> {html.escape(text)}'
        for length, text in zip(CAPTION_LENGTHS, shown.captions, strict=True)
    ]
    return section(shown.where, [f"{len(shown.pictures)} frames"], shown.pictures, "\n".join(lines))
