"""CLIP's byte-level BPE tokenizer: strings <-> ids (spec 5).

Merging is done by Hugging Face `tokenizers`. Around it stands a cache from word to ids: captions repeat their words,
and a lookup costs a hundredth of a call into the merger. Pieces never span whitespace, so a text's ids are those of
its words, one after the other.
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models

from perceptic.errors import TextError
from perceptic.text.cleaning import CLEAN_MODES, CleanMode, clean
from perceptic.text.pieces import END_TOKEN, SPECIAL_TOKENS, START_TOKEN, WORD_END, byte_symbols, make_splitter
from perceptic.text.reduction import Reduction, shorten
from perceptic.text.tokenizer_file import read_tokenizer_file, write_tokenizer_file
from perceptic.text.vocabulary import (
    Merge,
    build_vocabulary,
    check_clip_merges,
    download_clip_tokenizer,
    installed_clip_merges,
    read_clip_merges,
)

DEFAULT_CONTEXT_LENGTH = 32
TOKENIZER_FILE = "tokenizer.json"

_PADDING_ID = 0
_MAX_CACHED_WORDS = 1 << 16
_MAX_CACHED_LENGTH = 64  # characters; a longer word is hardly met twice
_ANY_SPECIAL = re.compile("|".join(SPECIAL_TOKENS), re.IGNORECASE)


class ClipTokenizer:
    """Strings to ids and back.

    Build one with `ClipTokenizer.find` (CLIP's vocabulary, wherever it is), `from_file`, `from_merges` or
    `perceptic.text.bpe_training.train_bpe`. Objects are immutable, picklable and safe to share between threads; no
    thread of their own is started, so they survive a fork.

    Attributes:
        context_length: ids per row of a call, start and end included.
        vocab_size: number of ids; the largest is `end_id`, the one below it `start_id`.
    """

    def __init__(
        self,
        merges: Iterable[Merge],
        context_length: int = DEFAULT_CONTEXT_LENGTH,
        clean: CleanMode = "lower",
    ) -> None:
        """A tokenizer with these merges, in rank order.

        Raises:
            TextError: merges that do not build on one another, a context below 2, or an unknown cleaning mode.
        """
        if clean not in CLEAN_MODES:
            raise TextError(f"no cleaning mode is named {clean!r}; known: {', '.join(CLEAN_MODES)}")
        self._merges = tuple(merges)
        self._clean: CleanMode = clean
        self.context_length = _checked_context(context_length)
        vocabulary = build_vocabulary(self._merges)
        self._symbols = list(vocabulary)
        self.vocab_size = len(vocabulary)
        self.start_id = vocabulary[START_TOKEN]
        self.end_id = vocabulary[END_TOKEN]
        self._special_ids = {token: vocabulary[token] for token in SPECIAL_TOKENS}
        self._merger = Tokenizer(models.BPE(vocab=vocabulary, merges=list(self._merges), end_of_word_suffix=WORD_END))
        self._merger.pre_tokenizer = make_splitter(special_tokens=False)
        self._special_splitter = make_splitter(special_tokens=True)
        self._cached_word_ids = functools.lru_cache(_MAX_CACHED_WORDS)(self._word_ids)

    @classmethod
    def from_file(cls, path: str | Path, context_length: int | None = None) -> ClipTokenizer:
        """Read a `tokenizer.json`: our own (`save`) or that of a CLIP model on Hugging Face.

        Args:
            context_length: overrides the file's; 32 if neither says.

        Raises:
            TextError: no such file, damaged, or not a tokenizer of CLIP's design.
        """
        file = read_tokenizer_file(path)
        return cls(file.merges, _first_given(context_length, file.context_length), file.clean)

    @classmethod
    def from_merges(cls, path: str | Path, context_length: int = DEFAULT_CONTEXT_LENGTH) -> ClipTokenizer:
        """Read CLIP's `bpe_simple_vocab_16e6.txt.gz` (checked by SHA-256). Raises TextError."""
        return cls(read_clip_merges(path), context_length)

    @classmethod
    def find(cls, folder: str | Path | None = None, context_length: int | None = None) -> ClipTokenizer:
        """The tokenizer of a model folder, else CLIP's from an installed `open_clip_torch`, else from the hub.

        Args:
            folder: looked in first, for `tokenizer.json`. None: CLIP's vocabulary.
            context_length: overrides the file's; 32 if neither says.

        Raises:
            TextError: the folder's file is damaged, or there is none of the three; the message says what to do.
        """
        if folder is not None and (Path(folder) / TOKENIZER_FILE).is_file():
            return cls.from_file(Path(folder) / TOKENIZER_FILE, context_length)
        installed = installed_clip_merges()
        if installed is not None:
            return cls.from_merges(installed, _first_given(context_length))
        try:
            downloaded = download_clip_tokenizer()
        except TextError as error:
            raise TextError(_nowhere_message(folder, error)) from error
        file = read_tokenizer_file(downloaded)
        check_clip_merges(file.merges, downloaded)
        return cls(file.merges, _first_given(context_length))

    def __call__(
        self,
        texts: str | Sequence[str],
        context_length: int | None = None,
        *,
        allow_special: bool = True,
        reduction: Reduction = "cut",
        rng: random.Random | None = None,
    ) -> torch.Tensor:
        """Texts to rows of ids: start, pieces, end, zero padding.

        Args:
            texts: one string (a row of one) or several; `""` gives start and end.
            context_length: overrides the tokenizer's own.
            allow_special: whether `<start_of_text>` and `<end_of_text>` written in a text become those ids, as the
                original does. Switch it off for text from strangers: the text tower stops reading at the first end.
            reduction: how a text that is too long is shortened (`perceptic.text.reduction`).
            rng: source of chance for the random reductions.

        Returns:
            int64 tensor (number of texts, context length). The last id of a shortened text is the end.

        Raises:
            TextError: something other than strings, or a context below 2.
        """
        length = self.context_length if context_length is None else _checked_context(context_length)
        batch = _as_list(texts)
        rows = np.full((len(batch), length), _PADDING_ID, dtype=np.int64)
        rows[:, 0] = self.start_id
        for row, text in zip(rows, batch, strict=True):
            ids = shorten(self.encode(text, allow_special=allow_special), length - 2, reduction, rng)
            ids.append(self.end_id)
            row[1 : len(ids) + 1] = ids
        return torch.from_numpy(rows)

    def encode(self, text: str, *, allow_special: bool = True) -> list[int]:
        """The ids of one text, without start and end, not shortened. Raises TextError if it is not a string."""
        if not isinstance(text, str):
            raise TextError(f"a text must be a string, not {type(text).__name__}")
        text = clean(text, self._clean)
        if allow_special and "<" in text and _ANY_SPECIAL.search(text):
            return self._encode_with_special(text)
        ids: list[int] = []
        for word in text.split(" "):
            ids += self._cached_word_ids(word) if len(word) <= _MAX_CACHED_LENGTH else self._word_ids(word)
        return ids

    def decode(self, ids: Iterable[int] | torch.Tensor) -> str:
        """The text of these ids: special tokens as they are written, a space after each word, invalid UTF-8 replaced.

        Raises:
            TextError: an id outside the vocabulary.
        """
        flat = ids.flatten().tolist() if isinstance(ids, torch.Tensor) else [int(token_id) for token_id in ids]
        for token_id in flat:
            if not 0 <= token_id < self.vocab_size:
                raise TextError(f"id {token_id} is outside the vocabulary of {self.vocab_size}")
        written = "".join(self._symbols[token_id] for token_id in flat)
        return written.translate(_SYMBOL_TO_BYTE).encode("latin-1").decode("utf-8", "replace").replace(WORD_END, " ")

    def same_vocabulary(self, other: ClipTokenizer) -> bool:
        """Whether both give the same ids to the same texts, up to their context lengths."""
        return (self._merges, self._clean) == (other._merges, other._clean)

    def with_context_length(self, context_length: int) -> ClipTokenizer:
        """The same vocabulary with rows of another length. Raises TextError for a length below 2."""
        return ClipTokenizer(self._merges, context_length, self._clean)

    def save(self, path: str | Path) -> None:
        """Write a complete `tokenizer.json`, readable by `from_file` and by Hugging Face `tokenizers`.

        The same tokenizer always gives the same bytes. Raises OutputError.
        """
        write_tokenizer_file(path, self._merges, self.context_length, self._clean)

    @property
    def merges(self) -> tuple[Merge, ...]:
        """Pairs of symbols in rank order; with the byte alphabet they are the whole vocabulary."""
        return self._merges

    @property
    def clean(self) -> CleanMode:
        """How texts are cleaned before they are split (`perceptic.text.cleaning`)."""
        return self._clean

    def __repr__(self) -> str:
        sizes = f"vocab_size={self.vocab_size}, context_length={self.context_length}"
        return f"ClipTokenizer({sizes}, clean={self._clean!r})"

    def __reduce__(self) -> tuple[type[ClipTokenizer], tuple[tuple[Merge, ...], int, CleanMode]]:
        return type(self), (self._merges, self.context_length, self._clean)

    def _word_ids(self, word: str) -> tuple[int, ...]:
        return tuple(self._merger.encode(word).ids)

    def _encode_with_special(self, text: str) -> list[int]:
        ids: list[int] = []
        for piece, _ in self._special_splitter.pre_tokenize_str(text):
            special_id = self._special_ids.get(piece)
            ids += [special_id] if special_id is not None else [t.id for t in self._merger.model.tokenize(piece)]
        return ids


_SYMBOL_TO_BYTE = {ord(symbol): byte for byte, symbol in byte_symbols().items()}


def _checked_context(context_length: int) -> int:
    if not isinstance(context_length, int) or context_length < 2:
        raise TextError(f"context_length must be a whole number of at least 2 (start and end), not {context_length!r}")
    return context_length


def _first_given(*context_lengths: int | None) -> int:
    return next((length for length in context_lengths if length is not None), DEFAULT_CONTEXT_LENGTH)


def _as_list(texts: str | Sequence[str]) -> list[str]:
    if isinstance(texts, str):
        return [texts]
    try:
        batch = list(texts)
    except TypeError as error:
        raise TextError(f"texts must be a string or a sequence of strings, not {type(texts).__name__}") from error
    for index, text in enumerate(batch):
        if not isinstance(text, str):
            raise TextError(f"texts[{index}] must be a string, not {type(text).__name__}")
    return batch


def _nowhere_message(folder: str | Path | None, hub_error: TextError) -> str:
    looked = f"{TOKENIZER_FILE} in {folder}" if folder is not None else f"{TOKENIZER_FILE} in a model folder"
    return (
        "CLIP's vocabulary was not found in any of three places: "
        f"(1) {looked}: put one there, or pass such a folder; "
        "(2) an installed open_clip_torch: pip install 'perceptic[clip-vocabulary]'; "
        f"(3) {hub_error}: connect once, the file is then kept in the cache"
    )
