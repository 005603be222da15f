"""The demo's findings as one HTML page that needs nothing else: pictures, clips and style are inside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable
from html import escape
from pathlib import Path
from typing import TypeVar

from PIL import Image

from perceptic.__about__ import __version__
from perceptic.errors import MediaError
from perceptic.media.images import load_image
from perceptic.media.video import read_video
from perceptic.tasks.demo_content import DemoContent, LabelledItem, LabelShare, LookInside, RankedItem, SearchAnswer

ThingT = TypeVar("ThingT")

RELEASED_LINE = "perceptic demo --folder ~/Pictures --model PE-Core-B16-224"

_STYLE = Path(__file__).with_name("demo_page.css")
_THUMBNAIL = 256
_MAX_CLIP_BYTES = 200_000

# Clips play while the pointer is on them or they have the focus; nothing moves by itself.
_SCRIPT = """
for (const clip of document.querySelectorAll("video")) {
  const play = () => clip.play(), stop = () => { clip.pause(); clip.currentTime = 0; };
  clip.addEventListener("pointerenter", play); clip.addEventListener("focus", play);
  clip.addEventListener("pointerleave", stop); clip.addEventListener("blur", stop);
}
"""


def render_page(content: DemoContent) -> str:
    """The whole page. Pictures that cannot be read any more are left out with a word about it."""
    parts = [_header(content), "<main>", _searches(content), _labels(content), _insides(content), "</main>"]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>perceptic demo: {escape(content.model)}</title>"
        '<link rel="icon" href="data:,">'
        f"<style>{_STYLE.read_text(encoding='utf-8')}</style></head><body>"
        + "\n".join(parts)
        + _footer(content)
        + f"<script>{_SCRIPT}</script></body></html>\n"
    )


def _header(content: DemoContent) -> str:
    tiles = [
        (
            f"{content.num_images} + {content.num_videos}",
            "images and clips embedded" if content.synthetic else "images and videos embedded",
        ),
        (f"{content.files_per_second:.0f} /s", "files a second, decoding included"),
        (f"{content.embedding_size}", "numbers per file"),
    ]
    if content.queries_right is not None:
        tiles.append((f"{content.queries_right:.0%}", "of the answers found, over six queries"))
    tiles += [
        (f"{share.seen_share:.0%}", f"{share.attribute}s named rightly ({share.unseen_share:.0%} on unseen pairs)")
        for share in content.shares
    ]
    return (
        f"<header><h1>What {escape(Path(content.model).name)} sees</h1>{_introduction(content)}"
        f'<ul class="tiles">{_each(tiles, lambda tile: f"<li><b>{tile[0]}</b>{escape(tile[1])}</li>")}</ul>'
        f"{_failures(content)}</header>"
    )


def _introduction(content: DemoContent) -> str:
    if not content.synthetic:
        return (
            '<p class="soft">Your files, searched with texts and labelled without training. '
            "Nobody has told this page the truth: judge for yourself.</p>" + _nano_warning(content)
        )
    return (
        '<p class="soft">Pictures and clips of a synthetic world, searched with texts, labelled without training, and '
        "looked into. Everything ran on this machine, offline. The truth of every picture is known, so this page says "
        "where the model is right and where it is wrong.</p>" + _nano_warning(content)
    )


def _nano_warning(content: DemoContent) -> str:
    if content.model != "PE-Core-Nano":
        return ""
    return (
        '<aside class="note"><strong>This bundled model knows only its synthetic world</strong> of coloured shapes, '
        "letters and simple motion. It says nothing sensible about photographs. For those, take a released model, "
        f"which is downloaded once:<pre>{escape(RELEASED_LINE)}</pre></aside>"
    )


def _failures(content: DemoContent) -> str:
    if not content.failures:
        return ""
    lines = _each(content.failures.items(), lambda pair: f"<li>{escape(pair[0])}: {escape(pair[1])}</li>")
    return f"<details><summary>{len(content.failures)} files could not be read</summary><ul>{lines}</ul></details>"


def _searches(content: DemoContent) -> str:
    judged = (
        "A green frame marks a picture that truly answers the query; a red one does not. "
        "All answers in the collection are known."
        if content.synthetic
        else ""
    )
    return (
        '<section aria-labelledby="search"><h2 id="search">Search with words</h2>'
        f'<p class="soft">Each text is compared with every picture and clip (cosine of their vectors). {judged}</p>'
        + _each(content.answers, _search)
        + "</section>"
    )


def _search(answer: SearchAnswer) -> str:
    found = ""
    if answer.num_answers is not None and answer.num_right is not None:
        kind = "right" if answer.num_right * 2 >= answer.num_answers else "wrong"
        found = (
            f'<span class="badge {kind}">{answer.num_right} of {answer.num_answers} answers among the first '
            f"{answer.num_answers} of {answer.num_candidates}</span>"
        )
    tries = f' <span class="soft">tries: {escape(answer.tries)}</span>' if answer.tries else ""
    items = _each(enumerate(answer.ranked, start=1), lambda pair: f"<li>{_ranked(*pair)}</li>")
    return (
        f'<article class="card"><div class="head"><div><h3>&ldquo;{escape(answer.text)}&rdquo;</h3>{tries}</div>'
        f'{found}</div><ol class="row">{items}</ol></article>'
    )


def _ranked(place: int, item: RankedItem) -> str:
    frame = {True: "right", False: "wrong", None: ""}[item.right]
    words = {
        True: '<span class="badge right">✓ right</span> ',
        False: '<span class="badge wrong">✗ no</span> ',
        None: "",
    }
    similarity = item.similarity or 0.0
    tag = f"{place} ▶" if item.kind == "video" else str(place)
    return (
        f'<figure><div class="picture {frame}">{_media(item)}<span class="tag">{tag}</span></div>'
        f'<div class="bar" aria-hidden="true"><i style="width:{max(0.0, similarity):.0%}"></i></div>'
        f'<figcaption>{words[item.right]}<span class="soft">{similarity:.2f}</span>'
        f'<div class="clamp" title="{escape(item.caption)}">{escape(item.caption)}</div></figcaption></figure>'
    )


def _labels(content: DemoContent) -> str:
    if not content.labelled:
        return ""
    intro = (
        "Pictures of one object, labelled with the nearest of the class names. Unseen pairs are combinations of colour "
        "and shape that training never showed. These are every few pictures of all that were labelled, not the best."
        if content.synthetic
        else "Each file with the nearest of the given labels."
    )
    items = _each(content.labelled, lambda labelled: f"<li>{_labelled(labelled)}</li>")
    return (
        '<section aria-labelledby="labels"><h2 id="labels">Label without training</h2>'
        f'<p class="soft">{intro}</p>{_share_table(content.shares)}<ul class="row">{items}</ul></section>'
    )


def _share_table(shares: list[LabelShare]) -> str:
    if not shares:
        return ""
    rows = _each(
        shares,
        lambda share: (
            f'<tr><th scope="row">{escape(share.attribute)}</th>'
            f"<td>{share.seen_share:.0%} ({share.seen_right} of {share.seen_total})</td>"
            f"<td>{share.unseen_share:.0%} ({share.unseen_right} of {share.unseen_total})</td>"
            f"<td>{1 / share.num_classes:.0%} (1 of {share.num_classes})</td></tr>"
        ),
    )
    return (
        '<div class="scroll"><table><thead><tr><th scope="col">attribute</th><th scope="col">right on seen pairs</th>'
        '<th scope="col">right on unseen pairs</th><th scope="col">by chance</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _labelled(labelled: LabelledItem) -> str:
    rows = _each(labelled.guesses, lambda attribute: _guess(labelled, attribute))
    tag = '<span class="tag">unseen pair</span>' if labelled.unseen else ""
    frame = ""
    if labelled.truth:
        frame = "right" if all(labelled.is_right(attribute) for attribute in labelled.guesses) else "wrong"
    return (
        f'<figure><div class="picture {frame}">{_media(labelled.item)}{tag}</div>'
        f'<figcaption title="{escape(labelled.item.caption)}">{rows}</figcaption></figure>'
    )


def _guess(labelled: LabelledItem, attribute: str) -> str:
    score = labelled.guesses[attribute]
    share = f'<span class="soft">{score.probability:.0%}</span>'
    if not labelled.truth:
        return f"<div>{escape(score.label)} {share}</div>"
    if labelled.is_right(attribute):
        return f'<div><span class="badge right">✓ {escape(score.label)}</span> {share}</div>'
    truth = escape(labelled.truth[attribute])
    return f'<div><span class="badge wrong">✗ {escape(score.label)}</span> {share} is {truth}</div>'


def _insides(content: DemoContent) -> str:
    if not content.insides:
        return ""
    return (
        '<section aria-labelledby="inside"><h2 id="inside">Look inside</h2>'
        '<p class="soft">What each patch of a picture carries after the last layer: the three principal components as '
        "colours (alike patches look alike), the likeness to the patch in the centre, and the likeness to the query "
        "(dark low, light high; stretched for each picture).</p>" + _each(content.insides, _inside) + "</section>"
    )


def _inside(inside: LookInside) -> str:
    views = (
        (inside.picture, "the picture"),
        (inside.components, "features as colours"),
        (inside.to_point, "like the centre"),
        (inside.to_text, f"like “{inside.text}”"),
    )

    def view(pair: tuple[Image.Image, str]) -> str:
        picture, words = pair
        alt = f"{words}: {inside.caption}"
        return (
            f'<figure><div class="picture"><img src="{_data_uri(picture)}" alt="{escape(alt)}"></div>'
            f"<figcaption>{escape(words)}</figcaption></figure>"
        )

    return f'<article class="card"><div class="insides">{_each(views, view)}</div></article>'


def _footer(content: DemoContent) -> str:
    released = f"<p>The same with a released model on photographs:</p><pre>{escape(RELEASED_LINE)}</pre>"
    return (
        f"<footer><p>Made by perceptic {escape(__version__)} with {escape(content.model)} in {content.seconds:.1f} s, "
        f"of which {content.seconds_embedding:.1f} s for decoding and embedding {content.num_files} files.</p>"
        f"{released}</footer>"
    )


def _media(item: RankedItem) -> str:
    alt = escape(item.caption)
    try:
        if item.kind == "image":
            return f'<img src="{_data_uri(load_image(item.path))}" alt="{alt}" loading="lazy">'
        poster = _data_uri(Image.fromarray(read_video(item.path, num_frames=1).pixels[0].permute(1, 2, 0).numpy()))
        if item.path.suffix != ".mp4" or item.path.stat().st_size > _MAX_CLIP_BYTES:
            return f'<img src="{poster}" alt="{alt}" loading="lazy">'
        clip = base64.b64encode(item.path.read_bytes()).decode()
    except (MediaError, OSError):
        return f'<img src="data:," alt="{alt} (cannot be read any more)">'
    return (
        f'<video src="data:video/mp4;base64,{clip}" poster="{poster}" muted loop playsinline preload="none" '
        f'tabindex="0" aria-label="{alt}"></video>'
    )


def _data_uri(picture: Image.Image) -> str:
    small = picture.convert("RGB")
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    stream = io.BytesIO()
    small.save(stream, format="WEBP", quality=85)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _each(things: Iterable[ThingT], to_html: Callable[[ThingT], str]) -> str:
    return "".join(to_html(thing) for thing in things)
