"""`tokenizer.json`: the file format of Hugging Face `tokenizers`, for CLIP's design only.

A file written here holds everything: merges, context length (as truncation and padding), cleaning (as the nearest
normaliser) and the special tokens. `tokenizers.Tokenizer.from_file` reads it and gives the same ids for text that is
already clean; `ftfy`'s repair has no counterpart in the format, so for raw text use `ClipTokenizer`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, processors

from perceptic.errors import TextError
from perceptic.files import write_text
from perceptic.text.cleaning import CLEAN_MODES, CleanMode
from perceptic.text.pieces import END_TOKEN, SPECIAL_TOKENS, START_TOKEN, WORD_END, make_splitter
from perceptic.text.vocabulary import Merge, build_vocabulary


@dataclass(frozen=True)
class TokenizerFile:
    """What a tokenizer.json says. `context_length` counts ids with start and end; None where the file has none."""

    merges: tuple[Merge, ...]
    context_length: int | None
    clean: CleanMode


def read_tokenizer_file(path: str | Path) -> TokenizerFile:
    """Read a file written by `write_tokenizer_file`, or a CLIP `tokenizer.json` from Hugging Face.

    Splitting and cleaning come from the spec, not from the file: that of OpenAI's CLIP lacks `ftfy` and spells
    the special tokens `<|startoftext|>` and `<|endoftext|>`, which are `<start_of_text>` and `<end_of_text>` here.

    Raises:
        TextError: no such file, not JSON, not byte-level BPE with word-end marks, or ids that are not CLIP's layout.
    """
    document = _read_json(Path(path))
    model = document.get("model")
    if not isinstance(model, dict) or model.get("end_of_word_suffix") != WORD_END or "merges" not in model:
        raise TextError(
            f"{path}: is not a CLIP tokenizer: expected a BPE model with end_of_word_suffix '{WORD_END}'. "
            "Use the tokenizer.json of a CLIP or perceptic model"
        )
    merges = _parse_merges(model["merges"], path)
    _check_ids(model.get("vocab"), merges, path)
    truncation = document.get("truncation")
    context_length = truncation.get("max_length") if isinstance(truncation, dict) else None
    return TokenizerFile(
        merges, context_length if isinstance(context_length, int) else None, _clean_mode(document.get("normalizer"))
    )


def write_tokenizer_file(path: str | Path, merges: Sequence[Merge], context_length: int, clean: CleanMode) -> None:
    """Write a complete `tokenizer.json`. The same arguments give the same bytes. Raises OutputError."""
    vocabulary = build_vocabulary(merges)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges), end_of_word_suffix=WORD_END))
    tokenizer.normalizer = _normalizer(clean)
    tokenizer.pre_tokenizer = make_splitter(special_tokens=False)
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Replace(WORD_END, " ")])
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START_TOKEN} $A {END_TOKEN}", special_tokens=[(token, vocabulary[token]) for token in SPECIAL_TOKENS]
    )
    tokenizer.enable_truncation(context_length)
    tokenizer.enable_padding(length=context_length, pad_id=0, pad_token="!")
    write_text(path, tokenizer.to_str())


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise TextError(f"{path}: the tokenizer cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise TextError(f"{path}: is not JSON ({error}); the file is damaged, fetch it again") from error
    if not isinstance(document, dict):
        raise TextError(f"{path}: is not a tokenizer.json: expected an object at the top")
    return document


def _parse_merges(entries: object, path: str | Path) -> tuple[Merge, ...]:
    if not isinstance(entries, list):
        raise TextError(f"{path}: the BPE model has no list of merges; the file is damaged, fetch it again")
    merges: list[Merge] = []
    for rank, entry in enumerate(entries):
        # tokenizers wrote "left right" up to 0.19 and ["left", "right"] since.
        pair = entry.split(" ") if isinstance(entry, str) else entry
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
            raise TextError(f"{path}: merge number {rank} is not a pair of symbols; the file is damaged")
        merges.append((pair[0], pair[1]))
    return tuple(merges)


def _check_ids(found: object, merges: Sequence[Merge], path: str | Path) -> None:
    if not isinstance(found, dict):
        raise TextError(f"{path}: the BPE model has no vocabulary")
    try:
        expected = build_vocabulary(merges)
    except TextError as error:
        raise TextError(f"{path}: {error}") from error
    for token in SPECIAL_TOKENS:  # their spelling differs between files, their ids do not
        del expected[token]
    for symbol, token_id in expected.items():
        if found.get(symbol) != token_id:
            raise TextError(
                f"{path}: symbol {symbol!r} has id {found.get(symbol)} where CLIP's layout has {token_id}; "
                "use the tokenizer.json of a CLIP or perceptic model"
            )


def _normalizer(clean: CleanMode) -> normalizers.Normalizer:
    steps: list[normalizers.Normalizer] = [normalizers.NFC()]
    if clean == "canonicalize":
        steps += [normalizers.Replace("_", " "), normalizers.Replace(Regex(r"[!-/:-@\[-`{-~]"), "")]
    steps += [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    if clean != "whitespace":
        steps.append(normalizers.Lowercase())
    return normalizers.Sequence(steps)


def _clean_mode(normalizer: object) -> CleanMode:
    """The mode whose normaliser this is; any other one (OpenAI's CLIP has its own) means `lower`."""
    for mode in CLEAN_MODES:
        probe = Tokenizer(models.BPE())
        probe.normalizer = _normalizer(mode)
        if json.loads(probe.to_str())["normalizer"] == normalizer:
            return mode
    return "lower"
