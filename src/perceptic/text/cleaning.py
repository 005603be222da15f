"""What happens to a text before it is split into pieces (spec 5, step 1).

Web text carries mojibake, HTML entities, curly quotes and control characters; the models were trained on text that
`ftfy` had repaired. A tokenizer without this step gives other ids for several percent of web captions.
"""

from __future__ import annotations

import html
import string
from typing import Literal, get_args

import ftfy

from perceptic.errors import TextError

CleanMode = Literal["lower", "whitespace", "canonicalize"]

CLEAN_MODES: tuple[CleanMode, ...] = get_args(CleanMode)

_DELETE_PUNCTUATION = str.maketrans("", "", string.punctuation)


def clean(text: str, mode: CleanMode = "lower") -> str:
    """Repair a text, collapse its whitespace to single spaces and, by `mode`, fold it.

    Args:
        text: any string, lone surrogates included.
        mode: `lower` folds to lower case (the released models); `whitespace` keeps the case; `canonicalize` turns `_`
            into a space, deletes ASCII punctuation and folds to lower case.

    Raises:
        TextError: an unknown mode.
    """
    text = _repair(text)
    if mode == "lower":
        return " ".join(text.split()).lower()
    if mode == "whitespace":
        return " ".join(text.split())
    if mode == "canonicalize":
        return " ".join(text.replace("_", " ").translate(_DELETE_PUNCTUATION).lower().split())
    raise TextError(f"no cleaning mode is named {mode!r}; known: {', '.join(CLEAN_MODES)}")


def _repair(text: str) -> str:
    # Every repair of ftfy acts on non-ASCII characters, control characters or entities, and unescaping acts on '&'
    # alone. Nine web captions in ten have none of these, and the check is thirty times cheaper than the repair.
    if text.isascii() and text.isprintable() and "&" not in text:
        return text
    return html.unescape(html.unescape(ftfy.fix_text(text)))
