"""The tokenizer of PerceptionLM: strings <-> ids (spec 3.1 and 3.2).

Special tokens written in a text are ordinary characters unless `allow_special` says otherwise: what a user types
cannot end a turn or claim to be a picture. Templates place special tokens by id.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import Regex, pre_tokenizers

from perceptic.errors import TextError
from perceptic.text.llama_vocabulary import (
    BEGIN_OF_TEXT,
    END_HEADER,
    END_OF_TEXT,
    END_OF_TURN,
    IMAGE,
    PIECE_PATTERN,
    START_HEADER,
    LlamaVocabulary,
    read_rank_file,
    read_tokenizer_json,
    write_rank_file,
    write_tokenizer_json,
)
from perceptic.text.rank_bpe import RankBPE

RANK_FILE = "tokenizer.model"
TOKENIZER_JSON = "tokenizer.json"

# The original cuts very long text here, which changes ids at the cut (spec 3.2).
_SLICE_CHARACTERS = 4_000_000
_RUN_CHARACTERS = 250_000


class LlamaTokenizer:
    """Strings to ids and back. Objects are immutable, picklable and safe to share between threads.

    Attributes:
        vocab_size: number of ids, special tokens included.
        bos_id, eos_id, eot_id, image_id, start_header_id, end_header_id: special tokens of the templates.
        stop_ids: the tokens that end an answer.
    """

    def __init__(self, vocabulary: LlamaVocabulary) -> None:
        """Raises TextError if the vocabulary lacks one of the special tokens that templates use."""
        self.vocabulary = vocabulary
        num_ranks = len(vocabulary.tokens)
        self.vocab_size = num_ranks + len(vocabulary.special_tokens)
        self.special_ids = {name: num_ranks + offset for offset, name in enumerate(vocabulary.special_tokens)}
        self.bos_id = self._special_id(BEGIN_OF_TEXT)
        self.eos_id = self._special_id(END_OF_TEXT)
        self.eot_id = self._special_id(END_OF_TURN)
        self.image_id = self._special_id(IMAGE)
        self.start_header_id = self._special_id(START_HEADER)
        self.end_header_id = self._special_id(END_HEADER)
        self.stop_ids = frozenset({self.eos_id, self.eot_id})
        self._bpe = RankBPE({token: rank for rank, token in enumerate(vocabulary.tokens)})
        self._splitter = pre_tokenizers.Split(Regex(PIECE_PATTERN), behavior="isolated")
        self._any_special = re.compile("|".join(map(re.escape, vocabulary.special_tokens)))
        self._bytes = [*vocabulary.tokens, *(name.encode() for name in vocabulary.special_tokens)]

    @classmethod
    def from_file(cls, path: str | Path) -> LlamaTokenizer:
        """Read a tiktoken rank file, or a `tokenizer.json` by that ending. Raises TextError."""
        is_json = Path(path).suffix == ".json"
        return cls(read_tokenizer_json(path) if is_json else read_rank_file(path))

    @classmethod
    def find(cls, folder: str | Path) -> LlamaTokenizer:
        """The tokenizer in a model folder: its `tokenizer.model`, else its `tokenizer.json`.

        Raises:
            TextError: the folder has neither, or the file is damaged.
        """
        for name in (RANK_FILE, TOKENIZER_JSON):
            if (Path(folder) / name).is_file():
                return cls.from_file(Path(folder) / name)
        raise TextError(f"{folder}: has neither {RANK_FILE} nor {TOKENIZER_JSON}; copy one from the model's repository")

    def encode(self, text: str, *, allow_special: bool = False) -> list[int]:
        """The ids of a text; nothing is added in front or behind.

        Args:
            allow_special: special tokens written in the text become those tokens, as in the original.

        Raises:
            TextError: not a string.
        """
        if not isinstance(text, str):
            raise TextError(f"a text must be a string, not {type(text).__name__}")
        ids: list[int] = []
        for part in _slices(_without_lone_surrogates(text)):
            ids += self._encode_with_special(part) if allow_special else self._encode_plain(part)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; bytes that are no UTF-8 become U+FFFD. Raises TextError for an id outside the vocabulary."""
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", errors="replace")

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of one id; those of a special token spell its name. Raises TextError as `decode` does."""
        if not 0 <= token_id < self.vocab_size:
            raise TextError(f"token id {token_id} is outside the vocabulary of {self.vocab_size}")
        return self._bytes[token_id]

    def save_rank_file(self, path: str | Path) -> None:
        """Write a tiktoken rank file. Raises OutputError."""
        write_rank_file(path, self.vocabulary)

    def save_tokenizer_json(self, path: str | Path) -> None:
        """Write a Hugging Face `tokenizer.json`. Raises OutputError."""
        write_tokenizer_json(path, self.vocabulary)

    def _encode_plain(self, text: str) -> list[int]:
        ids: list[int] = []
        for piece, _ in self._splitter.pre_tokenize_str(text):
            ids += self._bpe.encode(piece.encode())
        return ids

    def _encode_with_special(self, text: str) -> list[int]:
        ids: list[int] = []
        position = 0
        for match in self._any_special.finditer(text):
            ids += self._encode_plain(text[position : match.start()])
            ids.append(self.special_ids[match.group()])
            position = match.end()
        return ids + self._encode_plain(text[position:])

    def _special_id(self, name: str) -> int:
        if name not in self.special_ids:
            raise TextError(f"the tokenizer has no special token {name}; use that of a PerceptionLM model")
        return self.special_ids[name]

    def __reduce__(self) -> tuple[type[LlamaTokenizer], tuple[LlamaVocabulary]]:
        return type(self), (self.vocabulary,)


def _without_lone_surrogates(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _slices(text: str) -> Iterator[str]:
    """Pieces of a very long text, cut where the original cuts."""
    if len(text) <= _RUN_CHARACTERS:
        yield text
        return
    for start in range(0, len(text), _SLICE_CHARACTERS):
        yield from _runs_cut(text[start : start + _SLICE_CHARACTERS])


def _runs_cut(text: str) -> Iterator[str]:
    """Cut after `_RUN_CHARACTERS` consecutive characters that are all blank or all not."""
    start = run_start = 0
    was_space = text[0].isspace()
    for position, char in enumerate(text):
        if char.isspace() != was_space:
            run_start, was_space = position, not was_space
        elif position - run_start >= _RUN_CHARACTERS:
            yield text[start:position]
            start = run_start = position
    yield text[start:]
