"""The vocabulary of Llama 3 tokenizers and its two file formats (spec 1.4, 1.5, 3.1).

`tokenizer.model` is tiktoken's: one line per token, its bytes in base64 and its rank. `tokenizer.json` is Hugging
Face's: the same tokens written in byte symbols, with special tokens beside them. The 256 special tokens follow the
ranks; a rank file does not name them.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors

from perceptic.errors import TextError
from perceptic.files import write_bytes, write_text
from perceptic.text.pieces import byte_symbols

BEGIN_OF_TEXT = "<|begin_of_text|>"
END_OF_TEXT = "<|end_of_text|>"
IMAGE = "<|image|>"
START_HEADER = "<|start_header_id|>"
END_HEADER = "<|end_header_id|>"
END_OF_TURN = "<|eot_id|>"
HF_VIDEO = "<|video|>"  # what Hugging Face files call the first reserved token

NUM_SPECIAL_TOKENS = 256

PIECE_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _special_token_names() -> tuple[str, ...]:
    named = {0: BEGIN_OF_TEXT, 1: END_OF_TEXT, 2: IMAGE, 6: START_HEADER, 7: END_HEADER, 9: END_OF_TURN}
    names, reserved = [], 1
    for offset in range(NUM_SPECIAL_TOKENS):
        if offset in named:
            names.append(named[offset])
        else:
            names.append(f"<|reserved_special_token_{reserved}|>")
            reserved += 1
    return tuple(names)


SPECIAL_TOKEN_NAMES = _special_token_names()


@dataclass(frozen=True)
class LlamaVocabulary:
    """Token i has the bytes `tokens[i]`; id `len(tokens) + j` is the special token `special_tokens[j]`."""

    tokens: tuple[bytes, ...]
    special_tokens: tuple[str, ...] = SPECIAL_TOKEN_NAMES

    def __post_init__(self) -> None:
        known = set(self.tokens)
        if len(known) != len(self.tokens):
            raise TextError("the vocabulary has a token twice; the file is damaged, fetch it again")
        missing = [byte for byte in range(256) if bytes([byte]) not in known]
        if missing:
            raise TextError(f"the vocabulary lacks the byte {missing[0]}; it is no byte-level vocabulary")


def read_rank_file(path: str | Path) -> LlamaVocabulary:
    """Read a tiktoken `tokenizer.model`.

    Raises:
        TextError: no such file, not a rank file, or ranks that are not 0, 1, 2...
    """
    tokens: list[bytes] = []
    for number, line in enumerate(_read_bytes(Path(path)).splitlines(), start=1):
        if not line.strip():
            continue
        fields = line.split()
        try:
            token, rank = base64.b64decode(fields[0], validate=True), int(fields[1])
        except (binascii.Error, ValueError, IndexError) as error:
            raise TextError(
                f"{path}: line {number} is not a base64 token and its rank: {error}. "
                "Use the tokenizer.model of a PerceptionLM or Llama 3 model"
            ) from error
        if rank != len(tokens) or len(fields) != 2:
            raise TextError(f"{path}: line {number} should have the rank {len(tokens)}; the file is damaged")
        tokens.append(token)
    return _checked(tuple(tokens), SPECIAL_TOKEN_NAMES, path)


def write_rank_file(path: str | Path, vocabulary: LlamaVocabulary) -> None:
    """Write a tiktoken rank file. The names of special tokens are not stored in it. Raises OutputError."""
    lines = [base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(vocabulary.tokens)]
    write_bytes(path, b"".join(lines))


def read_tokenizer_json(path: str | Path) -> LlamaVocabulary:
    """Read a Hugging Face `tokenizer.json` of Llama 3's design.

    Raises:
        TextError: no such file, not JSON, or ids that are not the ranks followed by 256 special tokens.
    """
    try:
        document = json.loads(_read_bytes(Path(path)))
        symbols: dict[str, int] = document["model"]["vocab"]
        added = sorted(document["added_tokens"], key=lambda token: int(token["id"]))
        special = tuple(str(token["content"]) for token in added)
        by_id = sorted(symbols, key=symbols.__getitem__)
        is_contiguous = [symbols[symbol] for symbol in by_id] == list(range(len(by_id)))
        first_special = [int(token["id"]) for token in added] == list(range(len(by_id), len(by_id) + len(added)))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise TextError(
            f"{path}: is not a tokenizer.json with a BPE vocabulary and special tokens ({error!r})"
        ) from error
    if not is_contiguous or not first_special or len(special) != NUM_SPECIAL_TOKENS:
        raise TextError(
            f"{path}: ids must be the ranks 0, 1, 2... followed by {NUM_SPECIAL_TOKENS} special tokens; "
            "use the tokenizer.json of a PerceptionLM model"
        )
    bytes_of = {symbol: byte for byte, symbol in byte_symbols().items()}
    try:
        tokens = tuple(bytes(bytes_of[char] for char in symbol) for symbol in by_id)
    except KeyError as error:
        raise TextError(f"{path}: {error.args[0]!r} is no byte symbol; it is no byte-level vocabulary") from error
    return _checked(tokens, special, path)


def write_tokenizer_json(path: str | Path, vocabulary: LlamaVocabulary) -> None:
    """Write a `tokenizer.json` that `tokenizers` and transformers read. Raises OutputError.

    The first reserved token is called `<|video|>` there, as in the released Hugging Face folders.
    """
    symbol_of = byte_symbols()
    symbols = ["".join(symbol_of[byte] for byte in token) for token in vocabulary.tokens]
    model = models.BPE(
        vocab={symbol: rank for rank, symbol in enumerate(symbols)}, merges=_merges(vocabulary.tokens, symbols)
    )
    model.ignore_merges = True
    tokenizer = Tokenizer(model)
    split = pre_tokenizers.Split(Regex(PIECE_PATTERN), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    names = tuple(HF_VIDEO if name == SPECIAL_TOKEN_NAMES[3] else name for name in vocabulary.special_tokens)
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN_OF_TEXT} $A",
        pair=f"{BEGIN_OF_TEXT} $A {BEGIN_OF_TEXT}:1 $B:1",
        special_tokens=[(BEGIN_OF_TEXT, len(vocabulary.tokens))],
    )
    write_text(path, tokenizer.to_str())


def _merges(tokens: tuple[bytes, ...], symbols: list[str]) -> list[tuple[str, str]]:
    """Every way to make a token of two others, in the order of the tokens they make."""
    rank_of = {token: rank for rank, token in enumerate(tokens)}
    merges: list[tuple[str, str]] = []
    for token in tokens:
        splits = [
            (rank_of[token[:at]], rank_of[token[at:]])
            for at in range(1, len(token))
            if token[:at] in rank_of and token[at:] in rank_of
        ]
        merges += [(symbols[left], symbols[right]) for left, right in sorted(splits)]
    return merges


def _checked(tokens: tuple[bytes, ...], special: tuple[str, ...], path: str | Path) -> LlamaVocabulary:
    try:
        return LlamaVocabulary(tokens, special)
    except TextError as error:
        raise TextError(f"{path}: {error}") from error


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TextError(f"{path}: the tokenizer cannot be read: {error.strerror or error}") from error
